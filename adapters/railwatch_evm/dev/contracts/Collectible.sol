// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

/// HAZARDS E8: an ERC-721 shares ERC-20's Transfer topic, but its third argument is indexed: four topics, no data.
contract Collectible {
    event Transfer(address indexed from, address indexed to, uint256 indexed tokenId);

    function transferFrom(address from, address to, uint256 tokenId) external {
        emit Transfer(from, to, tokenId);
    }

    /// Whatever logs a test wants to see refused: any topics, any data.
    function shout(bytes32[] calldata topics, bytes calldata data) external {
        bytes memory copy = data;
        assembly {
            let length := mload(copy)
            let start := add(copy, 32)
            function topic(offset, index) -> value {
                value := calldataload(add(offset, mul(index, 32)))
            }
            switch topics.length
            case 0 { log0(start, length) }
            case 1 { log1(start, length, topic(topics.offset, 0)) }
            case 2 { log2(start, length, topic(topics.offset, 0), topic(topics.offset, 1)) }
            case 3 { log3(start, length, topic(topics.offset, 0), topic(topics.offset, 1), topic(topics.offset, 2)) }
            default {
                log4(
                    start,
                    length,
                    topic(topics.offset, 0),
                    topic(topics.offset, 1),
                    topic(topics.offset, 2),
                    topic(topics.offset, 3)
                )
            }
        }
    }
}

// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

/// HAZARDS E7: `transfer` moves nothing, says so only by its return value, and the transaction succeeds.
contract FalseToken {
    function transfer(address, uint256) external pure returns (bool) {
        return false;
    }
}

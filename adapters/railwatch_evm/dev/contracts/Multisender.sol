// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

/// HAZARDS E2 to E4: every way in which ether moves, or seems to move, without a log and without a top-level `to`.
contract Multisender {
    /// One internal call for each payment, as an exchange's multisend does.
    function send(address[] calldata to, uint256[] calldata value) external payable {
        for (uint256 i = 0; i < to.length; i++) {
            pay(to[i], value[i]);
        }
    }

    /// Pays, then fails as a whole: a transaction with status 0 that carried value to `to` (E1).
    function sendAndFail(address to) external payable {
        pay(to, msg.value);
        revert("sendAndFail");
    }

    /// The payment's parent reverts and the transaction succeeds: the child's own frame shows no error (E3).
    function sendInReverted(address to) external payable {
        try this.sendAndFail{value: msg.value}(to) {
            revert("the inner call must fail");
        } catch {}
    }

    /// A DELEGATECALL into `to`: its frame repeats this call's value though nothing moves (E4).
    function delegate(address to) external payable {
        (bool ok, ) = to.delegatecall("");
        require(ok, "delegate");
    }

    /// A CALLCODE into `to`: it names a value that stays with this contract (E4).
    function callcode_(address to) external payable {
        assembly {
            pop(staticcall(gas(), to, 0, 0, 0, 0))
            if iszero(callcode(gas(), to, callvalue(), 0, 0, 0, 0)) { revert(0, 0) }
        }
    }

    /// A contract that is born with the value and dies at once, leaving it to `to` (SELFDESTRUCT).
    function destruct(address payable to) external payable {
        new Parting{value: msg.value}(to);
    }

    /// Hashes through a precompile before it pays: some tracers count that call and some do not.
    function sendAfterHash(address to) external payable {
        sha256("a frame that moves nothing");
        pay(to, msg.value);
    }

    function pay(address to, uint256 value) private {
        (bool ok, ) = to.call{value: value}("");
        require(ok, "pay");
    }
}

contract Parting {
    constructor(address payable to) payable {
        selfdestruct(to);
    }
}

"""The errors that a Solana node answers with: Agave's codes and words, because clients match on them."""

from typing import Any

INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL = -32603
PARSE = -32700
CLEANED_UP = -32001
PREFLIGHT = -32002
SIGNATURE = -32003
NOT_AVAILABLE = -32004
SKIPPED = -32007
LONG_TERM_SKIPPED = -32009
STATUS_NOT_YET = -32014
VERSION = -32015
MIN_CONTEXT_SLOT = -32016


class RpcError(Exception):
    """An answer that is an error: ``code``, ``message`` and perhaps ``data``, as they go over the wire."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(code, message)
        self.code, self.message, self.data = code, message, data


def invalid(message: str) -> RpcError:
    """Return the error of a request that makes no sense."""
    return RpcError(INVALID_PARAMS, message)


def no_block(code: int, slot: int, first: int = 0) -> RpcError:
    """Why there is no block at ``slot``; ``first`` is the first slot that the node still has."""
    words = {
        CLEANED_UP: f"Block {slot} cleaned up, does not exist on node. First available block: {first}",
        NOT_AVAILABLE: f"Block not available for slot {slot}",
        SKIPPED: f"Slot {slot} was skipped, or missing due to ledger jump to recent snapshot",
        LONG_TERM_SKIPPED: f"Slot {slot} was skipped, or missing in long-term storage",
        STATUS_NOT_YET: f"Block status not yet available for slot {slot}",
    }
    return RpcError(code, words[code])


WORDS = {
    "AccountNotFound": "Attempt to debit an account but found no record of a prior credit.",
    "AddressLookupTableNotFound": "Transaction loads an address table account that doesn't exist",
    "AlreadyProcessed": "This transaction has already been processed",
    "BlockhashNotFound": "Blockhash not found",
    "InsufficientFundsForFee": "Insufficient funds for fee",
    "InvalidAddressLookupTableIndex": "Transaction address table lookup uses an invalid index",
    "InvalidProgramForExecution": "Attempt to execute a program that is not executable",
    "ProgramAccountNotFound": "Attempt to load a program that does not exist",
}


def describe(error: Any) -> str:
    """Return a transaction's error in the words of a preflight; ``error`` is its JSON form."""
    if isinstance(error, str):
        return WORDS.get(error, error)
    if "InstructionError" in error:
        index, why = error["InstructionError"]
        custom = why.get("Custom") if isinstance(why, dict) else None
        said = f"custom program error: {custom:#x}" if custom is not None else str(why)
        return f"Error processing Instruction {index}: {said}"
    if "InsufficientFundsForRent" in error:
        index = error["InsufficientFundsForRent"]["account_index"]
        return f"Transaction results in an account ({index}) with insufficient funds for rent"
    return str(error)

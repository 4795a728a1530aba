"""What addresses hold after one block: ether by eth_getBalance, a token by its own balanceOf, both by the block's hash.

Asked so (EIP-1898) no other branch can answer; a node that accepts no hash is asked by number, between two reads of the
header. A node without archive keeps the states of some 128 blocks.
"""

import re
from collections.abc import Sequence

from railwatch.rail import AssetId, BlockGone, BlockRef, RailUnavailable
from railwatch.rail.again import ask_again
from railwatch.rail.decoding import printable
from railwatch.rail.jsonrpc import Call
from railwatch_evm import wire
from railwatch_evm.block_source import BlockSource
from railwatch_evm.responses import RpcResponse, read_block
from railwatch_evm.rpc_errors import Meaning, RpcRejected

BALANCE_OF = "0x70a08231"
"""The selector of balanceOf(address), ERC-20."""

QUANTITY = re.compile("0x[0-9a-fA-F]{1,64}")
WORD = re.compile("0x[0-9a-fA-F]{64}")
"""What eth_getBalance answers, and balanceOf: both at most 256 bits."""


async def balances(source: BlockSource, keys: Sequence[bytes], asset: AssetId, at: BlockRef) -> dict[bytes, int]:
    """Return the base units of ``asset`` that each key holds after ``at``.

    Raises `BlockGone` where the node refuses (block unknown, state pruned, contract without balances).
    """
    namespace, _, contract = asset.partition("/")[2].partition(":")

    def calls(block: str | dict[str, str]) -> list[Call]:
        return [
            ("eth_call", ({"to": contract, "data": BALANCE_OF + key.hex().rjust(64, "0")}, block))
            if namespace == "erc20"
            else ("eth_getBalance", ("0x" + key.hex(), block))
            for key in keys
        ]

    read = _tokens if namespace == "erc20" else _ether

    async def asked() -> dict[bytes, int]:
        answers = await source.batches(calls({"blockHash": at.hash}))
        if answers and all(_takes_no_hash(answer) for answer in answers):
            answers = await _by_number(source, calls(hex(at.height)), at)
        return {key: read(answer, at) for key, answer in zip(keys, answers, strict=True)}

    return await ask_again(asked)


def _takes_no_hash(answer: RpcResponse) -> bool:
    """Whether the node may have refused the block's hash as a parameter, and not the block."""
    return (refusal := answer.error) is not None and refusal.meaning is Meaning.OTHER


async def _by_number(source: BlockSource, calls: Sequence[Call], at: BlockRef) -> list[RpcResponse]:
    """Return the answers by the block's number. Raises `BlockGone` if it is another block before or after.

    The header is asked in the same requests, so that the node that answers is on its branch.
    """
    header: Call = ("eth_getBlockByNumber", (hex(at.height), False))
    before, *answers, after = await source.batches([header, *calls, header])
    for answer in (before, after):
        found = read_block(answer, wire.header_decoder)
        if found is None or found.hash != at.hash:
            raise BlockGone(f"no balance at block {at.height} {at.hash}: another block is at that height")
    return answers


def _ether(answer: RpcResponse, at: BlockRef) -> int:
    text = _text_of(answer, at)
    if QUANTITY.fullmatch(text) is None:
        raise RailUnavailable(f"eth_getBalance at block {at.height}: {printable(text, 80)!r} is no amount")
    return int(text, 16)


def _tokens(answer: RpcResponse, at: BlockRef) -> int:
    """Return a balance; 0 where the call returns nothing, as it does before the contract exists."""
    text = _text_of(answer, at)
    if text == "0x":
        return 0
    if WORD.fullmatch(text) is None:
        raise BlockGone(f"balanceOf at block {at.height}: {printable(text, 80)!r} is no amount")
    return int(text, 16)


def _text_of(answer: RpcResponse, at: BlockRef) -> str:
    try:
        return answer.read(wire.text_decoder)
    except RpcRejected as refused:
        if refused.meaning is Meaning.PASSING:
            raise
        raise BlockGone(f"no balance at block {at.height} {at.hash}: {refused}") from refused

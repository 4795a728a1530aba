"""Which chain a node is on, proven by hashes and not by its number alone; and whether tokens are what is configured."""

from __future__ import annotations

from collections.abc import Sequence

from railwatch.rail import AssetSpec, ChainId, RailUnavailable
from railwatch.rail.decoding import printable, read_quantity
from railwatch.rail.jsonrpc import Call
from railwatch_evm import wire
from railwatch_evm.block_source import BlockSource
from railwatch_evm.chains import KNOWN
from railwatch_evm.responses import RpcResponse, read_block
from railwatch_evm.rpc import Rpc

DECIMALS = "0x313ce567"
"""The selector of decimals(), ERC-20."""


async def check_identity(rpc: Rpc, chain_id: ChainId) -> None:
    """Compare the first block and the landmarks of a known chain. Raises `RailUnavailable` for those of another.

    A node whose head is below the last landmark is not ready: up to there, a fork has the same blocks (HAZARDS B19). A
    node that does not have an old block, or refuses it (history may be pruned, EIP-4444), proves nothing by that.
    """
    known = KNOWN.get(chain_id)
    if known is None:
        return
    expected = {0: known.genesis, **known.landmarks}
    heights = [hex(height) for height in expected]
    *answers, newest = await rpc.batch(
        [("eth_getBlockByNumber", (height, False)) for height in (*heights, "latest")],
    )
    for (height, block_hash), answer in zip(expected.items(), answers, strict=True):
        header = None if answer.refused else read_block(answer, wire.header_decoder)
        if header is not None and header.hash != block_hash:
            raise RailUnavailable(
                f"{rpc.name} is another chain that calls itself {chain_id}: "
                f"its block {height} is {header.hash}, expected {block_hash}"
            )
    head = read_block(newest, wire.header_decoder)
    height = -1 if head is None else read_quantity(head.number, f"{rpc.name}: the newest block")
    if height < max(expected):
        raise RailUnavailable(
            f"{rpc.name} is not ready: it is at block {height}, and only from block {max(expected)} on does it differ "
            f"from other chains that call themselves {chain_id}; wait until the node has caught up"
        )


async def asset_problems(source: BlockSource, assets: Sequence[AssetSpec]) -> list[str]:
    """Return one sentence for each token whose contract has no code or other decimals. Raises `RailUnavailable`."""
    tokens = [spec for spec in assets if spec.contract is not None]
    calls: list[Call] = []
    for spec in tokens:
        calls.append(("eth_getCode", (spec.contract, "latest")))
        calls.append(("eth_call", ({"to": spec.contract, "data": DECIMALS}, "latest")))
    answers = await source.batches(calls)
    problems = [_problem(spec, answers[2 * place], answers[2 * place + 1]) for place, spec in enumerate(tokens)]
    return [problem for problem in problems if problem]


def _problem(spec: AssetSpec, code: RpcResponse, decimals: RpcResponse) -> str:
    """Return what is wrong with one token, or nothing."""
    where = f"{spec.symbol} at {spec.contract}"
    if code.read(wire.text_decoder) in ("0x", "0x0"):
        return f"{where}: the chain has no contract there. Copy the address from the issuer's own page, for this chain"
    if decimals.refused:
        return ""
    digits = decimals.read(wire.text_decoder)
    try:
        number = int(digits, 16)
    except ValueError:
        return f"{where}: decimals() answers {printable(digits, 80)}, so this is no ERC-20 token"
    if spec.decimals is not None and number != spec.decimals:
        return f"{where}: the configuration says decimals = {spec.decimals}, the contract says {printable(number, 80)}"
    return ""

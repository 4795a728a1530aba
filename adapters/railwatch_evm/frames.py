"""One answer of a tracing method, read into the frames of its block, and checked to be all of them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from railwatch.rail import NotYet
from railwatch.rail.decoding import LARGE, decode, decode_each, off_loop, printable
from railwatch_evm import traces
from railwatch_evm.block_query import Tracing
from railwatch_evm.integrity import check_traces, tx_ids
from railwatch_evm.responses import RpcResponse, read_deep, read_each, refused_if_large, unfold_if_deep
from railwatch_evm.rpc_errors import RpcRejected
from railwatch_evm.traces import CallFrame, Trace
from railwatch_evm.wire import FullBlock, Header


async def read_frames(answer: RpcResponse, block: Header | FullBlock, way: Tracing) -> list[Trace]:
    """One block's frames, checked to be all. Raises `RpcRejected`, `RailUnavailable`, `BlockGone`."""
    if way is Tracing.FLAT:
        frames = traces.lower_case(await read_each(answer, traces.trace_items))
    else:
        with refused_if_large():
            frames = await off_loop(answer.size, lambda: _trees(answer, tx_ids(block)))
    check_traces(block, frames)
    return frames


async def read_tree(answer: RpcResponse, tx_id: str) -> list[Trace]:
    """One transaction's frames by callTracer. Raises `RpcRejected` where there are none."""

    def read() -> list[Trace]:
        raw, folded, what = read_deep(answer)
        root, more = unfold_if_deep(raw, lambda text: decode(text, traces.frame_decoder, what), what)
        if root is None:
            raise RpcRejected(f"{what}: no frames of {tx_id}")
        return traces.flatten([(tx_id, root)], (more or folded).pieces, what)

    with refused_if_large():
        return await off_loop(answer.size, read)


def _trees(answer: RpcResponse, ids: Sequence[str]) -> list[Trace]:
    """Return a block's trees as flat frames. Raises `RpcRejected` if one transaction of it could not be traced."""
    raw, folded, what = read_deep(answer)
    items, more = unfold_if_deep(raw, lambda text: _items(text, what), what)
    if len(items) != len(ids) and any(item.tx_hash is None for item in items):
        raise NotYet(f"{what}: traces of {len(items)} transactions without their hashes, not of {len(ids)}")
    roots: list[tuple[str, CallFrame]] = []
    for place, item in enumerate(items):
        tx_id = (item.tx_hash or ids[place]).lower()
        if item.result is None:
            raise RpcRejected(f"{what}: transaction {printable(tx_id, 80)} could not be traced: {_said(item.error)}")
        roots.append((tx_id, item.result))
    return traces.flatten(roots, (more or folded).pieces, what)


def _items(raw: bytes | msgspec.Raw, what: str) -> list[traces.TracedTransaction]:
    if len(raw) < LARGE:
        return decode(raw, traces.call_items.maybe, what) or []
    return decode_each(raw, traces.call_items.one, what)


def _said(error: object) -> str:
    """Return what a node says of one transaction that it could not trace: a text, or an error of JSON-RPC."""
    return printable(error.get("message", "") if isinstance(error, dict) else error)

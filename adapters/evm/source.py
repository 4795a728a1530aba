"""Asks a node for the content of blocks, and hands it on only when it is proven whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from adapters.evm import traces, wire
from adapters.evm.rpc import Answer, Call, NodeRefused, Rpc
from adapters.evm.traces import Trace
from adapters.evm.want import Tracing, Want
from adapters.evm.whole import check_receipt, check_traces, tx_ids
from adapters.evm.wire import FullBlock, Header, Log, Receipt, block_ref
from indexer.rail import BlockGone, BlockRef

BATCH = 100
"""Independent calls in one request: what public endpoints allow, and enough for any node to be busy."""

Block = Header | FullBlock


@dataclass(frozen=True, slots=True)
class Content:
    """Some consecutive blocks. ``traces`` is parallel to ``blocks``, or empty if none were wanted."""

    blocks: Sequence[Block]
    refs: Sequence[BlockRef]
    logs: Sequence[Log]
    traces: Sequence[Sequence[Trace]]
    size: int
    """Bytes of the answers, by which the next request is measured."""


class Source:
    """One node's blocks. All content is checked (`whole`); that blocks are linked is the caller's to check."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    async def tracing(self) -> Tracing:
        """How this node traces, tried on its newest block. ``trace_block`` first: it is a thousand times cheaper."""
        newest, flat = await self._rpc.batch(
            [("eth_getBlockByNumber", ("latest", False)), Tracing.FLAT.call("latest", "")]
        )
        if not flat.refused:
            return Tracing.FLAT
        header = newest.read_block(wire.header_decoder)
        if header is None:
            return Tracing.NONE
        method, params = Tracing.TREE.call("", header.hash)
        return Tracing.NONE if (await self._rpc.call(method, *params)).refused else Tracing.TREE

    async def by_hash(self, ref: BlockRef, want: Want) -> Content:
        """One block, asked by hash in one request. Raises `BlockGone` if it is not the canonical one at its height.

        The node would serve an orphan by its hash as well; the header by number, in the same request, tells.
        """
        calls: list[Call] = [
            ("eth_getBlockByNumber", (hex(ref.height), False)),
            ("eth_getBlockByHash", (ref.hash, want.bodies)),
        ]
        if want.logs:
            calls.append(("eth_getLogs", ({"blockHash": ref.hash},)))
        if want.tracing is not Tracing.NONE:
            calls.append(want.tracing.call(hex(ref.height), ref.hash))
        answers = await self._rpc.batch(calls)
        canonical, block = answers[0].read_block(wire.header_decoder), _read(answers[1], want)
        if block is None or canonical is None or canonical.hash != ref.hash:
            raise BlockGone(f"{self._rpc.name}: block {ref.height} {ref.hash} is not on its chain")
        logs = answers[2].read(wire.logs_decoder) if want.logs else []
        if want.logs:
            Want().check_block(block, logs)
        traced = [] if want.tracing is Tracing.NONE else [_frames(answers[-1], block, want.tracing)]
        return Content([block], [block_ref(block)], logs, traced, _size(answers))

    async def by_range(self, low: int, high: int, want: Want) -> Content:
        """The blocks ``low`` to ``high``, asked by number in one request; what belongs to them is tied by hash."""
        heights = [hex(height) for height in range(low, high + 1)]
        calls: list[Call] = [("eth_getBlockByNumber", (height, want.bodies)) for height in heights]
        if want.tracing is Tracing.FLAT:
            calls += [want.tracing.call(height, "") for height in heights]
        if want.logs:
            calls.append(("eth_getLogs", (want.filter({"fromBlock": heights[0], "toBlock": heights[-1]}),)))
        answers = await self._rpc.batch(calls)
        blocks = [self._present(each, want) for each in answers[: len(heights)]]
        logs = await self._complete(blocks, answers[-1].read(wire.logs_decoder), want) if want.logs else []
        traced = await self._traced(blocks, answers[len(heights) : 2 * len(heights)], want)
        return Content(blocks, [block_ref(block) for block in blocks], logs, traced, _size(answers))

    async def at(self, height: str) -> BlockRef | None:
        """The canonical block at a height (hex) or tag; None if there is none."""
        (answer,) = await self._rpc.batch([("eth_getBlockByNumber", (height, False))])
        header = answer.read_block(wire.header_decoder)
        return None if header is None else block_ref(header)

    async def receipts(self, wanted: Sequence[tuple[str, str]]) -> list[Receipt]:
        """The receipts of (transaction, block hash), each checked to be that one. Raises `RailUnavailable`."""
        answers = await self.batches([("eth_getTransactionReceipt", (tx_id,)) for tx_id, _ in wanted])
        return [
            check_receipt(tx_id, block_hash, answer.read(wire.receipt_decoder))
            for (tx_id, block_hash), answer in zip(wanted, answers, strict=True)
        ]

    async def batches(self, calls: Sequence[Call]) -> list[Answer]:
        """Independent calls, in requests of bounded size, one after the other; a refused size is halved (E21)."""
        if len(calls) > BATCH:
            return [*await self.batches(calls[:BATCH]), *await self.batches(calls[BATCH:])]
        try:
            return await self._rpc.batch(calls)
        except NodeRefused:
            if len(calls) == 1:
                raise
        middle = len(calls) // 2
        return [*await self.batches(calls[:middle]), *await self.batches(calls[middle:])]

    async def _complete(self, blocks: Sequence[Block], logs: list[Log], want: Want) -> list[Log]:
        """All logs of the blocks, in order; what the range's answer leaves in doubt is asked for by hash.

        In doubt are blocks whose bloom speaks of logs that were not given (E20), and the last block that has some: a
        silently truncated answer ends inside it (E21). Raises `RailUnavailable` if a block's own answer is not whole.
        """
        by_hash = {block.hash: block for block in blocks}
        place = {block.hash: at for at, block in enumerate(blocks)}
        doubtful = want.unanswered(by_hash, logs)
        if logs:
            doubtful.append(max((log.block_hash for log in logs), key=lambda each: place[each]))
        if not doubtful:
            return logs
        answers = await self.batches([("eth_getLogs", (want.filter({"blockHash": each}),)) for each in doubtful])
        settled = {each: answer.read(wire.logs_decoder) for each, answer in zip(doubtful, answers, strict=True)}
        for each, mine in settled.items():
            want.check_block(by_hash[each], mine)
        kept = [log for log in logs if log.block_hash not in settled]
        return sorted([*kept, *chain(*settled.values())], key=lambda log: place[log.block_hash])

    async def _traced(self, blocks: Sequence[Block], flat: Sequence[Answer], want: Want) -> Sequence[Sequence[Trace]]:
        """The traces of each block: given already, or asked for by the hashes that are now known."""
        if want.tracing is Tracing.NONE:
            return []
        if want.tracing is Tracing.FLAT:
            return [_frames(answer, block, want.tracing) for block, answer in zip(blocks, flat, strict=True)]
        # One request a block: a tree takes seconds on some nodes, and every request has the same time.
        return [
            _frames(await self._rpc.call(*want.tracing.call("", block.hash)), block, want.tracing)
            if block.transactions
            else []
            for block in blocks
        ]

    def _present(self, answer: Answer, want: Want) -> Block:
        block = _read(answer, want)
        if block is None:
            raise BlockGone(f"{self._rpc.name}: its chain does not reach that high any more")
        return block


def _read(answer: Answer, want: Want) -> Block | None:
    if want.bodies:
        return answer.read_block(wire.block_decoder)
    return answer.read_block(wire.header_decoder)


def _frames(answer: Answer, block: Block, tracing: Tracing) -> list[Trace]:
    """One block's frames, checked to be all. An answer of null is an answer of nothing."""
    if tracing is Tracing.TREE:
        trees = answer.read(traces.call_frames_decoder)
        frames = traces.flatten(trees or [], tx_ids(block))
    else:
        flat = answer.read(traces.traces_decoder)
        frames = flat or []
    check_traces(block, frames)
    return frames


def _size(answers: Sequence[Answer]) -> int:
    return sum(answer.size for answer in answers)

"""Asks a node for the content of blocks, and hands it on only when it is proven whole."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from itertools import chain
from typing import TypeAlias, TypeVar

from railwatch.rail import BlockGone, BlockRef, NotYet, RailUnavailable
from railwatch.rail.again import ask_again
from railwatch.rail.decoding import AHEAD, off_loop
from railwatch.rail.jsonrpc import Call, NodeTimeout
from railwatch_evm import wire
from railwatch_evm.block_query import BlockQuery, Tracing
from railwatch_evm.integrity import arranged
from railwatch_evm.receipts import Receipts
from railwatch_evm.responses import RpcResponse, read_block, read_each
from railwatch_evm.rpc import Rpc
from railwatch_evm.rpc_errors import Meaning, RpcRejected
from railwatch_evm.tracing import Block, Traced, Tracer, same_block
from railwatch_evm.wire import Header, Log, Receipt, block_ref

LOG_BYTES = 600
"""What a log weighs in `off_loop`."""
RANGE_MOST = 32 * 1024 * 1024
"""Bytes of the answer for several blocks, of which four may be on their way at once. A single one may have more."""


PATIENCE = 60.0
"""Seconds that eth_getLogs may leave logs of one block out, before its receipts are asked for them."""

T = TypeVar("T")
One: TypeAlias = tuple[Block, list[Log], list[RpcResponse | None], int]
"""One block with its logs, the answers of its tracing and the bytes of all."""


@dataclass(frozen=True, slots=True)
class Content:
    """Some consecutive blocks. ``traces`` is parallel to ``blocks``, or empty if none were wanted.

    A block whose `Traced` names transactions without frames is a `FullBlock`.
    """

    blocks: Sequence[Block]
    refs: Sequence[BlockRef]
    logs: Sequence[Log]
    traces: Sequence[Traced]
    size: int
    """Bytes of the answers, by which the next request is measured."""


class BlockSource:
    """One node's blocks. All content is checked (`whole`); that blocks are linked is the caller's to check."""

    def __init__(self, rpc: Rpc, tracer: Tracer, ahead: timedelta = AHEAD) -> None:
        self._rpc = rpc
        self._ahead = ahead
        self.tracer = tracer
        self.receipts_of = Receipts(rpc)
        self.has_logs = True
        """Whether eth_getLogs is served as it is asked here; else logs are read from the receipts of their blocks."""
        self._unsettled: tuple[str, float] = ("", 0.0)
        """The block whose logs are not whole, and since when."""

    async def by_hash(self, ref: BlockRef, query: BlockQuery) -> Content:
        """One block, asked by hash in one request. Raises `BlockGone` if it is not the canonical one at its height.

        The node would serve an orphan by its hash as well; the header by number, in the same request, shows it. Another
        node behind the endpoint may know the block that the first one denies, so that one is asked again (E19).
        """
        block, logs, given, size = await self._with_logs(ref, query)
        blocks, traced = await self._traced([block], given, query)
        return Content(blocks, [block_ref(block, self._ahead)], logs, traced, size)

    async def _with_logs(self, ref: BlockRef, query: BlockQuery) -> One:
        """One block with its logs: from its receipts where eth_getLogs refuses them, or never gives all of them.

        Raises what eth_getLogs said, if receipts say no more.
        """
        try:
            return await ask_again(lambda: self._one(ref, query))
        except (NotYet, RpcRejected) as lacking:
            if not query.logs or not self.has_logs or not self._is_settled(ref, lacking):
                raise
            try:
                block, _, given, size = await ask_again(lambda: self._one(ref, replace(query, logs=False)))
                return block, await self.receipts_of.logs([block]), given, size
            except (NotYet, RpcRejected):
                raise lacking from None

    def _is_settled(self, ref: BlockRef, lacking: RailUnavailable) -> bool:
        """Whether what eth_getLogs said will not change: a refusal that does not pass, or what it has long been."""
        if isinstance(lacking, RpcRejected) and not isinstance(lacking, NotYet):
            return lacking.meaning is not Meaning.PASSING
        known, since = self._unsettled
        if known != ref.hash:
            since = time.monotonic()
            self._unsettled = ref.hash, since
        return time.monotonic() - since >= PATIENCE

    async def _one(self, ref: BlockRef, query: BlockQuery) -> One:
        """One block with its logs, the answers of its tracing and the bytes of all. Raises `BlockGone`, `NotYet`."""
        way = self._inline(query, ref.height)
        bodies = query.bodies or (query.native and way is Tracing.NONE)
        calls: list[Call] = [
            ("eth_getBlockByNumber", (hex(ref.height), False)),
            ("eth_getBlockByHash", (ref.hash, bodies)),
        ]
        if query.logs and self.has_logs:
            calls.append(("eth_getLogs", ({"blockHash": ref.hash},)))
        answers, given = await self._with_traces(calls, way, [(hex(ref.height), ref.hash)])
        canonical, block = read_block(answers[0], wire.header_decoder), _read(answers[1], bodies)
        if block is None or canonical is None or canonical.hash != ref.hash:
            raise BlockGone(f"{self._rpc.name}: block {ref.height} {ref.hash} is not on its chain")
        logs: list[Log] = []
        if query.logs and self.has_logs:
            given_logs = await read_each(answers[2], wire.log_items)
            logs, _ = await self._checked([block], given_logs, lambda logs: BlockQuery().check_block(block, logs))
        elif query.logs:
            logs = await self.receipts_of.logs([block])
        return block, logs, given, _size([*answers, *given])

    async def _checked(
        self, blocks: Sequence[Block], logs: list[Log], check: Callable[[list[Log]], T]
    ) -> tuple[list[Log], T]:
        """Return the logs, under the blocks' names and in their order, and what ``check`` says of them.

        Raises as it does.
        """
        logs = wire.lower_case(logs)
        size = len(logs) * LOG_BYTES
        try:
            return logs, await off_loop(size, lambda: check(logs))
        except NotYet:
            sorted_logs = arranged({block.hash: block for block in blocks}, logs)
            return sorted_logs, await off_loop(size, lambda: check(sorted_logs))

    def _inline(self, query: BlockQuery, height: int) -> Tracing:
        """Return the dialect that is asked in the same request as the blocks up to ``height``."""
        return self.tracer.first if query.native and not self.tracer.has_no_state(height) else Tracing.NONE

    async def _with_traces(
        self, calls: list[Call], way: Tracing, names: Sequence[tuple[str, str]]
    ) -> tuple[list[RpcResponse], list[RpcResponse | None]]:
        """Return the calls, and the traces of the blocks (height, hash) in the same request.

        Without traces where these take too long for all of it: `Tracer.trace` then gives each block more time.
        """
        most = RANGE_MOST if len(names) > 1 else None
        if way is Tracing.NONE:
            return await self._rpc.batch(calls, most), []
        traces = [way.call(height, block_hash) for height, block_hash in names]
        try:
            answers = await self._rpc.batch([*calls, *traces], most)
        except NodeTimeout:
            return await self._rpc.batch(calls, most), []
        except RpcRejected as refused:
            if refused.meaning is Meaning.PASSING:
                raise
            # The traces alone may be what is too large, or what an endpoint does not want among others.
            return await self._rpc.batch(calls, most), []
        return answers[: len(calls)], [*answers[len(calls) :]]

    async def by_range(self, low: int, high: int, query: BlockQuery) -> Content:
        """Return the blocks ``low`` to ``high``, asked by number in one request; what belongs to them is tied by hash.

        Raises `BlockGone` if no node behind the endpoint has them all, and `RpcRejected` for a range that is too much.
        """
        blocks, logs, given, size = await ask_again(lambda: self._many(low, high, query))
        _check_refusals(given, high - low + 1)
        refs = [block_ref(block, self._ahead) for block in blocks]
        blocks, traced = await self._traced(blocks, given, query)
        return Content(blocks, refs, logs, traced, size)

    async def _many(
        self, low: int, high: int, query: BlockQuery
    ) -> tuple[Sequence[Block], list[Log], list[RpcResponse | None], int]:
        """Blocks by height, their logs, the answers of their tracing and the bytes of all. Raises `BlockGone`."""
        heights = [hex(height) for height in range(low, high + 1)]
        way = self._inline(query, high)
        bodies = query.bodies or (query.native and way is Tracing.NONE)
        calls: list[Call] = [("eth_getBlockByNumber", (height, bodies)) for height in heights]
        if query.logs and self.has_logs:
            calls.append(("eth_getLogs", (query.filter({"fromBlock": heights[0], "toBlock": heights[-1]}),)))
        inline = way if way is Tracing.FLAT else Tracing.NONE
        answers, given = await self._with_traces(calls, inline, [(height, "") for height in heights])
        blocks = [self._present(answer, bodies) for answer in answers[: len(heights)]]
        logs: list[Log] = []
        if query.logs and self.has_logs:
            logs = await self._complete(blocks, await read_each(answers[-1], wire.log_items), query)
        elif query.logs:
            logs = await self.receipts_of.logs(blocks)
        return blocks, logs, given, _size([*answers, *given])

    async def at(self, height: str) -> BlockRef | None:
        """Return the canonical block at a height (hex) or tag; None if there is none."""
        (answer,) = await self._rpc.batch([("eth_getBlockByNumber", (height, False))])
        header = read_block(answer, wire.header_decoder)
        return None if header is None else block_ref(header, self._ahead)

    async def receipts(self, wanted: Sequence[tuple[str, str]]) -> list[Receipt]:
        """Return the receipts of (transaction, block hash), each checked to be that one. Raises `NotYet`."""
        return await self.receipts_of.of(wanted)

    async def batches(self, calls: Sequence[Call]) -> list[RpcResponse]:
        """Independent calls, in requests of the size that the endpoint accepts, one after the other (E21)."""
        return await self._rpc.batch(calls)

    async def _complete(self, blocks: Sequence[Block], logs: list[Log], query: BlockQuery) -> list[Log]:
        """Return all logs of the blocks, in order; request by hash what the range's answer leaves unknown.

        Unknown are blocks whose bloom speaks of logs that were not given (E20), and the last block that has some: a
        silently truncated answer ends inside it (E21). Raises `NotYet` if a block's own answer is not whole.
        """
        by_hash = {block.hash: block for block in blocks}
        place = {block.hash: at for at, block in enumerate(blocks)}
        logs, doubtful = await self._checked(blocks, logs, lambda logs: query.missing_logs(by_hash, logs))
        if logs:
            doubtful.append(max((log.block_hash for log in logs), key=lambda each: place[each]))
        if not doubtful:
            return logs
        settled = await ask_again(lambda: self._logs_of(doubtful, by_hash, query))
        kept = [log for log in logs if log.block_hash not in settled]
        return sorted([*kept, *chain(*settled.values())], key=lambda log: place[log.block_hash])

    async def _logs_of(
        self, hashes: Sequence[str], blocks: Mapping[str, Block], query: BlockQuery
    ) -> dict[str, list[Log]]:
        """Return the logs of each block, asked for by its hash. Raises `NotYet` if one's are not whole."""
        answers = await self.batches([("eth_getLogs", (query.filter({"blockHash": each}),)) for each in hashes])
        found: dict[str, list[Log]] = {}
        for each, answer in zip(hashes, answers, strict=True):
            block = blocks[each]
            logs = await read_each(answer, wire.log_items)
            found[each], _ = await self._checked([block], logs, partial(query.check_block, block))
        return found

    async def _traced(
        self, blocks: Sequence[Block], given: Sequence[RpcResponse | None], query: BlockQuery
    ) -> tuple[list[Block], list[Traced]]:
        """Return the blocks and what each one's tracing gave; those that need their transactions for it come with them.

        The newest comes first: a node that has no state of it has none of the older ones, and is not asked again.
        """
        if not query.native:
            return list(blocks), []
        answers = given or [None] * len(blocks)
        traced = [
            await self.tracer.trace(block, answer)
            for block, answer in reversed(list(zip(blocks, answers, strict=True)))
        ][::-1]
        lacking = [
            block for block, one in zip(blocks, traced, strict=True) if one.untraced and isinstance(block, Header)
        ]
        full = await ask_again(lambda: self._bodies(lacking)) if lacking else {}
        return [full.get(block.hash, block) for block in blocks], traced

    async def _bodies(self, headers: Sequence[Header]) -> dict[str, Block]:
        """Return the blocks of these headers, with their transactions. Raises `BlockGone`."""
        answers = await self._rpc.batch([("eth_getBlockByHash", (header.hash, True)) for header in headers])
        return {header.hash: same_block(header, answer) for header, answer in zip(headers, answers, strict=True)}

    def _present(self, answer: RpcResponse, bodies: bool) -> Block:
        block = _read(answer, bodies)
        if block is None:
            raise BlockGone(f"{self._rpc.name}: its chain does not reach that high any more")
        return block


def _read(answer: RpcResponse, bodies: bool) -> Block | None:
    if bodies:
        return read_block(answer, wire.block_decoder)
    return read_block(answer, wire.header_decoder)


def _check_refusals(given: Sequence[RpcResponse | None], width: int) -> None:
    """Raise the refusal of a trace that a smaller request may not meet; a single block's is the tracer's to read."""
    for answer in given if width > 1 else ():
        refusal = None if answer is None else answer.error
        if refusal is not None and refusal.meaning in (Meaning.LARGE, Meaning.OTHER):
            raise refusal


def _size(answers: Sequence[RpcResponse | None]) -> int:
    return sum(answer.size for answer in answers if answer is not None)

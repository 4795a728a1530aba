"""The frames of a block, from whichever way of tracing the node has for it; and what is left if it has none.

A block that cannot be traced must not stop a rail. In this order: the node's dialect, the other dialect, each
transaction by itself, and at last the transactions' own values, with the gap reported. Only two things are asked again
instead: a refusal that passes, and an answer that is not whole, for what is not indexed yet will be (HAZARDS E20).
"""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from railwatch.rail import BlockGone, NotYet, RailUnavailable
from railwatch.rail.again import ask_again
from railwatch.rail.decoding import WrongShape, read_quantity
from railwatch.rail.jsonrpc import NodeTimeout
from railwatch_evm import traces, wire
from railwatch_evm.block_query import Tracing
from railwatch_evm.frames import read_frames, read_tree
from railwatch_evm.gap import Gap
from railwatch_evm.integrity import PartlyTraced, tx_ids
from railwatch_evm.responses import RpcResponse, read_block, read_each
from railwatch_evm.rpc import Rpc
from railwatch_evm.rpc_errors import Meaning, RpcRejected
from railwatch_evm.traces import Trace
from railwatch_evm.wire import FullBlock, Header, Transaction

Block = Header | FullBlock

PLAIN_GAS = 21_000
"""A transaction with no more gas than this can hold no calls (yellow paper, G_transaction)."""
GROWTH = (2.0, 6.0)
"""By how much the time for one block's trace grows: with 10 s at first, up to a minute."""
BLOCK_SECONDS = 120.0
"""How long the transactions of one block are traced one by one, in all."""
PROBE_BACK = (24, 16, 8)
"""Blocks below the head that are tried for a trace: old enough to be indexed, young enough for a full node's state."""
PATIENCE = (60.0, 15.0, 4.0)
"""Seconds that a node may deny a block that it reported itself, or answer with traces that are not whole or not
readable, before the block is read without them; by the number of vain attempts before."""
LAGGING = (2.0,) * 7
"""Seconds after these, where the whole block is concerned: an index that lagged may have caught up by now."""
NOT_WHOLE, UNKNOWN, TYPES = "not whole", "unknown", "types"
"""What may be wrong with a block's traces. A node that leaves out a type has never shown one, and never will."""
FAULTS_MOST, FAULT_MOST = 100, 200
"""Faults that are remembered of one node, and characters of each: their words hold types that a node makes up."""
STATELESS_SECONDS = 60.0
"""How long a node is believed that it has no state below a height."""


@dataclass(frozen=True, slots=True)
class Traced:
    """One block's frames, and the transactions that count by their own values because they have no frames."""

    frames: Sequence[Trace] = ()
    untraced: frozenset[str] = frozenset()


class WayState(enum.Enum):
    """What is known of a method."""

    UNKNOWN = "unknown"
    WORKS = "works"
    MISSING = "missing"


@dataclass(slots=True)
class Ways:
    """What is known of the two dialects. It outlives a connection: to try them costs a trace."""

    states: dict[Tracing, WayState] = field(
        default_factory=lambda: {Tracing.FLAT: WayState.UNKNOWN, Tracing.TREE: WayState.UNKNOWN}
    )
    refused: dict[str, str] = field(default_factory=dict)
    """The words with which a method was refused, for the operator."""
    in_vain: dict[str, int] = field(default_factory=dict)
    """How many blocks were waited for in vain, by what was wrong with their traces."""


@dataclass(slots=True)
class Tracer:
    """How one node traces, learned from its answers. ``gap`` holds the blocks that it could not."""

    rpc: Rpc
    gap: Gap = field(default_factory=Gap)
    ways: Ways = field(default_factory=Ways)
    _stateless: int = -1
    _until: float = 0.0
    _unsettled: tuple[str, float] = ("", 0.0)
    """The block whose traces the node does not give whole, and since when."""

    @property
    def states(self) -> dict[Tracing, WayState]:
        """What is known of each dialect."""
        return self.ways.states

    @property
    def refused(self) -> dict[str, str]:
        """The words with which a dialect was refused."""
        return self.ways.refused

    @property
    def first(self) -> Tracing:
        """The dialect to ask for in the same request as a block: one that has worked, else none."""
        return next((way for way, known in self.states.items() if known is WayState.WORKS), Tracing.NONE)

    @property
    def unable(self) -> str:
        """Why this node cannot trace at all; empty where it can, or where that is not known yet."""
        if self.first is not Tracing.NONE or not self.refused:
            return ""
        missing = self.never_traces
        words = "; ".join(self.refused.values())
        verb = "can neither" if missing else "refuses both"
        join = "nor" if missing else "and"
        return f"{self.rpc.name} {verb} trace_block {join} debug_traceBlockByHash: ether sent by contracts " + (
            f"(exchange batches, smart wallets) is not seen and shows only when balances are reconciled ({words})"
        )

    async def probe(self) -> None:
        """Find out which dialects the node has, on a block that is cheap to trace. A passing refusal leaves it open."""
        block = await self._cheapest()
        for way in self.states:
            if block is None or self.first is not Tracing.NONE:
                return
            method, params = way.call(block.number, block.hash)
            try:
                answer = await self.rpc.call(method, *params)
                refusal = answer.error
                if refusal is None and block.transactions:
                    await read_frames(answer, block, way)
            except RpcRejected as error:
                refusal = error
            except WrongShape as error:
                # An older Besu answers callTracer with the steps of its default tracer.
                self.refused[way.value] = str(error)
                continue
            except NotYet:
                # Not whole yet, and of the right form: it traces.
                refusal = None
            except RailUnavailable:
                continue
            self._learn(way, refusal)

    async def _cheapest(self) -> Header | None:
        """Return the block with the fewest transactions among a few below the head, or the head of a short chain."""
        latest = read_block((await self.rpc.call("eth_getBlockByNumber", "latest", False)), wire.header_decoder)
        if latest is None:
            return None
        head = read_quantity(latest.number, f"{self.rpc.name}: the newest block")
        calls = [("eth_getBlockByNumber", (hex(head - back), False)) for back in PROBE_BACK if back < head]
        blocks = [latest]
        for answer in await self.rpc.batch(calls):
            if not answer.refused and (block := read_block(answer, wire.header_decoder)) is not None:
                blocks.append(block)
        return min(blocks[1:] or blocks, key=lambda block: len(block.transactions))

    def _learn(self, way: Tracing, refusal: RpcRejected | None) -> None:
        """Note whether a way of tracing answered or was refused."""
        if refusal is None:
            self.states[way] = WayState.WORKS
            self.refused.pop(way.value, None)
        elif refusal.meaning is Meaning.MISSING and self.states[way] is WayState.UNKNOWN:
            # Not of a dialect that has worked: behind a balancer another node may lack it.
            self.states[way] = WayState.MISSING
            self.refused[way.value] = str(refusal)
        elif refusal.meaning is not Meaning.PASSING and self.states[way] is WayState.UNKNOWN:
            self.refused[way.value] = str(refusal)

    def has_no_state(self, height: int) -> bool:
        """Whether the node said a moment ago that it has no state of a block as high as this, or higher."""
        return height <= self._stateless and time.monotonic() < self._until

    async def trace(self, block: Block, given: RpcResponse | None = None) -> Traced:
        """Return the block's frames; ``given`` is an answer of `first` that the caller already has.

        A block whose `Traced.untraced` is not empty has to be at hand with its transactions. Raises `RailUnavailable`,
        naming the method and the block, for a passing refusal and for frames that are missing; `BlockGone`.
        """
        if not block.transactions:
            return Traced()
        answers = iter([given])
        return await ask_again(lambda: self._trace(block, next(answers, None)))

    async def _trace(self, block: Block, given: RpcResponse | None) -> Traced:
        height = _height(block)
        if self.has_no_state(height):
            return self._by_value(block, "the node has no state of that block any more")
        why = ""
        known: Sequence[Trace] = ()
        for way in self._ways(given):
            try:
                frames = await self._whole(way, block, given if way is self.first else None)
            except RpcRejected as refusal:
                why = str(refusal)
                self._heed(block, way, refusal)
                if refusal.meaning is Meaning.STATELESS:
                    return self._by_value(block, why)
            except NodeTimeout as slow:
                # The other dialect runs the same calls.
                why = str(slow)
                break
            except (NotYet, WrongShape) as broken:
                why = str(broken)
                self._wait_for(block, await self._fault(block, way, broken), broken)
                known = broken.frames if isinstance(broken, PartlyTraced) else known
            else:
                self._learn(way, None)
                for fault in (NOT_WHOLE, UNKNOWN):
                    self.ways.in_vain.pop(f"{fault} {way.value}", None)
                return Traced(frames)
        if self.first is Tracing.NONE:
            return self._by_value(block, why)
        return await self._one_by_one(block, why, known)

    def _heed(self, block: Block, way: Tracing, refusal: RpcRejected) -> None:
        """Remember what a refusal says of a dialect. Raises `RailUnavailable` for one that passes."""
        height = _height(block)
        if refusal.meaning is Meaning.UNKNOWN:
            self._wait_for(block, f"{UNKNOWN} {way.value}", NotYet(f"block {height} {block.hash}: {refusal}"))
        self._learn(way, refusal)
        if refusal.meaning is Meaning.PASSING:
            raise RailUnavailable(f"block {height} {block.hash}: {refusal}") from refusal
        if refusal.meaning is Meaning.STATELESS:
            self._stateless, self._until = max(self._stateless, height), time.monotonic() + STATELESS_SECONDS

    async def _fault(self, block: Block, way: Tracing, late: RailUnavailable) -> str:
        """Return what is wrong with a block's traces, in the words under which it is remembered.

        Some nodes never trace some types of transactions: a chain's own, such as bor's state-sync (0x7f).
        """
        if not isinstance(late, PartlyTraced):
            return f"{NOT_WHOLE} {way.value}"
        full = await self.with_transactions(block)
        traced = {frame.transaction_hash for frame in late.frames}
        left_out = sorted({tx.type or "" for tx in full.transactions if tx.hash not in traced})
        return " ".join([TYPES, *left_out])[:FAULT_MOST]

    def _wait_for(self, block: Block, fault: str, late: RailUnavailable) -> None:
        """Raise ``late`` until the block had its time; then return, and what is there has to do.

        The node may not have indexed the block yet, or behind a balancer another node answered: to believe it would
        leave ether unseen (E2, E19, E20). A node that goes on saying so cannot trace the block (`PATIENCE`).
        """
        in_vain = self.ways.in_vain.get(fault, 0)
        seconds = PATIENCE if fault.startswith(TYPES) else PATIENCE + LAGGING
        if in_vain >= len(seconds):
            return
        known, since = self._unsettled
        if known != block.hash:
            since = time.monotonic()
            self._unsettled = block.hash, since
        if time.monotonic() - since < seconds[in_vain]:
            raise late
        if len(self.ways.in_vain) >= FAULTS_MOST:
            self.ways.in_vain.clear()
        self.ways.in_vain[fault] = in_vain + 1

    def _ways(self, given: RpcResponse | None) -> list[Tracing]:
        """Return the dialects to try, in order: first the one that worked, none that the node lacks."""
        known = [way for way, state in self.states.items() if state is not WayState.MISSING]
        return sorted(known, key=lambda way: self.states[way] is not WayState.WORKS)

    @property
    def never_traces(self) -> bool:
        """Whether the node has neither dialect."""
        return all(state is WayState.MISSING for state in self.states.values())

    def _by_value(self, block: Block, why: str) -> Traced:
        """No frames: each transaction shows its own value, and the gap is kept for the operator."""
        if not self.never_traces:
            height = _height(block)
            self.gap.add(height, height, why)
        return Traced((), frozenset(tx_ids(block)))

    async def _whole(self, way: Tracing, block: Block, given: RpcResponse | None) -> list[Trace]:
        """All frames of the block in one dialect, with more time each time. Raises `NodeTimeout` at last."""
        if given is not None:
            return await read_frames(given, block, way)
        method, params = way.call(block.number, block.hash)
        for growth in GROWTH:
            try:
                answer = await self.rpc.call(method, *params, timeout=self.rpc.timeout * growth)
            except NodeTimeout as slow:
                late = slow
            else:
                return await read_frames(answer, block, way)
        raise NodeTimeout(f"block {_height(block)} {block.hash}: {late}") from late

    async def _one_by_one(self, block: Block, why: str, known: Sequence[Trace] = ()) -> Traced:
        """Trace each transaction that can hold calls by itself; the others count by their own values.

        ``known`` are frames that are there already, of whole transactions.
        """
        full = await self.with_transactions(block)
        frames = list(known)
        done = {frame.transaction_hash or "" for frame in known}
        wanted = [tx for tx in full.transactions if tx.hash not in done and holds_calls(tx)]
        lacking = len(wanted)
        deadline = time.monotonic() + BLOCK_SECONDS
        for tx in wanted:
            if time.monotonic() > deadline:
                break
            try:
                frames += await self._transaction(tx.hash, block)
                done.add(tx.hash)
                lacking -= 1
            except RpcRejected as refusal:
                if refusal.meaning is Meaning.UNKNOWN:
                    self._wait_for(block, UNKNOWN, NotYet(f"block {_height(block)} {block.hash}: {refusal}"))
                if refusal.meaning is Meaning.PASSING:
                    raise RailUnavailable(f"block {_height(block)} {block.hash}: {refusal}") from refusal
                if refusal.meaning in (Meaning.MISSING, Meaning.STATELESS):
                    break
            except (NodeTimeout, WrongShape):
                continue
        if lacking:
            height = _height(block)
            self.gap.add(height, height, f"{lacking} of its transactions; {why}")
        return Traced(frames, frozenset(tx_ids(block)) - done)

    async def _transaction(self, tx_id: str, block: Block) -> list[Trace]:
        """One transaction's frames. Raises `RpcRejected` where the node does not trace it, `NodeTimeout`."""
        seconds = self.rpc.timeout * GROWTH[0]
        if self.states[Tracing.TREE] is not WayState.MISSING:
            options = {"tracer": "callTracer", "timeout": f"{max(1, int(seconds))}s"}
            answer = await self.rpc.call("debug_traceTransaction", tx_id, options, timeout=seconds)
            return await read_tree(answer, tx_id)
        answer = await self.rpc.call("trace_transaction", tx_id, timeout=seconds)
        flat = traces.lower_case(await read_each(answer, traces.trace_items))
        if not flat or any(trace.transaction_hash != tx_id for trace in flat):
            raise RpcRejected(f"{self.rpc.name} trace_transaction: no frames of {tx_id}")
        if strangers := {trace.block_hash for trace in flat} - {None, block.hash}:
            raise BlockGone(f"{tx_id} is in block {strangers.pop()}, and {block.hash} was asked for")
        return flat

    async def with_transactions(self, block: Block) -> FullBlock:
        """Return the same block with its transactions. Raises `BlockGone` if the node no longer has it."""
        if isinstance(block, FullBlock):
            return block
        answer = await self.rpc.call("eth_getBlockByHash", block.hash, True)
        return same_block(block, answer)


def _height(block: Block) -> int:
    return read_quantity(block.number, f"block {block.hash}")


def same_block(header: Header, answer: RpcResponse) -> FullBlock:
    """Return the block that belongs to a header, with its transactions. Raises `BlockGone`, `RailUnavailable`."""
    full = read_block(answer, wire.block_decoder)
    if full is None or full.hash != header.hash:
        raise BlockGone(f"block {header.hash} is not on the node's chain any more")
    if tx_ids(full) != tx_ids(header):
        raise RailUnavailable(f"block {header.hash}: its transactions differ between two answers")
    return full


def holds_calls(tx: Transaction) -> bool:
    """Whether anything can happen inside a transaction: not with the gas of a plain transfer."""
    try:
        return tx.to is None or int(tx.gas or "", 16) > PLAIN_GAS
    except ValueError:
        return True

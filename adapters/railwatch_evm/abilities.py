"""What a node serves: each method is asked once, on entering, with arguments that cost little and change nothing.

Clients, gateways and plans differ in more than their versions. A refusal in any words or status is a missing
ability with a fall-back, or, where the rail cannot do without, one sentence that names method and setting. What passes
(a limit of rate) leaves it open, and the method counts as served until the node says otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from railwatch.rail import Ability, MethodsMissing, RailUnavailable
from railwatch.rail.jsonrpc import Call, NodeTimeout
from railwatch.rail.served import Served
from railwatch_evm import wire
from railwatch_evm.block_query import Tracing
from railwatch_evm.methods import METHODS
from railwatch_evm.responses import read_block
from railwatch_evm.rpc import Rpc
from railwatch_evm.rpc_errors import Meaning, RpcRejected
from railwatch_evm.tracing import Tracer, WayState

UNUSED_ADDRESS, NO_HASH = "0x" + "00" * 20, "0x" + "00" * 31 + "01"
"""An address that holds no contract, and a hash of nothing: a node that serves the method says that it knows none."""
FRESH_SECONDS = 600.0
"""Seconds for which the answers stay valid over reconnects: an operator may have changed the node's settings since."""
CORE = ("eth_chainId", "eth_getBlockByNumber")
"""Without these nothing else is asked for."""


@dataclass(slots=True)
class Abilities:
    """What one node serves, and when that was learned."""

    served: Served = field(default_factory=lambda: Served(METHODS))
    _at: float = float("-inf")

    def serves(self, method: str) -> bool:
        """Return whether the method may be asked."""
        return self.served.serves(method)

    @property
    def is_fresh(self) -> bool:
        """Whether the node was asked not long ago."""
        return time.monotonic() - self._at < FRESH_SECONDS

    async def learn(self, rpc: Rpc) -> None:
        """Ask for all but tracing, which `Tracer.probe` finds out. Raises `RailUnavailable` if nothing is served.

        Behind a gateway one forbidden method may refuse a whole batch, so that each is then asked by itself.
        """
        core = await _ask(rpc, [("eth_chainId", ()), ("eth_getBlockByNumber", ("latest", False))])
        if all(isinstance(said, RpcRejected) for said in core):
            raise next(said for said in core if isinstance(said, RpcRejected))
        block = _block(core[1])
        exact = block is not None
        tx_id = block.transactions[-1] if block is not None and block.transactions else None
        # With what the node must have, any refusal is one. With a hash that nothing has, only words that mean it are.
        probes: list[tuple[Call, bool]] = [
            (("eth_getBlockByHash", (block.hash if block else NO_HASH, False)), exact),
            # Without an address, as it is asked later: some endpoints want one.
            (("eth_getLogs", ({"blockHash": block.hash if block else NO_HASH},)), exact),
            (("eth_blockNumber", ()), True),
            (("eth_getTransactionReceipt", (tx_id or NO_HASH,)), False),
            (("eth_getBlockReceipts", (NO_HASH,)), False),
            (("debug_traceTransaction", (NO_HASH, {"tracer": "callTracer"})), False),
            (("trace_transaction", (NO_HASH,)), False),
            (("eth_getBalance", (UNUSED_ADDRESS, "latest")), True),
            (("eth_getTransactionCount", (UNUSED_ADDRESS, "latest")), True),
            (("eth_getCode", (UNUSED_ADDRESS, "latest")), True),
            (("eth_call", ({"to": UNUSED_ADDRESS, "data": "0x"}, "latest")), True),
        ]
        said = await _ask(rpc, [call for call, _ in probes])
        self.served = Served(METHODS)
        for method, answer in zip(CORE, core, strict=True):
            self.served.note(method, *_read(answer, strict=True))
        for ((method, _), strict), answer in zip(probes, said, strict=True):
            self.served.note(method, *_read(answer, strict=strict))
        self._at = time.monotonic()

    def note_tracing(self, tracer: Tracer) -> None:
        """Take over what `Tracer.probe` found out."""
        for way, state in tracer.states.items():
            if state is WayState.WORKS:
                self.served.note(way.value, True)
            elif words := tracer.refused.get(way.value):
                self.served.note(way.value, False, words)
            else:
                self.served.said.setdefault(way.value, (None, "not asked: the other one is served"))

    def table(self, *, native: bool, pushed: bool) -> list[Ability]:
        """One row for each method of the whitelist. ``native``: ether is watched; ``pushed``: ``ws`` is configured."""
        rows = [_not_needed(row, native=native, pushed=pushed) for row in self.served.table("")]
        needed = self._also_needed(native=native)
        return [replace(row, fallback="") if row.method in needed else row for row in rows]

    def check(self, name: str, *, native: bool) -> None:
        """Raise `MethodsMissing` if the node refuses what the rail cannot do without."""
        try:
            self.served.require(name, self._also_needed(native=native))
        except MethodsMissing as missing:
            self._at = float("-inf")
            raise MethodsMissing(str(missing), self.table(native=native, pushed=True)) from None

    def _also_needed(self, *, native: bool) -> list[str]:
        traced = self.serves(Tracing.FLAT.value) or self.serves(Tracing.TREE.value)
        if self.serves("eth_getBlockReceipts"):
            return []
        # Whether a transaction failed is in its receipt alone, and one that failed is no payment (E1).
        return ["eth_getLogs", *(["eth_getTransactionReceipt"] if native and not traced else [])]


def _not_needed(row: Ability, *, native: bool, pushed: bool) -> Ability:
    if row.served is None and not row.answer:
        if row.method == "eth_subscribe":
            return replace(row, answer="asked when the websocket is opened" if pushed else "no ws is configured")
        if not native:
            return replace(row, answer="not asked: the chain's own asset is not configured")
    return row


async def _ask(rpc: Rpc, calls: Sequence[Call]) -> list[object]:
    """Return what the node answered to each call: a `ServerAnswer`, or the refusal.

    Raises `RailUnavailable` where it says nothing.
    """
    try:
        return [answer.error or answer for answer in await rpc.batch(calls)]
    except RpcRejected as refused:
        if refused.meaning is Meaning.PASSING or len(calls) == 1:
            return [refused] * len(calls)
    except NodeTimeout:
        raise
    except RailUnavailable as broken:
        if len(calls) == 1:
            return [RpcRejected(str(broken), Meaning.PASSING)]
    said: list[object] = []
    for call in calls:
        said += await _ask(rpc, [call])
    if not any(isinstance(each, RpcRejected) for each in said):
        # It was the batch that was refused, in any way: some plans accept none, and some nodes close the connection.
        rpc.endpoint.batching.refused(len(calls))
    return said


def _read(said: object, *, strict: bool) -> tuple[bool | None, str]:
    """Whether a method is served, and the words if not. ``strict``: any refusal counts, for the node must know it."""
    if not isinstance(said, RpcRejected):
        return True, ""
    if said.meaning is Meaning.PASSING:
        return None, str(said)
    refused = strict or said.meaning is Meaning.MISSING
    return (False, str(said)) if refused else (True, "")


def _block(said: object) -> wire.Header | None:
    """Return the newest block, if the node answered with one that can be read."""
    try:
        return None if isinstance(said, RpcRejected) else read_block(said, wire.header_decoder)  # type: ignore[arg-type]
    except RailUnavailable:
        return None

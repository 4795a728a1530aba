"""Ether that moves inside transactions: from traces to credits (HAZARDS E2, E3, E4). Pure.

Nodes speak two dialects, ``trace_block`` (flat, OpenEthereum's) and ``callTracer`` (a tree, geth's). The second is
brought into the shape of the first, so that what counts as a credit is decided in one place.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

Path = tuple[int, ...]
"""Where a frame is in its transaction's tree of calls; the root is ()."""

PRECOMPILES = 0x200
"""Addresses below it are precompiles (EIP-7951 put the newest at 0x100)."""


class Action(msgspec.Struct, rename="camel", gc=False):
    """What a frame did. ``balance`` and ``refund_address`` belong to SELFDESTRUCT, the rest to calls and creations."""

    sender: str = msgspec.field(name="from", default="")
    to: str = ""
    value: str = "0x0"
    call_type: str = ""
    address: str = ""
    refund_address: str = ""
    balance: str = "0x0"


class Result(msgspec.Struct, gc=False):
    """What a frame gave: the address of a created contract is all that matters."""

    address: str = ""


class Trace(msgspec.Struct, rename="camel", gc=False):
    """One frame of ``trace_block``. Block rewards are frames without a transaction."""

    type: str
    action: Action
    trace_address: list[int]
    transaction_hash: str | None = None
    block_hash: str | None = None
    result: Result | None = None
    error: str | None = None


class CallFrame(msgspec.Struct):
    """One frame of ``callTracer``, with its children."""

    type: str
    sender: str = msgspec.field(name="from", default="")
    to: str | None = None
    value: str | None = None
    error: str | None = None
    calls: list["CallFrame"] = []


class TracedTransaction(msgspec.Struct, rename="camel"):
    """One item of ``debug_traceBlockByHash``. Old nodes leave the hash out; the order is the block's."""

    result: CallFrame
    tx_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Credit:
    """Ether that certainly reached ``to``: neither its frame nor any ancestor failed."""

    tx_id: str
    path: Path
    to: bytes
    amount: int
    sender: str


traces_decoder: "msgspec.json.Decoder[list[Trace] | None]" = msgspec.json.Decoder(list[Trace] | None)
call_frames_decoder: "msgspec.json.Decoder[list[TracedTransaction] | None]" = msgspec.json.Decoder(
    list[TracedTransaction] | None
)


def credits(traces: Sequence[Trace], hits: Callable[[Iterable[bytes]], set[bytes]]) -> Iterator[Credit]:
    """Credits to watched addresses, in order. ``hits`` is `Watches.hits`. Raises ValueError for a frame beyond reading.

    Matching comes first, on the bare frames: only a transaction that pays a watched address has its tree looked at.
    """
    candidates = [(trace, *credited) for trace in traces if (credited := _credited(trace)) is not None]
    watched = hits([key for _, key, _ in candidates])
    if not watched:
        return
    frames: dict[str, list[Trace]] = defaultdict(list)
    for trace in traces:
        frames[trace.transaction_hash or ""].append(trace)
    trees = {
        trace.transaction_hash: Tree(frames[trace.transaction_hash or ""])
        for trace, key, _ in candidates
        if key in watched
    }
    for trace, key, value in candidates:
        if key not in watched:
            continue
        tree, path, amount = trees[trace.transaction_hash], tuple(trace.trace_address), int(value, 16)
        if amount and not tree.failed(path):
            sender = trace.action.sender or trace.action.address
            yield Credit(trace.transaction_hash or "", tree.name(path), key, amount, sender)


def _credited(trace: Trace) -> tuple[bytes, str] | None:
    """Whom a frame would pay, and how much (hex); None for frames that move nothing.

    Only CALL, CREATE, CREATE2 and SELFDESTRUCT move value. A DELEGATECALL repeats its parent's value and a CALLCODE
    keeps it (E4); a block reward has no transaction (E14).
    """
    action = trace.action
    if trace.type == "call":
        to, value = (action.to, action.value) if action.call_type in ("call", "") else ("", "0x0")
    elif trace.type == "create":
        to, value = trace.result.address if trace.result else "", action.value
    elif trace.type == "suicide":
        to, value = action.refund_address, action.balance
    else:
        return None
    if not to or value == "0x0" or trace.transaction_hash is None:
        return None
    return bytes.fromhex(to[2:]), value


class Tree:
    """One transaction's tree of calls, as far as it decides about a credit."""

    def __init__(self, frames: Iterable[Trace]) -> None:
        self._failed: set[Path] = set()
        self._idle: dict[Path, list[int]] = defaultdict(list)
        for frame in frames:
            path = tuple(frame.trace_address)
            if frame.error is not None:
                self._failed.add(path)
            if _is_idle_precompile(frame):
                self._idle[path[:-1]].append(path[-1])

    def failed(self, path: Path) -> bool:
        """Whether the frame or any ancestor failed: a child of a reverted parent carries no error itself (E3)."""
        return any(path[:depth] in self._failed for depth in range(len(path) + 1))

    def name(self, path: Path) -> Path:
        """The path without counting calls of precompiles that move nothing.

        Some nodes give those frames and some leave them out; a credit must have one name on all of them.
        """
        return tuple(
            index - sum(1 for idle in self._idle.get(path[:depth], ()) if idle < index)
            for depth, index in enumerate(path)
        )


def _is_idle_precompile(trace: Trace) -> bool:
    """Whether the frame, other than a root, calls a precompile and moves nothing."""
    action = trace.action
    return (
        bool(trace.trace_address)
        and trace.type == "call"
        and (action.value == "0x0" or action.call_type != "call")
        and int(action.to or "0x0", 16) < PRECOMPILES
    )


KINDS = {"CREATE": "create", "CREATE2": "create", "SELFDESTRUCT": "suicide"}


def flatten(transactions: Sequence[TracedTransaction], tx_ids: Sequence[str]) -> list[Trace]:
    """A block's call trees as the flat frames of ``trace_block``; ``tx_ids`` are the block's, in order."""
    return [
        trace
        for position, traced in enumerate(transactions)
        for trace in _walk(traced.result, traced.tx_hash or _at(tx_ids, position))
    ]


def _at(tx_ids: Sequence[str], position: int) -> str:
    """A name for the transaction, also where the node gives more of them than the block has: the check then fails."""
    return tx_ids[position] if position < len(tx_ids) else ""


def _walk(root: CallFrame, tx_id: str) -> Iterator[Trace]:
    """Depth first, with a stack of our own: a hostile contract can nest 1,024 calls deep."""
    stack: list[tuple[CallFrame, Path]] = [(root, ())]
    while stack:
        frame, path = stack.pop()
        yield _flat(frame, path, tx_id)
        stack.extend((child, (*path, index)) for index, child in reversed(list(enumerate(frame.calls))))


def _flat(frame: CallFrame, path: Path, tx_id: str) -> Trace:
    kind = KINDS.get(frame.type, "call")
    to, value = frame.to or "", frame.value or "0x0"
    if kind == "suicide":
        action = Action(address=frame.sender, refund_address=to, balance=value)
    else:
        action = Action(sender=frame.sender, to=to, value=value, call_type=frame.type.lower())
    return Trace(kind, action, list(path), tx_id, None, Result(to) if kind == "create" else None, frame.error)

"""Ether that moves inside transactions: from traces to credits (HAZARDS E2, E3, E4). Pure.

Nodes speak two dialects, ``trace_block`` (flat, OpenEthereum's) and ``callTracer`` (a tree, geth's). The second is
brought into the shape of the first, so that what counts as a credit is decided in one place.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from railwatch.rail import RailUnavailable
from railwatch.rail.decoding import AnswerTooLarge, decode, printable, read_quantity
from railwatch_evm.fold import MARK
from railwatch_evm.wire import ZERO, Items

Path = tuple[int, ...]
"""Where a frame is in its transaction's tree of calls; the root is ()."""


class Action(msgspec.Struct, rename="camel", gc=False):
    """What a frame did. ``balance`` and ``refund_address`` belong to SELFDESTRUCT, the rest to calls and creations."""

    sender: str | None = msgspec.field(name="from", default="")
    to: str | None = ""
    value: str | None = "0x0"
    call_type: str | None = ""
    address: str | None = ""
    refund_address: str | None = ""
    balance: str | None = "0x0"


class Result(msgspec.Struct, gc=False):
    """What a frame gave: the address of a created contract is all that matters."""

    address: str | None = ""


class Trace(msgspec.Struct, rename="camel", gc=False):
    """One frame of ``trace_block``. Block rewards are frames without a transaction."""

    type: str
    action: Action
    trace_address: list[int]
    transaction_hash: str | None = None
    block_hash: str | None = None
    result: Result | None = None
    error: Any = None


class CallFrame(msgspec.Struct, rename="camel", gc=False):
    """One frame of ``callTracer``, with its children.

    ZK Stack chains report a revert by ``revertReason`` alone, and leave ``error`` for panics.
    """

    type: str
    sender: str | None = msgspec.field(name="from", default=None)
    to: str | None = None
    value: str | None = None
    error: Any = None
    revert_reason: Any = None
    calls: list["CallFrame"] | None = None


class TracedTransaction(msgspec.Struct, rename="camel"):
    """One item of ``debug_traceBlockByHash``. Old nodes leave the hash out; the order is the block's.

    ``error`` replaces ``result`` where this transaction alone could not be traced.
    """

    result: CallFrame | None = None
    tx_hash: str | None = None
    error: Any = None


@dataclass(frozen=True, slots=True)
class Credit:
    """Ether that certainly reached ``to``: neither its frame nor any ancestor failed."""

    tx_id: str
    path: Path
    to: bytes
    amount: int
    sender: str


trace_items: Items[Trace] = Items(Trace)
call_items: Items[TracedTransaction] = Items(TracedTransaction)
frame_decoder: "msgspec.json.Decoder[CallFrame | None]" = msgspec.json.Decoder(CallFrame | None)
frames_decoder: "msgspec.json.Decoder[list[CallFrame]]" = msgspec.json.Decoder(list[CallFrame])


def lower_case(frames: list[Trace]) -> list[Trace]:
    """Bring the hashes in flat frames into lower case, if their client writes them otherwise: all of them or none."""
    name = next((frame.transaction_hash for frame in frames if frame.transaction_hash), "")
    if name != name.lower():
        for frame in frames:
            frame.transaction_hash = frame.transaction_hash and frame.transaction_hash.lower()
            frame.block_hash = frame.block_hash and frame.block_hash.lower()
    return frames


Move = tuple[Trace, bytes, str]
"""A frame that would pay an address: the frame, the address, and how much (hex; a number only once it matters)."""


def credits(traces: Sequence[Trace], hits: Callable[[Iterable[bytes]], set[bytes]]) -> list[Credit]:
    """Credits to watched addresses, in order. ``hits`` is `Watches.hits`. Raises `RailUnavailable` for no numbers."""
    found = moves(traces)
    return credits_of(traces, found, hits([key for _, key, _ in found]))


def moves(traces: Sequence[Trace]) -> list[Move]:
    """Return the frames that would move value, failed or not. Raises `RailUnavailable` for a wrong recipient."""
    return [(trace, *credited) for trace in traces if (credited := _credited(trace)) is not None]


def credits_of(traces: Sequence[Trace], found: Sequence[Move], watched: Collection[bytes]) -> list[Credit]:
    """Return the credits to ``watched`` among the moves. Walk only the trees of transactions that pay one of them.

    Raises `RailUnavailable` for a value that is no number.
    """
    paying = {trace.transaction_hash for trace, key, _ in found if key in watched}
    if not paying:
        return []
    failed: dict[str | None, Failed] = defaultdict(Failed)
    for trace in traces:
        if trace.error is not None and trace.transaction_hash in paying:
            failed[trace.transaction_hash].add(tuple(trace.trace_address))
    stood = [
        (trace, tuple(trace.trace_address), key, amount)
        for trace, key, value in found
        if trace.transaction_hash in paying
        and (amount := read_quantity(value, "the value of a trace"))
        and not failed[trace.transaction_hash].holds(trace.trace_address)
    ]
    names: dict[str | None, Names] = defaultdict(Names)
    for trace, path, _, _ in sorted(stood, key=lambda move: move[1]):
        names[trace.transaction_hash].add(path)
    return [
        Credit(
            trace.transaction_hash or "",
            names[trace.transaction_hash].of(path),
            key,
            amount,
            trace.action.sender or trace.action.address or "",
        )
        for trace, path, key, amount in stood
        if key in watched
    ]


def _credited(trace: Trace) -> tuple[bytes, str] | None:
    """Whom a frame would pay, and how much (hex); None for frames that move nothing.

    Only CALL, CREATE, CREATE2 and SELFDESTRUCT move value. A DELEGATECALL repeats its parent's value and a CALLCODE
    keeps it (E4); a block reward has no transaction (E14); what an address sends to itself arrives nowhere.
    """
    action = trace.action
    sender = action.sender
    if trace.type == "call":
        to, value = (action.to, action.value) if action.call_type in ("call", "", None) else ("", "0x0")
    elif trace.type == "create":
        to, value = (trace.result.address or "") if trace.result else "", action.value
    elif trace.type in DESTRUCTIONS:
        to, value, sender = action.refund_address, action.balance, action.address
    else:
        return None
    if not to or value in ZERO or value is None or trace.transaction_hash is None or to == sender:
        return None
    try:
        return bytes.fromhex(to[2:]), value
    except ValueError as error:
        raise RailUnavailable(f"a trace of {printable(trace.transaction_hash, 80)} pays {printable(to, 80)}") from error


class Failed:
    """The frames of one transaction that failed: nothing below them moved value, error or not (E3)."""

    def __init__(self) -> None:
        self._root: dict[int | None, Any] = {}
        self._all = False

    def add(self, path: Path) -> None:
        """Note that this frame failed."""
        self._all = self._all or not path
        node = self._root
        for index in path:
            node = node.setdefault(index, {})
        node[None] = True

    def holds(self, path: Sequence[int]) -> bool:
        """Whether the frame or any ancestor failed."""
        if self._all or not self._root:
            return self._all
        node = self._root
        for index in path:
            if (below := node.get(index)) is None:
                return False
            node = below
            if None in node:
                return True
        return False


class Names:
    """Names for the frames of one transaction that moved value and did not fail, the same on every client (E28).

    Clients differ in what they show: precompiles, calls that could not pay, calls without value. So a frame's number
    counts only those before it, below the same parent, that moved value and did not fail, or hold one that did.
    """

    def __init__(self) -> None:
        self._root: dict[int, tuple[int, dict[int, Any]]] = {}

    def add(self, path: Path) -> None:
        """Add the credit of a frame that moved value and did not fail. Call it in the order of paths."""
        node = self._root
        for index in path:
            _, node = node.setdefault(index, (len(node), {}))

    def of(self, path: Path) -> Path:
        """Return the frame's name."""
        name: list[int] = []
        node = self._root
        for index in path:
            number, node = node[index]
            name.append(number)
        return tuple(name)


DESTRUCTIONS = ("suicide", "selfdestruct")
"""OpenEthereum's word, which most clients keep, and the one that replaced it."""
KINDS = {"CREATE": "create", "CREATE2": "create", "SELFDESTRUCT": "suicide"}


PAYING = frozenset({"CALL", "CREATE", "CREATE2", "SELFDESTRUCT", ""})
"""The types of frames that may move value (HAZARDS E4)."""
PLACES_MOST = 5_000_000
"""Numbers in the places of all frames of an answer together: 5,000 paying calls, each of them 1,000 calls deep."""

Link: TypeAlias = "tuple[Link, int] | None"
"""A frame's place, shared with all below it: the parent's, and the number among its calls. The root has none."""


def flatten(transactions: Sequence[tuple[str, CallFrame]], folded: Sequence[bytes], what: str) -> list[Trace]:
    """Call trees, each with its transaction's hash, as those flat frames of ``trace_block`` that matter.

    These are the roots, which prove that no transaction is missing, and what may have moved value and not failed. Of
    the others a stranger can make many for cents, and a thousand calls deep each place is as long: they are not written
    out. ``folded`` are the pieces that were cut out of the trees (`railwatch_evm.fold`). Raises `RailUnavailable` for
    such a piece that is no array of frames, `AnswerTooLarge` for too many places.
    """
    traces: list[Trace] = []
    places = 0
    for tx_id, root in transactions:
        for frame, link in _walk(root, folded, what):
            path = _path(link)
            places += len(path)
            if places > PLACES_MOST:
                raise AnswerTooLarge(f"{what}: its calls are too many, and too deep")
            traces.append(_flat(frame, path, tx_id))
    return traces


def _walk(root: CallFrame, folded: Sequence[bytes], what: str) -> Iterator[tuple[CallFrame, Link]]:
    """Yield the frames depth first, without those below a failure: they moved nothing (E3).

    The stack is our own, because a hostile contract can nest 1,024 calls deep.
    """
    stack: list[tuple[CallFrame, Link]] = [(root, None)]
    while stack:
        frame, link = stack.pop()
        failed = frame.error is not None or frame.revert_reason is not None
        if link is None or (not failed and _may_pay(frame)):
            yield frame, link
        if failed:
            continue
        calls = frame.calls or ()
        if len(calls) == 1 and calls[0].type == MARK:
            calls = decode(folded[int(calls[0].to or 0)], frames_decoder, what)
        stack.extend((child, (link, index)) for index, child in reversed(list(enumerate(calls))))


def _may_pay(frame: CallFrame) -> bool:
    return frame.value not in ZERO and frame.type.upper() in PAYING


def _path(link: Link) -> list[int]:
    path: list[int] = []
    while link is not None:
        link, index = link
        path.append(index)
    return path[::-1]


def _flat(frame: CallFrame, path: list[int], tx_id: str) -> Trace:
    """One frame. A revert reason is a failure as well (zkSync)."""
    kind = KINDS.get(frame.type.upper(), "call")
    to, value, sender = frame.to or "", frame.value or "0x0", frame.sender or ""
    if kind == "suicide":
        action = Action(address=sender, refund_address=to, balance=value)
    else:
        action = Action(sender=sender, to=to, value=value, call_type=frame.type.lower())
    error = frame.revert_reason if frame.error is None else frame.error
    return Trace(kind, action, path, tx_id, None, Result(to) if kind == "create" else None, error)

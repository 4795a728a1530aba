"""What waits in a mempool, in as few bytes as matching needs: a hundred or two a transaction, however many wait.

Of a transaction only what a watch list can be compared with is kept: the scripts that it pays, and a short mark of each
coin that it spends. Its id is in the node's own list; here it goes by the hash of its id, which Python keys
anew in each process, so that an attacker cannot choose two ids that meet. A mark that agrees is a reason to read the
transaction again, and never more.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from railwatch_bitcoin.wire import Tx

MARK = 5
"""Bytes of a coin's mark. Of a million coins and a hundred thousand claims one pair in ten agrees by chance."""

SCRIPT_MOST = 80
"""Bytes of the longest script that is kept: twice the longest that an address stands for."""

NOTHING = 0x6A
"""OP_RETURN: a script that begins with it is no payment."""

TEMPLATES = (
    (b"\x00\x14", b"", 20),
    (b"\x76\xa9\x14", b"\x88\xac", 20),
    (b"\xa9\x14", b"\x87", 20),
    (b"\x51\x20", b"", 32),
    (b"\x00\x20", b"", 32),
)
"""(beginning, end, bytes between) of the scripts that most payments go to: P2WPKH, P2PKH, P2SH, P2TR, P2WSH."""
TEMPLATE = 0x80
"""Added to a template's index, it replaces a length."""

RECORDS_MOST = 256 * 1024 * 1024
"""Bytes of one node's mempool as they are counted here. A full one of Bitcoin Core, 300 MB of its memory, needs less
than half of that. A node can make up transactions without end: their ids are hashes, and no signature is checked."""

RECORD_COSTS = 160
"""Bytes that Python needs for one record on top of its content."""

PARKED_MOST = 16
"""Mempools that are kept while their node is disconnected."""


def key_of(tx_id: str) -> int:
    """Return the mark of a transaction."""
    return hash(tx_id)


def mark_of(coin: str) -> bytes:
    """Return the mark of ``txid:vout``."""
    return (hash(coin) & ((1 << 8 * MARK) - 1)).to_bytes(MARK, "little")


class Records:
    """One mempool's content. It depends on nothing but what was read, so it outlives the connection that read it."""

    def __init__(self) -> None:
        self._packed: dict[int, bytes] = {}
        self.size = 0
        """Bytes, `RECORD_COSTS` of each included."""
        self.odd: set[int] = set()
        """Transactions that cannot be read: not asked for again while they wait."""

    def __len__(self) -> int:
        """How many are known."""
        return len(self._packed)

    def __contains__(self, tx_id: str) -> bool:
        """Whether this transaction was read, or cannot be."""
        key = key_of(tx_id)
        return key in self._packed or key in self.odd

    def add(self, tx: Tx) -> None:
        """Keep what a later watch list may be compared with."""
        scripts = [
            output.script
            for output in tx.outputs
            if 0 < len(output.script) <= SCRIPT_MOST and output.script[0] != NOTHING
        ]
        coins = b"".join(map(mark_of, tx.inputs))
        paid = b"".join(map(_short, scripts))
        self.discard(tx.id)
        packed = len(tx.inputs).to_bytes(2, "little") + coins + paid
        self._packed[key_of(tx.id)] = packed
        self.size += len(packed) + RECORD_COSTS

    def discard(self, tx_id: str) -> None:
        """Forget a transaction, if it is known."""
        self._forget(key_of(tx_id))

    def retain(self, present: set[int]) -> None:
        """Forget all but these."""
        for key in self._packed.keys() - present:
            self._forget(key)
        self.odd &= present

    def _forget(self, key: int) -> None:
        packed = self._packed.pop(key, None)
        if packed is not None:
            self.size -= len(packed) + RECORD_COSTS

    def parts(self, size: int) -> Iterator[list[tuple[int, bytes]]]:
        """All of them, ``size`` at a time: they may change between two parts, and who is gone then is left out."""
        keys = list(self._packed)
        for at in range(0, len(keys), size):
            yield [(key, packed) for key in keys[at : at + size] if (packed := self._packed.get(key)) is not None]


def scripts_of(packed: bytes) -> Iterator[bytes]:
    """Yield the scripts that a record holds."""
    at = 2 + MARK * int.from_bytes(packed[:2], "little")
    while at < len(packed):
        kind, at = packed[at], at + 1
        if kind < TEMPLATE:
            yield packed[at : at + kind]
            at += kind
            continue
        begin, end, size = TEMPLATES[kind - TEMPLATE]
        yield begin + packed[at : at + size] + end
        at += size


def _short(script: bytes) -> bytes:
    """Return a script as records hold it."""
    for place, (begin, end, size) in enumerate(TEMPLATES):
        if len(script) == len(begin) + size + len(end) and script.startswith(begin) and script.endswith(end):
            return bytes((TEMPLATE + place,)) + script[len(begin) : len(begin) + size]
    return bytes((len(script),)) + script


def marks_of(packed: bytes) -> Iterator[bytes]:
    """Return the marks of the coins that a record's transaction spends."""
    return (packed[at : at + MARK] for at in range(2, 2 + MARK * int.from_bytes(packed[:2], "little"), MARK))


class Park:
    """Where mempools stay without a connection: a reconnect reads what is new, and not all of it again.

    Each is given to one connection at a time.
    """

    def __init__(self) -> None:
        self._parked: OrderedDict[tuple[str, str], Records] = OrderedDict()

    def take(self, place: tuple[str, str]) -> Records:
        """Return what was parked under ``place`` (a node's URL, a chain's id), or a new one."""
        return self._parked.pop(place, None) or Records()

    def leave(self, place: tuple[str, str], records: Records) -> None:
        """Keep it for the next connection."""
        self._parked[place] = records
        while len(self._parked) > PARKED_MOST:
            self._parked.popitem(last=False)

    def places(self) -> Iterable[tuple[str, str]]:
        """Where something is parked."""
        return tuple(self._parked)


PARK = Park()
"""The process's own."""

"""Transactions and blocks put together by hand: an independent writer for what the adapter only reads."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

COINBASE_OUTPOINT = "00" * 32 + ":4294967295"


def compact(number: int) -> bytes:
    """CompactSize."""
    if number < 0xFD:
        return struct.pack("<B", number)
    if number <= 0xFFFF:
        return b"\xfd" + struct.pack("<H", number)
    if number <= 0xFFFFFFFF:
        return b"\xfe" + struct.pack("<I", number)
    return b"\xff" + struct.pack("<Q", number)


def counted(content: bytes) -> bytes:
    """Bytes with their length before them."""
    return compact(len(content)) + content


def hash256(content: bytes) -> bytes:
    """SHA-256, twice."""
    return sha256(sha256(content).digest()).digest()


@dataclass(frozen=True)
class In:
    """An input that spends ``coin`` (``txid:vout``)."""

    coin: str
    script: bytes = b""
    witness: Sequence[bytes] = ()
    sequence: int = 0xFFFFFFFF

    def bare(self) -> bytes:
        """As in the part that is hashed."""
        tx_id, _, vout = self.coin.partition(":")
        return (
            bytes.fromhex(tx_id)[::-1]
            + struct.pack("<I", int(vout))
            + counted(self.script)
            + struct.pack("<I", self.sequence)
        )


@dataclass(frozen=True)
class Out:
    """An output of ``amount`` to ``script``."""

    amount: int
    script: bytes

    def bare(self) -> bytes:
        """As on the wire."""
        return struct.pack("<q", self.amount) + counted(self.script)


@dataclass(frozen=True)
class MadeTx:
    """A transaction. ``mweb`` is what Litecoin appends: None for nothing, empty for a HogEx's mark."""

    ins: Sequence[In]
    outs: Sequence[Out]
    version: int = 2
    lock_time: int = 0
    mweb: bytes | None = None

    @property
    def hash(self) -> bytes:
        """The id as on the wire."""
        return hash256(self._head + self._body + self._tail)

    @property
    def id(self) -> str:
        """The id as people write it."""
        return self.hash[::-1].hex()

    @property
    def raw(self) -> bytes:
        """All bytes."""
        has_witness = any(each.witness for each in self.ins)
        flags = (1 if has_witness else 0) | (8 if self.mweb is not None else 0)
        if not flags:
            return self._head + self._body + self._tail
        stacks = b""
        if has_witness:
            stacks = b"".join(compact(len(each.witness)) + b"".join(map(counted, each.witness)) for each in self.ins)
        mweb = b"" if self.mweb is None else (b"\1" + self.mweb if self.mweb else b"\0")
        return self._head + bytes((0, flags)) + self._body + stacks + mweb + self._tail

    @property
    def _head(self) -> bytes:
        return struct.pack("<i", self.version)

    @property
    def _body(self) -> bytes:
        ins = compact(len(self.ins)) + b"".join(each.bare() for each in self.ins)
        return ins + compact(len(self.outs)) + b"".join(each.bare() for each in self.outs)

    @property
    def _tail(self) -> bytes:
        return struct.pack("<I", self.lock_time)


def coinbase(*outs: Out, height: int = 1) -> MadeTx:
    """Return a block's first transaction."""
    return MadeTx([In(COINBASE_OUTPOINT, b"\x04" + struct.pack("<I", height))], outs)


@dataclass(frozen=True)
class MadeBlock:
    """A block of these transactions, the coinbase first. ``proof`` goes before them, and ``tail`` after them."""

    txs: Sequence[MadeTx]
    parent: str = "11" * 32
    time: int = 1_700_000_000
    version: int = 0x20000000
    proof: bytes = b""
    tail: bytes = b""
    hashes: Sequence[bytes] = field(default=())

    @property
    def header(self) -> bytes:
        """The 80 bytes."""
        parent = bytes.fromhex(self.parent)[::-1]
        root = tree_root(list(self.hashes) or [tx.hash for tx in self.txs])
        return struct.pack("<i", self.version) + parent + root + struct.pack("<III", self.time, 0x207FFFFF, 0)

    @property
    def hash(self) -> str:
        """As people write it."""
        return hash256(self.header)[::-1].hex()

    @property
    def raw(self) -> bytes:
        """All bytes."""
        return self.header + self.proof + compact(len(self.txs)) + b"".join(tx.raw for tx in self.txs) + self.tail


def tree_root(leaves: list[bytes]) -> bytes:
    """Return the Merkle root, by the definition: pair by pair, from the leaves."""
    if len(leaves) == 1:
        return leaves[0]
    if len(leaves) % 2:
        leaves = [*leaves, leaves[-1]]
    return tree_root([hash256(leaves[at] + leaves[at + 1]) for at in range(0, len(leaves), 2)])


# Scripts, by kind; ``tag`` makes them differ.


def p2pkh(tag: int | bytes) -> bytes:
    """Pay to public key hash."""
    return b"\x76\xa9\x14" + _hash(tag, 20) + b"\x88\xac"


def p2sh(tag: int | bytes) -> bytes:
    """Pay to script hash (BIP16)."""
    return b"\xa9\x14" + _hash(tag, 20) + b"\x87"


def p2wpkh(tag: int | bytes) -> bytes:
    """Pay to witness public key hash (BIP141)."""
    return b"\x00\x14" + _hash(tag, 20)


def p2wsh(tag: int | bytes) -> bytes:
    """Pay to witness script hash (BIP141)."""
    return b"\x00\x20" + _hash(tag, 32)


def p2tr(tag: int | bytes) -> bytes:
    """Pay to taproot (BIP341)."""
    return b"\x51\x20" + _hash(tag, 32)


def p2pk(tag: int | bytes) -> bytes:
    """Pay to a bare public key."""
    return b"\x21\x02" + _hash(tag, 32) + b"\xac"


def bare_multisig(tag: int | bytes) -> bytes:
    """One of two keys, in the open."""
    return b"\x51" + b"\x21\x02" + _hash(tag, 32) + b"\x21\x03" + _hash(tag, 32) + b"\x52\xae"


def data(content: bytes) -> bytes:
    """OP_RETURN with one push of at most 75 bytes."""
    return b"\x6a" + bytes((len(content),)) + content


def _hash(tag: int | bytes, size: int) -> bytes:
    return tag if isinstance(tag, bytes) else sha256(tag.to_bytes(8, "big")).digest()[:size]


def coin(tag: int, vout: int = 0) -> str:
    """Return an outpoint of an unknown transaction."""
    return f"{sha256(b'coin' + tag.to_bytes(8, 'big')).hexdigest()}:{vout}"

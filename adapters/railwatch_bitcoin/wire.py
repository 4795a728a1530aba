"""Headers and transactions as bytes: read, never guessed. Pure.

Hashes are given as people and nodes write them, byte-reversed hex. Amounts are whole numbers of the base unit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from hashlib import sha256
from typing import NamedTuple

from railwatch_bitcoin.chains import Chain
from railwatch_bitcoin.encoding import SINGLE_BYTE, compact_size, display_hash, double_sha256, long_size, outpoint
from railwatch_bitcoin.tokens import split_token

HEADER_SIZE = 80
OUTPOINT_SIZE = 36
NULL_OUTPOINT = bytes(32) + b"\xff" * 4
"""What a coinbase spends: nothing."""
WITNESS, MWEB = 0x01, 0x08
"""Flags of the extended format: BIP144, and Litecoin Core's primitives/transaction.h."""
FINAL = 0xFFFFFFFE
"""A sequence below this one says that the transaction may be replaced (BIP125)."""


class TxKind(Enum):
    """What sort of transaction it is, as far as crediting must know."""

    PLAIN = "plain"
    COINBASE = "coinbase"
    HOGEX = "hogex"
    """Litecoin's last transaction of a block: the first output is MWEB's own balance, the others are peg-outs."""
    VEILED = "veiled"
    """Wholly inside MWEB: no visible input and no visible output."""


@dataclass(frozen=True, slots=True)
class Header:
    """A block's 80 bytes. ``parent`` is empty for the first block of a chain; ``merkle_root`` is as on the wire."""

    hash: str
    parent: str
    merkle_root: bytes
    time: datetime
    version: int


@dataclass(frozen=True, slots=True)
class Output:
    """``amount`` in base units; ``script`` without a CashToken prefix, whose category (hex) is ``token``."""

    amount: int
    script: bytes
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Tx:
    """One transaction. ``inputs`` are the outpoints it spends, ``txid:vout``; none for a coinbase.

    ``size`` is in bytes with the witness; ``replaceable``: it says so itself (BIP125), which says little today.
    """

    id: str
    inputs: tuple[str, ...]
    outputs: tuple[Output, ...]
    kind: TxKind
    size: int
    replaceable: bool


class TxExtent(NamedTuple):
    """Where the parts of a transaction are in the bytes around it, and its id as on the wire."""

    start: int
    inputs: int
    outputs: int
    end: int
    hogex: bool
    hash: bytes


def parse_header(raw: bytes) -> Header:
    """Return the first 80 bytes of ``raw``. Raises ValueError if there are fewer."""
    if len(raw) < HEADER_SIZE:
        raise ValueError(f"a header has {HEADER_SIZE} bytes, not {len(raw)}")
    parent = raw[4:36]
    return Header(
        hash=display_hash(double_sha256(raw[:HEADER_SIZE])),
        parent=display_hash(parent) if any(parent) else "",
        merkle_root=raw[36:68],
        time=datetime.fromtimestamp(int.from_bytes(raw[68:72], "little"), UTC),
        version=int.from_bytes(raw[:4], "little", signed=True),
    )


def parse_tx(raw: bytes, chain: Chain, tx_id: str | None = None) -> Tx:
    """One whole transaction: a block's, or `getrawtransaction`'s of what waits.

    With ``tx_id``, it is compared; a transaction wholly inside MWEB gets it, since its bytes give no id. Raises
    ValueError for bytes that are missing, left over, or of another transaction.
    """
    coins: list[bytes] = []
    scripts: list[bytes] = []
    try:
        if chain.mweb_hrp and _is_confidential(raw):
            return Tx(tx_id or "", (), (), TxKind.VEILED, len(raw), False)
        extent = scan_tx(raw, 0, coins, scripts, waiting=True)
    except IndexError:
        raise ValueError(f"the transaction ends before its time, after {len(raw)} bytes") from None
    if extent.end != len(raw):
        raise ValueError(f"the transaction has {extent.end} bytes, but {len(raw)} came")
    tx = build_tx(raw, extent, coins, scripts, chain)
    if tx_id is not None and tx.id != tx_id:
        raise ValueError(f"these are the bytes of transaction {tx.id}, not of {tx_id}")
    return tx


def scan_tx(raw: bytes, at: int, coins: list[bytes], scripts: list[bytes], waiting: bool = False) -> TxExtent:
    """Pass over the transaction at ``at``, appending what it spends (36 bytes each) and the scripts of its outputs.

    It runs for every transaction of every block, which is why it does everything by hand. It may believe in an end
    beyond the last byte: the caller compares. ``waiting``: Litecoin's MWEB part may still be attached; it ends the
    bytes, but for the lock time. Raises IndexError where bytes are missing, ValueError where they make no sense.
    """
    start, flags = at, 0
    at += 4
    if not raw[at]:
        flags = raw[at + 1]
        at += 2
    inputs = at
    spent = raw[at]
    at += 1
    if spent > SINGLE_BYTE:
        spent, at = long_size(raw, at)
    for _ in range(spent):
        coins.append(raw[at : at + 36])
        size = raw[at + 36]
        at += 37
        if size > SINGLE_BYTE:
            size, at = long_size(raw, at)
        at += size + 4
    outputs = at
    paid = raw[at]
    at += 1
    if paid > SINGLE_BYTE:
        paid, at = long_size(raw, at)
    for _ in range(paid):
        size = raw[at + 8]
        at += 9
        if size > SINGLE_BYTE:
            size, at = long_size(raw, at)
        scripts.append(raw[at : at + size])
        at += size
    if not flags:
        at += 4
        return TxExtent(start, inputs, outputs, at, False, sha256(sha256(raw[start:at]).digest()).digest())
    body = at
    at, hogex = _pass_extension(raw, at, flags, spent, waiting)
    at += 4
    bare = raw[start : start + 4] + raw[inputs:body] + raw[at - 4 : at]
    return TxExtent(start, inputs, outputs, at, hogex, sha256(sha256(bare).digest()).digest())


def _pass_extension(raw: bytes, at: int, flags: int, inputs: int, waiting: bool) -> tuple[int, bool]:
    """Return the index after the witnesses and MWEB's part, and whether the transaction is a HogEx."""
    if flags & ~(WITNESS | MWEB):
        raise ValueError(f"a transaction has flags {flags:#04x}, which are not defined yet")
    if flags & WITNESS:
        for _ in range(inputs):
            items = raw[at]
            at += 1
            if items > SINGLE_BYTE:
                items, at = long_size(raw, at)
            for _ in range(items):
                size = raw[at]
                at += 1
                if size > SINGLE_BYTE:
                    size, at = long_size(raw, at)
                at += size
    if not flags & MWEB:
        return at, False
    if not raw[at]:
        return at + 1, True
    if not waiting:
        raise ValueError("a transaction of a block still carries its MWEB part")
    return len(raw) - 4, False


def build_tx(raw: bytes, extent: TxExtent, coins: Sequence[bytes], scripts: Sequence[bytes], chain: Chain) -> Tx:
    """Return the skipped transaction, with its own ``coins`` and ``scripts``. Raises ValueError if it is none."""
    if not coins:
        raise ValueError(f"transaction {display_hash(extent.hash)} spends nothing")
    if len(coins) == 1 and coins[0] == NULL_OUTPOINT:
        kind = TxKind.COINBASE
    else:
        kind = TxKind.HOGEX if extent.hogex else TxKind.PLAIN
    return Tx(
        id=display_hash(extent.hash),
        inputs=() if kind is TxKind.COINBASE else tuple(map(outpoint, coins)),
        outputs=tuple(_outputs(raw, extent.outputs, scripts, chain)),
        kind=kind,
        size=extent.end - extent.start,
        replaceable=any(sequence < FINAL for sequence in _sequences(raw, extent.inputs)),
    )


def _outputs(raw: bytes, at: int, scripts: Sequence[bytes], chain: Chain) -> Iterator[Output]:
    _, at = compact_size(raw, at)
    for script in scripts:
        amount = int.from_bytes(raw[at : at + 8], "little")
        size, at = compact_size(raw, at + 8)
        at += size
        token, locking = split_token(script) if chain.cash_tokens else (None, script)
        yield Output(amount, locking, token)


def _sequences(raw: bytes, at: int) -> Iterator[int]:
    count, at = compact_size(raw, at)
    for _ in range(count):
        size, at = compact_size(raw, at + OUTPOINT_SIZE)
        at += size
        yield int.from_bytes(raw[at : at + 4], "little")
        at += 4


def _is_confidential(raw: bytes) -> bool:
    """Whether the transaction is wholly inside MWEB: the extended format, no input, no output, and MWEB's part."""
    return raw[4:8] == bytes((0, MWEB, 0, 0)) and raw[8] == 1

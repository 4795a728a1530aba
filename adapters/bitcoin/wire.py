"""Headers and transactions as bytes: read, never guessed. Pure.

Hashes are given as people and nodes write them, byte-reversed hex. Amounts are whole numbers of the base unit.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class TxKind(Enum):
    """What sort of transaction it is, as far as crediting must know."""

    PLAIN = "plain"
    COINBASE = "coinbase"
    HOGEX = "hogex"
    """Litecoin's last transaction of a block: the first output is MWEB's own balance, the others are peg-outs."""
    VEILED = "veiled"
    """Wholly inside MWEB: no input and no output that anybody can see."""


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


def parse_header(raw: bytes) -> Header:
    """The first 80 bytes of ``raw``. Raises ValueError if there are fewer."""
    raise NotImplementedError


def parse_tx(raw: bytes, tx_id: str | None = None) -> Tx:
    """One whole transaction: a block's, or `getrawtransaction`'s of what waits, on any chain of the family.

    With ``tx_id``, it is compared; a transaction wholly inside MWEB takes it, having no id that its bytes tell. Raises
    ValueError for bytes that are missing, left over, or of another transaction.
    """
    raise NotImplementedError

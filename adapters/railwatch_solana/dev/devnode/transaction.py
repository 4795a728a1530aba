"""A transaction as it arrives: bytes become a message, and lookup tables become keys."""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from solders.account import Account
from solders.errors import BincodeError
from solders.message import Message, MessageV0, MessageV1
from solders.pubkey import Pubkey
from solders.transaction import SanitizeError, VersionedTransaction

from railwatch_solana.dev.devnode import base58
from railwatch_solana.dev.devnode.errors import describe, invalid
from railwatch_solana.dev.devnode.guard import contained

PACKET = 1232
PACKET_V1 = 4096
V1_MARK = 0x81
"""A v1 transaction begins with its message; the others begin with the count of their signatures."""
TABLE_HEADER = 56
TYPE = "solana_transaction::versioned::VersionedTransaction"

AnyMessage = Message | MessageV0 | MessageV1
Version = int | Literal["legacy"]


@dataclass(frozen=True, slots=True)
class Incoming:
    """A transaction with all its keys: static ones, then those that tables add, writable before readonly."""

    raw: bytes
    tx: VersionedTransaction
    signature: str
    version: Version
    keys: tuple[Pubkey, ...]
    writable: tuple[Pubkey, ...] = ()
    readonly: tuple[Pubkey, ...] = ()

    @property
    def payer(self) -> Pubkey:
        """Who pays the fee."""
        return self.keys[0]

    @property
    def priority_fee(self) -> int:
        """Lamports that a v1 transaction offers in its header; the others use an instruction, which the SVM sees."""
        message = self.tx.message
        return (message.config.priority_fee or 0) if isinstance(message, MessageV1) else 0


def from_text(text: str, encoding: str) -> bytes:
    """Return the bytes in a request. Raises `RpcError`."""
    if encoding not in ("base58", "base64"):
        raise invalid(f"unsupported encoding: {encoding}. Supported encodings: base58, base64")
    # The encoded text is longer than the bytes; decoding a long base58 text needs quadratic time.
    if len(text) > 2 * PACKET_V1:
        raise invalid(f"{encoding} encoded {TYPE} too large: {len(text)} bytes")
    try:
        raw = base64.b64decode(text, validate=True) if encoding == "base64" else base58.decode(text)
    except (ValueError, binascii.Error) as error:
        raise invalid(f"invalid {encoding} encoding: {error}") from error
    limit = PACKET_V1 if raw[:1] == bytes([V1_MARK]) else PACKET
    if len(raw) > limit:
        raise invalid(f"decoded {TYPE} too large: {len(raw)} bytes (max: {limit} bytes)")
    return raw


def read(raw: bytes) -> VersionedTransaction:
    """Return the transaction in these bytes, well-formed. Raises `RpcError`."""
    try:
        with contained():
            tx = VersionedTransaction.from_bytes(raw)
            tx.sanitize()
    except (BincodeError, SanitizeError, ValueError) as error:
        raise invalid(f"failed to deserialize {TYPE}: {error}") from error
    return tx


def load(raw: bytes, account: Callable[[Pubkey], Account | None]) -> Incoming:
    """Return the transaction with its keys, tables as ``account`` knows them. Raises `RpcError`."""
    tx = read(raw)
    message, static = tx.message, tuple(tx.message.account_keys)
    signature = str(tx.signatures[0])
    if isinstance(message, Message):
        return Incoming(raw, tx, signature, "legacy", static)
    if isinstance(message, MessageV1):
        return Incoming(raw, tx, signature, 1, static)
    writable: list[Pubkey] = []
    readonly: list[Pubkey] = []
    for lookup in message.address_table_lookups:
        table = account(lookup.account_key)
        writable += _looked_up(table, bytes(lookup.writable_indexes))
        readonly += _looked_up(table, bytes(lookup.readonly_indexes))
    return Incoming(raw, tx, signature, 0, (*static, *writable, *readonly), tuple(writable), tuple(readonly))


def _looked_up(table: Account | None, indexes: bytes) -> list[Pubkey]:
    if table is None or len(table.data) < TABLE_HEADER:
        raise invalid(f"invalid transaction: {describe('AddressLookupTableNotFound')}")
    data = table.data
    starts = [TABLE_HEADER + 32 * index for index in indexes]
    if any(start + 32 > len(data) for start in starts):
        raise invalid(f"invalid transaction: {describe('InvalidAddressLookupTableIndex')}")
    return [Pubkey.from_bytes(data[start : start + 32]) for start in starts]

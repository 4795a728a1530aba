"""The JSON of a node, as narrow types: what is not named here is skipped without being built.

Fields are the node's own hex text. It becomes numbers only where something matched: int(x, 16) on ten thousand logs
costs more than matching them.
"""

from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from indexer.rail import BlockRef, RailFault, RailUnavailable

NO_BLOOM = "0x" + "0" * 512


class Header(msgspec.Struct, rename="camel", gc=False):
    """A block with the hashes of its transactions (eth_getBlockBy*, full = false)."""

    number: str
    hash: str
    parent_hash: str
    timestamp: str
    logs_bloom: str
    transactions: list[str]


class Transaction(msgspec.Struct, rename="camel", gc=False):
    """A transaction of any type: only what moves value. Unknown types (OP 0x7e, Arbitrum 0x64 ...) decode as well."""

    hash: str
    sender: str = msgspec.field(name="from")
    to: str | None = None
    value: str = "0x0"
    nonce: str = "0x0"


class FullBlock(msgspec.Struct, rename="camel", gc=False):
    """A block with its transactions (eth_getBlockBy*, full = true)."""

    number: str
    hash: str
    parent_hash: str
    timestamp: str
    logs_bloom: str
    transactions: list[Transaction]


class Log(msgspec.Struct, rename="camel", gc=False):
    """One entry of eth_getLogs. ``log_index`` counts over the block and moves on re-inclusion."""

    address: str
    topics: list[str]
    data: str
    block_hash: str
    block_number: str
    transaction_hash: str
    transaction_index: str
    log_index: str
    removed: bool = False


class Receipt(msgspec.Struct, rename="camel", gc=False):
    """eth_getTransactionReceipt. ``status`` is absent before Byzantium (EIP-658), where nobody can tell."""

    transaction_hash: str
    block_hash: str
    logs: list[Log]
    status: str | None = None


header_decoder: "msgspec.json.Decoder[Header | None]" = msgspec.json.Decoder(Header | None)
block_decoder: "msgspec.json.Decoder[FullBlock | None]" = msgspec.json.Decoder(FullBlock | None)
logs_decoder: "msgspec.json.Decoder[list[Log]]" = msgspec.json.Decoder(list[Log])
receipt_decoder: "msgspec.json.Decoder[Receipt | None]" = msgspec.json.Decoder(Receipt | None)
text_decoder: "msgspec.json.Decoder[str]" = msgspec.json.Decoder(str)


T = TypeVar("T")


class Named(msgspec.Struct, rename="camel"):
    """The least that makes an answer a block."""

    hash: str
    parent_hash: str


def decode(raw: bytes, decoder: "msgspec.json.Decoder[T]", what: str) -> T:
    """One result. Raises `RailUnavailable`, saying what was expected, for an answer of another shape."""
    try:
        return decoder.decode(raw)
    except msgspec.DecodeError as error:
        raise RailUnavailable(f"{what}: an answer of the wrong shape: {error}") from error


def decode_block(raw: bytes, decoder: "msgspec.json.Decoder[T]", what: str) -> T:
    """As `decode`, for blocks: raises `RailFault` with the hash if it is a block and yet cannot be read (B14, E15)."""
    try:
        return decoder.decode(raw)
    except msgspec.DecodeError as error:
        try:
            named = msgspec.json.decode(raw, type=Named)
        except msgspec.DecodeError:
            raise RailUnavailable(f"{what}: an answer of the wrong shape: {error}") from error
        raise RailFault(f"block {named.hash} cannot be decoded: {error}") from error


def block_ref(block: Header | FullBlock) -> BlockRef:
    """The block's name and place. Raises `RailFault` with its hash for numbers that are none."""
    try:
        height = int(block.number, 16)
        time = datetime.fromtimestamp(int(block.timestamp, 16), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise RailFault(f"block {block.hash} cannot be decoded: {error}") from error
    return BlockRef(height, block.hash, block.parent_hash if height else "", time)

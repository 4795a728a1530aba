"""The JSON of a node, as narrow types: what is not named here is skipped without being built.

Fields are the node's own hex text. It becomes numbers only where something matched: int(x, 16) on ten thousand logs
costs more than matching them.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

import msgspec

from railwatch.rail import BlockRef, RailUnavailable
from railwatch.rail.decoding import AHEAD, AnswerTooLarge, decode, printable, read_hex, read_quantity, read_time

_BLOOM = re.compile(r"0x[0-9a-fA-F]{1,512}")
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
    """A transaction of any type: only what moves value. Unknown types (OP 0x7e, Arbitrum 0x64 ...) decode as well.

    What a chain's own transactions lack, some clients leave out and others give as null.
    """

    hash: str
    sender: str | None = msgspec.field(name="from", default=None)
    to: str | None = None
    value: str | None = None
    nonce: str | None = None
    gas: str | None = None
    type: str | None = None


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
    data: str | None
    block_hash: str
    block_number: str | None
    transaction_hash: str
    transaction_index: str
    log_index: str
    removed: bool | None = False


class Receipt(msgspec.Struct, rename="camel", gc=False):
    """eth_getTransactionReceipt. ``status`` is absent before Byzantium (EIP-658), where success is not known."""

    transaction_hash: str
    block_hash: str
    logs: list[Log] | None = None
    status: str | None = None
    transaction_index: str | None = None


T = TypeVar("T")


class Items(Generic[T]):
    """How a list is decoded: ``many`` at once, or ``one`` by one where the list is large."""

    def __init__(self, item: type[T]) -> None:
        self.one: msgspec.json.Decoder[T] = msgspec.json.Decoder(item)
        self.many: msgspec.json.Decoder[list[T]] = msgspec.json.Decoder(list[item])  # type: ignore[valid-type]
        self.maybe: msgspec.json.Decoder[list[T] | None] = msgspec.json.Decoder(list[item] | None)  # type: ignore[valid-type]


header_decoder: "msgspec.json.Decoder[Header | None]" = msgspec.json.Decoder(Header | None)
block_decoder: "msgspec.json.Decoder[FullBlock | None]" = msgspec.json.Decoder(FullBlock | None)
log_items: Items[Log] = Items(Log)
receipt_items: Items[Receipt] = Items(Receipt)
receipt_decoder: "msgspec.json.Decoder[Receipt | None]" = msgspec.json.Decoder(Receipt | None)
text_decoder: "msgspec.json.Decoder[str]" = msgspec.json.Decoder(str)


ZERO = (None, "", "0x", "0x0")
"""How clients write that nothing is moved."""
FULL_BLOOM = "0x" + "f" * 512
"""Filecoin gives each block with messages this one: it denies nothing, and so proves nothing."""

B = TypeVar("B", Header, FullBlock)


class Named(msgspec.Struct, rename="camel"):
    """The least that makes an answer a block."""

    hash: str
    number: str = ""


_named: "msgspec.json.Decoder[Named]" = msgspec.json.Decoder(Named)


def decode_block(raw: bytes | msgspec.Raw, decoder: "msgspec.json.Decoder[B | None]", what: str) -> B | None:
    """One block, its hashes checked and in lower case. Raises `RailUnavailable`, naming the block where it has a name.

    What cannot be read is the node's fault and heals with the next answer: a header is proven by nothing.
    """
    try:
        block = decode(raw, decoder, what)
    except RailUnavailable as error:
        if isinstance(error, AnswerTooLarge):
            raise
        try:
            named = decode(raw, _named, what)
        except RailUnavailable:
            raise error from None
        raise RailUnavailable(f"block {printable(named.hash, 80)} cannot be decoded: {error}") from error
    if block is not None:
        block.hash = read_hex(block.hash, 32, f"{what}: block hash")
        block.parent_hash = read_hex(block.parent_hash, 32, f"{what}: parent hash")
        _lower_case_ids(block)
        if not _BLOOM.fullmatch(block.logs_bloom):
            raise RailUnavailable(f"block {block.hash} cannot be decoded: its logsBloom is no hex")
    return block


def block_ref(block: Header | FullBlock, ahead: timedelta = AHEAD) -> BlockRef:
    """Return the block's name and place. Raises `RailUnavailable` with its hash for numbers that are none.

    A genesis block may have no time (Ethereum's has 0). ``ahead``: how far its time may lie in the future.
    """
    what = f"block {printable(block.hash, 80)} cannot be decoded"
    height = read_quantity(block.number, what)
    if height >= 2**63:
        raise RailUnavailable(f"{what}: height {height} is beyond any chain")
    seconds = read_quantity(block.timestamp, what)
    time = datetime.fromtimestamp(seconds, UTC) if height == 0 and seconds < 2**31 else read_time(seconds, what, ahead)
    return BlockRef(height, block.hash, block.parent_hash if height else "", time)


def has_bloom(block: Header | FullBlock) -> bool:
    """Whether the block's bloom says anything. Some chains keep none, and some set every bit."""
    return block.logs_bloom not in (NO_BLOOM, FULL_BLOOM)


def _lower_case_ids(block: Header | FullBlock) -> None:
    """Bring the ids of transactions into lower case, if their client writes them otherwise: all of them or none."""
    if isinstance(block, Header):
        if block.transactions and block.transactions[0] != block.transactions[0].lower():
            block.transactions = [tx_id.lower() for tx_id in block.transactions]
    elif block.transactions and block.transactions[0].hash != block.transactions[0].hash.lower():
        for tx in block.transactions:
            tx.hash = tx.hash.lower()


def lower_case(logs: list[Log]) -> list[Log]:
    """Bring the names in logs into lower case, if their client writes them otherwise: it does so in all or in none."""
    if logs and logs[0].block_hash != logs[0].block_hash.lower():
        for log in logs:
            log.block_hash, log.transaction_hash = log.block_hash.lower(), log.transaction_hash.lower()
            log.topics = [topic.lower() for topic in log.topics]
    return logs

"""The JSON of a node, as narrow types: what is not named here is skipped without being built.

`getBlock` is asked with ``transactionDetails: "accounts"``: the keys of each transaction in the order of its balances,
those from lookup tables included (HAZARDS S3), the balances before and after, and no instructions.
"""

from typing import Annotated, Any, Generic, TypeAlias, TypeVar

import msgspec

from railwatch.rail import BlockRef, RailUnavailable
from railwatch.rail.decoding import LARGE, Decodes, read_text, read_time

HASH_MOST = 64
"""Characters of a block's hash at most: 32 bytes in base58 have 44."""

VERSION_MAX = 1
"""The highest transaction version whose accounts and balances are understood here."""

T = TypeVar("T")

Slot: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
Place: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
Signatures: TypeAlias = Annotated[list[str], msgspec.Meta(min_length=1)]


class RpcEnvelope(msgspec.Struct, Generic[T]):
    """One reply, its result typed at once: a block of some megabytes is read in one pass.

    ``result`` is unset where there is none, which is not null. An error may have any shape (`railwatch.rail.refusals`).
    """

    id: int | str | None = None
    result: T | msgspec.UnsetType | None = msgspec.UNSET
    error: msgspec.Raw = msgspec.Raw(b"null")


class Header(msgspec.Struct, rename="camel", gc=False):
    """A block without its transactions. ``block_time`` in seconds since 1970; a node may not know it yet.

    Nothing that money depends on has a default: a field that is missing is an answer of the wrong shape.
    """

    blockhash: str
    previous_blockhash: str
    parent_slot: Slot
    block_time: int | None


class Named(msgspec.Struct, rename="camel"):
    """The least that makes an answer a block."""

    blockhash: str
    parent_slot: Slot


class AccountKey(msgspec.Struct, gc=False):
    """One account of a transaction, static or from a lookup table."""

    pubkey: str


class Accounts(msgspec.Struct, rename="camel", gc=False):
    """A transaction, as far as its signature and the accounts it names."""

    signatures: Signatures
    account_keys: list[AccountKey]


class TokenAmount(msgspec.Struct, gc=False):
    """Only the raw amount, as text: ``uiAmount`` is a float, and scaled by whatever the mint says (HAZARDS S8)."""

    amount: str


class TokenBalance(msgspec.Struct, rename="camel", gc=False):
    """What one token account held before or after the transaction, and whose it was.

    Blocks of 2021 and before name neither owner nor program (`railwatch_solana.owners`).
    """

    account_index: Place
    mint: str
    ui_token_amount: TokenAmount
    owner: str | None = None
    program_id: str | None = None


_balances_decoder = msgspec.json.Decoder(list[TokenBalance])


class Meta(msgspec.Struct, rename="camel", gc=False):
    """What became of a transaction. Balances are lamports, parallel to the account keys.

    What was held before is read only where something has hit, which spares a block a tenth of its decoding.
    """

    err: Any
    pre_balances: list[Count]
    post_balances: list[Count]
    pre_token_balances: msgspec.Raw
    post_token_balances: list[TokenBalance]

    def held_before(self) -> list[TokenBalance]:
        """Return the token balances before the transaction. Raises ValueError."""
        try:
            return _balances_decoder.decode(self.pre_token_balances)
        except RecursionError as error:
            raise ValueError("token balances with too many levels of nesting") from error


class Transaction(msgspec.Struct, gc=False):
    """One transaction of a block. A node without its status history gives no meta."""

    transaction: Accounts
    meta: Meta | None
    version: int | str = "legacy"


class Block(Header, gc=False):
    """A block with the accounts of its transactions."""

    transactions: list[Transaction]


class BareBlock(Header, gc=False):
    """The same, its transactions not decoded yet."""

    transactions: list[msgspec.Raw]


class Listed(Header, gc=False):
    """A block with the signatures of its transactions, in order."""

    signatures: list[str]


class Loaded(msgspec.Struct):
    """What a transaction's lookup tables gave."""

    writable: list[str]
    readonly: list[str]


class SentMeta(Meta, rename="camel"):
    """As in a block, and with the keys that only lookup tables name."""

    loaded_addresses: Loaded | None = None
    """Older nodes leave it out of transactions that can load none; the number of balances proves that nothing lacks."""


class Message(msgspec.Struct, rename="camel"):
    """The keys that a transaction itself names."""

    account_keys: list[str]


class Body(msgspec.Struct):
    """A transaction's signatures and message."""

    signatures: Signatures
    message: Message


class Sent(msgspec.Struct):
    """`getTransaction`."""

    slot: Slot
    transaction: Body
    meta: SentMeta
    version: int | str = "legacy"


class Context(msgspec.Struct):
    """The slot that an answer is about."""

    slot: Slot


class RecentHash(msgspec.Struct):
    """The value of `getLatestBlockhash`."""

    blockhash: str


class Latest(msgspec.Struct):
    """`getLatestBlockhash`: the newest block of a commitment, by slot and hash; cheap, for the node keeps it."""

    context: Context
    value: RecentHash


class Account(msgspec.Struct):
    """An account as it is now, without its data; ``owner`` is the program that it belongs to."""

    lamports: int
    owner: str


class AccountInfo(msgspec.Struct):
    """`getAccountInfo`; None for an address that was never paid."""

    value: Account | None


class TokenAccounts(msgspec.Struct):
    """`getTokenAccountsByOwner`, as far as their addresses."""

    context: Context
    value: list[AccountKey]


class Signed(msgspec.Struct):
    """One entry of `getSignaturesForAddress`."""

    signature: str
    slot: Slot
    err: Any


class Owned(msgspec.Struct):
    """An account of which only a part of the data was asked for: in base64, with the name of that encoding."""

    data: tuple[str, str]


class ManyAccounts(msgspec.Struct):
    """`getMultipleAccounts`; None for an account that is not, or no longer, there."""

    context: Context
    value: list[Owned | None]


_block: "msgspec.json.Decoder[RpcEnvelope[Block]]" = msgspec.json.Decoder(RpcEnvelope[Block])
_bare_block: "msgspec.json.Decoder[RpcEnvelope[BareBlock]]" = msgspec.json.Decoder(RpcEnvelope[BareBlock])
_transaction: "msgspec.json.Decoder[Transaction]" = msgspec.json.Decoder(Transaction)


class BlockDecoder:
    """Decodes a reply with a block: a large one transaction by transaction, so that other threads run in between."""

    def decode(self, raw: bytes | msgspec.Raw, /) -> RpcEnvelope[Block]:
        """Return the reply. Raises ValueError, RecursionError."""
        if len(raw) < LARGE:
            return _block.decode(raw)
        reply = _bare_block.decode(raw)
        bare = reply.result
        if bare is None or isinstance(bare, msgspec.UnsetType):
            return RpcEnvelope(reply.id, bare, reply.error)
        txs = [_transaction.decode(each) for each in bare.transactions]
        block = Block(bare.blockhash, bare.previous_blockhash, bare.parent_slot, bare.block_time, txs)
        return RpcEnvelope(reply.id, block, reply.error)


Decoder: TypeAlias = "Decodes[RpcEnvelope[T]]"

header_decoder: "Decoder[Header]" = msgspec.json.Decoder(RpcEnvelope[Header])
block_decoder: "Decoder[Block]" = BlockDecoder()
listed_decoder: "Decoder[Listed]" = msgspec.json.Decoder(RpcEnvelope[Listed])
sent_decoder: "Decoder[Sent]" = msgspec.json.Decoder(RpcEnvelope[Sent])
signed_decoder: "Decoder[list[Signed]]" = msgspec.json.Decoder(RpcEnvelope[list[Signed]])
held_decoder: "Decoder[TokenAccounts]" = msgspec.json.Decoder(RpcEnvelope[TokenAccounts])
account_decoder: "Decoder[AccountInfo]" = msgspec.json.Decoder(RpcEnvelope[AccountInfo])
many_decoder: "Decoder[ManyAccounts]" = msgspec.json.Decoder(RpcEnvelope[ManyAccounts])
slots_decoder: "Decoder[list[int]]" = msgspec.json.Decoder(RpcEnvelope[list[Slot]])
number_decoder: "Decoder[int]" = msgspec.json.Decoder(RpcEnvelope[Count])

# For `railwatch.rail.jsonrpc.RpcResponse`, which has opened the envelope.
text_result = msgspec.json.Decoder(str)
latest_result = msgspec.json.Decoder(Latest)


def block_ref(slot: int, block: Header) -> BlockRef:
    """Return the block's name and place. Raises `RailUnavailable` while the node does not know its time."""
    if block.block_time is None:
        raise RailUnavailable(f"the node knows no time of block {slot} yet")
    what = f"block {slot}"
    name, parent = (read_text(each, HASH_MOST, what) for each in (block.blockhash, block.previous_blockhash))
    return BlockRef(slot, name, parent if slot else "", read_time(block.block_time, f"{what} {name}"))

"""From the balances of a block's transactions to transfers: match first, decode after. Pure.

What counts is what an account, or an owner's token accounts together, held before and after a transaction; never an
instruction, which may be hidden in an inner one, be undone by the next, or charge a fee on the way (HAZARDS S4).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from operator import lt
from typing import Any

from railwatch.rail import AssetId, BlockRef, ChainId, RailFault, RailUnavailable, Transfer, Watches
from railwatch.rail.decoding import printable, read_text
from railwatch_solana.address import key_of
from railwatch_solana.wire import VERSION_MAX, Block, Meta, TokenBalance, Transaction

NATIVE_ASSET = "slip44:501"
TOKEN_NAMESPACE = "token"

NAME_MOST = 88
"""Characters of a name at most: a signature's 64 bytes in base58."""

AMOUNT_MOST, AMOUNT_DIGITS = 2**64 - 1, 20
"""Lamports and tokens are counted in 64 bits."""

Watched = Mapping[str, bytes]
"""The watched addresses that a block names: text to key."""


class Ownerless(RailFault):
    """A token balance does not say whose it is, and could be ours; `railwatch_solana.owners` may find it out."""


class _NoOwner(Exception):
    """The same, before the block is named."""


@dataclass(frozen=True, slots=True)
class DecodeContext:
    """What decoding needs to know in addition to the content: whose chain, which node, which addresses are watched."""

    chain_id: ChainId
    node: str
    watches: Watches

    def token(self, mint: str) -> AssetId:
        """Return the asset of a mint: the configured one, else its own id, which the daemon calls unsupported (S8)."""
        return self.watches.assets.get(mint) or AssetId(f"{self.chain_id}/{TOKEN_NAMESPACE}:{mint}")

    @property
    def native(self) -> AssetId | None:
        """SOL, if it is configured."""
        return self.watches.assets.get("")


def block_transfers(block: Block, ref: BlockRef, context: DecodeContext) -> list[Transfer]:
    """Return what the block's transactions brought to watched addresses, in their order.

    Raises `RailFault` with the block's hash for content that cannot be read (`Ownerless` where only an owner lacks),
    `RailUnavailable` if the node gave the transactions without what became of them, or with names that are none.
    """
    try:
        landed = [(tx, meta) for tx in block.transactions if (meta := _meta_of(tx)).err is None]
        watched = _match(landed, context)
        if not watched:
            return []
        return [transfer for tx, meta in landed for transfer in _credits(tx, meta, ref, watched, context)]
    except _NoOwner as error:
        raise Ownerless(
            f"block {ref.height} {ref.hash} cannot be decoded: a token balance does not say whose it is"
        ) from error
    except ValueError as error:
        raise RailFault(f"block {ref.height} {ref.hash} cannot be decoded: {error}") from error


def _meta_of(tx: Transaction) -> Meta:
    """Return the transaction's outcome, if this code understands the transaction (S2)."""
    if tx.meta is None:
        raise RailUnavailable(f"the node kept no balances of transaction {tx.transaction.signatures[0]}")
    if tx.version != "legacy" and not (isinstance(tx.version, int) and 0 <= tx.version <= VERSION_MAX):
        raise ValueError(f"transaction {tx.transaction.signatures[0]} has version {printable(tx.version, 40)!r}")
    return tx.meta


def _match(landed: Sequence[tuple[Transaction, Meta]], context: DecodeContext) -> Watched:
    """Return the watched among all accounts that grew and all token owners, queried in one call.

    Votes are most of a block: nothing grows in them, so they cost a comparison of some numbers. Names are gathered as
    text first, since the same pools and makers are in transaction after transaction.
    """
    names: set[str | None] = set()
    native = context.native is not None
    for tx, meta in landed:
        accounts = tx.transaction.account_keys
        if not len(accounts) == len(meta.pre_balances) == len(meta.post_balances):
            raise ValueError(f"transaction {tx.transaction.signatures[0]} has balances of other accounts")
        if native:
            # In C what would else be a loop over twenty thousand accounts.
            grew = compress(accounts, map(lt, meta.pre_balances, meta.post_balances))
            names.update([account.pubkey for account in grew])
        if meta.post_token_balances:
            names.update([balance.owner for balance in meta.post_token_balances])
    if None in names:
        raise _NoOwner
    keys = {key_of(name): name for name in names if name is not None}
    return {keys[key]: key for key in context.watches.hits(keys)}


def _credits(
    tx: Transaction, meta: Meta, ref: BlockRef, watched: Watched, context: DecodeContext
) -> Iterator[Transfer]:
    """Yield what one transaction brought to the watched: SOL first, then tokens."""
    found = [*_native_credits(tx, meta, watched, context), *_token_credits(meta, watched, context)]
    if not found:
        return
    what = f"block {ref.height} {ref.hash}"
    tx_id = read_text(tx.transaction.signatures[0], NAME_MOST, what)
    keys = tuple(read_text(account.pubkey, NAME_MOST, what) for account in tx.transaction.account_keys)
    for credit in found:
        if credit.account >= len(keys) or not 0 < credit.amount <= AMOUNT_MOST:
            raise ValueError(f"{credit.amount} at account {credit.account} of {len(keys)} is no payment")
        yield Transfer(
            tx_id=tx_id,
            # The place within the transaction: lookup tables only grow, so it is the same in any block.
            tx_index=f"account:{credit.account}",
            to=watched[credit.owner],
            asset=credit.asset,
            amount=credit.amount,
            block=ref,
            references=keys,
            evidence={
                "account": keys[credit.account],
                "fee_payer": keys[0],
                "version": tx.version,
                "node": context.node,
                **credit.evidence,
            },
        )


@dataclass(frozen=True, slots=True)
class _Credit:
    """``amount`` base units more than before, at the transaction's account of that number."""

    account: int
    owner: str
    asset: AssetId
    amount: int
    evidence: Mapping[str, Any]


def _native_credits(tx: Transaction, meta: Meta, watched: Watched, context: DecodeContext) -> Iterator[_Credit]:
    """Lamports that stayed. A token account's are its rent, or wrapped SOL, and no payment of SOL (S9)."""
    if context.native is None:
        return
    tokens = {balance.account_index for balance in (*meta.held_before(), *meta.post_token_balances)}
    accounts = zip(tx.transaction.account_keys, meta.pre_balances, meta.post_balances, strict=True)
    for place, (account, before, after) in enumerate(accounts):
        if after > before and account.pubkey in watched and place not in tokens:
            yield _Credit(place, account.pubkey, context.native, after - before, {"source": "balance"})


@dataclass(slots=True)
class _Holding:
    """What one owner's accounts of one mint gained in a transaction, in all and each."""

    gained: int = 0
    each: dict[int, int] = field(default_factory=dict)

    def book(self, account: int, amount: int) -> None:
        """Count ``amount`` (negative: held before) for one account."""
        self.gained += amount
        self.each[account] = self.each.get(account, 0) + amount

    def credited(self) -> int:
        """Return the first account that grew."""
        return min(account for account, gained in self.each.items() if gained > 0)


def _token_credits(meta: Meta, watched: Watched, context: DecodeContext) -> Iterator[_Credit]:
    """Return what owners gained in any of their token accounts (S6); a missing entry means 0 (S5).

    An owner's accounts of one mint are summed: tokens that only move between them are no payment.
    """
    holdings: dict[tuple[str, str, str | None], _Holding] = {}
    for sign, balances in ((-1, meta.held_before()), (1, meta.post_token_balances)):
        for balance in _of_watched(balances, watched):
            place = (_owner(balance), balance.mint, balance.program_id)
            holding = holdings.setdefault(place, _Holding())
            holding.book(balance.account_index, sign * _amount(balance))
    for (owner, mint, program), holding in holdings.items():
        if holding.gained > 0:
            for name in (mint, program or ""):
                read_text(name, NAME_MOST, "a token balance's mint or program")
            evidence = {"source": "token balance", "mint": mint, "program": program}
            yield _Credit(holding.credited(), owner, context.token(mint), holding.gained, evidence)


def _of_watched(balances: Iterable[TokenBalance], watched: Watched) -> Iterator[TokenBalance]:
    return (balance for balance in balances if _owner(balance) in watched)


def _owner(balance: TokenBalance) -> str:
    if balance.owner is None:
        raise _NoOwner
    return balance.owner


def _amount(balance: TokenBalance) -> int:
    """Return the raw amount (S8). Raises ValueError for anything but digits, because `int` alone forgives more."""
    text = balance.ui_token_amount.amount
    if not (text.isascii() and text.isdecimal() and len(text) <= AMOUNT_DIGITS):
        raise ValueError(f"{text[:40]!r} is no amount of tokens")
    return int(text)

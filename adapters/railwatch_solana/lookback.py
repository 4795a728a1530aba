"""Looking back for a few addresses by the node's own index: an hour of blocks would be some forty gigabytes.

What touched an address is found by its signatures. Tokens are paid to accounts of the owner without naming the owner,
so those accounts are requested as well: those that exist, and, since only an owner can close or transfer one, every
one that a transaction of the owner's names (HAZARDS S6). A transaction's block says where in it the transaction is.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from railwatch.rail import BlockGone, BlockRef, NotKept, Scanned, Span, Transfer
from railwatch_solana import account_index as index
from railwatch_solana.account_index import AccountIndex, TooMany
from railwatch_solana.address import text_of
from railwatch_solana.block_source import BlockSource, NoBlock
from railwatch_solana.decode import DecodeContext
from railwatch_solana.rpc_errors import RpcRejected
from railwatch_solana.scan import scan
from railwatch_solana.wire import Block, Transaction

AT_ONCE = 8
"""Questions at a time: they are small."""

BY_BLOCKS = 256
"""Slots up to which a stretch is read block by block, if its accounts have more transactions than are held at once."""

TRANSACTIONS_MOST = 50_000
"""Transactions that one look-back reads, the newest first. What is older it leaves, and says where it ended."""

T = TypeVar("T")
Answer = TypeVar("Answer")


async def look_back(
    source: BlockSource, history: AccountIndex, span: Span, context: DecodeContext, keys: Sequence[bytes]
) -> Scanned:
    """All transfers of a sparse span to ``keys``. Raises `BlockGone` as `scan`, which does it where no index helps.

    A node writes a block's index before it can serve the block, so that ``upto`` is asked for first; and once more at
    the end, when it must still be canonical, and everything below it with it.
    """
    await _check_canonical(source, span.upto)
    owners = {text_of(key) for key in keys}
    since, left = span.upto.height, TRANSACTIONS_MOST
    known: set[str] = set()
    parts: list[Scanned] = []
    waiting = [span]
    while waiting:
        stretch = waiting.pop()
        try:
            before = None if stretch.upto.height == since else await _signature_above(source, stretch.upto, since)
            found = await _transactions(source, history, owners, known, stretch, since, before)
        except TooMany:
            halves = await _halves(source, stretch)
            if halves:
                # Newest first: so what is left out in the end is the oldest, and an account is known before its past.
                waiting += halves
                continue
            left -= index.PAGE * index.PAGES
            part = await scan(source, stretch, context)
        except RpcRejected as refused:
            if refused.passes:
                raise
            return await scan(source, span, context)
        else:
            left -= len(found)
            part = await _part(source, stretch, context, found)
        if left < 0 and parts:
            first = stretch.upto.height + 1
            raise NotKept(f"{TRANSACTIONS_MOST:,} transactions were read, back to slot {first}", first)
        parts.append(part)
    for ref in (span.after, span.upto):
        await _check_canonical(source, ref)
    return _joined(parts[::-1], span)


def _joined(parts: Sequence[Scanned], span: Span) -> Scanned:
    """Return what the stretches of a span hold, oldest first: the blocks with transfers, and ``upto``."""
    transfers = [transfer for part in parts for transfer in part.transfers]
    paying = {transfer.block.hash for transfer in transfers if transfer.block} - {span.upto.hash}
    blocks = [ref for part in parts for ref in part.blocks if ref.hash in paying]
    route = "index" if any(part.method == "index" for part in parts) else "blocks"
    return Scanned([*blocks, span.upto], transfers, route)


async def _halves(source: BlockSource, span: Span) -> list[Span]:
    """Return the two halves of a span, older first; none if it is short, or all its blocks are in one half."""
    if len(span) <= BY_BLOCKS:
        return []
    middle = await source.at((span.after.height + span.upto.height) // 2)
    if not span.after.height < middle.height < span.upto.height:
        return []
    return [Span(span.after, middle, sparse=True), Span(middle, span.upto, sparse=True)]


async def _signature_above(source: BlockSource, upto: BlockRef, newest: int) -> str:
    """Return a signature in the next block above ``upto`` that has one: a page from there misses none below."""
    low = upto.height + 1
    while low <= newest:
        for slot in await source.slots(low, min(newest, low + BY_BLOCKS)):
            if signatures := (await source.signatures(slot))[1].signatures:
                return signatures[0]
        low += BY_BLOCKS + 1
    raise NoBlock(f"no block above {upto.height} has a transaction")


async def _part(
    source: BlockSource, span: Span, context: DecodeContext, found: dict[str, tuple[int, Transaction]]
) -> Scanned:
    """Return the transfers of one stretch, found by the index."""
    by_slot: defaultdict[int, dict[str, Transaction]] = defaultdict(dict)
    for signature, (slot, tx) in found.items():
        if slot <= span.upto.height:
            by_slot[slot][signature] = tx
    scanned = await _all(sorted(by_slot), lambda slot: _transfers_of(source, slot, by_slot[slot], context))
    blocks = [ref for ref, transfers in scanned if transfers and ref.height != span.upto.height]
    return Scanned([*blocks, span.upto], [each for _, transfers in scanned for each in transfers], "index")


async def _transactions(
    source: BlockSource,
    history: AccountIndex,
    owners: set[str],
    known: set[str],
    span: Span,
    since: int,
    before: str | None,
) -> dict[str, tuple[int, Transaction]]:
    """Everything that touched the owners or their token accounts, by signature, with its slot.

    ``known``: their accounts that newer stretches named; those of this one are added. Raises `TooMany`.
    """
    asked: set[str] = set()
    found: dict[str, tuple[int, Transaction]] = {}
    above = span.after.height
    if not known:
        opened = await _all(sorted(owners), lambda owner: history.token_accounts(owner, since))
        known |= owners.union(*opened)
    wanted = set(known)
    # Each round may name further accounts of the owners; there are only so many in the transactions of one hour.
    while wanted:
        lists = await _all(sorted(wanted), lambda account: history.signatures(account, above, since, before))
        asked |= wanted
        fresh = {signature: slot for each in lists for signature, slot in each if signature not in found}
        if len(found) + len(fresh) > index.PAGE * index.PAGES:
            raise TooMany(f"more than {index.PAGE * index.PAGES:,} transactions above slot {above}")
        found |= await _read(source, history, fresh)
        wanted = {account for signature in fresh for account in _accounts_of(found[signature][1], owners)} - asked
        known |= wanted
    return found


async def _read(
    source: BlockSource, history: AccountIndex, named: dict[str, int]
) -> dict[str, tuple[int, Transaction]]:
    """Return the indexed transactions with their slots; read one from its block if the index lacks it."""
    signatures = sorted(named)
    sent_by = dict(zip(signatures, await _all(signatures, history.transaction), strict=True))
    for slot in sorted({named[signature] for signature, sent in sent_by.items() if sent is None}):
        ref, block = await source.block(slot)
        for tx in block.transactions:
            if sent_by.get(tx.transaction.signatures[0], ()) is None:
                sent_by[tx.transaction.signatures[0]] = slot, tx
        if lost := [each for each, sent in sent_by.items() if sent is None and named[each] == slot]:
            raise NoBlock(f"block {slot} {ref.hash} does not hold transaction {lost[0]}, which the index names there")
    return {signature: sent for signature, sent in sent_by.items() if sent is not None}


def _accounts_of(tx: Transaction, owners: set[str]) -> Iterable[str]:
    """Yield the token accounts of the owners that the transaction names."""
    if tx.meta is None:
        return
    for balance in (*tx.meta.held_before(), *tx.meta.post_token_balances):
        if balance.owner in owners and balance.account_index < len(tx.transaction.account_keys):
            yield tx.transaction.account_keys[balance.account_index].pubkey


async def _transfers_of(
    source: BlockSource, slot: int, transactions: dict[str, Transaction], context: DecodeContext
) -> tuple[BlockRef, list[Transfer]]:
    """Return what these transactions paid, in the order of their block. Raises `BlockGone` if it lacks one."""
    try:
        ref, listed = await source.signatures(slot)
    except NoBlock as missing:
        if await source.is_gone(slot):
            raise BlockGone(f"the chain has no block at slot {slot} any more") from missing
        raise
    inside = [transactions[signature] for signature in listed.signatures if signature in transactions]
    if len(inside) != len(transactions):
        raise BlockGone(f"block {slot} {ref.hash} does not hold what the index says")
    block = Block(listed.blockhash, listed.previous_blockhash, listed.parent_slot, listed.block_time, inside)
    return ref, await source.transfers(block, ref, context)


async def _check_canonical(source: BlockSource, ref: BlockRef) -> None:
    """Raise `BlockGone` if the chain holds another block, or none, at that slot."""
    try:
        here, _ = await source.header(ref.height)
    except NoBlock as missing:
        if await source.is_gone(ref.height):
            raise BlockGone(f"the chain has no block at slot {ref.height} any more") from missing
        raise
    if here.hash != ref.hash:
        raise BlockGone(f"block {ref.height} is {here.hash}, not {ref.hash}")


async def _all(things: Sequence[T], ask: Callable[[T], Awaitable[Answer]]) -> list[Answer]:
    """Return the answers in order, `AT_ONCE` of them under way. The first error cancels the rest."""
    answers: list[Answer] = []
    for at in range(0, len(things), AT_ONCE):
        tasks = [asyncio.ensure_future(ask(thing)) for thing in things[at : at + AT_ONCE]]
        try:
            answers += await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return answers

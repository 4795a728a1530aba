"""Whose the token accounts of an old block were: nodes did not say so before the end of 2021.

The node reports the present owner. An account that still exists had the same owner then, unless it was transferred
between. What cannot be found out of an old block belonged to accounts that are long closed; in a newer block a missing
owner is no matter of age, and could be ours.
"""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from railwatch.rail import BlockRef, RailFault, RailUnavailable
from railwatch_solana import wire
from railwatch_solana.address import text_of
from railwatch_solana.rpc import Rpc
from railwatch_solana.wire import TokenBalance, Transaction

OLD = datetime(2022, 6, 1, tzinfo=UTC)
"""Blocks before this may lack owners: they came with Agave's forerunner 1.8, and stored blocks keep what they had."""

AT_ONCE = 100
"""Accounts in one answer (`getMultipleAccounts`)."""

OWNER = {"encoding": "base64", "dataSlice": {"offset": 32, "length": 32}, "commitment": "confirmed"}
"""Where both token programs keep an account's owner."""


async def fill_owners(rpc: Rpc, transactions: Sequence[Transaction], ref: BlockRef) -> None:
    """Add the owners that ``ref``'s transactions do not name; leave out what cannot be known of an old block.

    Raises `RailFault` for a newer block, and for balances that cannot be read.
    """
    try:
        before = {id(tx): tx.meta.held_before() for tx in transactions if tx.meta is not None}
    except ValueError as error:
        raise RailFault(f"block {ref.height} {ref.hash} cannot be decoded: {error}") from error
    accounts: set[str] = set()
    for tx in transactions:
        if tx.meta is not None:
            balances = (*before[id(tx)], *tx.meta.post_token_balances)
            accounts.update(_account(tx, each, ref) for each in balances if each.owner is None)
    known = await _owners(rpc, sorted(accounts))
    if ref.time >= OLD and (unknown := sorted(accounts - known.keys())):
        raise RailFault(
            f"block {ref.height} {ref.hash} cannot be decoded: the owner of token account {unknown[0]} is not known"
        )
    for tx in transactions:
        if tx.meta is not None:
            tx.meta.post_token_balances = _filled(tx, tx.meta.post_token_balances, known, ref)
            filled = _filled(tx, before[id(tx)], known, ref)
            tx.meta.pre_token_balances = msgspec.Raw(msgspec.json.encode(filled))


async def _owners(rpc: Rpc, accounts: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for at in range(0, len(accounts), AT_ONCE):
        some = accounts[at : at + AT_ONCE]
        accounts_now = await rpc.read(wire.many_decoder, "getMultipleAccounts", some, OWNER)
        if len(accounts_now.value) != len(some):
            raise RailUnavailable(
                f"{rpc.name} getMultipleAccounts: {len(accounts_now.value)} answers for {len(some)} accounts"
            )
        for account, owned in zip(some, accounts_now.value, strict=True):
            owner = _decoded(owned.data[0]) if owned is not None else b""
            if len(owner) == 32:
                found[account] = text_of(owner)
    return found


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def _filled(
    tx: Transaction, balances: Sequence[TokenBalance], known: dict[str, str], ref: BlockRef
) -> list[TokenBalance]:
    for each in balances:
        if each.owner is None:
            each.owner = known.get(_account(tx, each, ref))
    return [each for each in balances if each.owner is not None]


def _account(tx: Transaction, balance: TokenBalance, ref: BlockRef) -> str:
    keys = tx.transaction.account_keys
    if balance.account_index >= len(keys):
        raise RailFault(
            f"block {ref.height} {ref.hash} cannot be decoded: a balance of account {balance.account_index}"
        )
    return keys[balance.account_index].pubkey

"""The configuration's rails, assets and policies as rows, so that the contract's functions can validate and resolve.

Mirroring again changes nothing. A rail's cursor and state are never touched, and nothing is deleted that a row of
history could point at: what is no longer configured is disabled.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import asyncpg

from railwatch.core.model import DelayLimits
from railwatch.core.policy import Policy
from railwatch.rail.types import AssetId, AssetSpec, ChainId, Traits
from railwatch.store.database import Connection, Database, Row
from railwatch.store.errors import StoreError, StoreUnavailable
from railwatch.store.queries import query

LOCK_CONFIG = query("lock_config")
LOCK_HOLDERS = query("lock_holders")
MIRRORED_CHAINS = query("mirrored_chains")
MIRROR_RAIL = query("mirror_rail")
DISABLE_OTHER_RAILS = query("disable_other_rails")
LEFT_RAILS = query("left_rails")
ASSETS_IN_DEMAND = query("assets_in_demand")
DISABLE_ASSETS = query("disable_assets")
MIRROR_ASSETS = query("mirror_assets")
FORGET_POLICIES = query("forget_policies")
MIRROR_POLICIES = query("mirror_policies")
MIRROR_SETTINGS = query("mirror_settings")


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """One row of `policies`. ``asset`` is a symbol, None: all; ``up_to`` a fiat total, None: above all others."""

    asset: str | None
    up_to: Decimal | None
    policy: Policy
    origin: Literal["configuration", "default"]


@dataclass(frozen=True, slots=True)
class RailMirror:
    """What is mirrored of one rail. Among ``policies`` is exactly one default for every asset and total."""

    name: str
    chain_id: ChainId
    traits: Traits
    assets: tuple[AssetSpec, ...]
    policies: tuple[PolicyRow, ...]
    patience: DelayLimits = field(default_factory=DelayLimits)
    min_amounts: Mapping[str | None, int] = field(default_factory=dict)
    """By contract (None: the native asset) the least amount, in base units, that moves anything."""
    stall_after: timedelta | None = None
    """How old the newest block may be; None: no bound."""


def asset_id(chain_id: ChainId, traits: Traits, contract: str | None) -> AssetId:
    """Return the CAIP-19 id of an asset (None: the native one), in lower case where the rail folds case."""
    if contract is None:
        return AssetId(f"{chain_id}/{traits.native_asset}")
    folded = contract.lower() if traits.fold_case else contract
    return AssetId(f"{chain_id}/{traits.token_namespace}:{folded}")


async def sync_config(
    connection: Connection,
    rails: Sequence[RailMirror],
    settings: Mapping[str, Any],
    *,
    only: bool = False,
    unfollowed: Collection[str] = (),
) -> None:
    """Write ``rails`` and ``settings`` (such as ``closes_in``, in seconds), in one transaction.

    ``only``: other rails belong to other processes and stay as they are; otherwise they are disabled, which is refused
    while invoices are open there, unless they are among ``unfollowed``.
    Raises `StoreError` that says what to do when the configuration contradicts the database or the rail.
    """
    for rail in rails:
        check_traits(rail)
    try:
        async with connection.transaction():
            # Two daemons that start at once would disable and enable each other's rows in any order.
            await _lock(connection)
            await check_stored(connection, rails, only=only, unfollowed=unfollowed)
            for rail in rails:
                await _sync_rail(connection, rail)
            if not only:
                await connection.execute(DISABLE_OTHER_RAILS, [rail.name for rail in rails], list(unfollowed))
            await connection.execute(MIRROR_SETTINGS, list(settings), list(settings.values()))
    except (asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError) as refused:
        raise StoreError(
            f"the daemon may not write to this database: {refused}. Give database.url a user that has the role "
            "railwatch_daemon (docs/runbooks/roles.md), on the primary and not on a standby"
        ) from refused


async def _lock(connection: Connection) -> None:
    """Lock the configuration until the commit. Raises `StoreUnavailable` with the holders' names after a timeout."""
    try:
        async with connection.transaction():
            await connection.execute(LOCK_CONFIG)
    except asyncpg.LockNotAvailableError:
        holders = await connection.fetchval(LOCK_HOLDERS)
        raise StoreUnavailable(
            f'another session holds the lock "mirror" in railwatch.locks: {holders or "it has just ended"}; wait for '
            "it, or end it with pg_terminate_backend, and start again"
        ) from None


async def _sync_rail(connection: Connection, rail: RailMirror) -> None:
    traits = rail.traits
    await connection.execute(
        MIRROR_RAIL,
        rail.name,
        rail.chain_id,
        traits.family,
        traits.fold_case,
        traits.has_finalized,
        traits.max_confirmations,
        traits.has_references,
        rail.patience.stuck_after,
        rail.patience.blind_after,
        rail.stall_after,
        rail.patience.margin,
        # A mempool shows a payment before its block does, and then first sight is our own clock's.
        timedelta(0) if traits.has_pending else rail.patience.margin,
    )
    ids = [asset_id(rail.chain_id, traits, each.contract) for each in rail.assets]
    symbols = [each.symbol for each in rail.assets]
    await connection.execute(DISABLE_ASSETS, rail.name, ids, symbols)
    await connection.execute(
        MIRROR_ASSETS,
        rail.name,
        ids,
        symbols,
        [each.contract for each in rail.assets],
        [traits.native_decimals if each.contract is None else each.decimals for each in rail.assets],
        [rail.min_amounts.get(each.contract, 0) for each in rail.assets],
    )
    by_symbol = dict(zip(symbols, ids, strict=True))
    await connection.execute(FORGET_POLICIES, rail.name)
    await connection.execute(
        MIRROR_POLICIES,
        rail.name,
        [by_symbol[each.asset] if each.asset is not None else None for each in rail.policies],
        [each.up_to for each in rail.policies],
        [each.policy.to_json() for each in rail.policies],
        [each.origin for each in rail.policies],
    )


async def check_stored(
    connection: Connection, rails: Sequence[RailMirror], *, only: bool, unfollowed: Collection[str]
) -> None:
    """Raise `StoreError` where the configuration contradicts what is stored. Writes nothing."""
    known = await connection.fetch(MIRRORED_CHAINS)
    for rail in rails:
        _check_chain(rail, known, unfollowed)
    if not only:
        for row in await connection.fetch(LEFT_RAILS, [rail.name for rail in rails]):
            if (row["open"] or row["moving"]) and row["name"] not in unfollowed:
                raise StoreError(_left(row["name"], row["open"], row["moving"]))


def _left(name: str, invoices: int, payments: int) -> str:
    return (
        f"rail {name} is no longer in the configuration, and {invoices} invoices are open there (payments that are "
        f"not final yet: {payments}). No daemon would see what their customers pay. Put its [[rail]] table back. "
        f"If it has another name now: `railwatch rail rename {name} NEW`. "
        "To leave it unfollowed: add it to unfollowed_rails in [invoices]"
    )


def _check_chain(rail: RailMirror, known: Sequence[Row], unfollowed: Collection[str]) -> None:
    name, configured = rail.name, rail.chain_id
    chain = {row["name"]: row["chain_id"] for row in known}.get(name)
    if chain is not None:
        if chain != configured:
            raise StoreError(
                f"rail {name} is configured as chain {configured}, and the database knows it as {chain}. What is "
                f"stored belongs to that chain: give the new one another name, or put chain_id = {chain!r} back"
            )
        return
    for row in known:
        old = row["name"]
        if row["chain_id"] == configured and old not in unfollowed:
            raise StoreError(
                f"rail {name} follows chain {configured}, which the database knows as rail {old}. A chain is one rail, "
                f"or the feed would emit its payments twice. Run: railwatch rail rename {old} {name}"
            )
        if row["origin"] == name:
            raise StoreError(
                f"rail {name} cannot have that name: rail {old} had it before, and ids of its transfers derive from "
                "it. Choose another name"
            )


class WantedAsset(NamedTuple):
    """An asset that left the configuration, with the least amount that it had there, in base units."""

    spec: AssetSpec
    min_amount: int


async def assets_in_demand(database: Database, rail: str) -> list[WantedAsset]:
    """Return assets that ``rail`` no longer has, while orders that are still watched ask for them.

    Raises `StoreUnavailable`.
    """
    async with database.connection() as connection:
        return await assets_still_wanted(connection, rail)


async def assets_still_wanted(connection: Connection, rail: str) -> list[WantedAsset]:
    """Do as `assets_in_demand`, on one connection."""
    rows = await connection.fetch(ASSETS_IN_DEMAND, rail)
    return [
        WantedAsset(AssetSpec(row["symbol"], row["contract"], row["decimals"]), int(row["min_amount"])) for row in rows
    ]


def check_traits(rail: RailMirror) -> None:
    """Raise `StoreError` if the configuration contradicts the adapter's traits."""
    traits = rail.traits
    ids = [asset_id(rail.chain_id, traits, each.contract) for each in rail.assets]
    for number, asset in enumerate(rail.assets):
        if ids[number] in ids[:number]:
            other = rail.assets[ids.index(ids[number])]
            raise StoreError(
                f"rail {rail.name}: {other.symbol} and {asset.symbol} are one asset, {ids[number]}. "
                "Keep one of their [[rail.asset]] tables"
            )
        if asset.contract is not None and traits.token_namespace is None:
            raise StoreError(f"rail {rail.name}: asset {asset.symbol} has a contract, and the rail knows no tokens")
        if asset.contract is None and asset.decimals not in (None, traits.native_decimals):
            raise StoreError(
                f"rail {rail.name}: the native asset {asset.symbol} has {traits.native_decimals} decimals, "
                f"not {asset.decimals}; leave decimals out"
            )
    catch_all = [row.origin for row in rail.policies if row.asset is None and row.up_to is None]
    if catch_all.count("default") != 1:
        raise ValueError(f"rail {rail.name}: exactly one default policy has to hold for every asset and total")
    for row in rail.policies:
        # A default that the configuration leaves no room for is never resolved, so it need not be possible.
        if row.origin == "configuration" or "configuration" not in catch_all:
            _check_policy(rail, row)


def _check_policy(rail: RailMirror, row: PolicyRow) -> None:
    most, wanted = rail.traits.max_confirmations, row.policy.confirmations
    if wanted is None and not rail.traits.has_finalized:
        raise StoreError(
            f"rail {rail.name}: a policy ({row.origin}) waits for finality, which the rail does not report. "
            "A smaller depth must not replace it: give a [[policy]] with confirmations, or correct chain_id"
        )
    if wanted is not None and most is not None and wanted > most:
        raise StoreError(
            f"rail {rail.name}: a policy ({row.origin}) waits for {wanted} confirmations, and the rail reports at most "
            f"{most}; use finalized = true"
        )

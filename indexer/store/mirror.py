"""The configuration's rails, assets and policies as rows, so that the contract's functions can validate and resolve.

Mirroring again changes nothing. A rail's cursor and state are never touched, and nothing is deleted that a row of
history could point at: what is no longer configured is disabled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from indexer.core.model import Patience
from indexer.core.policy import Policy
from indexer.rail.types import AssetId, AssetSpec, ChainId, Traits
from indexer.store.database import Connection
from indexer.store.errors import StoreError
from indexer.store.queries import query

LOCK_MIRROR = query("lock_mirror")
MIRRORED_CHAINS = query("mirrored_chains")
MIRROR_RAIL = query("mirror_rail")
DISABLE_OTHER_RAILS = query("disable_other_rails")
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
    patience: Patience = field(default_factory=Patience)
    min_amounts: Mapping[str | None, int] = field(default_factory=dict)
    """By contract (None: the native asset) the least amount, in base units, that moves anything."""


def asset_id(chain_id: ChainId, traits: Traits, contract: str | None) -> AssetId:
    """The CAIP-19 id of an asset; None: the native one. Contracts in lower case where the rail folds it."""
    if contract is None:
        return AssetId(f"{chain_id}/{traits.native_asset}")
    folded = contract.lower() if traits.fold_case else contract
    return AssetId(f"{chain_id}/{traits.token_namespace}:{folded}")


async def mirror(
    connection: Connection, rails: Sequence[RailMirror], settings: Mapping[str, Any], *, only: bool = False
) -> None:
    """Write ``rails`` and ``settings`` (such as ``closes_in``, in seconds), in one transaction.

    ``only``: other rails belong to other processes and stay as they are; otherwise they are disabled.
    Raises `StoreError` that says what to do when the configuration contradicts the database or the rail.
    """
    for rail in rails:
        _check(rail)
    async with connection.transaction():
        # Two daemons that start at once would disable and enable each other's rows in any order.
        await connection.execute(LOCK_MIRROR)
        known = {row["name"]: row["chain_id"] for row in await connection.fetch(MIRRORED_CHAINS)}
        for rail in rails:
            _check_chain(rail, known.get(rail.name, rail.chain_id))
            await _mirror_rail(connection, rail)
        if not only:
            await connection.execute(DISABLE_OTHER_RAILS, [rail.name for rail in rails])
        await connection.execute(MIRROR_SETTINGS, list(settings), list(settings.values()))


async def _mirror_rail(connection: Connection, rail: RailMirror) -> None:
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
        rail.patience.stuck,
        rail.patience.blind,
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


def _check_chain(rail: RailMirror, stored: str) -> None:
    if stored != rail.chain_id:
        raise StoreError(
            f"rail {rail.name} is configured as chain {rail.chain_id}, and the database knows it as {stored}. "
            f"What is stored belongs to that chain: give the new one another name, or put chain_id = {stored!r} back"
        )


def _check(rail: RailMirror) -> None:
    """What can only be told once the adapter's traits are known."""
    traits = rail.traits
    for asset in rail.assets:
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
            f"rail {rail.name}: a policy ({row.origin}) waits for finality, which the rail does not tell. "
            "A smaller depth must not stand in for it: give a [[policy]] with confirmations, or mend chain_id"
        )
    if wanted is not None and most is not None and wanted > most:
        raise StoreError(
            f"rail {rail.name}: a policy ({row.origin}) waits for {wanted} confirmations, and the rail knows at most "
            f"{most}; use finalized = true"
        )

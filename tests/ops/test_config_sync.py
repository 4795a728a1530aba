"""Mirroring: the rows that `create_invoice` validates and resolves by, written at each start."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from railwatch.config import load_config
from railwatch.core.policy import Policy
from railwatch.daemon.supervisor import rail_mirror
from railwatch.rail.types import AssetSpec, ChainId, Traits
from railwatch.store.config_sync import PolicyRow, RailMirror, asset_id, sync_config
from railwatch.store.database import Database
from railwatch.store.errors import StoreError

EVM = Traits(
    family="evm",
    native_asset="slip44:60",
    native_decimals=18,
    token_namespace="erc20",
    fold_case=True,
    has_finalized=True,
)
ETH, USDC = AssetSpec("ETH", None), AssetSpec("USDC", "0xAbC1", 6)
FINALIZED = PolicyRow(None, None, Policy(None), "default")
SHOP = RailMirror("shop", ChainId("eip155:31337"), EVM, (ETH, USDC), (FINALIZED,))


async def write(database: Database, *rails: RailMirror, only: bool = False) -> None:
    async with database.connection() as connection:
        await sync_config(connection, rails, {"closes_in": 60}, only=only)


async def snapshot(database: Database) -> list[list[Any]]:
    """Every mirrored row, with its place on disk: a row that is written anew has another."""
    tables = ("rails", "assets", "settings")
    return [await database.rows(f"select ctid::text, * from railwatch.{name} order by ctid") for name in tables]


async def test_rows_say_what_the_configuration_says(database: Database) -> None:
    await write(database, SHOP)
    (rail,) = await database.rows("select * from railwatch.rails")
    assert (rail["name"], rail["family"], rail["fold_case"], rail["has_finality"]) == ("shop", "evm", True, True)
    assets = await database.rows("select id, symbol, decimals, enabled from railwatch.assets order by symbol")
    assert [tuple(each) for each in assets] == [
        ("eip155:31337/slip44:60", "ETH", 18, True),
        ("eip155:31337/erc20:0xabc1", "USDC", 6, True),
    ]
    assert await database.value("select value from railwatch.settings where name = 'closes_in'") == 60
    (policy,) = await database.rows("select * from railwatch.policies")
    assert (policy["policy"], policy["origin"]) == ({"finalized": True, "plus": 0}, "default")


async def test_again_changes_nothing_and_leaves_the_cursor(database: Database) -> None:
    await write(database, SHOP)
    await database.value("update railwatch.rails set cursor_height = 7, cursor_hash = 'x', state = 'live'")
    before = await snapshot(database)
    await write(database, SHOP)
    assert await snapshot(database) == before
    assert await database.value("select count(*) from railwatch.policies") == 1


async def test_what_is_no_longer_configured_is_disabled_and_can_return(database: Database) -> None:
    other = replace(SHOP, name="other", chain_id=ChainId("eip155:5"))
    await write(database, SHOP, other)
    await write(database, replace(SHOP, assets=(ETH,)))
    enabled = "select (select string_agg(name, ',') from railwatch.rails where enabled), " + (
        "(select string_agg(symbol, ',' order by symbol) from railwatch.assets where enabled and rail = 'shop')"
    )
    assert [tuple(row) for row in await database.rows(enabled)] == [("shop", "ETH")]
    await write(database, SHOP, other)
    assert [tuple(row) for row in await database.rows(enabled)] == [("shop,other", "ETH,USDC")]


async def test_one_rail_alone_leaves_the_others(database: Database) -> None:
    other = replace(SHOP, name="other", chain_id=ChainId("eip155:5"))
    await write(database, SHOP, other)
    await write(database, other, only=True)
    assert await database.value("select count(*) from railwatch.rails where enabled") == 2


async def test_two_tokens_may_swap_their_symbols(database: Database) -> None:
    first, second = AssetSpec("A", "0x1", 6), AssetSpec("B", "0x2", 6)
    await write(database, replace(SHOP, assets=(first, second)))
    await write(database, replace(SHOP, assets=(replace(first, symbol="B"), replace(second, symbol="A"))))
    rows = await database.rows("select symbol, contract from railwatch.assets where enabled order by symbol")
    assert [tuple(row) for row in rows] == [("A", "0x2"), ("B", "0x1")]


async def test_another_chain_under_an_old_name_is_refused(database: Database) -> None:
    await write(database, SHOP)
    with pytest.raises(StoreError, match="give the new one another name, or put chain_id = 'eip155:31337' back"):
        await write(database, replace(SHOP, chain_id=ChainId("eip155:1")))


@pytest.mark.parametrize(
    ("rail", "message"),
    [
        (replace(SHOP, traits=replace(EVM, token_namespace=None)), "asset USDC has a contract"),
        (replace(SHOP, assets=(replace(ETH, decimals=8),)), "ETH has 18 decimals, not 8"),
        (replace(SHOP, traits=replace(EVM, has_finalized=False)), "waits for finality, which the rail does not report"),
        (
            replace(
                SHOP,
                traits=replace(EVM, max_confirmations=1),
                policies=(FINALIZED, PolicyRow(None, None, Policy(2), "configuration")),
            ),
            "waits for 2 confirmations, and the rail reports at most 1",
        ),
    ],
)
async def test_what_the_rail_cannot_do_is_refused(database: Database, rail: RailMirror, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        await write(database, rail)
    assert await database.value("select count(*) from railwatch.rails") == 0


async def test_a_default_that_the_configuration_overrules_need_not_be_possible(database: Database) -> None:
    own = PolicyRow(None, None, Policy(3), "configuration")
    await write(database, replace(SHOP, traits=replace(EVM, has_finalized=False), policies=(own, FINALIZED)))


async def test_the_configurations_policy_comes_before_the_default(database: Database) -> None:
    own = PolicyRow("USDC", Decimal(100), Policy(3), "configuration")
    await write(database, replace(SHOP, policies=(own, FINALIZED)))
    usdc = asset_id(SHOP.chain_id, EVM, "0xABC1")
    for asset, total, origin in [(usdc, 100, "configuration"), (usdc, 101, "default"), ("eth", 1, "default")]:
        (found,) = await database.rows("select * from railwatch.resolve_policy('shop', $1, $2)", asset, Decimal(total))
        assert found["origin"] == origin


async def test_the_example_configuration_can_be_mirrored(database: Database) -> None:
    config = load_config(Path(__file__).parents[2] / "config/railwatch.example.toml")
    async with database.connection() as connection:
        await sync_config(connection, [rail_mirror(config, config.rails[0], EVM)], {})
    origins = await database.rows("select origin, policy from railwatch.policies order by origin")
    assert [tuple(row) for row in origins] == [
        ("configuration", {"confirmations": 3}),
        ("default", {"finalized": True, "plus": 0}),
    ]

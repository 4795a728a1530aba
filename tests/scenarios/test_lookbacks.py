"""A look-back that cannot be done harms itself only: its rail goes on, its reason is shown, and it is tried again."""

import asyncio
from typing import Any

import pytest

from railwatch.daemon.watch import registrar
from railwatch.daemon.watch.search import search
from railwatch.daemon.watch.watchlist import IndexedWatches
from railwatch.rail import RailUnavailable
from railwatch.store.database import Database
from railwatch_fake import Rules, decode, node_of
from tests.scenarios.daemon_harness import DaemonHarness, Placed, chain_named


async def reason_of(stage: DaemonHarness, invoice: Placed) -> str:
    """Return what a service reads of a destination that is not watched yet."""
    return str(
        await stage.database.value("select watch_error from railwatch.destinations where invoice_id = $1", invoice.id)
    )


OLD: dict[str, str] = {"loses_below": "knows no block", "fails_below": "the archive"}


@pytest.mark.parametrize("fault", OLD)
async def test_a_look_back_that_no_node_can_serve_fails_alone_and_is_tried_again(
    database: Database, fault: str
) -> None:
    """Its blocks are lost, or their archive is unreachable; the newest blocks are read as ever."""
    async with DaemonHarness(database, [chain_named(rules=Rules(mempool=False, lookback=30))]) as stage:
        watched = await stage.invoice(100)
        await stage.mine(40)
        node = node_of("story")
        states: list[str] = []
        setattr(node, fault, 30)
        waiting = await stage.order(await stage.sim.new_address())

        async def says_why() -> bool:
            states.append((await stage.rail())["state"])
            return OLD[fault] in await reason_of(stage, waiting)

        await stage.until(says_why, lambda: reason_of(stage, waiting))
        await stage.pay(watched)
        for _ in range(4):
            await stage.mine()
            states.append((await stage.rail())["state"])
        assert await stage.state(watched) == "paid"
        assert set(states) == {"live"}
        assert await stage.watch_states(waiting) == ["registered"]
        setattr(node, fault, 0)
        await stage.all_taken_in()
        assert await reason_of(stage, waiting) == "None"
        await stage.pay(waiting)
        await stage.mine(2)
        await stage.wait_for_state(waiting, "paid")
        await stage.audit()


@pytest.mark.parametrize("fault", OLD)
async def test_a_look_back_asks_the_node_that_can_serve_it_and_the_rail_stays_where_it_is(
    database: Database, fault: str
) -> None:
    async with DaemonHarness(database, [chain_named(rules=Rules(mempool=False, lookback=30))]) as stage:
        address = await stage.sim.new_address()
        await stage.sim.pay(address, 100)
        await stage.mine(20)
        await stage.stop()
        setattr(node_of("story"), fault, 18)
        stage.options["nodes"] = [{"chain": "story", "timeout": 0.5}, {"chain": "story", "node": "archive"}]
        await stage.start()
        invoice = await stage.order(address)
        await stage.wait_for_state(invoice, "paid")
        sight = await database.row("select evidence ->> 'node' as node from railwatch.detections")
        assert sight is not None
        assert sight["node"] == "node (2)"
        await stage.audit()


async def test_what_is_being_searched_is_not_searched_again_when_that_is_done(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits in the table meanwhile, where each turn of the registrations finds it."""
    searched: list[frozenset[bytes]] = []

    async def slow(node: Any, traits: Any, start: int, cursor: Any, watches: Any) -> Any:
        searched.append(watches.keys)
        for _ in range(5):
            await database.rows("notify railwatch_work")
            await asyncio.sleep(0.05)
        return await search(node, traits, start, cursor, watches)

    monkeypatch.setattr(registrar, "search", slow)
    async with DaemonHarness(database, [chain_named()]) as stage:
        invoices = [await stage.invoice(100) for _ in range(2)]
        await stage.pay(invoices[1])
        await stage.mine(2)
        await stage.wait_for_state(invoices[1], "paid")
        assert sorted(len(keys) for keys in searched) == [1, 1]
        assert len(set(searched)) == 2


async def test_an_address_that_no_node_can_search_for_harms_itself_only(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with DaemonHarness(database, [chain_named(rules=Rules(mempool=False, lookback=30))]) as stage:
        await stage.mine(20)
        addresses = [await stage.sim.new_address() for _ in range(20)]
        await stage.sim.pay(addresses[3], 100)
        await stage.mine(2)
        unsearchable = stage.sim.output(addresses[7], 1).to
        block_transfers = decode.block_transfers

        def heavy(block: Any, chain_id: Any, watches: Any) -> Any:
            if not isinstance(watches, IndexedWatches) and watches.hits([unsearchable]):
                raise RailUnavailable("that address has too many logs")
            return block_transfers(block, chain_id, watches)

        monkeypatch.setattr(decode, "block_transfers", heavy)
        requests = [
            {
                "merchant_id": "shop",
                "order_id": address,
                "expires_in": 3600,
                "destinations": [{"rail": "story", "asset": "COIN", "amount": 100, "address": address}],
            }
            for address in addresses
        ]
        await database.rows("select railwatch.create_invoices($1)", requests)

        async def all_but_one() -> bool:
            left = "select array_agg(address) from railwatch.destinations where watch_state = 'registered'"
            return list(await database.value(left) or ()) == [addresses[7]]

        await stage.until(all_but_one)
        paid = "select i.order_id from railwatch.invoices i where i.state = 'paid'"
        assert [row["order_id"] for row in await database.rows(paid)] == [addresses[3]]
        assert (await stage.rail())["state"] == "live"
        monkeypatch.setattr(decode, "block_transfers", block_transfers)
        await stage.all_taken_in()


@pytest.mark.parametrize("fault", [*OLD, "undecodable"])
async def test_a_look_back_for_a_neighbours_addresses_that_fails_stalls_nobody_and_is_done_later(
    database: Database, fault: str
) -> None:
    rules = Rules(mempool=False, lookback=30)
    home, other = chain_named(rules=rules), chain_named("other", rules=rules)
    async with DaemonHarness(database, [home, other]) as stage:
        await stage.simulator(other).mine(20)
        address = await stage.sim.new_address()
        await stage.simulator(other).pay(address, 100)
        await stage.simulator(other).mine(2)
        await stage.follows()
        setattr(node_of("other"), fault, True if fault == "undecodable" else 30)
        invoice = await stage.order(address)
        await stage.all_taken_in()
        await asyncio.sleep(1.5)
        assert (await stage.rail("other"))["state"] == "live"
        setattr(node_of("other"), fault, 0)

        async def is_told() -> bool:
            return "wrong_network" in await stage.open_cases(invoice)

        await stage.until(is_told)
        await stage.audit()


@pytest.mark.parametrize("fault", OLD)
async def test_a_rescan_that_a_node_cannot_serve_leaves_the_rail_live_and_asks_the_other(
    database: Database, fault: str
) -> None:
    rules = Rules(mempool=False, lookback=1, horizon=10)
    async with DaemonHarness(database, [chain_named(rules=rules)]) as stage:
        await stage.mine(40)
        node = node_of("story")
        setattr(node, fault, 20)
        known = await database.value("select railwatch.request_rescan('story', 5)")
        states: list[str] = []

        async def says_why() -> bool:
            states.append((await stage.rail())["state"])
            return OLD[fault] in str(await database.value("select error from railwatch.rescans where id = $1", known))

        await stage.until(says_why)
        await stage.mine(3)
        assert set(states) == {"live"}
        await stage.stop()
        stage.options["nodes"] = [{"chain": "story", "timeout": 0.5}, {"chain": "story", "node": "archive"}]
        await stage.start()
        await database.value("update railwatch.rescans set retry_at = now() where id = $1 returning 1", known)
        await stage.rescanned()
        row = await database.row("select outcome from railwatch.rescans where id = $1", known)
        assert row is not None
        assert row["outcome"] == "done"


async def test_what_one_node_reports_of_old_blocks_is_not_proven_by_the_anchor_of_another(database: Database) -> None:
    """The answering node keeps no old blocks, and the one that does is on another chain: nothing of that is used."""
    rules = Rules(mempool=False, lookback=1, horizon=10)
    async with DaemonHarness(database, [chain_named(rules=rules)]) as stage:
        invoice = await stage.invoice(100)
        await stage.mine(40)
        await stage.stop()
        liar, first = node_of("story", "archive"), stage.chain.line[0]
        liar.pin(first.hash)
        liar.make_up(60, stage.sim.output(invoice.address, 100))
        node_of("story").pruned_below = 30
        honest = [{"chain": "story", "timeout": 0.5}, {"chain": "story", "node": "second"}]
        node_of("story", "second").pruned_below = 30
        stage.options["nodes"] = [*honest, {"chain": "story", "node": "archive"}]
        await stage.start()
        known = await database.value("select railwatch.request_rescan('story', 1)")

        async def has_failed() -> bool:
            row = await database.row("select error, outcome from railwatch.rescans where id = $1", known)
            return row is not None and (row["error"] is not None or row["outcome"] is not None)

        await stage.until(has_failed)
        assert await stage.state(invoice) == "created"
        assert await database.value("select count(*) from railwatch.detections") == 0

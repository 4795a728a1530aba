"""When something in between fails: what is delivered comes twice or late, a push is missed, a node is unreachable."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from websockets.asyncio.server import serve

from railwatch.store.database import Database
from railwatch.store.errors import StoreUnavailable
from railwatch_fake import node_of
from tests.acceptance.shop_harness import ShopHarness, opened
from tests.consumers.test_fulfil import at_the_end, drain_python, open_shop, program
from tests.evm.test_push import Relay
from tests.scenarios.cut_proxy import Cutter
from tests.scenarios.daemon_harness import Placed, chain_named
from tests.scenarios.evm_harness import EvmStage, evm_stage
from tests.webhooks.receiver import Got, Receiver, receiver
from tests.webhooks.shop import Shop, until, webhook

ETHER = 10**18

ONCE = "insert into shop.posted (id, type) values ($1, $2) on conflict do nothing"


class Bookkeeper:
    """A receiver's program that does as the page says: it keeps the ids that it has dealt with, next to its effects.

    ``answers``: what it says to the n-th post of an event; None: nothing, ever.
    """

    def __init__(self, database: Database, answers: list[int | None]) -> None:
        self.database = database
        self.answers = answers
        self.posts: Counter[str] = Counter()

    async def open(self) -> None:
        await self.database.rows("create table shop.posted (id uuid primary key, type text)")

    async def __call__(self, got: Got) -> int:
        await self.database.rows(ONCE, got.id, got.event["type"])
        answer = self.answers[min(self.posts[got.id], len(self.answers) - 1)]
        self.posts[got.id] += 1
        if answer is None:
            await asyncio.Event().wait()
        return answer or 0

    async def kept(self) -> dict[str, str]:
        """Type by id, of what it has dealt with."""
        return {str(row["id"]): row["type"] for row in await self.database.rows("select * from shop.posted")}


async def paid_once(house: ShopHarness) -> Placed:
    """An order that is paid and confirmed."""
    order = await house.service.order(await house.stage.sim.new_address())
    await house.stage.pay(order)
    await house.service.becomes(order, "received")
    await house.stage.mine(2)
    assert await house.service.customer_state(order) == "complete"
    return order


def repeats_are_marked(shopkeeper: Receiver) -> bool:
    """Whether each event came more than once, every time with one and the same id and body."""
    bodies: dict[str, list[bytes]] = {}
    for each in shopkeeper.got:
        bodies.setdefault(each.event["data"]["event_id"], []).append(each.body)
        assert each.id == each.event["data"]["event_id"]
    return all(len(each) > 1 and len(set(each)) == 1 for each in bodies.values())


async def test_duplicate_delivery(database: Database) -> None:
    """The receiver has done its work each time, and its answer is lost; the feed's readers run in two copies."""
    async with opened(database, [chain_named()]) as house:
        bookkeeper = Bookkeeper(database, [500, 200])
        await bookkeeper.open()
        house.shopkeeper.behave = bookkeeper
        order = await paid_once(house)
        await house.delivered(order)
        assert repeats_are_marked(house.shopkeeper)
        assert Counter((await bookkeeper.kept()).values()) == Counter(
            f"{row['subject']}.{row['to_state']}" for row in await database.rows("select * from railwatch.transitions")
        )
        dsn = database.dsn
        async with program(dsn, dsn, "--once") as one, program(dsn, dsn, "--once") as two:
            assert (await one.wait(), await two.wait()) == (0, 0)
        assert await house.fulfilled(order) == (1, 0)


async def test_timeout_then_retry(database: Database, tmp_path: Path) -> None:
    """The service's own call gets no answer and is made again; then a receiver hangs, and is posted to again."""
    endpoint = {"timeout": 0.5}
    async with opened(database, [chain_named()], endpoint=endpoint) as house, Cutter(tmp_path, database.dsn) as wire:
        bookkeeper = Bookkeeper(database, [None, 200])
        await bookkeeper.open()
        house.shopkeeper.behave = bookkeeper
        request = house.service.request(await house.stage.sim.new_address())
        await _lose_the_answer(wire, request)
        first = await database.value("select id from railwatch.invoices")
        assert await house.service.register(request) == first
        order = Placed(first, request["destinations"][0]["address"])
        await house.stage.all_taken_in()
        await house.stage.pay(order)
        await house.service.becomes(order, "received")
        await house.stage.mine(2)
        path = await house.service.transitions(order)
        assert [state for state, _ in path] == ["created", "detected", "confirming", "paid"]
        assert await house.delivered(order) == [f"invoice.{state}" for state, _ in path]
        assert repeats_are_marked(house.shopkeeper)
        assert len(await bookkeeper.kept()) == len(await house.service.feed())
        assert (await house.shop.endpoints())["shop"]["last_failure"] is not None
        assert await house.fulfilled(order) == (1, 0)


async def _lose_the_answer(wire: Cutter, request: dict[str, object]) -> None:
    """Postgres does what is asked, and the line goes dead before it can say so."""
    async with Database(f"{wire.dsn}&role=railwatch_service", size=1) as cut:
        wire.strike_at(1, before=False)
        with pytest.raises(StoreUnavailable):
            async with cut.transaction() as connection:
                await connection.fetchval("select railwatch.create_invoice($1)", request)
    assert wire.cut["commit"] == 1


@pytest.fixture
async def deaf(database: Database, tmp_path: Path) -> AsyncIterator[tuple[EvmStage, Relay]]:
    """A daemon on anvil whose pushes pass through a relay that can swallow them."""
    async with evm_stage(database, tmp_path) as stage:
        relay = Relay(stage.sim.node["ws"])
        async with serve(relay.serve, "127.0.0.1", 0) as server:
            relay.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
            file = tmp_path / "railwatch.toml"
            file.write_text(file.read_text().replace(json.dumps(stage.sim.node["ws"]), json.dumps(relay.url)))
            await stage.start()
            await stage.follows()
            yield stage, relay


@pytest.mark.anvil
async def test_missed_push_but_visible_on_chain(deaf: tuple[EvmStage, Relay]) -> None:
    stage, relay = deaf
    database, tables = stage.database, stage.tables
    await open_shop(database)
    await until(lambda: bool(relay.sockets))
    order = await stage.invoice(ETHER)
    relay.silent = True
    tx = await stage.sim.pay(order.address, ETHER)
    await stage.mine(2)
    await tables.wait_for_state(order, "paid")
    await until(lambda: relay.swallowed >= 2)  # the node did push, and the daemon did not hear it
    [found] = await database.rows("select tx_id, amount from railwatch.detections")
    assert tuple(found) == (tx, ETHER)
    relay.silent = False
    await stage.mine(3)
    assert [state for state, _ in await tables.path(order)] == ["created", "confirming", "paid"]
    async with receiver() as shopkeeper:
        await Shop(database).once(webhook(shopkeeper, events=["invoice.*"]))
    assert [each.event["type"] for each in shopkeeper.got] == ["invoice.created", "invoice.confirming", "invoice.paid"]
    await drain_python(database)
    assert await database.value("select count(*) from shop.fulfilments") == 1
    await tables.audit()


async def test_source_temporarily_unavailable(database: Database) -> None:
    """The node is unreachable when the windows of two orders end; one of them was paid meanwhile, in time."""
    async with opened(database, [chain_named(clock=lambda: datetime.now(UTC))]) as house:
        service, stage = house.service, house.stage
        paid = await service.order(await stage.sim.new_address())
        empty = await service.order(await stage.sim.new_address())
        node_of("story").down = True
        assert await stage.rail_is("stalled")
        stage.chain.send(stage.sim.output(paid.address, 100))
        stage.chain.mine(2)
        await database.value("update railwatch.invoices set expires_at = now()")
        shown = await service.row("orders", paid)
        assert (shown["customer_state"], shown["rails_live"]) == ("waiting", False), "silence proves nothing now"
        assert [await service.transitions(each) for each in (paid, empty)] == [[("created", "created")]] * 2
        await database.value("update railwatch.rails set covered_until = now() - interval '1 hour'")
        await database.value("update railwatch.invoices set created_at = created_at - interval '1 hour'")
        await service.has_open(paid, "detection_delayed")
        assert [await service.transitions(each) for each in (paid, empty)] == [[("created", "created")]] * 2
        node_of("story").down = False
        await service.becomes(paid, "complete")
        await service.becomes(empty, "issue")
        assert [state for state, _ in await service.transitions(paid)] == ["created", "confirming", "paid"]
        assert [state for state, _ in await service.transitions(empty)] == ["created", "expired"]
        await service.has_open(paid)
        assert (await service.row("orders", paid))["rails_live"] is True
        delivered = await house.delivered(paid)
        assert (delivered.count("invoice.paid"), "invoice.expired" in delivered) == (1, False)
        assert await house.fulfilled(paid) == (1, 0)
        assert await house.fulfilled(empty) == (0, 0)


async def test_replay_of_historical_events(database: Database) -> None:
    """All that happened is read again: by the daemon from the chain, and from the feed by old readers and new."""
    async with opened(database, [chain_named()]) as house:
        service, stage = house.service, house.stage
        order, reversed_ = await paid_once(house), await paid_once(house)
        await stage.sim.reorg(2, keep=False)
        await stage.follows()
        await service.database.value("select railwatch.record_refund($1, 40, 'tx back', actor => 'ann')", order.id)
        assert [await house.fulfilled(each) for each in (order, reversed_)] == [(1, 0), (1, 1)]
        await until(house.shop.owes_nothing)
        before, effects = await service.feed(), await _effects(database)
        await _replay_the_chain(house)
        assert await service.feed() == before, "the chain read again emits nothing anew"
        await database.rows("update railwatch.consumers set position = 0 where name like 'fulfilment%'")
        await database.rows("update shop.feed set position = 0")
        assert [await house.fulfilled(each) for each in (order, reversed_)] == [(1, 0), (1, 1)]
        assert await _effects(database) == effects, "a reader that begins again doubles nothing"
        await _replay_into_an_empty_shop(house, effects)
        await _replay_to_a_new_endpoint(house)


async def _effects(database: Database) -> list[str]:
    rows = await database.rows(
        "select invoice_id::text || event_id || seq as each from shop.fulfilments "
        "union all select invoice_id::text || event_id || seq from shop.reversals order by 1"
    )
    return [row["each"] for row in rows]


async def _replay_the_chain(house: ShopHarness) -> None:
    await house.stage.stop()
    await house.stage.start()
    await house.service.database.value("select railwatch.request_rescan('story', 0)")
    await house.stage.rescanned()


async def _replay_into_an_empty_shop(house: ShopHarness, effects: list[str]) -> None:
    """A consumer that has lost everything comes to the same effects, event for event."""
    await house.database.rows("truncate shop.fulfilments, shop.reversals, shop.feed")
    await drain_python(house.database)
    assert await _effects(house.database) == effects
    assert await at_the_end(house.database, "fulfilment-py")


async def _replay_to_a_new_endpoint(house: ShopHarness) -> None:
    """A new endpoint gets the whole history, under the ids that the old one had, in each invoice's order."""
    async with receiver() as newcomer:
        await house.parts.aclose()  # one deliverer posts
        await house.shop.once(house.endpoint, webhook(newcomer, "newcomer"))
        assert {each.id: each.body for each in newcomer.got} == {each.id: each.body for each in house.shopkeeper.got}
        assert len(newcomer.got) == len(house.shopkeeper.got) == len(await house.service.feed())
        for invoice in {each.invoice for each in newcomer.got}:
            seqs = [each.seq for each in newcomer.got if each.invoice == invoice]
            assert seqs == sorted(seqs)

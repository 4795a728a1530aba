"""A failover that loses commits: what a shop elsewhere has read of them, it reads again, and nothing is skipped."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID, uuid5

import asyncpg
import pytest

from railwatch.store.database import Database
from tests.consumers.test_fulfil import TABLES, program, run_sql
from tests.webhooks.shop import Shop, copied, furnish

TELL = """
with place as materialized (select railwatch.next_seq(1) as seq)
insert into railwatch.transitions (seq, event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause)
select seq, $4, 'invoice', $1, $1, 'created', $2, $3, 'chain' from place
"""
PAID = [("confirming", "included"), ("paid", "confirmed")]
REVERSED = [*PAID, ("created", "reversed")]


@dataclass(frozen=True, slots=True)
class Side:
    """One server's feed. An event has the same id wherever it is derived, as the daemon's have."""

    database: Database

    async def emit(self, invoice: UUID, *life: tuple[str, str]) -> None:
        for number, (state, reason) in enumerate(life):
            await self.database.rows(TELL, invoice, state, reason, uuid5(invoice, f"{number}/{state}"))


@dataclass(frozen=True, slots=True)
class House:
    """Primary and replica, which parted after the two orders were registered; the shop has a database of its own."""

    primary: Side
    replica: Side
    shop: Database
    first: UUID
    second: UUID

    async def drain(self, side: Side) -> None:
        async with program(side.database.dsn, self.shop.dsn, "--once") as process:
            assert await process.wait() == 0

    async def fulfilled(self) -> set[UUID]:
        return {row["invoice_id"] for row in await self.shop.rows("select invoice_id from shop.fulfilments")}

    async def stopped(self) -> set[UUID]:
        return {
            row["invoice_id"]
            for row in await self.shop.rows("select invoice_id from shop.reversals where settled_again_seq is null")
        }


@pytest.fixture
async def house(database: Database) -> AsyncIterator[House]:
    await furnish(database)
    orders = Shop(database)
    first, second = await orders.order(), await orders.order()
    replica, shop = await copied(database), await copied(database)
    async with Database(replica, size=2) as theirs, Database(shop, size=2) as own:
        connection = await asyncpg.connect(shop)
        await connection.execute(TABLES.read_text())
        await connection.close()
        yield House(Side(database), Side(theirs), own, first, second)


async def test_the_shop_fulfils_what_the_replica_emits_in_another_order(house: House) -> None:
    """The shop is at 4; on the replica 3 and 4 are the other order's, and 5 and 6 what it knows."""
    await house.primary.emit(house.second, *PAID)
    await house.drain(house.primary)
    assert await house.fulfilled() == {house.second}
    await house.replica.emit(house.first, *PAID)
    await house.replica.emit(house.second, *PAID)
    await house.drain(house.replica)
    assert await house.fulfilled() == {house.first, house.second}
    assert await house.stopped() == set()


async def test_a_reversal_on_the_replica_below_the_shops_position_is_not_skipped(house: House) -> None:
    await house.primary.emit(house.first, *PAID)
    await house.primary.emit(house.second, *PAID)
    await house.drain(house.primary)
    await house.replica.emit(house.first, *REVERSED)
    await house.drain(house.replica)
    assert await house.stopped() == {house.first, house.second}, "this side has no transition of the second yet"
    await house.replica.emit(house.second, *PAID)
    await house.drain(house.replica)
    assert await house.stopped() == {house.first}


async def test_a_reversal_that_was_made_good_on_the_lost_side_only_is_still_open(house: House) -> None:
    """The same event's id on both sides: that it was dealt with before must not hide it."""
    await house.primary.emit(house.first, *REVERSED, ("confirming", "included"), ("paid", "confirmed"))
    await house.drain(house.primary)
    assert await house.stopped() == set()
    await house.replica.emit(house.first, *REVERSED)
    await house.drain(house.replica)
    assert await house.stopped() == {house.first}


async def test_what_was_shipped_and_is_never_emitted_again_is_open_for_a_person(house: House) -> None:
    await house.primary.emit(house.second, *PAID)
    await house.drain(house.primary)
    await house.replica.emit(house.first, *PAID)
    await house.drain(house.replica)
    assert await house.fulfilled() == {house.first, house.second}
    assert await house.stopped() == {house.second}


async def test_the_shop_is_ahead_of_the_replicas_feed_and_waits_for_it(house: House) -> None:
    await house.primary.emit(house.second, *PAID)
    await house.drain(house.primary)
    await house.drain(house.replica)
    assert await house.stopped() == {house.second}
    await house.replica.emit(house.second, *PAID)
    await house.drain(house.replica)
    assert (await house.fulfilled(), await house.stopped()) == ({house.second}, set())


async def test_the_script_next_to_the_feed_goes_back_with_it(house: House) -> None:
    """fulfil.sql keeps its position and its effects where the feed is."""
    for side in (house.primary, house.replica):
        connection = await asyncpg.connect(side.database.dsn)
        await connection.execute(TABLES.read_text())
        await connection.close()
    await house.primary.emit(house.second, *PAID)
    await run_sql(house.primary.database.dsn)
    await house.replica.emit(house.first, *PAID)
    await house.replica.emit(house.second, *PAID)
    await run_sql(house.replica.database.dsn)
    rows = await house.replica.database.rows("select invoice_id from shop.fulfilments")
    assert {row["invoice_id"] for row in rows} == {house.first, house.second}

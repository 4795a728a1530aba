"""The feed: one writer holds its transaction open, others commit, and who reads by `seq > last` loses nothing."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from railwatch.store.database import Database
from railwatch.store.read_models import read_feed
from railwatch_fake import Rules
from tests.scenarios.daemon_harness import PATIENCE, DaemonHarness, Placed, chain_named

RAILS, ROUNDS = 3, 4
TRIES = int(PATIENCE * 100)


class Reader:
    """Polls the feed by position alone, as the contract tells services to."""

    def __init__(self, database: Database, page: int) -> None:
        self.database, self.page = database, page
        self.lines: list[dict[str, Any]] = []

    async def poll(self) -> None:
        """Read on from the last line, forever."""
        while True:
            after = self.lines[-1]["seq"] if self.lines else 0
            self.lines += await read_feed(self.database, after, self.page)
            await asyncio.sleep(0)

    async def reaches(self, seq: int) -> None:
        for _ in range(TRIES):
            if self.lines and self.lines[-1]["seq"] >= seq:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"{seq} never came; the last of {len(self.lines)} lines: {self.lines[-1:]}")


@asynccontextmanager
async def reading(database: Database, *pages: int) -> AsyncIterator[list[Reader]]:
    """Several readers at once, with pages of different sizes."""
    readers = [Reader(database, page) for page in pages]
    tasks = [asyncio.create_task(each.poll()) for each in readers]
    try:
        yield readers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def slow_writer(dsn: str, request: Callable[[str], dict[str, Any]]) -> AsyncIterator[Any]:
    """A service that has registered an order and does not commit until the block is left."""
    async with Database(dsn, size=1) as own, own.transaction() as connection:
        await connection.fetchval("select railwatch.create_invoice($1)", request("slow"))
        yield connection


async def waiting(database: Database, how_many: int) -> None:
    """Until so many others stand in line for the feed."""
    query = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    for _ in range(TRIES):
        if await database.value(query) >= how_many:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"fewer than {how_many} ever waited")


async def newest(database: Database) -> int:
    seq: int = await database.value("select last_seq from railwatch.feed_position")
    return seq


async def test_nothing_is_lost_while_a_writer_holds_its_transaction_open(database: Database) -> None:
    chains = [chain_named(f"rail{number}", Rules(mempool=False)) for number in range(RAILS)]
    async with DaemonHarness(database, chains) as stage, Database(database.dsn, size=4) as other:
        async with reading(other, 1, 7, 500) as readers:
            for turn in range(ROUNDS):
                placed = [await order(stage, chain.name, f"{turn} {chain.name}") for chain in chains]
                await stage.all_taken_in()
                for chain, invoice in zip(chains, placed, strict=True):
                    await stage.simulator(chain).pay(invoice.address, 100)
                before = await newest(database)

                def slow(name: str, turn: int = turn) -> dict[str, Any]:
                    return terms(f"{name} {turn}", chains[0].name, f"fake:{turn:040x}")

                async with slow_writer(database.dsn, slow):
                    # Every rail has a block with a payment in it, and a service registers: all of them have to wait.
                    for chain in chains:
                        await stage.simulator(chain).mine(1)
                    quick = asyncio.create_task(order(stage, chains[1].name, f"quick {turn}"))
                    await waiting(database, RAILS + 1)
                    # What the reader sees now is all that was committed, and nothing comes in below it later.
                    seen = [each.lines[-1]["seq"] if each.lines else 0 for each in readers]
                    assert max(seen) <= before
                await quick
                for chain in chains:
                    await stage.simulator(chain).mine(2)
                await stage.follows()
                for invoice in placed:
                    await stage.wait_for_state(invoice, "paid")
            end = await newest(database)
            for each in readers:
                await each.reaches(end)
        told = await read_feed(database, 0, 10_000)
        assert [line["seq"] for line in told] == list(range(1, end + 1))
        for each in readers:
            assert each.lines == told
        assert {line["rail"] for line in told} == {None, *(chain.name for chain in chains)}
        await stage.audit()


async def test_who_joins_late_replays_all(database: Database) -> None:
    async with DaemonHarness(database, [chain_named()]) as stage:
        invoice = await stage.invoice(100)
        await stage.pay(invoice)
        await stage.mine(2)
        await stage.sim.reorg(2, keep=False)
        await stage.follows()
        await stage.pay(invoice)
        await stage.mine(2)
        await stage.wait_for_state(invoice, "paid")
        told = await read_feed(database, 0, 10_000)
        await database.value("select railwatch.ack('late', 0)")
        lag = await database.row("select * from railwatch.consumer_lag where name = 'late'")
        assert lag is not None
        assert (lag["position"], lag["lag"]) == (0, told[-1]["seq"])
        assert lag["waiting_since"] == told[0]["recorded_at"]
        replayed, position = [], 0
        while page := await read_feed(database, position, 2):
            replayed += page
            position = await database.value("select railwatch.ack('late', $1)", page[-1]["seq"])
        assert replayed == told
        lag = await database.row("select * from railwatch.consumer_lag where name = 'late'")
        assert lag is not None
        assert (lag["lag"], lag["waiting_since"]) == (0, None)


async def test_a_line_that_was_rolled_back_leaves_no_hole(database: Database) -> None:
    async with DaemonHarness(database, [chain_named()]) as stage:
        await stage.invoice(100)
        connection = await asyncpg.connect(database.dsn)
        try:
            with_line = "select railwatch.hold_invoice(id, actor => 'ann', reason => 'why') from railwatch.invoices"
            await connection.execute(f"begin; {with_line}; rollback")
        finally:
            await connection.close()
        invoice = await stage.invoice(100)
        lines = await database.rows("select seq, invoice_id from railwatch.transitions order by seq")
        assert [row["seq"] for row in lines] == [1, 2]
        assert lines[1]["invoice_id"] == invoice.id


def terms(order_id: str, rail: str, address: str) -> dict[str, Any]:
    way = {"rail": rail, "asset": "COIN", "amount": 100, "address": address}
    return {"merchant_id": "shop", "order_id": order_id, "expires_in": 3600, "destinations": [way]}


async def order(stage: DaemonHarness, rail: str, name: str) -> Placed:
    address = await stage.sim.new_address()
    made = await stage.database.value("select railwatch.create_invoice($1)", terms(name, rail, address))
    return Placed(made, address)


PAGES = 20
"""Pages of Postgres that one question about the feed's end may read, whatever is kept of older versions of its row."""

VERSIONS = 3000


async def pages_read(connection: asyncpg.Connection, statement: str) -> int:
    await connection.execute(statement)  # The first time a session also reads what the functions are.
    plan = await connection.fetchval(f"explain (analyze, buffers, format json) {statement}")
    top = json.loads(plan)[0]["Plan"]
    return int(top["Shared Hit Blocks"]) + int(top["Shared Read Blocks"])


async def test_a_backup_that_keeps_old_versions_makes_no_seq_dearer(dsn: str) -> None:
    """`pg_dump` holds a snapshot for hours; every commit leaves a version of the counter that no vacuum may remove."""
    async with (
        Database(dsn, size=2) as database,
        database.connection() as backup,
        database.connection() as writer,
        backup.transaction(isolation="repeatable_read", readonly=True),
    ):
        assert await backup.fetchval("select railwatch.feed_end()") == 0
        commits = "for i in 1..{} loop perform railwatch.next_seq(1); commit; end loop"
        await writer.execute(f"do $$ begin {commits.format(VERSIONS)}; end $$")
        for statement in (
            "select railwatch.next_seq(1)",
            "select railwatch.feed_end()",
            "select railwatch.feed_generation()",
            "select railwatch.note_generation()",
            "select railwatch.feed_check(railwatch.feed_generation(), 1, null)",
            "select * from railwatch.consumer_lag",
        ):
            assert await pages_read(writer, statement) <= PAGES, statement
        assert await writer.fetchval("select railwatch.feed_end()") == VERSIONS + 2
        assert await backup.fetchval("select railwatch.feed_end()") == 0


async def test_seqs_have_no_gap_when_many_wait_for_the_counter_under_an_old_snapshot(dsn: str) -> None:
    """Some roll back, so that what they took is given to the next one."""
    async with (
        Database(dsn, size=9) as database,
        database.connection() as backup,
        backup.transaction(isolation="repeatable_read", readonly=True),
    ):
        await backup.fetchval("select railwatch.feed_end()")

        async def write(place: int) -> list[int]:
            taken = []
            async with database.connection() as connection:
                for turn in range(40):
                    change = connection.transaction()
                    await change.start()
                    first = await connection.fetchval("select railwatch.next_seq(2)")
                    assert await connection.fetchval("select railwatch.next_seq(1)") == first + 2
                    if (place + turn) % 3:
                        await change.commit()
                        taken += [first, first + 1, first + 2]
                    else:
                        await change.rollback()
            return taken

        taken = sorted(seq for some in await asyncio.gather(*map(write, range(8))) for seq in some)
        assert taken == list(range(1, len(taken) + 1))
        assert await database.value("select railwatch.feed_end()") == len(taken)

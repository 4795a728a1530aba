"""A reader of the feed is never fooled: whatever the feed lost, `feed_check` says from where it may differ."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from railwatch.store.database import Database
from railwatch.store.embedded.server import EmbeddedPostgres
from railwatch.store.errors import Refused
from railwatch.store.feed import note_generation, renew_feed
from railwatch.store.migrate import migrate
from tests.folders import database_folder
from tests.webhooks.shop import Shop, copied, furnish


@pytest.fixture
async def shop(database: Database) -> Shop:
    await furnish(database)
    return Shop(database)


class Reader:
    """A reader elsewhere, which keeps what the contract tells it to keep."""

    def __init__(self) -> None:
        self.generation: UUID | None = None
        self.seq = 0
        self.event: UUID | None = None
        self.lines: list[tuple[int, UUID]] = []

    async def check(self, database: Database) -> int:
        """Where it has to go on."""
        ask = "select railwatch.feed_check(coalesce($1, railwatch.feed_generation()), $2, $3)"
        return int(await database.value(ask, self.generation, self.seq, self.event))

    async def read(self, database: Database) -> None:
        self.seq = await self.check(database)
        self.lines = [each for each in self.lines if each[0] <= self.seq]
        rows = await database.rows(
            "select seq, event_id from railwatch.transitions where seq > $1 order by seq", self.seq
        )
        self.lines += [(row["seq"], row["event_id"]) for row in rows]
        self.generation = await generation(database)
        if self.lines:
            self.seq, self.event = self.lines[-1]

    async def has_all(self, database: Database) -> bool:
        rows = await database.rows("select seq, event_id from railwatch.transitions order by seq")
        return self.lines == [(row["seq"], row["event_id"]) for row in rows]


async def generation(database: Database) -> UUID:
    made: UUID = await database.value("select railwatch.feed_generation()")
    return made


async def test_while_nothing_happens_a_reader_goes_on_where_it_is(shop: Shop) -> None:
    reader = Reader()
    for _ in range(3):
        await shop.order()
        await reader.read(shop.database)
        assert await reader.check(shop.database) == reader.seq
    assert await reader.has_all(shop.database)
    assert await shop.database.value("select count(*) from railwatch.feed_generations") == 2, (
        "the first, and this server's"
    )


@pytest.mark.parametrize("noted", ["never", "by the daemon", "by a line"])
@pytest.mark.parametrize("ahead", [0, 1, 4])
async def test_a_replica_that_lost_commits_is_read_again_from_where_it_differs(
    shop: Shop, noted: str, ahead: int
) -> None:
    first, second = await shop.order(), await shop.order()
    replica = Database(await copied(shop.database), size=2)
    reader, before = Reader(), await generation(shop.database)
    for _ in range(ahead):
        await shop.tell(second)
    await reader.read(shop.database)
    async with replica:
        assert await generation(replica) != before, "from the first question on"
        if noted == "by the daemon":
            assert await note_generation(replica) == await generation(replica)
        theirs = Shop(replica)
        if noted == "by a line":
            for _ in range(6):
                await theirs.tell(first)
        assert await reader.check(replica) == 2
        told = await generation(replica)
        await reader.read(replica)
        await theirs.tell(second, "paid", "confirmed")
        assert await generation(replica) == told, "one generation, noted before or after"
        await reader.read(replica)
        assert await reader.has_all(replica)


async def test_a_second_failover_counts_from_the_first(shop: Shop) -> None:
    """Reader of generation 1 at 9; generation 2 began after 2, generation 3 after 5: the oldest parting decides."""
    order = await shop.order()
    await shop.order()
    reader, late = Reader(), Reader()
    second = Database(await copied(shop.database), size=2)
    for _ in range(7):
        await shop.tell(order)
    await reader.read(shop.database)
    async with second:
        for _ in range(3):
            await Shop(second).tell(order)
        await late.read(second)
        third = Database(await copied(second), size=2)
        await Shop(second).tell(order)
        await late.read(second)
    async with third:
        await Shop(third).tell(order)
        assert (await reader.check(third), await late.check(third)) == (2, 5)
        for each in (reader, late):
            await each.read(third)
            assert await each.has_all(third)


async def test_a_generation_that_the_database_never_knew_is_read_from_the_start(shop: Shop) -> None:
    """Restored from a dump that is older than the last failover."""
    order = await shop.order()
    old = Database(await copied(shop.database), size=2)
    promoted = Database(await copied(shop.database), size=2)
    reader = Reader()
    async with promoted:
        await Shop(promoted).tell(order)
        await reader.read(promoted)
    async with old:
        await Shop(old).tell(order)
        assert await reader.check(old) == 0
        await reader.read(old)
        assert await reader.has_all(old)


async def test_what_postgres_cannot_tell_is_found_by_the_event_and_can_be_said_by_hand(shop: Shop) -> None:
    """A virtual machine that is set back with its memory: the same server, an earlier feed."""
    order = await shop.order()
    for _ in range(4):
        await shop.tell(order)
    reader = Reader()
    await reader.read(shop.database)
    reader.event = UUID(int=1)  # as if another line were there
    assert await reader.check(shop.database) == 0, "where this generation began"
    await renew_feed(shop.database, 3)
    assert await reader.check(shop.database) == 3
    await shop.tell(order)
    await reader.read(shop.database)
    assert await reader.check(shop.database) == 6
    await renew_feed(shop.database, 1)
    assert await reader.check(shop.database) == 1
    for wrong in (-1, 7, None):
        with pytest.raises(Refused, match="from 0 to 6"):
            await renew_feed(shop.database, wrong)  # type: ignore[arg-type]
    with pytest.raises(Refused, match="at least 0"):
        await shop.database.value("select railwatch.feed_check(railwatch.feed_generation(), -1, null)")


async def test_a_position_beyond_the_feed_goes_back(shop: Shop) -> None:
    await shop.order()
    ask = "select railwatch.feed_check($1, 10, null)"
    assert await shop.database.value(ask, await generation(shop.database)) == 0
    assert await shop.database.value(ask, None) == 1, "no generation: no further than the feed"
    assert await shop.database.value(ask, UUID(int=7)) == 0


async def test_an_ack_from_another_generation_is_refused_with_the_place_to_go_on_from(shop: Shop) -> None:
    order = await shop.order()
    old = await generation(shop.database)
    replica = Database(await copied(shop.database), size=2)
    ack = "select railwatch.ack('elsewhere', $1, $2)"
    assert await shop.database.value(ack, 1, old) == 1
    assert await shop.database.value("select generation from railwatch.consumers") == old
    async with replica:
        for _ in range(3):
            await Shop(replica).tell(order)
        with pytest.raises(Refused, match="another generation") as caught:
            await replica.value(ack, 3, old)
        assert (caught.value.code, caught.value.hint.startswith("Continue from seq 1:")) == ("RW040", True)
        assert await replica.value("select count(*) from railwatch.consumers") == 0
        assert await replica.value(ack, 3, await generation(replica)) == 3


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that the server's account can reach."""
    with tempfile.TemporaryDirectory(prefix="railwatch-test-", dir=database_folder()) as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


@pytest.fixture
async def own(place: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A server of the test's own, to be stopped and started."""
    server = EmbeddedPostgres(place / "data")
    try:
        yield server
    finally:
        await server.stop()


async def test_a_restart_of_postgres_begins_a_generation_and_costs_a_reader_nothing(own: EmbeddedPostgres) -> None:
    reader, seen = Reader(), set[UUID]()
    dsn = await own.start()
    await prepare(dsn)
    async with Database(dsn, size=2) as database:
        await furnish(database)
        order = await Shop(database).order()
    for _ in range(3):
        async with Database(await own.start(), size=2) as database:
            await Shop(database).tell(order)
            at = reader.seq
            assert await reader.check(database) == at
            await reader.read(database)
            assert await reader.has_all(database)
            seen.add(await generation(database))
        await own.stop()
    assert len(seen) == 3


async def prepare(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await migrate(connection)
    await connection.close()


async def test_a_line_of_the_feed_is_never_committed_asynchronously(shop: Shop) -> None:
    async with shop.database.transaction() as connection:
        await connection.execute("set local synchronous_commit = off")
        await connection.fetchval("select railwatch.request_rescan('story', 0)")
        assert await connection.fetchval("show synchronous_commit") == "off", "what is no line of the feed may be"
        await connection.fetchval("select railwatch.next_seq(0)")
        assert await connection.fetchval("show synchronous_commit") == "on"


async def test_checking_a_position_costs_the_same_whatever_the_feeds_length(shop: Shop) -> None:
    """By keys alone: no plan of its three questions reads more than a row."""
    many = """
        insert into railwatch.feed_generations (number, generation, started_after)
        select 10 + n, md5(n::text)::uuid, n from generate_series(1, 50000) n"""
    await shop.database.rows(many)
    questions: list[tuple[str, Any]] = [
        ("select * from railwatch.feed_generations where generation = $1", UUID(int=1)),
        ("select started_after from railwatch.feed_generations where number = $1", 1),
        ("select from railwatch.transitions where seq = $1", 1),
        (
            "select generation from railwatch.feed_generations where started_after < $1 "
            "order by started_after desc, number desc limit 1",
            25000,
        ),
    ]
    for sql, value in questions:
        plan = "\n".join(row[0] for row in await shop.database.rows(f"explain (analyze, costs off) {sql}", value))
        assert "Index Cond" in plan, plan
        assert "Filter" not in plan, plan

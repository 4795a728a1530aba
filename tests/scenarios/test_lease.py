"""One rail, two daemons: one follows, the other waits, and one that seemed dead writes nothing."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from railwatch.config import Config
from railwatch.core.step import Position
from railwatch.daemon import rail_runner
from railwatch.daemon.supervisor import NullReporter, serve
from railwatch.store.database import Database
from railwatch.store.errors import LeaseLost
from railwatch.store.lease import LeaseKeeper
from railwatch.store.rails import load_resume_point, save_rail_state
from railwatch.store.steps import Lease, StepLookup, StepStore
from railwatch_fake import node_of
from tests.scenarios import oracle
from tests.scenarios.daemon_harness import DaemonHarness


async def holder(database: Database) -> str | None:
    return await database.value("select holder from railwatch.leases")


async def feed(database: Database) -> int:
    return int(await database.value("select last_seq from railwatch.feed_position"))


@asynccontextmanager
async def twin(
    stage: DaemonHarness, monkeypatch: pytest.MonkeyPatch, name: str = "twin"
) -> AsyncIterator[asyncio.Task[None]]:
    """A second daemon of another name on the same rail, over a node of its own."""
    data = stage.config.model_dump(by_alias=True)
    for rail in data["rail"]:
        rail["nodes"] = [{"chain": rail["name"], "node": name, "timeout": 0.5}]
    data["database"] = {"url": stage.database.dsn}
    monkeypatch.setattr(rail_runner, "HOLDER", name)
    daemon = asyncio.create_task(serve(Config.model_validate(data), None, NullReporter()))
    try:
        yield daemon
    finally:
        daemon.cancel()
        with suppress(asyncio.CancelledError):
            await daemon


async def becomes_holder(stage: DaemonHarness, name: str) -> None:
    async def is_so() -> bool:
        return await holder(stage.database) == name

    await stage.until(is_so)


async def test_a_second_daemon_waits_and_takes_over_at_once_when_the_first_ends(
    stage: DaemonHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoice = await stage.invoice(100)
    first = await holder(stage.database)
    async with twin(stage, monkeypatch):
        await stage.pay(invoice)
        await stage.mine()
        await asyncio.sleep(1.5)
        assert await holder(stage.database) == first
        await stage.stop()
        ended = time.monotonic()
        await becomes_holder(stage, "twin")
        assert time.monotonic() - ended < 3
        await stage.mine()
        assert await stage.state(invoice) == "paid"
        await oracle.check(stage, {invoice: 100})


async def test_a_daemon_that_ends_in_order_leaves_no_lease(stage: DaemonHarness) -> None:
    assert await holder(stage.database) is not None
    await stage.stop()
    assert await holder(stage.database) is None


async def expire(stage: DaemonHarness) -> None:
    """Let the lease run out, unless the twin has it."""
    await stage.database.value(
        "update railwatch.leases set expires_at = now() - interval '1 second' where holder <> 'twin' returning 1"
    )


async def test_a_daemon_whose_lease_ran_out_writes_nothing_and_does_not_acquire_it_again(
    stage: DaemonHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoice = await stage.invoice(100)
    async with twin(stage, monkeypatch):
        # The first is paused as far as the others can see: its node does not answer, and its lease is not renewed.
        node_of("story").hangs = True
        while await holder(stage.database) != "twin":
            await expire(stage)
            await asyncio.sleep(0.05)
        epoch = (await stage.rail())["epoch"]
        await stage.pay(invoice)
        await stage.mine(2)
        assert await stage.state(invoice) == "paid"
        before = await feed(stage.database)
        # It wakes up, and sees a chain of its own.
        fork = stage.chain.grow(stage.chain.line[0])
        for _ in range(5):
            fork = stage.chain.grow(fork)
        node_of("story").pin(fork.hash)
        node_of("story").hangs = False
        await asyncio.sleep(7)  # longer than to renew, to fail and to try again
        assert await holder(stage.database) == "twin"
        assert (await stage.rail())["epoch"] == epoch
        assert await feed(stage.database) == before
        await stage.mine()
        assert (await stage.rail())["rewinds"] == 0
        await oracle.check(stage, {invoice: 100})


# The fence itself, statement by statement


@pytest.fixture
async def two(stage: DaemonHarness) -> AsyncIterator[tuple[DaemonHarness, LeaseKeeper, LeaseKeeper]]:
    """A rail with a past and without a daemon, and two that may follow it."""
    invoice = await stage.invoice(100)
    await stage.pay(invoice)
    await stage.mine(2)
    await stage.stop()
    first, second = (LeaseKeeper(stage.database, "story", name) for name in ("first", "second"))
    yield stage, first, second
    for keeper in (first, second):
        await keeper.close()


async def acts(database: Database, lease: Lease) -> list[Any]:
    """Everything that a follower may write, each tried once; what came of it."""
    resume_point = await load_resume_point(database, lease.rail)
    assert resume_point.cursor is not None
    position = Position(resume_point.cursor, resume_point.cursor.height, None, datetime.now(UTC), "live", None)
    store, results = StepStore(database, lease), list[Any]()
    results.append(await store.advance_cursor(resume_point.cursor, position))
    about = StepLookup("fake")
    for opening in (
        store.begin(resume_point.cursor, position, about, (), None),
        store.begin_at_cursor(resume_point.rewinds, about),
    ):
        try:
            async with opening:
                results.append("opened")
        except LeaseLost:
            results.append("lost")
    await store.extend_coverage(datetime.now(UTC))
    await save_rail_state(database, lease, "halted", "said by a stranger")
    return results


async def test_who_lost_the_lease_moves_nothing_whatever_it_tries(
    two: tuple[DaemonHarness, LeaseKeeper, LeaseKeeper],
) -> None:
    stage, first, second = two
    old = await first.acquire()
    assert old is not None
    assert await second.acquire() is None
    await expire(stage)
    new = await second.acquire()
    assert new is not None
    assert new.epoch > old.epoch
    before = await stage.rail(), await feed(stage.database)
    assert await acts(stage.database, old) == [False, "lost", "lost"]
    assert (await stage.rail(), await feed(stage.database)) == before
    with pytest.raises(LeaseLost):
        await first.renew()
    await second.renew()
    assert (await acts(stage.database, new))[1:] == ["opened", "opened"]


async def test_a_lease_acquired_from_a_paused_daemon_is_not_lost_to_the_next_one(
    two: tuple[DaemonHarness, LeaseKeeper, LeaseKeeper],
) -> None:
    stage, first, second = two
    assert await first.acquire() is not None
    await expire(stage)
    assert await second.acquire() is not None
    third = LeaseKeeper(stage.database, "story", "third")
    try:
        for other in (third, first, third):
            assert await other.acquire() is None
        await second.renew()
    finally:
        await third.close()


async def test_a_holder_whose_connection_ends_is_followed_at_once(
    two: tuple[DaemonHarness, LeaseKeeper, LeaseKeeper],
) -> None:
    stage, first, second = two
    assert await first.acquire() is not None
    assert await second.acquire() is None
    await first.close()

    async def has_it() -> bool:
        return await second.acquire() is not None

    began = time.monotonic()
    await stage.until(has_it)
    assert time.monotonic() - began < 2
    assert await holder(stage.database) == "second"


async def test_of_many_that_ask_at_once_one_gets_the_lease(two: tuple[DaemonHarness, LeaseKeeper, LeaseKeeper]) -> None:
    stage, *_ = two
    keepers = [LeaseKeeper(stage.database, "story", f"daemon {n}") for n in range(8)]
    try:
        leases = await asyncio.gather(*(each.acquire() for each in keepers))
        assert len([each for each in leases if each is not None]) == 1
    finally:
        for each in keepers:
            await each.close()

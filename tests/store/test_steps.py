"""One step against another: what commits while a step waits is seen by it, and nothing is written twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from railwatch.core.step import BlockBatch, Position
from railwatch.daemon.follow.committer import Committer
from railwatch.daemon.watch.watchlist import ExplicitWatches
from railwatch.rail import AssetId, BlockRef, Scanned, Span
from railwatch.store.database import Database
from railwatch.store.errors import BranchChanged, LeaseLost
from railwatch.store.lease import LeaseKeeper
from railwatch.store.rails import load_resume_point
from railwatch.store.steps import StepLookup, StepStore
from railwatch.store.watches import WatchStore
from railwatch_fake import Rules, address
from tests.scenarios.daemon_harness import DaemonHarness, chain_named


class Desk:
    """A rail that was followed up to here, and a recorder that may go on: the daemon without its loops."""

    def __init__(self, stage: DaemonHarness, committer: Committer, invoices: list[UUID], keys: list[bytes]) -> None:
        self.stage, self.recorder, self.invoices, self.keys = stage, committer, invoices, keys

    async def scan(self, after: BlockRef, upto: BlockRef) -> Scanned:
        async with self.stage.sim.open_adapter() as node:
            assets = {"": AssetId(self.stage.sim.native)}
            return await node.scan(Span(after, upto), ExplicitWatches(frozenset(self.keys), assets))

    async def block(self, height: int) -> BlockRef:
        async with self.stage.sim.open_adapter() as node:
            return await node.block_at(height)

    async def step(self, fork: BlockRef | None = None) -> None:
        """Take everything up to the head, as the follower would."""
        resume_point = await load_resume_point(self.stage.database, "story")
        assert resume_point.cursor is not None
        after, upto = fork or resume_point.cursor, await self.block(self.stage.chain.tip.height)
        scanned = await self.scan(after, upto)
        batch = BlockBatch(resume_point.cursor, Span(after, upto), scanned.blocks, scanned.transfers, fork)
        await self.recorder.commit_blocks(
            batch, Position(upto, upto.height, None, datetime.now(UTC), "live", None), None
        )

    async def look_back(self, upto: BlockRef) -> None:
        """Record what the blocks up to ``upto`` hold."""
        resume_point = await load_resume_point(self.stage.database, "story")
        scanned = await self.scan(await self.block(0), upto)
        await self.recorder.commit_lookback(resume_point.rewinds, (), scanned.transfers)

    async def told(self) -> list[tuple[str, str]]:
        rows = await self.stage.database.rows("select subject, to_state from railwatch.transitions order by seq")
        return [(row["subject"], row["to_state"]) for row in rows]


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Desk]:
    """Three invoices that were registered after a payment to each of them was taken, unseen, at height 6."""
    chain = chain_named(rules=Rules(mempool=False))
    async with DaemonHarness(database, [chain]) as stage:
        await stage.mine(4)
        texts = [await stage.sim.new_address() for _ in range(3)]
        for text in texts:
            await stage.sim.pay(text, 100)
        await stage.mine(2)
        await stage.stop()
        # A stopped rail is not believed until it is followed again, and the desk follows it by hand.
        await database.rows("update railwatch.rails set state = 'live', reason = null")
        invoices = [await register(database, text) for text in texts]
        keys = [address.parse(text).key for text in texts]
        watches = WatchStore(database, "fake")
        waiting = {each.address: each.id for each in await watches.registered("story", 10)}
        await watches.accept([(waiting[text], key, text) for text, key in zip(texts, keys, strict=True)])
        keeper = LeaseKeeper(database, "story", "desk")
        lease = await keeper.acquire()
        assert lease is not None
        async with stage.sim.open_adapter() as node:
            traits = node.traits
        committer = Committer("story", traits, dict.fromkeys(stage.sim.assets, 0), StepStore(database, lease))
        yield Desk(stage, committer, invoices, keys)
        await keeper.close()
        await stage.audit()


async def register(database: Database, text: str) -> UUID:
    way = {"rail": "story", "asset": "COIN", "amount": 100, "address": text}
    request = {"merchant_id": "shop", "order_id": text, "expires_in": 3600, "destinations": [way]}
    made: UUID = await database.value("select railwatch.create_invoice($1)", request)
    return made


@asynccontextmanager
async def feed_held(dsn: str) -> AsyncIterator[Any]:
    """The feed is held by somebody else's open transaction, so that a step comes as far as its last statement."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("begin; select last_seq from railwatch.feed_position for update")
        yield connection
        await connection.execute("commit")
    finally:
        await connection.close()


async def waits(database: Database, how_many: int) -> None:
    """Wait until so many backends wait for a lock."""
    query = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    for _ in range(500):
        if await database.value(query) >= how_many:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"fewer than {how_many} backends ever waited")


async def states(database: Database) -> set[str]:
    return {row["state"] for row in await database.rows("select state from railwatch.detections")}


async def test_a_reorg_orphans_also_what_a_look_back_commits_while_it_waits(desk: Desk) -> None:
    database, fork = desk.stage.database, await desk.block(5)
    old = await desk.block(desk.stage.chain.tip.height)
    async with feed_held(database.dsn):
        looking = asyncio.create_task(desk.look_back(old))
        await waits(database, 1)
        desk.stage.chain.reorg(2, keep=False)
        rewinding = asyncio.create_task(desk.step(fork))
        await waits(database, 2)
    await looking
    await rewinding
    assert await states(database) == {"orphaned"}
    assert {row["state"] for row in await database.rows("select state from railwatch.invoices")} == {"created"}


async def test_a_step_knows_also_what_a_look_back_commits_while_it_waits(desk: Desk) -> None:
    database, fork = desk.stage.database, await desk.block(5)
    old = await desk.block(desk.stage.chain.tip.height)
    async with feed_held(database.dsn):
        looking = asyncio.create_task(desk.look_back(old))
        await waits(database, 1)
        desk.stage.chain.reorg(2, keep=True)
        rewinding = asyncio.create_task(desk.step(fork))
        await waits(database, 2)
    await looking
    await rewinding
    assert await states(database) == {"confirmed"}
    detections = [state for subject, state in await desk.told() if subject == "detection"]
    assert sorted(detections) == sorted(["included", "confirmed", "orphaned", "included", "confirmed"] * 3)


async def test_a_step_without_payments_promotes_also_what_a_look_back_commits_while_it_waits(desk: Desk) -> None:
    """The payment has the depth that its policy asks for with this block, and no other block may come for long."""
    database, chain, keys = desk.stage.database, desk.stage.chain, desk.keys
    paid = await database.value("select address from railwatch.destinations order by address limit 1")
    await desk.stage.sim.pay(paid, 100)
    chain.mine()
    desk.keys = []  # The follower passes the block before the address joins its watch.
    await desk.step()
    desk.keys = keys
    holding = chain.tip
    async with feed_held(database.dsn):
        looking = asyncio.create_task(desk.look_back(await desk.block(holding.height)))
        await waits(database, 1)
        chain.mine()
        stepping = asyncio.create_task(desk.step())
        await waits(database, 2)
    await looking
    await stepping
    query = "select state from railwatch.detections where block_height = $1"
    assert [row["state"] for row in await database.rows(query, holding.height)] == ["confirmed"]


async def test_a_step_that_is_done_again_is_refused_and_changes_nothing(desk: Desk) -> None:
    resume_point = await load_resume_point(desk.stage.database, "story")
    await desk.look_back(await desk.block(7))
    desk.stage.chain.mine(2)
    await desk.step()
    before = await desk.told()
    assert resume_point.cursor is not None
    upto = await desk.block(9)
    scanned = await desk.scan(resume_point.cursor, upto)
    batch = BlockBatch(resume_point.cursor, Span(resume_point.cursor, upto), scanned.blocks, scanned.transfers)
    with pytest.raises(LeaseLost):
        await desk.recorder.commit_blocks(batch, Position(upto, 9, None, None, "live", None), None)
    assert await desk.told() == before


async def test_a_look_back_that_is_done_again_changes_nothing(desk: Desk) -> None:
    await desk.look_back(await desk.block(7))
    before = await desk.told()
    assert len([state for subject, state in before if subject == "detection"]) == 6
    await desk.look_back(await desk.block(7))
    await desk.look_back(await desk.block(7))
    assert await desk.told() == before


async def test_a_look_back_from_before_a_reorg_writes_nothing(desk: Desk) -> None:
    old = await desk.block(7)
    scanned = await desk.scan(await desk.block(0), old)
    desk.stage.chain.reorg(2, keep=False)
    await desk.step(await desk.block(5))
    before = await desk.told()
    with pytest.raises(BranchChanged):
        await desk.recorder.commit_lookback(0, (), scanned.transfers)
    assert await desk.told() == before


async def test_no_inclusion_outlives_its_block_a_block_of_another_branch_becomes_no_checkpoint(desk: Desk) -> None:
    """What is stored at a height, and the cursor itself, are not replaced by what another branch has there."""
    resume_point = await load_resume_point(desk.stage.database, "story")
    assert resume_point.cursor is not None
    scanned = await desk.scan(await desk.block(0), await desk.block(7))
    paid = next(transfer for transfer in scanned.transfers if transfer.block is not None)
    assert paid.block is not None
    await desk.recorder.commit_lookback(resume_point.rewinds, (), scanned.transfers)
    before = await desk.told(), (await load_resume_point(desk.stage.database, "story")).checkpoints
    for strange in (
        replace(paid.block, hash="of another branch"),
        replace(paid.block, height=resume_point.cursor.height, hash="of another branch"),
        replace(paid.block, height=resume_point.cursor.height + 1),
    ):
        with pytest.raises(BranchChanged):
            await desk.recorder.commit_lookback(resume_point.rewinds, (), [replace(paid, block=strange)])
    assert (await desk.told(), (await load_resume_point(desk.stage.database, "story")).checkpoints) == before


async def test_a_large_step_is_told_as_a_small_one(database: Database) -> None:
    many = 1_100
    async with DaemonHarness(database, [chain_named(rules=Rules(mempool=False))]) as stage:
        first, second = await stage.invoice(100), await stage.invoice(many)
        stage.chain.send(
            stage.sim.output(first.address, 100), *[stage.sim.output(second.address, 1) for _ in range(many)]
        )
        await stage.mine(2)
        assert [await stage.state(each) for each in (first, second)] == ["paid", "paid"]
        stage.chain.reorg(2)
        await stage.follows()
        assert [await stage.state(each) for each in (first, second)] == ["paid", "paid"]
        assert await database.value("select count(*) from railwatch.detections") == many + 1
        assert [state for state, _ in await stage.path(second)] == ["created", "confirming", "paid"] * 2
        await stage.audit()


async def test_a_reorg_forgets_the_checkpoints_of_its_branch_and_no_others(desk: Desk) -> None:
    stage, held = desk.stage, "select height, hash from railwatch.checkpoints where height >= $1 order by height"
    to = await stage.database.value("select address from railwatch.destinations limit 1")
    first = stage.chain.tip.height + 1
    for _ in range(2):
        await stage.sim.pay(to, 1)
        stage.chain.mine(1)
        await desk.step()
    stays, goes = await desk.block(first), await desk.block(first + 1)
    assert await stage.database.rows(held, first) == [(each.height, each.hash) for each in (stays, goes)]
    stage.chain.reorg(1, keep=False)
    await desk.step(stays)
    assert await stage.database.rows(held, first) == [(stays.height, stays.hash)]


async def test_a_registration_does_not_wait_for_a_look_back_that_is_being_written(desk: Desk) -> None:
    """Both hold the rail's row: one for the commit's order, the other through its foreign key."""
    stage = desk.stage
    async with (
        desk.recorder.steps.begin_at_cursor((await stage.rail())["rewinds"], StepLookup("fake")),
        asyncio.timeout(5),
    ):
        await stage.order(await stage.sim.new_address())


async def covered(desk: Desk) -> datetime:
    until: datetime = await desk.stage.database.value("select covered_until from railwatch.rails")
    return until


async def test_blind_is_blind_and_no_wait_for_the_database_counts_as_watched(desk: Desk) -> None:
    """Whatever holds the statement up, a rail is covered to the moment at which the nodes were asked."""
    await desk.stage.database.value("update railwatch.rails set covered_until = now() - interval '1 day' returning 1")
    seen_at = datetime.now(UTC) - timedelta(seconds=500)
    shown = await desk.recorder.steps.extend_coverage(seen_at)
    assert await covered(desk) == seen_at < shown
    resume_point = await load_resume_point(desk.stage.database, "story")
    assert resume_point.cursor is not None
    upto = await desk.block(7)
    position = Position(upto, 7, None, seen_at + timedelta(seconds=100), "live", None)
    await desk.recorder.commit_blocks(
        BlockBatch(resume_point.cursor, Span(resume_point.cursor, upto), (upto,), ()), position, None
    )
    assert await covered(desk) == seen_at + timedelta(seconds=100)
    await desk.recorder.steps.extend_coverage(datetime.now(UTC) + timedelta(days=1))
    assert await covered(desk) <= await desk.recorder.steps.extend_coverage(None)

"""What is stored is compared with the chain when a rail is resumed: no inclusion outlives its block (invariant 2)."""

import asyncio
from collections.abc import Sequence

import pytest

from railwatch.store.database import Database
from railwatch_fake import Rules, node_of
from railwatch_fake.chain import Block
from tests.scenarios.daemon_harness import DaemonHarness, Placed, chain_named
from tests.scenarios.test_invariants import poison
from tests.scenarios.test_lease import becomes_holder, twin
from tests.scenarios.test_nodes import several

RULES = [Rules(horizon=40), Rules(finality=20, safe=10, mempool=False)]
IDS = ["by depth", "by finality"]

INCLUSIONS = "select state, block_height, block_hash from railwatch.detections where invoice_id = $1"


async def leaves_unseen(stage: DaemonHarness, depth: int, *, keep: bool) -> Sequence[Block]:
    """Replace the newest blocks as if a defect had passed over it: cursor and checkpoints are of the new branch.

    Returns the blocks that are gone. The daemon must not run.
    """
    gone = stage.chain.line[-depth:]
    stage.chain.reorg(depth, keep=keep)
    await believes(stage, stage.chain.tip)
    return gone


async def believes(stage: DaemonHarness, tip: Block) -> None:
    """Make the database say that the rail was followed up to ``tip``, and no further."""
    await stage.database.value(
        "update railwatch.rails set cursor_height = $1, cursor_hash = $2, cursor_parent = $3, cursor_time = $4, "
        "tip_height = $1 returning 1",
        tip.height,
        tip.hash,
        tip.parent,
        tip.time,
    )
    for block in stage.chain.branch(tip.hash):
        await stage.database.value(
            "update railwatch.checkpoints set hash = $2, parent = $3, time = $4 where height = $1 returning 1",
            block.height,
            block.hash,
            block.parent,
            block.time,
        )


async def is_on_chain(stage: DaemonHarness, invoice: Placed) -> None:
    """Every inclusion of the invoice is in a block of the chain."""
    line = {block.hash for block in stage.chain.line}
    rows = await stage.database.rows(INCLUSIONS, invoice.id)
    stored = [row["block_hash"] for row in rows if row["state"] in ("included", "confirmed", "final")]
    assert set(stored) <= line


async def paid_after(stage: DaemonHarness, blocks: int) -> Placed:
    """An order of 100 that was paid after so many blocks, three blocks deep."""
    await stage.mine(blocks)
    invoice = await stage.invoice(100)
    await stage.pay(invoice)
    await stage.mine(3)
    await stage.wait_for_state(invoice, "paid")
    return invoice


@pytest.mark.parametrize("rules", RULES, ids=IDS)
@pytest.mark.parametrize("deep", [1, 3], ids=["not yet paid", "paid"])
async def test_an_inclusion_whose_block_is_not_on_the_chain_is_orphaned_at_the_start(
    database: Database, rules: Rules, deep: int
) -> None:
    async with DaemonHarness(database, [chain_named(rules=rules)]) as stage:
        await stage.mine(30)
        stays, falls = await stage.invoice(100), await stage.invoice(100)
        await stage.pay(stays)
        await stage.mine(5)
        await stage.pay(falls)
        await stage.mine(deep)
        await stage.stop()
        await leaves_unseen(stage, deep, keep=False)
        await stage.start()
        await stage.wait_for_state(falls, "created")
        await stage.mine(3)
        path = await stage.path(falls)
        assert path[-1] == ("created", "reversed" if deep == 3 else "orphaned")
        assert [state for state, _ in path].count("paid") == (1 if deep == 3 else 0)
        assert await stage.open_cases(falls) == ({"reversed"} if deep == 3 else set())
        assert await stage.state(stays) == "paid"
        assert "reversed" not in [reason for _, reason in await stage.path(stays)]
        await is_on_chain(stage, falls)
        await stage.pay(falls)
        await stage.mine(2)
        await stage.wait_for_state(falls, "paid")
        await stage.audit()


@pytest.mark.parametrize("rules", RULES, ids=IDS)
async def test_what_is_in_another_block_by_now_is_found_there_in_the_same_commit(
    database: Database, rules: Rules
) -> None:
    async with DaemonHarness(database, [chain_named(rules=rules)]) as stage:
        invoice = await paid_after(stage, 30)
        await stage.stop()
        await leaves_unseen(stage, 3, keep=True)
        await stage.start()
        await stage.wait_for_state(invoice, "paid")

        async def is_told() -> bool:
            return ("created", "reversed") in await stage.path(invoice)

        await stage.until(is_told, lambda: stage.path(invoice))
        assert await stage.state(invoice) == "paid"
        assert await stage.open_cases(invoice) == set()
        await is_on_chain(stage, invoice)
        await stage.mine(60)
        await stage.wait_for_state(invoice, "paid")
        await stage.audit()


async def test_a_block_that_is_stored_by_a_wrong_hash_is_found_by_its_transfers(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice)
    await stage.mine(1)
    await stage.stop()
    for table, column in (("detections", "block_hash"), ("checkpoints", "hash")):
        place = "block_height" if table == "detections" else "height"
        await stage.database.value(
            f"update railwatch.{table} set {column} = $1 where {place} = $2 returning 1",
            "f" * 64,
            stage.chain.tip.height,
        )
    await stage.database.value("update railwatch.rails set cursor_hash = $1 returning 1", stage.chain.tip.hash)
    stage.chain.mine(3)
    await stage.start()
    await stage.wait_for_state(invoice, "paid")
    assert ("orphaned", "orphaned") in await stage.path(invoice, "detection")
    await is_on_chain(stage, invoice)


async def test_an_inclusion_above_the_cursor_is_on_no_chain_that_leads_to_it(stage: DaemonHarness) -> None:
    await stage.mine(10)
    tip, invoice = stage.chain.tip, await stage.invoice(100)
    await stage.pay(invoice)
    await stage.mine(3)
    await stage.wait_for_state(invoice, "paid")
    await stage.stop()
    await believes(stage, tip)
    stage.chain.reorg(3, keep=False)
    await stage.start()
    await stage.wait_for_state(invoice, "created")
    assert (await stage.path(invoice))[-1] == ("created", "reversed")


async def test_nothing_is_promoted_before_it_was_compared(stage: DaemonHarness) -> None:
    """Not by a registration's look-back either, nor by the mempool, while the node does not hold the cursor."""
    await stage.mine(10)
    invoice = await stage.invoice(100)
    await stage.pay(invoice)
    await stage.mine(1)
    await stage.stop()
    await leaves_unseen(stage, 1, keep=False)
    await stage.database.value("update railwatch.detections set due_height = 1 where true returning 1")
    node_of("story").lag = 4
    await stage.start(wait=False)
    other = await stage.order(await stage.sim.new_address())
    await asyncio.sleep(1.5)
    assert await stage.state(invoice) == "confirming"
    node_of("story").lag = 0
    await stage.wait_for_state(invoice, "created")
    await stage.all_taken_in()
    assert "paid" not in [state for state, _ in await stage.path(invoice)]
    await stage.pay(other)
    await stage.mine(2)
    await stage.wait_for_state(other, "paid")


async def test_what_became_due_meanwhile_is_promoted_once_it_was_compared(stage: DaemonHarness) -> None:
    """The rail comes up on a branch that the node has left; the rewind commits, and then no block comes for long."""
    await stage.mine(10)
    invoice = await stage.invoice(100)
    await stage.pay(invoice)
    await stage.mine(1)
    await stage.stop()
    stage.chain.mine(1)
    await believes(stage, stage.chain.tip)
    stage.chain.reorg(1, keep=False)
    await stage.start()
    await stage.wait_for_state(invoice, "paid")


async def test_a_daemon_that_takes_a_rail_over_compares_too(
    stage: DaemonHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoice = await paid_after(stage, 10)
    await stage.stop()
    await leaves_unseen(stage, 3, keep=False)
    async with twin(stage, monkeypatch):
        await becomes_holder(stage, "twin")
        await stage.wait_for_state(invoice, "created")
        assert (await stage.path(invoice))[-1] == ("created", "reversed")


async def test_a_resumed_rail_compares_too(database: Database) -> None:
    async with DaemonHarness(database, [chain_named(rules=Rules(mempool=False, horizon=40))]) as stage:
        invoice = await paid_after(stage, 10)
        node_of("story").undecodable = True
        await stage.pay(invoice)
        await stage.sim.mine(1)
        await stage.rail_is("halted")
        await database.value(
            "update railwatch.detections set block_hash = $1 where invoice_id = $2 returning 1", "f" * 64, invoice.id
        )
        node_of("story").undecodable = False
        assert await database.value("select railwatch.resume_rail('story', 'ann')") == "starting"
        await stage.follows()

        async def is_told() -> bool:
            return ("created", "reversed") in await stage.path(invoice)

        await stage.until(is_told, lambda: stage.path(invoice))
        await is_on_chain(stage, invoice)


async def test_nothing_is_asked_for_what_is_merely_stored(database: Database) -> None:
    """Blocks with final payments are not compared, and each other block once, whatever it holds."""
    rules = Rules(mempool=False, horizon=10, lookback=1)
    async with DaemonHarness(database, [chain_named(rules=rules)], options={"poll_interval": 30}) as stage:
        for _ in range(30):
            invoice = await stage.invoice(100)
            await stage.pay(invoice)
            await stage.mine(1)
        await stage.mine(9)
        await stage.stop()
        before = node_of("story").asked
        await stage.start()
        await asyncio.sleep(0.5)
        quiet = node_of("story").asked - before
        await stage.mine(12)
        for _ in range(5):
            await stage.pay(invoice)
        await stage.mine(1)
        await stage.stop()
        before = node_of("story").asked
        await stage.start()
        await asyncio.sleep(0.5)
        assert node_of("story").asked - before <= quiet + 4


async def test_one_node_that_contradicts_the_others_about_a_block_orphans_nothing(database: Database) -> None:
    async with several(database, ["main", "second", "third"], Rules(mempool=False, horizon=40)) as (stage, nodes):
        invoice = await paid_after(stage, 10)
        await stage.stop()
        nodes[0].misnames = {stage.chain.tip.height - 2: "f" * 64}
        await stage.start()
        assert await stage.path(invoice, "detection") == [("included", "included"), ("confirmed", "confirmed")]
        await stage.mine(3)
        assert await stage.state(invoice) == "paid"


async def test_an_invoice_in_quarantine_loses_what_is_not_on_the_chain_too(stage: DaemonHarness) -> None:
    await stage.mine(10)
    invoice, good = await stage.invoice(100), await stage.invoice(100)
    await stage.pay(invoice)
    await stage.mine(1)
    policy = await poison(stage.database, invoice)
    await stage.pay(good)
    await stage.mine(1)

    async def is_aside() -> bool:
        return await stage.database.value("select count(*) from railwatch.quarantine") == 1

    await stage.until(is_aside)
    await stage.stop()
    await leaves_unseen(stage, 2, keep=False)
    await stage.start()
    await stage.wait_for_state(good, "created")
    await stage.database.value(
        "update railwatch.destinations set policy = $2 where invoice_id = $1 returning 1", invoice.id, policy
    )
    await stage.database.value("update railwatch.quarantine set retry_at = now() where true returning 1")
    await stage.wait_for_state(invoice, "created")
    await stage.mine(3)
    assert await stage.state(invoice) == "created"
    await is_on_chain(stage, invoice)

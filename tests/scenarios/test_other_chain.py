"""A chain that left ours below what no reorg may pass: a person decides, and the feed gets the consequences."""

import pytest

from railwatch.daemon.registry import open_rail
from railwatch.ops.chain_acceptance import Proposal, propose, render_proposal
from railwatch.store.database import Database
from railwatch.store.errors import Refused
from railwatch.store.invoices import accept_chain
from railwatch.store.watches import close_expired_watches
from railwatch_fake import Rules
from tests.scenarios.daemon_harness import DaemonHarness, chain_named

RULES = [Rules(finality=8, safe=4), Rules(horizon=10)]
IDS = ["beyond finality", "beyond the horizon"]


async def proposal(stage: DaemonHarness) -> Proposal:
    """What `railwatch rail resume --accept-chain` shows."""
    nodes = open_rail(stage.config.rails[0])
    async with nodes:
        return await propose(stage.database, nodes, stage.chain.name)


async def accept(stage: DaemonHarness, what: Proposal) -> None:
    await accept_chain(
        stage.database, stage.chain.name, what.fork, common=what.common, actor="ann", reason="the world agrees"
    )


@pytest.mark.parametrize("rules", RULES, ids=IDS)
@pytest.mark.parametrize("keep", [True, False], ids=["paid there too", "not paid there"])
async def test_a_chain_that_a_person_accepts_is_followed_and_its_reversals_are_emitted(
    database: Database, rules: Rules, keep: bool
) -> None:
    async with DaemonHarness(database, [chain_named(rules=rules)]) as stage:
        await stage.mine(5)
        before = await stage.invoice(100)
        await stage.pay(before)
        await stage.mine(6)
        after = await stage.invoice(100)
        tx = await stage.pay(after)
        await stage.mine(40)
        states = "select state from railwatch.detections where tx_id = $1"
        assert await database.value(states, tx) == "final"
        stage.chain.reorg(41, keep=keep)
        reason = await stage.rail_is("halted")
        assert "railwatch rail resume story --accept-chain" in reason
        shown = await proposal(stage)
        assert shown.common
        assert shown.fork.height < stage.chain.tip.height - 40
        assert [(row["transfers"], row["amount"], row["state"]) for row in shown.reversal.transfers] == [
            (1, 100, "final")
        ]
        assert [row["state"] for row in shown.reversal.invoices] == ["paid"]
        assert render_proposal(shown)
        assert await stage.state(after) == "paid", "the preview changes nothing"
        await accept(stage, shown)
        await stage.follows()
        path = await stage.path(after)
        assert ("created", "reversed") in path
        detections = await stage.path(after, "detection")
        assert ("orphaned", "orphaned") in detections
        assert detections.index(("orphaned", "orphaned")) > detections.index(("final", "final"))
        await stage.mine(2)
        if keep:
            await stage.wait_for_state(after, "paid")
        else:
            assert await stage.state(after) == "created"
            assert await stage.open_cases(after) == {"reversed"}
            await stage.pay(after)
            await stage.mine(2)
            await stage.wait_for_state(after, "paid")
        assert await stage.open_cases(after) == set()
        assert await stage.path(before) == [("created", "created"), *(await stage.path(before))[1:]]
        assert await stage.state(before) == "paid"
        assert ("created", "reversed") not in await stage.path(before)
        row = await database.row("select * from railwatch.chain_acceptances")
        assert row is not None
        assert (row["actor"], row["reason"], row["is_common"]) == ("ann", "the world agrees", True)
        assert row["applied_at"] is not None
        await stage.audit()


async def test_without_a_common_block_everything_is_orphaned(database: Database) -> None:
    rules = Rules(finality=8, safe=4, lookback=1)
    async with DaemonHarness(database, [chain_named(rules=rules)]) as stage:
        invoice = await stage.invoice(100)
        await stage.pay(invoice)
        await stage.mine(20)
        stage.chain.reorg(20, keep=False)
        await stage.rail_is("halted")
        await database.value("delete from railwatch.checkpoints")
        shown = await proposal(stage)
        assert [row["transfers"] for row in shown.reversal.transfers] == [1]
        await accept(stage, shown)
        await stage.follows()
        assert await stage.state(invoice) == "created"
        await stage.audit()


async def test_a_decision_is_about_the_chain_that_was_shown(database: Database) -> None:
    async with DaemonHarness(database, [chain_named(rules=RULES[0])]) as stage:
        await stage.mine(15)
        early = await stage.invoice(100)
        await stage.pay(early)
        await stage.mine(20)
        with pytest.raises(Refused, match="not halted by a DeepReorg"):
            await accept(stage, await proposal(stage))
        invoice = await stage.invoice(100)
        await stage.pay(invoice)
        await stage.mine(20)
        stage.chain.reorg(25, keep=False)
        await stage.rail_is("halted")
        shown = await proposal(stage)
        assert shown.common
        await stage.stop()
        await accept(stage, shown)
        # While no daemon followed it the node went to yet another chain, which does not hold the fork.
        stage.chain.reorg(45, keep=False)
        await stage.start(wait=False)
        assert "DeepReorg" in await stage.rail_is("halted")
        assert await stage.state(invoice) == "paid"
        await accept(stage, await proposal(stage))
        await stage.follows()
        assert await stage.state(invoice) == "created"
        assert await database.value("select count(*) from railwatch.chain_acceptances") == 1


async def test_an_order_that_was_closed_is_watched_again_when_it_loses_its_payment(database: Database) -> None:
    rules = Rules(finality=8, safe=4, mempool=False)
    async with DaemonHarness(database, [chain_named(rules=rules)]) as stage:
        await stage.mine(3)
        invoice = await stage.invoice(100)
        await stage.pay(invoice)
        await stage.mine(20)
        await database.value(
            "update railwatch.invoices set expires_at = now(), closes_at = now() where id = $1", invoice.id
        )
        await stage.mine(2)

        async def is_closed() -> bool:
            await close_expired_watches(database)
            return await stage.watch_states(invoice) == ["closed"]

        await stage.until(is_closed)
        stage.chain.reorg(22, keep=True)
        await stage.rail_is("halted")
        await accept(stage, await proposal(stage))
        await stage.follows()
        await stage.all_taken_in()
        await stage.mine(3)

        async def is_settled_again() -> bool:
            return await stage.state(invoice) in ("paid", "late_paid")

        await stage.until(is_settled_again, lambda: stage.path(invoice))
        assert await stage.watch_states(invoice) == ["watching"]


async def test_no_window_ends_by_what_was_covered_on_the_other_chain(database: Database) -> None:
    async with DaemonHarness(database, [chain_named(rules=RULES[0])]) as stage:
        await stage.mine(3)
        invoice = await stage.invoice(100)
        await stage.pay(invoice)
        await stage.mine(20)
        await database.value("update railwatch.invoices set expires_at = now() where id = $1", invoice.id)
        stage.chain.reorg(22, keep=True)
        await stage.rail_is("halted")
        await accept(stage, await proposal(stage))
        await stage.follows()
        await stage.mine(2)
        await stage.wait_for_state(invoice, "paid")
        assert "expired" not in {state for state, _ in await stage.path(invoice)}

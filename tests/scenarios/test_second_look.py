"""The second look: what is about to be final is read once more, from another node where there is one (invariant 13)."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from railwatch.daemon.nodes.node_set import NodeSet, Reread
from railwatch.store.database import Database
from railwatch.store.errors import Refused
from railwatch_fake import FakeNode, Rules, node_of
from tests.scenarios.daemon_harness import DaemonHarness, Placed, chain_named
from tests.scenarios.test_nodes import several

FINALITY = Rules(finality=8, safe=4, mempool=False)


async def detection(stage: DaemonHarness, invoice: Placed) -> dict[str, object]:
    row = await stage.database.row("select * from railwatch.detections where invoice_id = $1", invoice.id)
    assert row is not None
    return dict(row)


async def test_a_payment_is_final_in_the_step_that_reaches_finality_and_was_read_by_another_node(
    database: Database,
) -> None:
    async with several(database, ["main", "second"], FINALITY) as (stage, _):
        invoice = await stage.invoice(100)
        await stage.pay(invoice)
        await stage.mine()
        await stage.mine(8)
        shown = await detection(stage, invoice)
        assert (shown["state"], shown["second_look"]) == ("final", "verified")
        evidence = shown["evidence"]
        assert isinstance(evidence, dict)
        assert (evidence["node"], evidence["second_look"]["node"]) == ("node", "node (2)")
        assert await stage.path(invoice, "detection") == [
            ("included", "included"),
            ("confirmed", "confirmed"),
            ("final", "final"),
        ]


@pytest.mark.parametrize("rules", [FINALITY, Rules(horizon=10)])
@pytest.mark.parametrize("hidden", [False, True])
async def test_content_that_another_node_contradicts_is_an_exception_and_never_final(
    database: Database, rules: Rules, hidden: bool
) -> None:
    async with several(database, ["main", "second"], rules) as (stage, nodes):
        await stage.mine(12)
        invoice, honest = await stage.invoice(100), await stage.invoice(100)
        tx_id = await stage.pay(invoice, 60)
        tx = stage.chain.txs[tx_id]
        # The active node reports 100 of a transaction that pays 60, or the other one reports none.
        nodes[0].retold[tx_id] = replace(tx, outputs=(replace(tx.outputs[0], amount=100),))
        if hidden:
            nodes[0].retold.clear()
            nodes[1].retold[tx_id] = None
        await stage.pay(honest)
        await stage.mine()
        await stage.mine()
        await stage.mine(10)
        shown = await detection(stage, invoice)
        assert (shown["state"], shown["second_look"]) == ("confirmed", "mismatch")
        assert "content_mismatch" in await stage.open_cases(invoice)
        assert (await detection(stage, honest))["state"] == "final"
        await stage.mine(3)
        assert (await detection(stage, invoice))["state"] == "confirmed"
        assert (await stage.rail())["state"] == "live"


async def test_another_nodes_name_for_the_same_payment_contradicts_nothing(database: Database) -> None:
    """HAZARDS E28: it shows a call that the first one leaves out."""
    async with several(database, ["main", "second"], FINALITY) as (stage, nodes):
        invoice = await stage.invoice(100)
        tx_id = await stage.pay(invoice)
        tx = stage.chain.txs[tx_id]
        stranger = stage.sim.output(await stage.sim.new_address(), 7)
        nodes[1].retold[tx_id] = replace(tx, outputs=(stranger, *tx.outputs))
        await stage.mine()
        await stage.mine(8)
        shown = await detection(stage, invoice)
        assert (shown["state"], shown["second_look"]) == ("final", "verified")


async def test_a_node_that_a_majority_contradicts_is_not_asked(database: Database) -> None:
    async with several(database, ["main", "second", "third"], FINALITY) as (stage, nodes):
        await stage.mine(3)
        # The node that would be asked first goes its own way: at every height from here on it has another block.
        nodes[1].make_up(40)
        await stage.mine(3)
        invoice = await stage.invoice(100)
        await stage.pay(invoice)
        await stage.mine()
        await stage.mine(9)
        shown = await detection(stage, invoice)
        assert (shown["state"], shown["second_look"]) == ("final", "verified")
        evidence = shown["evidence"]
        assert isinstance(evidence, dict)
        assert evidence["second_look"]["node"] == "node (3)"
        assert await stage.open_cases(invoice) == set()


async def test_a_mismatch_that_is_seen_before_a_finalized_policy_is_met_pays_no_invoice(database: Database) -> None:
    async with several(database, ["main", "second"], FINALITY) as (stage, nodes):
        invoice = await stage.invoice(100, policy={"finalized": True})
        tx_id = await stage.pay(invoice, 60)
        tx = stage.chain.txs[tx_id]
        nodes[0].retold[tx_id] = replace(tx, outputs=(replace(tx.outputs[0], amount=100),))
        await stage.mine()
        await stage.mine(12)
        assert await stage.state(invoice) == "confirming"
        assert "content_mismatch" in await stage.open_cases(invoice)


async def test_what_is_found_in_an_old_block_and_a_lone_node_are_final_too(database: Database) -> None:
    chain = chain_named(rules=FINALITY)
    async with DaemonHarness(database, [chain]) as stage:
        address = await stage.sim.new_address()
        await stage.sim.pay(address, 100)
        await stage.mine(20)
        old = await stage.order(address)
        await stage.all_taken_in()
        await stage.wait_for_state(old, "paid")

        async def is_final() -> bool:
            return (await detection(stage, old))["state"] == "final"

        await stage.until(is_final)
        new = await stage.invoice(100)
        await stage.pay(new)
        await stage.mine(9)
        assert (await detection(stage, new))["state"] == "final"
        await stage.audit()


async def test_a_second_look_that_no_node_can_serve_stops_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = chain_named(rules=FINALITY)
    async with DaemonHarness(database, [chain]) as stage:
        invoice = await stage.invoice(100)
        await stage.pay(invoice)
        await stage.mine(3)
        block = chain.at(2).hash
        # The node has forgotten the block (pruned): it says that it knows none of that hash.
        known = chain.blocks.pop(block)
        await stage.mine(8)

        async def is_final() -> bool:
            return (await detection(stage, invoice))["state"] == "final"

        await stage.until(is_final)
        assert (await detection(stage, invoice))["second_look"] == "unverified"
        chain.blocks[block] = known
        assert node_of(chain.name).asked
        await asyncio.sleep(0)
        await stage.audit()


async def mismatch(stage: DaemonHarness, nodes: list[FakeNode]) -> tuple[Placed, UUID]:
    """An invoice that is paid by what one node reports and the other contradicts; with the exception."""
    invoice = await stage.invoice(100)
    tx_id = await stage.pay(invoice, 60)
    tx = stage.chain.txs[tx_id]
    nodes[0].retold[tx_id] = replace(tx, outputs=(replace(tx.outputs[0], amount=100),))
    await stage.mine()
    await stage.mine()
    await stage.wait_for_state(invoice, "paid")
    await stage.mine(12)
    case = await stage.database.value(
        "select id from railwatch.exceptions where invoice_id = $1 and kind = 'content_mismatch'", invoice.id
    )
    return invoice, case


RESOLVE = "select railwatch.resolve_exception($1, actor => 'ann', resolution => 'looked at', verdict => $2)"


async def test_a_contradicted_payment_that_a_person_accepts_becomes_final(database: Database) -> None:
    async with several(database, ["main", "second"], FINALITY) as (stage, nodes):
        invoice, case = await mismatch(stage, nodes)
        await stage.database.value(RESOLVE, case, "accepted")
        await stage.mine()
        shown = await detection(stage, invoice)
        assert (shown["state"], shown["second_look"], shown["due_height"]) == ("final", "accepted", None)
        assert (await stage.path(invoice))[-1] == ("paid", "confirmed")
        assert await stage.open_cases(invoice) == set()
        ended = await stage.database.row("select ended_at, resolution from railwatch.exceptions where id = $1", case)
        assert ended is not None
        assert (ended["resolution"], ended["ended_at"] is not None) == ("looked at", True)
        await stage.audit()


async def test_a_contradicted_payment_that_a_person_rejects_is_dropped_and_does_not_come_back(
    database: Database,
) -> None:
    async with several(database, ["main", "second"], FINALITY) as (stage, nodes):
        invoice, case = await mismatch(stage, nodes)
        await stage.database.value(RESOLVE, case, "rejected")
        await stage.mine()
        shown = await detection(stage, invoice)
        assert (shown["state"], shown["second_look"]) == ("dropped", "rejected")
        assert (await stage.path(invoice, "detection"))[-1] == ("dropped", "rejected")
        assert (await stage.path(invoice))[-1] == ("created", "reversed")
        assert await stage.open_cases(invoice) == {"reversed"}
        await stage.database.value("select railwatch.request_rescan('story', 0)")
        await stage.rescanned()
        await stage.mine(3)
        assert (await detection(stage, invoice))["state"] == "dropped"
        # In another block it is read anew, twice.
        nodes[0].retold.clear()
        await stage.audit()


async def test_content_that_a_reorg_brought_is_read_again_from_another_node_than_the_one_that_reported_it(
    database: Database,
) -> None:
    async with several(database, ["main", "second"], FINALITY) as (stage, nodes):
        await stage.mine(2)
        invoice = await stage.invoice(100)
        tx_id = await stage.pay(invoice, 60)
        tx = stage.chain.txs[tx_id]
        await stage.mine()
        nodes[1].retold[tx_id] = replace(tx, outputs=(replace(tx.outputs[0], amount=100),))
        nodes[0].down = True
        stage.chain.reorg(1)
        await stage.follows()
        await stage.wait_for_state(invoice, "paid")
        nodes[0].down, asked = False, nodes[0].asked

        async def is_back() -> bool:
            return nodes[0].asked > asked + 3

        await stage.until(is_back)
        for _ in range(12):
            await stage.mine()

        async def is_told() -> bool:
            return "content_mismatch" in await stage.open_cases(invoice)

        await stage.until(is_told, lambda: detection(stage, invoice))
        assert (await detection(stage, invoice))["state"] == "confirmed"


async def test_a_node_that_leaves_a_block_while_it_is_read_again_contradicts_nothing(database: Database) -> None:
    """It may be at a reorg that comes next; what it says again and again is a contradiction."""
    chain = chain_named(rules=FINALITY)
    async with DaemonHarness(database, [chain]) as stage:
        invoice = await stage.invoice(100)
        await stage.pay(invoice)
        await stage.mine()
        rounds, reread = 0, NodeSet.reread

        async def elsewhere(nodes: NodeSet, block: tuple[int, str], *rest: Any) -> Reread:
            nonlocal rounds
            rounds += 1
            honest = await reread(nodes, block, *rest)
            return Reread(honest.node, "another", (), honest.native_complete) if rounds == 1 else honest

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(NodeSet, "reread", elsewhere)
            await stage.mine(8)
            await stage.mine(2)
        assert (await detection(stage, invoice))["state"] == "final"
        assert ("open", "content_mismatch") not in await stage.path(invoice, "exception")


async def test_a_mismatch_accepts_a_verdict_and_nothing_else_does(database: Database) -> None:
    async with several(database, ["main", "second"], FINALITY) as (stage, nodes):
        invoice, case = await mismatch(stage, nodes)
        for verdict in (None, "perhaps"):
            with pytest.raises(Refused, match="verdict"):
                await stage.database.value(RESOLVE, case, verdict)
        await stage.pay(invoice, 70)
        await stage.mine(2)
        other = await stage.database.value("select id from railwatch.exceptions where kind = 'overpaid'")
        with pytest.raises(Refused, match="not on overpaid"):
            await stage.database.value(RESOLVE, other, "accepted")
        assert "content_mismatch" in await stage.open_cases(invoice)

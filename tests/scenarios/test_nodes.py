"""Several nodes of one rail: more than half of them decide, and one that lies pays no invoice (HAZARDS, "Nodes")."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from railwatch.store.database import Database
from railwatch_fake import FakeChain, FakeNode, Output, Rules, address, node_of
from tests.scenarios.daemon_harness import DaemonHarness, Placed, chain_named

FINALITY = Rules(finality=8, safe=4, mempool=False)


@asynccontextmanager
async def several(
    database: Database, names: Sequence[str], rules: Rules | None = None, **more: object
) -> AsyncIterator[tuple[DaemonHarness, list[FakeNode]]]:
    """A stage whose rail has those nodes; the first answers as long as it can."""
    chain = chain_named(rules=rules)
    tables = [{"chain": chain.name, "node": name, "timeout": 0.5} for name in names]
    async with DaemonHarness(database, [chain], options={"nodes": tables, **more}) as stage:
        yield stage, [node_of(chain.name, name) for name in names]
        await stage.audit()


def output(invoice: Placed, amount: int = 100) -> Output:
    """What pays the invoice."""
    return Output(address.parse(invoice.address).key, amount)


async def mine_slowly(chain: FakeChain, blocks: int) -> None:
    """Mine one by one, so that each is met by itself."""
    for _ in range(blocks):
        chain.mine()
        await asyncio.sleep(0.1)


async def test_a_payment_on_a_contradicted_chain_waits_until_the_nodes_agree(database: Database) -> None:
    chain = chain_named()
    nodes = [{"chain": chain.name, "timeout": 0.5}, {"chain": chain.name, "node": "second", "timeout": 0.5}]
    async with DaemonHarness(database, [chain], options={"nodes": nodes}) as stage:
        invoice = await stage.invoice(100)
        await stage.pay(invoice, 100)
        await stage.mine()
        assert await stage.state(invoice) == "confirming"
        # The node that answers is left behind on a fork, which then grows deep enough to pay.
        node_of(chain.name).pin(chain.tip.hash)
        chain.reorg(2, keep=False)
        await stage.rail_is("stalled")
        assert "nodes disagree" in (await stage.rail())["reason"]
        assert await stage.state(invoice) == "confirming", "neither paid nor reversed: it is unknown yet"
        node_of(chain.name).pin(None)
        await stage.rail_is("live")
        await stage.wait_for_state(invoice, "created")
        assert (await stage.path(invoice))[-1] == ("created", "orphaned")
        await stage.audit()


@pytest.mark.parametrize("liar", [0, 1, 2])
async def test_blocks_that_one_node_of_three_makes_up_pay_no_invoice(database: Database, liar: int) -> None:
    """Case (a) and (b): whether the liar answers or is a witness only, its blocks are above what two have reached."""
    async with several(database, ["main", "second", "third"]) as (stage, nodes):
        await stage.mine(10)
        invoice, honest = await stage.invoice(100), await stage.invoice(100)
        nodes[liar].make_up(10, output(invoice))
        await asyncio.sleep(1.0)
        assert await stage.state(invoice) == "created"
        assert (await stage.rail())["cursor_height"] == stage.chain.tip.height
        await stage.pay(honest)
        await mine_slowly(stage.chain, 3)
        await stage.wait_for_state(honest, "paid")
        assert (await stage.path(invoice)) == [("created", "created")] or await stage.state(invoice) == "created"
        assert (await stage.rail())["state"] != "halted"


async def test_finality_that_one_node_of_three_claims_pays_no_invoice(database: Database) -> None:
    """Case (c): a payment at the tip is not final because the node that answers says so."""
    async with several(database, ["main", "second", "third"], FINALITY) as (stage, nodes):
        await stage.mine(20)
        invoice = await stage.invoice(100, policy={"finalized": True})
        nodes[0].finality = 0
        await stage.pay(invoice)
        await stage.mine()
        await asyncio.sleep(0.5)
        assert await stage.state(invoice) == "confirming"
        assert (await stage.rail())["finalized_height"] <= stage.chain.tip.height - 8
        stage.chain.reorg(1)
        await stage.follows()
        await stage.mine(8)
        await stage.wait_for_state(invoice, "paid")

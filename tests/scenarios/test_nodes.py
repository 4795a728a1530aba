"""Several nodes of one rail: nothing is paid for a chain that another node contradicts."""

from adapters.fake import node_of
from indexer.store.database import Database
from tests.scenarios.stage import Stage, chain_named


async def test_a_payment_on_a_contradicted_chain_waits_until_the_nodes_agree(database: Database) -> None:
    chain = chain_named()
    nodes = [{"chain": chain.name, "timeout": 0.5}, {"chain": chain.name, "node": "second", "timeout": 0.5}]
    async with Stage(database, [chain], options={"nodes": nodes}) as stage:
        invoice = await stage.invoice(100)
        await stage.pay(invoice, 100)
        await stage.mine()
        assert await stage.state(invoice) == "confirming"
        # The node that answers is left behind on a fork, which then grows deep enough to pay.
        node_of(chain.name).pin(chain.tip.hash)
        chain.reorg(2, keep=False)
        await stage.rail_is("stalled")
        assert "nodes disagree" in (await stage.rail())["reason"]
        assert await stage.state(invoice) == "confirming", "neither paid nor taken back: nobody knows yet"
        node_of(chain.name).pin(None)
        await stage.rail_is("live")
        await stage.becomes(invoice, "created")
        assert (await stage.path(invoice))[-1] == ("created", "orphaned")
        await stage.audit()

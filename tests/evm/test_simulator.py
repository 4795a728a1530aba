"""The development chain does what a story says, and nothing else."""

import os

import pytest

from railwatch_evm.dev.node_process import Anvil, AnvilError, find_anvil
from railwatch_evm.dev.simulator import EvmSimulator
from tests.evm.conftest import Chain

pytestmark = pytest.mark.anvil


async def status(sim: EvmSimulator, tx_id: str) -> str | None:
    """Return a transaction's status; None while it is in no block."""
    receipt = await sim.rpc("eth_getTransactionReceipt", tx_id)
    return None if receipt is None else str(receipt["status"])


async def test_nothing_happens_by_itself(sim: EvmSimulator) -> None:
    """A payment waits for `mine`, and `mine` makes as many blocks as it says."""
    height = await sim.height()
    tx_id = await sim.pay(await sim.new_address(), 5)
    assert await status(sim, tx_id) is None
    await sim.mine(3)
    assert (await sim.height(), await status(sim, tx_id)) == (height + 3, "0x1")


@pytest.mark.parametrize("keep", [True, False])
async def test_a_reorg_replaces_blocks_and_leaves_what_waits(chain: Chain, keep: bool) -> None:
    """Depth blocks go, one more than depth come; the pool is as before; contracts survive; twice differs from once."""
    sim = chain.sim
    await sim.mine()
    held = await sim.pay(await sim.new_address(), 5)
    await sim.mine(2)
    old = [await chain.rail.block_at(chain.start.height + step) for step in (1, 2, 3)]
    for _ in range(2):
        waiting = await sim.pay(await sim.new_address(), 6)
        await sim.reorg(2, keep=keep)
        assert await status(sim, held) == ("0x1" if keep else None)
        assert await status(sim, waiting) is None
        new = [await chain.rail.block_at(chain.start.height + step) for step in (1, 2, 3, 4)]
        assert new[0] == old[0]
        assert {ref.hash for ref in new[1:]}.isdisjoint(ref.hash for ref in old)
        old = new[:3]
        await sim.rpc("anvil_dropAllTransactions")
        await sim.rpc("anvil_rollback", 1)
    await sim.pay(await sim.new_address(), 5, sim.assets[1])
    with pytest.raises(ValueError, match="cannot replace 40"):
        await sim.reorg(40)


async def test_a_rival_replaces_what_waits(sim: EvmSimulator) -> None:
    """The first is in no block, ever; what is in a block has no rival."""
    tx_id = await sim.pay(await sim.new_address(), 5)
    rival = await sim.replace(tx_id)
    await sim.mine()
    assert (await status(sim, tx_id), await status(sim, rival)) == (None, "0x1")
    with pytest.raises(AnvilError, match="is not waiting"):
        await sim.replace(rival)


async def test_what_fails_is_in_a_block(sim: EvmSimulator) -> None:
    """With its value, and status 0."""
    address = await sim.new_address()
    tx_id = await sim.fail_next(address, 5)
    await sim.mine()
    assert await status(sim, tx_id) == "0x0"
    assert await sim.rpc("eth_getBalance", address, "latest") == "0x0"


async def test_the_clock_obeys(chain: Chain) -> None:
    """The next block has the time that it was given."""
    await chain.sim.set_time(2_000_000_000)
    await chain.sim.mine()
    assert (await chain.rail.heads()).latest.time.timestamp() == 2_000_000_000


async def test_leaving_ends_the_node(sim: EvmSimulator) -> None:
    """By its pid, also a second node's, on a port of its own."""
    async with EvmSimulator(epoch=1) as other:
        assert other.node["http"] != sim.node["http"]
        pid = other.pid
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(AnvilError, match="not running"):
        await other.mine()


async def test_a_port_that_is_used_is_reported(sim: EvmSimulator) -> None:
    """In anvil's own words, and at once."""
    port = int(sim.node["http"].rsplit(":", 1)[1])
    with pytest.raises(AnvilError, match="anvil ended with"):
        await Anvil(port=port).__aenter__()


def test_a_missing_anvil_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on PATH nor where the environment points."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("RAILWATCH_ANVIL", "nowhere/anvil")
    with pytest.raises(AnvilError, match="make setup"):
        find_anvil()

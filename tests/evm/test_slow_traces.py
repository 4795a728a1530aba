"""A block whose trace takes longer than the node's timeout: a stranger can make one for cents, and no rail may stop."""

import pytest

from railwatch.rail import RailAdapter
from railwatch_evm import create_adapter
from railwatch_evm.dev.simulator import EvmSimulator
from tests.evm.conftest import Chain
from tests.faulty_proxy import Liar

pytestmark = pytest.mark.anvil

TIMEOUT = 0.5


async def begun(sim: EvmSimulator, rail: RailAdapter) -> Chain:
    """Return a chain whose next block pays an address through a contract, and plainly."""
    chain = Chain(sim, rail, (await rail.heads()).latest)
    address = await sim.new_address()
    await sim.pay(address, 5)
    await sim.pay_internal(address, 9)
    await sim.mine()
    chain.address = address  # type: ignore[attr-defined]
    return chain


async def paid(chain: Chain) -> list[int]:
    """Return what the scan of that block finds."""
    return [transfer.amount for transfer in await chain.found(chain.address)]  # type: ignore[attr-defined]


async def test_one_block_gets_more_time(sim: EvmSimulator, liar: Liar) -> None:
    """Asked for alone then, so that the block itself is not waited for."""
    async with create_adapter(sim.settings, {"http": liar.http, "timeout": TIMEOUT}) as rail:
        chain = await begun(sim, rail)
        liar.slow["trace_block"] = TIMEOUT * 2.5
        liar.requests.clear()
        assert await paid(chain) == [5, 9]
        assert liar.requests.count(["trace_block"]) == 2
        assert rail.traits.native_complete


async def test_then_its_transactions_are_traced_one_by_one(sim: EvmSimulator, liar: Liar) -> None:
    """Only those that can hold calls: a transaction with the gas of a plain transfer counts by its own value."""
    async with create_adapter(sim.settings, {"http": liar.http, "timeout": TIMEOUT}) as rail:
        chain = await begun(sim, rail)
        await sim.send({"to": await sim.new_address(), "value": "0x1", "gas": "0x5208"})
        await sim.mine()
        liar.slow["trace_block"] = liar.slow["debug_traceBlockByHash"] = TIMEOUT * 20
        liar.requests.clear()
        block = await rail.block_at(chain.start.height + 1)
        assert await paid(chain) == [5, 9]
        assert block.parent == chain.start.hash
        assert sum(request.count("debug_traceTransaction") for request in liar.requests) == 2
        assert rail.traits.native_complete


async def test_at_last_the_own_values_count_and_the_gap_is_reported(sim: EvmSimulator, liar: Liar) -> None:
    """The words name the block and the method; the next block is traced as ever."""
    async with create_adapter(sim.settings, {"http": liar.http, "timeout": TIMEOUT}) as rail:
        chain = await begun(sim, rail)
        for method in ("trace_block", "debug_traceBlockByHash", "debug_traceTransaction", "trace_transaction"):
            liar.slow[method] = TIMEOUT * 20
        assert await paid(chain) == [5]
        for words in (f"block {chain.start.height + 1}", "trace_block", "no answer within", "balances are reconciled"):
            assert words in rail.traits.native_gap
        liar.slow.clear()
        chain.start = await rail.block_at(chain.start.height + 1)
        inside = await sim.pay_internal(chain.address, 11)  # type: ignore[attr-defined]
        await sim.mine()
        (transfer,) = await chain.found(chain.address)  # type: ignore[attr-defined]
        assert (transfer.tx_id, transfer.amount) == (inside, 11)


async def test_a_heavy_newest_block_does_not_keep_the_node_from_being_entered(sim: EvmSimulator, liar: Liar) -> None:
    """How a node traces is tried on a small block below the head; a trace that takes too long leaves it open."""
    await sim.mine(30)
    liar.slow["trace_block"] = liar.slow["debug_traceBlockByHash"] = 5
    async with create_adapter(sim.settings, {"http": liar.http, "timeout": TIMEOUT}) as rail:
        assert rail.traits.native_complete
        liar.slow.clear()
        chain = await begun(sim, rail)
        assert await paid(chain) == [5, 9]

"""An endpoint that counts what it is asked is asked little; and what an hour is in blocks is read off the chain."""

import time
from dataclasses import replace
from typing import Any

import pytest

from railwatch.daemon.follow.health import RHYTHM_LEAST, Rhythm
from railwatch.rail import ChainId
from railwatch.store.database import Database
from railwatch_evm import create_adapter
from railwatch_evm.block_pace import lookback_of, poll_of
from railwatch_evm.dev.simulator import EvmSimulator
from railwatch_evm.options import EvmOptions
from tests.bench.bench_env import BenchEnv
from tests.bench.credits import BUDGET, cost, quiet_day
from tests.faulty_proxy import Liar

PUBLIC = ["https://mainnet.infura.io/v3/key", "https://8.8.8.8", "http://node.shop.example:8545"]
OWN = ["http://127.0.0.1:8545", "http://[::1]:8545", "http://10.0.0.7:8545", "http://geth:8545", "http://geth.lan"]


@pytest.mark.parametrize(("url", "metered"), [*((url, True) for url in PUBLIC), *((url, False) for url in OWN)])
def test_a_node_at_a_public_address_is_metered_unless_it_is_said_not_to_be(url: str, metered: bool) -> None:
    assert EvmOptions.from_table({"http": url}).metered is metered
    assert EvmOptions.from_table({"http": url, "metered": not metered}).metered is not metered
    with pytest.raises(ValueError, match="metered must be true or false"):
        EvmOptions.from_table({"http": url, "metered": "yes"})


def test_three_blocks_come_between_two_polls() -> None:
    assert [poll_of(seconds) for seconds in (None, 12.0, 2.0, 0.25)] == [36.0, 36.0, 6.0, 1.0]


@pytest.mark.anvil
async def test_finality_is_asked_for_once_a_minute(sim: EvmSimulator, liar: Liar) -> None:
    async with create_adapter(sim.settings, {"http": liar.http, "metered": True}) as rail:
        first = await rail.heads()
        liar.requests.clear()
        await sim.mine(3)
        later = await rail.heads()
        assert later.latest.height == first.latest.height + 3
        assert later.finalized == first.finalized
        assert liar.requests == [["eth_chainId", "eth_getBlockByNumber"]]


@pytest.mark.anvil
async def test_an_unknown_chains_hour_is_read_off_its_blocks(sim: EvmSimulator, liar: Liar) -> None:
    """Two seconds a block: the adapter's own 300 blocks would be ten minutes."""
    now = int(time.time())
    template = await sim.rpc("eth_getBlockByNumber", "latest", False)

    def lie(params: list[Any], reply: dict[str, Any]) -> dict[str, Any]:
        height = 1_000 if params[0] in ("latest", "safe", "finalized") else int(params[0], 16)
        block = {**template, "number": hex(height), "timestamp": hex(now - 2 * (1_000 - height))}
        return {**reply, "result": block}

    liar.lies["eth_getBlockByNumber"] = lie
    liar.lies["eth_chainId"] = lambda _, reply: {**reply, "result": hex(777_777)}
    rail = replace(sim.settings, chain_id=ChainId("eip155:777777"))
    async with create_adapter(rail, {"http": liar.http}) as adapter:
        assert adapter.traits.block_seconds == 2.0
        assert adapter.traits.lookback == lookback_of(2.0) == 2_700
    fixed = replace(rail, name="fixed", options={"lookback": 50})
    async with create_adapter(fixed, {"http": liar.http}) as adapter:
        assert adapter.traits.lookback == 50


def test_an_unknown_chain_is_suspected_by_its_blocks_own_times() -> None:
    """From the first head on, and not only after twenty of them."""
    rhythm = Rhythm()
    assert rhythm.longest_silence is None
    rhythm.block_seconds = 2.0
    assert rhythm.longest_silence == RHYTHM_LEAST
    rhythm.block_seconds = 600.0
    assert rhythm.longest_silence == 30_000


@pytest.mark.anvil
async def test_a_quiet_rail_on_a_hosted_plan_stays_within_it(sim: EvmSimulator, database: Database) -> None:
    """The benchmark in short: a tenth of the time for each block."""
    row = await quiet_day(BenchEnv(sim, database), slot=1.2, blocks=12)
    assert row.met, row
    assert cost({"eth_getLogs": 1, "eth_chainId": 2, "eth_getBlockByNumber": 3}) == 255 + 10 + 240
    assert BUDGET == 3_000_000

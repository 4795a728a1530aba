"""What a quiet rail on a hosted plan costs a day: the daemon's calls by method, times the prices that are published.

A plan without traces, 12 seconds between blocks, open orders in ether and a token, and no payment. Anvil is behind
the endpoint; what is counted is what the daemon asks once it follows.
"""

import asyncio

from tests.bench.bench_env import BenchEnv, until
from tests.bench.report import Row
from tests.nodes.dialects import DIALECTS, DialectNode

PRICES = {
    "eth_chainId": 5,
    "eth_subscribe": 5,
    "eth_getLogs": 255,
    "trace_block": 300,
    "trace_transaction": 300,
    "eth_getBlockReceipts": 1000,
    "debug_traceBlockByHash": 1000,
    "debug_traceTransaction": 1000,
}
"""Credits a call: docs.metamask.io, "Credit costs" (MetaMask/metamask-docs, services/get-started/pricing). All others
of the whitelist cost `OTHER`."""
OTHER = 80
DAY, SLOT = 86_400.0, 12.0
BUDGET = 3_000_000
"""Credits a day of the free plan (the same site, "Pricing")."""
BLOCKS = 12
HOSTED = next(dialect for dialect in DIALECTS if dialect.name == "hosted, balanced")


def cost(asked: dict[str, int]) -> int:
    """Credits for so many calls of each method."""
    return sum(count * PRICES.get(method, OTHER) for method, count in asked.items())


async def quiet_day(stand: BenchEnv, slot: float = SLOT, blocks: int = BLOCKS) -> Row:
    """Follow ``blocks`` blocks, one in ``slot`` seconds, and count; a shorter slot is scaled to `SLOT`."""
    simulator = stand.simulator
    async with DialectNode(simulator.node["http"], HOSTED) as front:
        assets = [{"symbol": "ETH"}, {"symbol": "TST", "contract": simulator.token, "decimals": 6}]
        nodes = [{"http": front.http, "metered": True}]
        async with stand.daemon(nodes=nodes, asset=assets, poll_interval=3 * slot):
            await until(stand.is_live)
            await stand.register(10)
            # What a registration and the first comparison of balances cost is no quiet rail's.
            await asyncio.sleep(3 * slot)
            before = dict(front.asked)
            stranger = await simulator.new_address()
            for _ in range(blocks):
                # Blocks of others' tokens: what a range of logs leaves unknown is requested once more.
                await simulator.pay(stranger, 1, simulator.assets[1])
                await simulator.mine()
                await asyncio.sleep(slot)
            asked = {method: count - before.get(method, 0) for method, count in front.asked.items()}
    spent = cost(asked) / blocks * DAY / SLOT
    hourly = 3600 / SLOT / blocks
    calls = ", ".join(f"{method} {count * hourly:.0f}" for method, count in sorted(asked.items()) if count)
    return Row(
        "a quiet rail on a hosted plan, credits a day (calls an hour: " + calls + ")",
        f"{spent / 1e6:.2f} million",
        "-",
        "3 million",
        spent <= BUDGET,
    )

"""Processor time and memory of ours alone: what a block costs to read and match, and an address to watch."""

import secrets
import time
from collections.abc import Awaitable, Callable

import aiohttp
import msgspec

from railwatch.daemon.watch.address_index import AddressIndex
from railwatch.daemon.watch.watchlist import IndexedWatches
from railwatch.rail import AssetId, RailAdapter, Span
from railwatch_evm.dev.simulator import EvmSimulator
from tests.bench.bench_env import decoys
from tests.bench.report import Row, median

FEW, MILLION, MOST = 1_000, 1_000_000, 10_000_000


async def cpu_milliseconds(act: Callable[[], Awaitable[object]], times: int = 25) -> float:
    """Processor time of this process for one ``act``, HTTP included: the median of some."""
    spent = []
    for _ in range(times):
        before = time.process_time()
        await act()
        spent.append((time.process_time() - before) * 1e3)
    return median(spent)


async def rows() -> list[Row]:
    """A block of 300 transactions, one of 10,000 logs, and what watching ten million addresses changes."""
    found = []
    indexes = {count: AddressIndex(count) for count in (FEW, MILLION, MOST)}
    for count, index in indexes.items():
        decoys(index, count)
        if count > FEW:
            each = index.size_in_bytes / count
            found.append(Row(f"memory per address at {count:,}", f"{each:.1f} bytes", "-", "16 bytes", each <= 16))
    async with EvmSimulator() as simulator:
        span = await _block_of_payments(simulator)
        async with simulator.open_adapter() as adapter:
            cost = {count: await _cost(simulator, adapter, span, index) for count, index in indexes.items()}
            bare = await _fetch_cost(simulator, span)
            found.append(_row("a block of 300 txs, ether and tokens: decode and match", cost[MILLION], bare, 5.0))
            ratio = cost[MOST] / cost[FEW]
            text = f"{cost[MOST]:.1f} ms at 10M", f"{cost[FEW]:.1f} ms at 1k"
            found.append(Row("that block as watched addresses grow", *text, "1.3 x", ratio <= 1.3))
            span = await _block_of_logs(simulator)
            spent, bare = await _cost(simulator, adapter, span, indexes[MILLION]), await _fetch_cost(simulator, span)
            found.append(_row("a block of 10,000 logs: decode and match", spent, bare, 40.0))
    return found


def _row(name: str, spent: float, bare: float, budget: float) -> Row:
    """What the scan costs beyond reading the same bytes off the wire."""
    ours = spent - bare
    return Row(name, f"{ours:.1f} ms CPU", f"{bare:.1f} ms (the wire)", f"{budget:.0f} ms CPU", ours <= budget)


async def _fetch_cost(simulator: EvmSimulator, span: Span) -> float:
    """Processor time of the same request, its answer read and not parsed."""
    number, block_hash = hex(span.upto.height), span.upto.hash
    calls = [
        ("eth_getBlockByNumber", [number, False]),
        ("eth_getBlockByHash", [block_hash, False]),
        ("eth_getLogs", [{"blockHash": block_hash}]),
        ("trace_block", [number]),
    ]
    body = msgspec.json.encode(
        [{"jsonrpc": "2.0", "id": n, "method": method, "params": params} for n, (method, params) in enumerate(calls)]
    )

    async with aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as session:

        async def fetch() -> None:
            async with session.post(simulator.node["http"], data=body) as response:
                await response.read()

        return await cpu_milliseconds(fetch)


async def _cost(simulator: EvmSimulator, adapter: RailAdapter, span: Span, index: AddressIndex) -> float:
    assets = {"": simulator.native, simulator.token: AssetId(simulator.assets[1])}
    watches = IndexedWatches(index, assets)
    return await cpu_milliseconds(lambda: adapter.scan(span, watches))


async def _block_of_payments(simulator: EvmSimulator) -> Span:
    """300 transactions: half of them ether, half tokens."""
    for number in range(300):
        await simulator.pay(await simulator.new_address(), 1, simulator.assets[number % 2])
    return await _mined(simulator)


async def _block_of_logs(simulator: EvmSimulator) -> Span:
    for _ in range(40):
        recipients = ["0x" + secrets.token_hex(20) for _ in range(250)]
        await simulator.pay_token_many(recipients, [1] * len(recipients))
    return await _mined(simulator)


async def _mined(simulator: EvmSimulator) -> Span:
    await simulator.mine()
    height = await simulator.height()
    async with simulator.open_adapter() as adapter:
        return Span(await adapter.block_at(height - 1), await adapter.block_at(height))

"""From a node's push to the committed row, by two witnesses that are not the daemon: a websocket and a LISTEN."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
from websockets.asyncio.client import connect

from tests.bench.bench_env import BenchEnv, until
from tests.bench.floor import Floor
from tests.bench.report import Row, median, percentile


@dataclass(slots=True)
class Witness:
    """When the node pushed which block, and when the feed last got a commit."""

    pushed: dict[str, float] = field(default_factory=dict)
    committed: float = 0.0
    notified: asyncio.Event = field(default_factory=asyncio.Event)

    async def has(self, head: str | None) -> bool:
        """Whether ``head`` was pushed; None: any at all."""
        return head in self.pushed if head else bool(self.pushed)

    def hear(self, *_: object) -> None:
        """A notification came."""
        self.committed = time.perf_counter()
        self.notified.set()


@asynccontextmanager
async def witnesses(stand: BenchEnv) -> AsyncIterator[Witness]:
    """Watch both ends."""
    witness = Witness()
    connection = await asyncpg.connect(stand.database.dsn)
    await connection.add_listener("railwatch", witness.hear)
    async with connect(stand.simulator.node["ws"], max_size=None) as socket:
        await socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]}))
        await socket.recv()

        async def listen() -> None:
            async for message in socket:
                witness.pushed[json.loads(message)["params"]["result"]["hash"]] = time.perf_counter()

        task = asyncio.create_task(listen())
        try:
            yield witness
        finally:
            task.cancel()
            await connection.close()


async def measure(stand: BenchEnv, transfers: int, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds from push to commit, and those of the floor for the same block, round by round."""
    ours, floors = [], []
    async with Floor(stand) as floor, witnesses(stand) as witness:
        for number in range(rounds + 3):
            await stand.pay_many(transfers, number * transfers)
            witness.notified.clear()
            await stand.simulator.mine()
            await asyncio.wait_for(witness.notified.wait(), 10)
            head = await stand.simulator.head()
            await until(lambda: witness.has(head))  # noqa: B023
            spent = witness.committed - witness.pushed[head]
            bare = await floor.fetch_and_commit(head)
            if number >= 3:  # the first ones warm up statements and connections
                ours.append(spent)
                floors.append(bare)
            await asyncio.sleep(0.02)
    return ours, floors


async def rows(stand: BenchEnv) -> list[Row]:
    """Latency at 1, 10 and 500 transfers a block."""
    found = []
    one, floor = await measure(stand, 1, 60)
    p50, p95 = median(one) * 1e3, percentile(one, 0.95) * 1e3
    found.append(
        Row(
            "push to committed transition, 1 transfer, p50 / p95",
            f"{p50:.1f} / {p95:.1f} ms",
            f"{median(floor) * 1e3:.1f} ms",
            "5 / 20 ms",
            p50 <= 5 and p95 <= 20,
        )
    )
    ten, floor = await measure(stand, 10, 60)
    p50, p95 = median(ten) * 1e3, percentile(ten, 0.95) * 1e3
    found.append(
        Row(
            "the same, 10 transfers, p50 / p95",
            f"{p50:.1f} / {p95:.1f} ms",
            f"{median(floor) * 1e3:.1f} ms",
            "8 / 20 ms",
            p50 <= 8 and p95 <= 20,
        )
    )
    many, floor = await measure(stand, 500, 12)
    found.append(
        Row(
            "the same, 500 transfers to 500 invoices, p50",
            f"{median(many) * 1e3:.1f} ms",
            f"{median(floor) * 1e3:.1f} ms",
            "110 ms",
            median(many) * 1e3 <= 110,
        )
    )
    return found


async def nth_payment(stand: BenchEnv, already: int) -> Row:
    """The step of one transfer to an invoice that was paid ``already`` times, next to one that was paid a few times."""
    last, first = len(stand.addresses) - 1, len(stand.addresses) - 2
    for _ in range(already // 500):
        await stand.pay_many(500, last, invoices=1)
        await stand.simulator.mine()
    height = await stand.simulator.height()
    await until(lambda: stand.reached(height))
    fresh, often = await _one_invoice(stand, first), await _one_invoice(stand, last)
    return Row(
        f"push to committed transition of one invoice's {already:,}th payment, p50",
        f"{median(often) * 1e3:.1f} ms",
        f"{median(fresh) * 1e3:.1f} ms (one paid a few times)",
        "no dearer (1.2 x)",
        median(often) <= 1.2 * median(fresh),
    )


async def _one_invoice(stand: BenchEnv, place: int) -> list[float]:
    """Seconds from push to commit, of 40 blocks that pay one invoice once."""
    spent = []
    async with witnesses(stand) as witness:
        for _ in range(40):
            await stand.pay_many(1, place)
            witness.notified.clear()
            await stand.simulator.mine()
            await asyncio.wait_for(witness.notified.wait(), 10)
            head = await stand.simulator.head()
            await until(lambda: witness.has(head))  # noqa: B023
            spent.append(witness.committed - witness.pushed[head])
            await asyncio.sleep(0.02)
    return spent


async def burst(stand: BenchEnv) -> Row:
    """300 blocks of 10 transfers as fast as the node makes them: how long until the last is committed."""
    async with witnesses(stand):
        for number in range(300):
            await stand.pay_many(10, number * 10)
            await stand.simulator.mine()
        ended, tip = time.perf_counter(), await stand.simulator.height()

        async def drained() -> bool:
            return await stand.cursor() >= tip

        await until(drained)
        spent = (time.perf_counter() - ended) * 1e3
    return Row("burst of 300 blocks x 10: to drain after the last", f"{spent:.0f} ms", "-", "50 ms", spent <= 50)


async def fork(stand: BenchEnv) -> Row:
    """A fork 25 deep with a payment in each block: to the exact ledger."""
    for number in range(25):
        await stand.pay_many(1, number)
        await stand.simulator.mine()
    height = await stand.simulator.height()
    await until(lambda: stand.reached(height))
    async with witnesses(stand) as witness:
        await stand.simulator.reorg(25, keep=True)
        await until(lambda: witness.has(None))
        started, head = min(witness.pushed.values()), await stand.simulator.head()
        await until(lambda: stand.at(head))
        spent = (time.perf_counter() - started) * 1e3
    return Row("fork 25 deep to the exact ledger", f"{spent:.0f} ms", "-", "250 ms", spent <= 250)

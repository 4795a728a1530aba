"""Who hears an adapter's wakes, and a ZMQ publisher that says what a test says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import zmq
import zmq.asyncio

from railwatch.rail import RailAdapter, RailUnavailable
from railwatch_bitcoin import create_adapter, zmq_subscriber
from railwatch_bitcoin.dev.simulator import BitcoinSimulator
from tests.bitcoin.conftest import Chain

AMOUNT = 1_000_007
PATIENCE = 20.0
LATE = (1 << 40).to_bytes(8, "little")
"""The number of a change that comes after every list."""


async def until(true: Callable[[], bool]) -> None:
    """Wait for what has no event of its own."""
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class WakeCounter:
    """Counts wakes, as the daemon would hear them; an error is a wake too, for the daemon then has to poll."""

    def __init__(self, rail: RailAdapter) -> None:
        self._rail = rail
        self.rung = asyncio.Event()
        self.errors: list[str] = []

    async def listen(self) -> None:
        """Until cancelled, or until the adapter is left."""
        while True:
            try:
                await self._rail.wait_for_change()
            except RailUnavailable as error:
                self.errors.append(str(error))
                if "enter the adapter" in str(error):
                    return
            self.rung.set()

    async def rings(self) -> None:
        """Wait for the next wake after this moment's."""
        self.rung.clear()
        async with asyncio.timeout(PATIENCE):
            await self.rung.wait()


@asynccontextmanager
async def wake_counter(rail: RailAdapter) -> AsyncIterator[WakeCounter]:
    """Yield a listener that is subscribed."""
    heard = WakeCounter(rail)
    task = asyncio.create_task(heard.listen())
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Node:
    """A publisher of our own: it sends what a test says, and counts as the test demands."""

    def __init__(self) -> None:
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self.endpoint = f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"
        self.count = 0

    async def subscribed(self) -> set[bytes]:
        """Return the topics of one subscriber, once it has named both."""
        async with asyncio.timeout(PATIENCE):
            return {(await self._socket.recv())[1:] for _ in range(2)}

    async def say(self, topic: bytes, body: bytes, count: int | None = None) -> None:
        """One message."""
        self.count = self.count + 1 if count is None else count
        await self._socket.send_multipart([topic, body, self.count.to_bytes(4, "little")])

    def end(self) -> None:
        """No more."""
        self._context.destroy(linger=0)


@asynccontextmanager
async def entered(sim: BitcoinSimulator, rpc: str, endpoint: str) -> AsyncIterator[RailAdapter]:
    """Yield an adapter with that publisher and node, after one poll for an unused address."""
    table = {"rpc": rpc, "cookie_path": sim.node["cookie_path"], "zmq": endpoint, "timeout": 5}
    async with create_adapter(sim.settings, table) as rail:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        await rail.pending(chain.watch(await sim.new_address()))
        yield rail


async def first_rings(heard: WakeCounter) -> None:
    """Let pass what rings while the subscription begins."""
    await asyncio.sleep(zmq_subscriber.FIRST_SILENCE * 2)
    heard.rung.clear()


async def followed(sim: BitcoinSimulator, spoken: Node, heard: WakeCounter) -> None:
    """Say something, so that the subscription is known to work, and let whatever rings pass."""
    await spoken.subscribed()
    await spoken.say(b"sequence", bytes.fromhex("22" * 32) + b"R" + LATE, 1)
    await first_rings(heard)

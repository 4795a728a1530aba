"""Being woken, and noticing when no push comes: HAZARDS E22 on the websocket."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from railwatch.rail import RailAdapter, RailUnavailable
from railwatch_solana import create_adapter
from railwatch_solana.dev.simulator import SolanaSimulator
from tests.solana.conftest import Chain

pytestmark = pytest.mark.solana


class Relay:
    """A websocket before the node's own, which can go deaf, refuse, or drop all connections."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self.url = ""
        self.silent = self.refusing = False
        self.sockets: set[ServerConnection] = set()

    async def serve(self, client: ServerConnection) -> None:
        """Pass messages both ways until either side ends."""
        self.sockets.add(client)
        async with connect(self._upstream, max_size=None) as node:
            ways = [asyncio.create_task(self._up(client, node)), asyncio.create_task(self._down(client, node))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        self.sockets.discard(client)

    async def _up(self, client: Any, node: Any) -> None:
        async for message in client:
            await node.send(message)

    async def _down(self, client: Any, node: Any) -> None:
        async for message in node:
            answer = json.loads(message)
            if "params" in answer and self.silent:
                continue
            if answer.get("id") == 1 and self.refusing:
                answer = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "Method not found"}}
            await client.send(json.dumps(answer))


@pytest.fixture
async def relay(sim: SolanaSimulator) -> AsyncIterator[Relay]:
    """Yield a relay on loopback; ``relay.url`` is where."""
    relay = Relay(sim.node["ws"])
    async with serve(relay.serve, "127.0.0.1", 0) as server:
        relay.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        yield relay


@pytest.fixture
async def relayed(sim: SolanaSimulator, relay: Relay) -> AsyncIterator[RailAdapter]:
    """Yield an adapter that is pushed to through the relay, and asks the node itself."""
    async with create_adapter(sim.settings, {**sim.node, "ws": relay.url}) as rail, asyncio.timeout(60):
        # The first wait returns as soon as the subscription works.
        await rail.wait_for_change()
        yield rail


async def test_a_slot_wakes_who_waits(chain: Chain) -> None:
    """At once; and one that came without a waiter is not forgotten; and several may wait."""
    async with asyncio.timeout(20):
        await chain.rail.wait_for_change()
        waiting = [asyncio.create_task(chain.rail.wait_for_change()) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
        await chain.sim.mine()
        await asyncio.gather(*waiting)
        await chain.sim.mine()
        await asyncio.sleep(0.05)
        await chain.rail.wait_for_change()


async def test_a_quiet_chain_is_not_a_silent_socket(relayed: RailAdapter) -> None:
    """Nothing is produced, so nothing is pushed, and nothing is wrong."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(4):
            await relayed.wait_for_change()


async def test_a_silent_socket_is_noticed_and_replaced(
    sim: SolanaSimulator, relay: Relay, relayed: RailAdapter
) -> None:
    """E22: connected, answering pings, and pushing nothing while slots are confirmed."""
    relay.silent = True
    waiting = asyncio.create_task(relayed.wait_for_change())
    while not waiting.done():
        await sim.mine()
        await asyncio.wait([waiting], timeout=0.2)
    with pytest.raises(RailUnavailable, match="silent"):
        await waiting
    relay.silent = False
    await relayed.wait_for_change()
    waiting = asyncio.create_task(relayed.wait_for_change())
    await asyncio.sleep(0.05)
    await sim.mine()
    await waiting


async def test_a_dropped_socket_is_opened_again(relay: Relay, relayed: RailAdapter) -> None:
    """The node restarts: one error, then a new subscription; and one that is refused is an error too."""
    waiting = asyncio.create_task(relayed.wait_for_change())
    await asyncio.sleep(0.05)
    relay.refusing = True
    for socket in list(relay.sockets):
        await socket.close()
    with pytest.raises(RailUnavailable, match="websocket failed"):
        await waiting
    with pytest.raises(RailUnavailable, match="refused slotSubscribe"):
        await relayed.wait_for_change()
    relay.refusing = False
    await relayed.wait_for_change()


async def test_without_a_socket_the_wait_says_so(sim: SolanaSimulator) -> None:
    """The daemon's poll works next to it."""
    async with create_adapter(sim.settings, {"http": sim.node["http"]}) as rail:
        with pytest.raises(RailUnavailable, match="no ws is configured"):
            await rail.wait_for_change()

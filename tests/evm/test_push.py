"""Being woken, and noticing when no push comes: HAZARDS E12, E22 and E23 on the websocket."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from railwatch.rail import RailAdapter, RailUnavailable
from railwatch_evm import create_adapter
from railwatch_evm.dev.simulator import EvmSimulator
from tests.evm.conftest import Chain

pytestmark = pytest.mark.anvil


class Relay:
    """A websocket before anvil's own, which can go deaf, lie about its chain, or drop all connections."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self.url = ""
        self.silent = False
        self.swallowed = 0
        self.chain_id: str | None = None
        self.shorten: tuple[str, ...] = ()
        self.sockets: set[ServerConnection] = set()

    async def serve(self, client: ServerConnection) -> None:
        """Pass messages both ways until either side ends."""
        self.sockets.add(client)
        async with connect(self._upstream, max_size=None) as node:
            await asyncio.wait(
                [asyncio.create_task(self._up(client, node)), asyncio.create_task(self._down(client, node))],
                return_when=asyncio.FIRST_COMPLETED,
            )
        self.sockets.discard(client)

    async def _up(self, client: Any, node: Any) -> None:
        async for message in client:
            await node.send(message)

    async def _down(self, client: Any, node: Any) -> None:
        async for message in node:
            answer = json.loads(message)
            if "params" in answer and self.silent:
                self.swallowed += 1
                continue
            if "params" in answer:
                for key in self.shorten:
                    answer["params"]["result"].pop(key)
            if answer.get("id") == 1 and self.chain_id:
                answer["result"] = self.chain_id
            await client.send(json.dumps(answer))


@pytest.fixture
async def relay(sim: EvmSimulator) -> AsyncIterator[Relay]:
    """Yield a relay on loopback; ``relay.url`` is where."""
    relay = Relay(sim.node["ws"])
    async with serve(relay.serve, "127.0.0.1", 0) as server:
        relay.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        yield relay


@pytest.fixture
async def relayed(sim: EvmSimulator, relay: Relay) -> AsyncIterator[RailAdapter]:
    """Yield an adapter that is pushed to through the relay, and asks anvil itself."""
    async with create_adapter(sim.settings, {**sim.node, "ws": relay.url}) as rail:
        # The first wait returns as soon as the subscription works.
        await asyncio.wait_for(rail.wait_for_change(), 20)
        yield rail


async def test_a_block_wakes_who_waits(chain: Chain) -> None:
    """At once; and a block that came without a waiter is not forgotten; and several may wait."""
    await asyncio.wait_for(chain.rail.wait_for_change(), 20)
    waiting = [asyncio.create_task(chain.rail.wait_for_change()) for _ in range(2)]
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in waiting)
    await chain.sim.mine()
    await asyncio.wait_for(asyncio.gather(*waiting), 20)
    await chain.sim.mine()
    await asyncio.sleep(0.05)
    await asyncio.wait_for(chain.rail.wait_for_change(), 20)


async def test_a_reorg_only_wakes(chain: Chain) -> None:
    """E12: no `removed` is waited for; the push only wakes, and the hashes show the reorg."""
    await chain.sim.mine(2)
    before = (await chain.rail.heads()).latest
    await asyncio.wait_for(chain.rail.wait_for_change(), 20)
    waiting = asyncio.create_task(chain.rail.wait_for_change())
    await asyncio.sleep(0.05)
    await chain.sim.reorg(1)
    await asyncio.wait_for(waiting, 20)
    assert (await chain.rail.block_at(before.height)).hash != before.hash


async def test_a_quiet_chain_is_not_a_silent_socket(relayed: RailAdapter) -> None:
    """Nothing is mined, so nothing is pushed, and nothing is wrong."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(relayed.wait_for_change(), 3.5)


async def test_a_push_may_lack_whatever_it_likes(sim: EvmSimulator, relay: Relay, relayed: RailAdapter) -> None:
    """It is a hint: it wakes without its block's number too, and the socket stays."""
    relay.shorten = ("number", "parentHash", "logsBloom")
    sockets = set(relay.sockets)
    for _ in range(2):
        await sim.mine()
        await asyncio.wait_for(relayed.wait_for_change(), 20)
    assert relay.sockets == sockets


async def test_a_silent_socket_is_noticed_and_replaced(sim: EvmSimulator, relay: Relay, relayed: RailAdapter) -> None:
    """E22: connected, answering pings, and pushing nothing while the chain moves: within 5 s."""
    relay.silent = True
    waiting = asyncio.create_task(relayed.wait_for_change())
    await asyncio.sleep(0.05)
    started = time.monotonic()
    await sim.mine()
    with pytest.raises(RailUnavailable, match="silent"):
        await waiting
    assert time.monotonic() - started < 20
    relay.silent = False
    await asyncio.wait_for(relayed.wait_for_change(), 20)
    waiting = asyncio.create_task(relayed.wait_for_change())
    await asyncio.sleep(0.05)
    await sim.mine()
    await asyncio.wait_for(waiting, 20)


async def test_a_dropped_socket_is_opened_again(relay: Relay, relayed: RailAdapter) -> None:
    """The node restarts: one error, then a new subscription; and another chain behind it is refused (E23)."""
    waiting = asyncio.create_task(relayed.wait_for_change())
    await asyncio.sleep(0.05)
    relay.chain_id = "0x1"
    for socket in list(relay.sockets):
        await socket.close()
    with pytest.raises(RailUnavailable, match="websocket failed"):
        await waiting
    with pytest.raises(RailUnavailable, match="expected eip155:31337"):
        await asyncio.wait_for(relayed.wait_for_change(), 20)
    relay.chain_id = None
    await asyncio.wait_for(relayed.wait_for_change(), 20)


async def test_a_socket_without_a_server_is_tried_ever_more_slowly(sim: EvmSimulator) -> None:
    """Each wait ends in an error, and the pauses between the attempts grow, so that a caller cannot spin."""
    async with serve(lambda _: asyncio.sleep(0), "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
    async with create_adapter(sim.settings, {**sim.node, "ws": f"ws://127.0.0.1:{port}"}) as rail:
        started = time.monotonic()
        for _ in range(3):
            with pytest.raises(RailUnavailable, match="websocket failed"):
                await rail.wait_for_change()
        assert 1.5 <= time.monotonic() - started < 30
        await rail.heads()


async def test_without_a_socket_the_wait_says_so(sim: EvmSimulator) -> None:
    """The daemon's poll works next to it."""
    async with create_adapter(sim.settings, {"http": sim.node["http"]}) as rail:
        with pytest.raises(RailUnavailable, match="no ws is configured"):
            await rail.wait_for_change()

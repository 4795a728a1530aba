"""What nodes push is bounded as what they answer: heads are small, and no node is asked without end."""

import asyncio
from itertools import count

import pytest
from websockets.asyncio.server import ServerConnection, serve

from railwatch.rail import RailUnavailable
from railwatch.rail.options import HttpOptions
from railwatch.rail.push import PushListener
from railwatch.rail.transport import Socket
from railwatch.rail.websocket import MESSAGE_MOST, websocket_subscription
from railwatch_bitcoin import zmq_subscriber
from railwatch_bitcoin.dev.simulator import BitcoinSimulator
from railwatch_bitcoin.options import BitcoinOptions as Configured
from railwatch_bitcoin.push import long_poll
from railwatch_bitcoin.rpc import Rpc
from tests.bitcoin.conftest import sim, spoken
from tests.bitcoin.push_fixtures import PATIENCE, Node, entered, wake_counter
from tests.nodes.bitcoin_node import BitcoinNode

__all__ = ["sim", "spoken"]


class Quiet:
    """A counter of wakes without a rail."""

    def on_subscribed(self) -> None:
        """Nothing."""

    def on_push(self) -> None:
        """Nothing."""


@pytest.mark.parametrize(("size", "accepted"), [(MESSAGE_MOST, True), (MESSAGE_MOST + 1, False)])
async def test_a_message_of_a_websocket_has_at_most_a_mebibyte_and_is_never_inflated(size: int, accepted: bool) -> None:
    """A frame of 0.8 MB would be 800 MB once it is inflated: that is not even offered."""
    offered: list[str] = []

    async def push(socket: ServerConnection) -> None:
        assert socket.request is not None
        offered.extend(socket.request.headers.get_all("Sec-WebSocket-Extensions"))
        await socket.send("a" * size)
        await socket.wait_closed()

    async def subscribe(socket: Socket) -> None:
        """Nothing to ask for."""

    async def read(socket: Socket, listener: PushListener) -> RailUnavailable:
        return RailUnavailable(f"heard {len(await socket.recv())}")

    async with serve(push, "127.0.0.1", 0, max_size=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        result = await websocket_subscription(
            f"ws://127.0.0.1:{port}", "node", HttpOptions(timeout=5), subscribe, read
        )(Quiet())
    assert offered == []
    assert str(result) == (f"heard {size}" if accepted else "node: the websocket failed: ConnectionClosedError")


@pytest.mark.bitcoind
async def test_a_publisher_that_sends_more_than_a_hash_is_disconnected(
    sim: BitcoinSimulator, spoken: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ZMQ closes the connection itself, before the message is in memory; the silence is noticed, and ends."""
    monkeypatch.setattr(zmq_subscriber, "SILENCE", 0.1)
    async with entered(sim, sim.fleet.nodes[0].url, spoken.endpoint) as rail, wake_counter(rail) as heard:
        topics = await spoken.subscribed()
        await spoken.say(b"hashblock", bytes(100_000))
        assert await spoken.subscribed() == topics  # Unsubscribed from, as the connection is closed.
        async with asyncio.timeout(PATIENCE):
            while not heard.errors:
                await sim.mine()
                await asyncio.sleep(0.05)
        assert "ZMQ is silent" in heard.errors[0]
        assert await spoken.subscribed() == topics


async def test_a_node_that_holds_no_question_is_not_asked_without_end() -> None:
    """`waitfornewblock` that answers at once, with the same block or another one each time."""
    numbers = count()
    for tip in (lambda _: {"hash": "11" * 32}, lambda _: {"hash": f"{next(numbers):064x}"}):
        async with BitcoinNode({"waitfornewblock": tip}) as node:
            rpc = Rpc(Configured.from_table({"rpc": node.url, "user": "a", "password": "b"}))
            await rpc.open()
            following = asyncio.ensure_future(long_poll(rpc)(Quiet()))
            await asyncio.sleep(0.6)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await rpc.aclose()
        assert 1 <= len(node.asked) <= 8

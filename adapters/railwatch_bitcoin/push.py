"""Being woken without ZMQ: a long poll for blocks. Nothing that is pushed is believed."""

import asyncio

import msgspec

from railwatch.rail import RailUnavailable
from railwatch.rail.push import PushListener, Subscription
from railwatch_bitcoin.rpc import Rpc
from railwatch_bitcoin.rpc_errors import RpcRejected

POLL_SECONDS = 2.0
"""Seconds for which the node holds one `waitfornewblock`. It does so to the end, even if the client has gone, and it
has few threads to hold it with."""

PAUSE_SECONDS = 0.1
"""The pause after an answer: a node that never holds the question must not be asked without end."""


class Tip(msgspec.Struct):
    """`waitfornewblock`: the newest block, whether it is new or the time is up."""

    hash: str


_tip = msgspec.json.Decoder(Tip)


def long_poll(rpc: Rpc) -> Subscription:
    """Blocks by `waitfornewblock`, for nodes that publish nothing. What waits in the mempool is found by the poll."""

    async def follow(listener: PushListener) -> RailUnavailable:
        seen = ""
        while True:
            try:
                answer = await rpc.call("waitfornewblock", int(POLL_SECONDS * 1000), timeout=rpc.timeout + POLL_SECONDS)
                tip = answer.read(_tip).hash
            except RpcRejected as refused:
                return RailUnavailable(f"{rpc.name}: no zmq is configured, and {refused}")
            if tip != seen:
                # Also a block that came between two questions: it shows when the second one's time is up.
                seen = tip
                listener.on_push()
            await asyncio.sleep(PAUSE_SECONDS)

    return follow

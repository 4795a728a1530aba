"""A websocket that pushes (`indexer.rail.push.Follow`): opened, subscribed, read, and its failures named."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from indexer.rail.errors import RailUnavailable
from indexer.rail.push import Bell, Follow
from indexer.rail.transport import Socket, open_websocket

PING_SECONDS = 5.0
MESSAGE_MOST = 1024 * 1024
"""Bytes of one message. A head has some 2 KB."""

Subscribe: TypeAlias = Callable[[Socket], Awaitable[None]]
Read: TypeAlias = Callable[[Socket, Bell], Awaitable[RailUnavailable]]


def over_websocket(url: str, name: str, timeout: float, subscribe: Subscribe, read: Read) -> Follow:
    """One life of a websocket at ``url``, whose node is called ``name``.

    ``subscribe`` asks for pushes, ``read`` rings at each until they fail; both may raise what a socket and a decoder
    raise (ValueError, RecursionError). ``timeout`` bounds the opening, in seconds. Pushes are heads: a message may have
    at most `MESSAGE_MOST` bytes, and compression is refused, so that a small frame cannot become a large one.
    """

    def make() -> AbstractAsyncContextManager[ClientConnection]:
        return connect(
            url,
            open_timeout=timeout,
            close_timeout=1,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS,
            max_size=MESSAGE_MOST,
            compression=None,
            proxy=None,
        )

    async def follow(bell: Bell) -> RailUnavailable:
        try:
            async with open_websocket(url, make) as socket:
                await subscribe(socket)
                bell.stands()
                return await read(socket, bell)
        except (WebSocketException, OSError, TimeoutError, ValueError, RecursionError) as error:
            # Its own words could hold the URL, and with it an API key.
            return RailUnavailable(f"{name}: the websocket failed: {type(error).__name__}")

    return follow

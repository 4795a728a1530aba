"""A websocket that pushes (`railwatch.rail.push.Follow`): opened, subscribed, read, and its failures named."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from railwatch.rail.errors import RailUnavailable
from railwatch.rail.http import ssl_context
from railwatch.rail.options import HttpOptions
from railwatch.rail.push import PushListener, Subscription
from railwatch.rail.transport import Socket, open_websocket

__all__ = ["MESSAGE_MOST", "websocket_subscription"]

PING_SECONDS = 5.0
MESSAGE_MOST = 1024 * 1024
"""Bytes of one message. A head has some 2 KB."""

Subscribe: TypeAlias = Callable[[Socket], Awaitable[None]]
Read: TypeAlias = Callable[[Socket, PushListener], Awaitable[RailUnavailable]]


def websocket_subscription(url: str, name: str, options: HttpOptions, subscribe: Subscribe, read: Read) -> Subscription:
    """One life of a websocket at ``url``, whose node is called ``name``, reached as ``options`` say.

    ``subscribe`` asks for pushes, ``read`` rings at each until they fail; both may raise what a socket and a decoder
    raise (ValueError, RecursionError). ``options.timeout`` bounds the opening. Pushes are heads: a message may have
    at most `MESSAGE_MOST` bytes, and compression is refused, so that a small frame cannot become a large one.
    """

    def make() -> AbstractAsyncContextManager[ClientConnection]:
        return connect(
            url,
            open_timeout=options.timeout,
            close_timeout=1,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS,
            max_size=MESSAGE_MOST,
            compression=None,
            proxy=_proxy(options),
            additional_headers=dict(options.headers),
            **_tls(url, options),
        )

    async def follow(listener: PushListener) -> RailUnavailable:
        try:
            async with open_websocket(url, make) as socket:
                await subscribe(socket)
                listener.on_subscribed()
                return await read(socket, listener)
        except (WebSocketException, OSError, TimeoutError, ValueError, RecursionError, ImportError) as error:
            # Its own words could hold the URL, and with it an API key.
            return RailUnavailable(f"{name}: the websocket failed: {type(error).__name__}")

    return follow


def _proxy(options: HttpOptions) -> str | None:
    """Return the proxy as the library spells it: with an h, because the proxy always resolves names."""
    proxy = options.proxy
    return proxy.replace("socks5://", "socks5h://", 1).replace("socks4://", "socks4a://", 1) if proxy else None


def _tls(url: str, options: HttpOptions) -> dict[str, Any]:
    """Return the private authority, if one is configured and the connection uses TLS."""
    context = ssl_context(options)
    return {"ssl": context} if context is not None and url.startswith("wss:") else {}

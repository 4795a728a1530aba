"""Where an adapter meets its nodes: HTTP sessions, websockets and subscriptions are opened here, and nowhere else.

An adapter asks for each of them here instead of making it. So whatever a node says can be recorded as it comes, and
played again without a node, for every rail alike (docs/record-replay.md). Without a `Transport` in the context, the
real thing is made and handed out as it is: nothing is between an adapter and its node.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    import aiohttp

__all__ = [
    "Response",
    "Session",
    "Socket",
    "Subscriber",
    "Transport",
    "open_session",
    "open_subscriber",
    "open_websocket",
    "through",
]


class Content(Protocol):
    """The body of an answer, as it comes."""

    def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        """Yield the body in pieces of at most ``n`` bytes."""


class Response(Protocol):
    """What an adapter may read of an answer over HTTP; `aiohttp.ClientResponse` has it."""

    @property
    def status(self) -> int:
        """The status code."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, by names in any case."""

    @property
    def content_type(self) -> str:
        """The media type, without its parameters."""

    @property
    def content(self) -> Content:
        """The body."""


class Session(Protocol):
    """Requests over HTTP; `aiohttp.ClientSession` has it. Raises what aiohttp raises, `TimeoutError` and OSError."""

    def request(self, method: str, url: str, **options: Any) -> AbstractAsyncContextManager[Response]:
        """Ask, and yield the answer, whose body is read within the context."""

    def post(self, url: str, **options: Any) -> AbstractAsyncContextManager[Response]:
        """`request` with POST."""

    async def close(self) -> None:
        """Close all connections."""


class Socket(Protocol):
    """An open websocket; `websockets.asyncio.client.ClientConnection` has it."""

    async def send(self, message: str | bytes, text: bool | None = None) -> None:
        """Send one message."""

    async def recv(self) -> str | bytes:
        """Return the next message. Raises what websockets raises when there will be none."""


class Subscriber(Protocol):
    """A subscription whose messages have several parts, such as ZMQ's."""

    async def poll(self, seconds: float) -> bool:
        """Wait until a message is there, for at most ``seconds``; returns whether one is."""

    def receive(self) -> list[bytes] | None:
        """Return the next message's parts, or None if none is there now."""

    def close(self) -> None:
        """Close the connection."""


class Transport(Protocol):
    """A layer between adapters and nodes. Each method gets what makes the real connection."""

    def session(self, make: "Callable[[], aiohttp.ClientSession]") -> Session:
        """Return a session."""

    def websocket(
        self, url: str, make: Callable[[], AbstractAsyncContextManager[Any]]
    ) -> AbstractAsyncContextManager[Socket]:
        """Return what opens a websocket at ``url``."""

    def subscriber(self, url: str, make: Callable[[], Subscriber]) -> Subscriber:
        """Return a subscription at ``url``."""


_transport: ContextVar[Transport | None] = ContextVar("railwatch_transport", default=None)


@contextmanager
def through(transport: Transport) -> Iterator[None]:
    """Let everything that is opened in this context, and in tasks that it starts, go through ``transport``."""
    token = _transport.set(transport)
    try:
        yield
    finally:
        _transport.reset(token)


def open_session(make: "Callable[[], aiohttp.ClientSession]") -> Session:
    """Return a session for HTTP. ``make`` makes the real one, with ``auto_decompress=False`` (`decoding.read_body`)."""
    transport = _transport.get()
    # aiohttp types its options more narrowly than the adapters need.
    return cast(Session, make()) if transport is None else transport.session(make)


def open_websocket(
    url: str, make: Callable[[], AbstractAsyncContextManager[Any]]
) -> AbstractAsyncContextManager[Socket]:
    """Return what opens a websocket at ``url``. ``make`` returns what opens the real one."""
    transport = _transport.get()
    return make() if transport is None else transport.websocket(url, make)


def open_subscriber(url: str, make: Callable[[], Subscriber]) -> Subscriber:
    """Return a subscription at ``url``. ``make`` makes the real one."""
    transport = _transport.get()
    return make() if transport is None else transport.subscriber(url, make)

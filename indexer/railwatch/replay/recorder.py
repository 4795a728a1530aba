"""Between adapters and nodes while a recording is made: everything passes as it is, and a copy is kept."""

import base64
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from railwatch.rail.transport import Response, Session, Socket, Subscriber
from railwatch.replay.calls import read_request
from railwatch.replay.cleaning import KEPT_HEADERS, Cleaner
from railwatch.replay.nodes import NodeNames
from railwatch.replay.recording import ABANDONED, Event, Http, Message, Writer, text_or_base64

if TYPE_CHECKING:
    import aiohttp

BODY_MAX = 16 * 1024 * 1024
"""Bytes of one answer that are kept. A larger one is counted, and left out."""

Channel: TypeAlias = Literal["websocket", "subscription"]
What: TypeAlias = Literal["opened", "sent", "received", "failed", "closed"]


class Recorder:
    """An `railwatch.rail.transport.Transport` that writes down what passes. Nothing of it waits for the file's disk."""

    def __init__(self, writer: Writer, names: NodeNames, cleaner: Cleaner) -> None:
        self.writer, self.names, self.cleaner = writer, names, cleaner
        self._started = time.monotonic()
        self._connections: Counter[tuple[str, Channel]] = Counter()

    def now(self) -> float:
        """Seconds since the recording began."""
        return round(time.monotonic() - self._started, 6)

    def session(self, make: "Callable[[], aiohttp.ClientSession]") -> Session:
        """`Transport.session`."""
        return _RecordedSession(self, make())

    def websocket(
        self, url: str, make: Callable[[], AbstractAsyncContextManager[Any]]
    ) -> AbstractAsyncContextManager[Socket]:
        """`Transport.websocket`."""
        return self._websocket(_Channel(self, url, "websocket"), make)

    @asynccontextmanager
    async def _websocket(
        self, channel: "_Channel", make: Callable[[], AbstractAsyncContextManager[Any]]
    ) -> AsyncIterator[Socket]:
        try:
            async with make() as socket:
                channel.note("opened")
                yield _RecordedSocket(channel, socket)
        except Exception as error:
            channel.note("failed", failed=type(error).__name__)
            raise
        finally:
            channel.note("closed")

    def subscriber(self, url: str, make: Callable[[], Subscriber]) -> Subscriber:
        """`Transport.subscriber`."""
        return _RecordedSubscriber(_Channel(self, url, "subscription"), make())

    def next_connection(self, node: str, channel: Channel) -> int:
        """Return the number of a new connection, from 1."""
        self._connections[node, channel] += 1
        return self._connections[node, channel]

    def keep(self, event: Event) -> None:
        """Write an event down."""
        self.writer.add(event)


class _Channel:
    """One connection over which messages come."""

    def __init__(self, recorder: Recorder, url: str, channel: Channel) -> None:
        self._recorder, self._channel = recorder, channel
        self._node, _ = recorder.names.split(url)
        self._number = recorder.next_connection(self._node, channel)

    def now(self) -> float:
        return self._recorder.now()

    def note(
        self,
        what: What,
        message: str | bytes | None = None,
        *,
        parts: list[bytes] | None = None,
        failed: str | None = None,
        at: float | None = None,
    ) -> None:
        """Write down what happened; ``message`` and ``parts`` without secrets."""
        raw = None if message is None else (message.encode() if isinstance(message, str) else message)
        self._recorder.keep(
            Message(
                at=self.now() if at is None else at,
                node=self._node,
                channel=self._channel,
                connection=self._number,
                what=what,
                text=None if raw is None else self._recorder.cleaner.clean(raw).decode(errors="replace"),
                parts_base64=[base64.b64encode(part).decode() for part in parts or ()],
                failed=failed,
            )
        )


class _RecordedSocket:
    """A websocket whose messages are written down."""

    def __init__(self, channel: _Channel, socket: Any) -> None:
        self._channel, self._socket = channel, socket

    async def send(self, message: str | bytes, text: bool | None = None) -> None:
        self._channel.note("sent", message)
        await self._socket.send(message, text=text)

    async def recv(self) -> str | bytes:
        message: str | bytes = await self._socket.recv()
        self._channel.note("received", message)
        return message


class _RecordedSubscriber:
    """A subscription whose messages are written down, all of one poll as of one moment."""

    def __init__(self, channel: _Channel, subscriber: Subscriber) -> None:
        self._channel, self._subscriber = channel, subscriber
        self._polled_at = channel.now()
        channel.note("opened")

    async def poll(self, seconds: float) -> bool:
        found = await self._subscriber.poll(seconds)
        self._polled_at = self._channel.now()
        return found

    def receive(self) -> list[bytes] | None:
        parts = self._subscriber.receive()
        if parts is not None:
            self._channel.note("received", parts=parts, at=self._polled_at)
        return parts

    def close(self) -> None:
        self._channel.note("closed")
        self._subscriber.close()


class _RecordedSession:
    """A session whose exchanges are written down."""

    def __init__(self, recorder: Recorder, session: "aiohttp.ClientSession") -> None:
        self._recorder, self._session = recorder, session

    def request(self, method: str, url: str, **options: Any) -> AbstractAsyncContextManager[Response]:
        return _Exchange(self._recorder, method, str(url), options, self._session.request(method, url, **options))

    def post(self, url: str, **options: Any) -> AbstractAsyncContextManager[Response]:
        return self.request("POST", url, **options)

    async def close(self) -> None:
        await self._session.close()


class _Exchange:
    """One request on its way, and its answer as the adapter reads it (`Response`)."""

    def __init__(
        self,
        recorder: Recorder,
        verb: str,
        url: str,
        options: Mapping[str, Any],
        inner: AbstractAsyncContextManager[Any],
    ) -> None:
        self._recorder, self._inner = recorder, inner
        self._verb, self._begun = verb, recorder.now()
        self._node, self._path = recorder.names.split(url)
        self._request = read_request(options.get("data"))
        self._response: Any = None
        self._body = bytearray()
        self._size = 0
        self._failed: str | None = None

    async def __aenter__(self) -> Self:
        try:
            self._response = await self._inner.__aenter__()
        except BaseException as error:
            self._note_failure(error)
            self._keep()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if error is not None and not isinstance(error, Exception):
            self._note_failure(error)
        self._keep()
        return await self._inner.__aexit__(kind, error, trace)

    @property
    def status(self) -> int:
        return int(self._response.status)

    @property
    def headers(self) -> Mapping[str, str]:
        headers: Mapping[str, str] = self._response.headers
        return headers

    @property
    def content_type(self) -> str:
        return str(self._response.content_type)

    @property
    def content(self) -> Self:
        return self

    async def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        """Yield the body as it comes, keeping a copy."""
        try:
            async for chunk in self._response.content.iter_chunked(n):
                self._size += len(chunk)
                if self._size <= BODY_MAX:
                    self._body += chunk
                yield chunk
        except Exception as error:
            self._note_failure(error)
            raise

    def _note_failure(self, error: BaseException) -> None:
        self._failed = type(error).__name__ if isinstance(error, Exception) else ABANDONED

    def _keep(self) -> None:
        """Write it down, the body decompressed and without secrets."""
        recorder, response = self._recorder, self._response
        body, left_out = bytes(self._body), self._size if self._size > BODY_MAX else 0
        headers: dict[str, str] = {}
        if response is not None:
            headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
            body, coding = _plain(body, response.headers.get("Content-Encoding", ""))
            headers |= {"content-encoding": coding} if coding else {}
        text, encoded = text_or_base64(recorder.cleaner.clean(b"" if left_out else body))
        recorder.keep(
            Http(
                at=self._begun,
                took=round(recorder.now() - self._begun, 6),
                node=self._node,
                verb=self._verb,
                path=self._path,
                calls=list(self._request.calls),
                ids=list(self._request.ids),
                status=0 if response is None else int(response.status),
                headers=headers,
                body=text,
                body_base64=encoded,
                failed=self._failed,
                left_out=left_out,
            )
        )


def _plain(body: bytes, coding: str) -> tuple[bytes, str]:
    """Return the body without its content coding, and the coding if it could not be undone."""
    if coding.lower() not in ("gzip", "x-gzip", "deflate"):
        return body, coding
    engine = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        plain = engine.decompress(body, BODY_MAX)
    except zlib.error:
        return body, coding
    return (body, coding) if engine.unconsumed_tail else (plain, "")

"""In place of the nodes while a recording is played: every request gets what it got then, at the moment it came."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import websockets.exceptions
from multidict import CIMultiDict

from railwatch.rail.errors import RailUnavailable
from railwatch.rail.transport import Response, Session, Socket, Subscriber
from railwatch.replay.calls import Request, joined, read_request, with_ids
from railwatch.replay.matching import SLACK, Answer, AnswerBook
from railwatch.replay.nodes import NodeNames
from railwatch.replay.recording import ABANDONED, Http, Message, Recording
from railwatch.replay.virtual_time import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Sequence

PARAMETERS_MAX = 300
"""Characters of the parameters in an error."""


@dataclass(frozen=True, slots=True)
class NotRecorded:
    """A request that the recording does not hold, or whose answer was left out."""

    node: str
    method: str
    parameters: str
    at: float
    why: str = "the recording holds no answer to it"

    def __str__(self) -> str:
        return f"{self.node} was asked for {self.method} {self.parameters} at {self.at:.3f} s: {self.why}"


class Player:
    """An `railwatch.rail.transport.Transport` that answers from a recording, within a `VirtualLoop`."""

    def __init__(self, recording: Recording, names: NodeNames, loop: VirtualLoop) -> None:
        self.names, self._loop, self._length = names, loop, recording.length
        self._book = AnswerBook([event for event in recording.events if isinstance(event, Http)])
        self._connections: dict[tuple[str, str], list[list[Message]]] = defaultdict(list)
        for event in recording.events:
            if isinstance(event, Message):
                lines = self._connections[event.node, event.channel]
                while len(lines) < event.connection:
                    lines.append([])
                lines[event.connection - 1].append(event)
        self.missing: NotRecorded | None = None
        self.missed = asyncio.Event()
        self.answered = 0

    def now(self) -> float:
        """Seconds since the recording began."""
        return self._loop.passed()

    async def until(self, moment: float) -> None:
        """Wait until that many seconds of the recording have passed."""
        await asyncio.sleep(max(0.0, moment - self.now()))

    def session(self, make: "Callable[[], aiohttp.ClientSession]") -> Session:
        """`Transport.session`."""
        return _PlayedSession(self)

    def subscriber(self, url: str, make: Callable[[], Subscriber]) -> Subscriber:
        """`Transport.subscriber`."""
        return _PlayedSubscriber(self, self._next_connection(url, "subscription") or [])

    def websocket(
        self, url: str, make: Callable[[], AbstractAsyncContextManager[Any]]
    ) -> AbstractAsyncContextManager[Socket]:
        """`Transport.websocket`."""
        return self._websocket(url)

    @asynccontextmanager
    async def _websocket(self, url: str) -> AsyncIterator[Socket]:
        messages = self._next_connection(url, "websocket")
        if messages is None:
            raise ConnectionRefusedError("the recording holds no further websocket")
        await self.until(messages[0].at)
        if messages[0].what == "failed":
            raise _error(messages[0].failed or "")
        yield _PlayedSocket(self, messages)

    def _next_connection(self, url: str, channel: str) -> list[Message] | None:
        """Return what came over the next connection; None: there was none, or not for a while."""
        node, _ = self.names.split(url)
        waiting = self._connections[node, channel]
        if not waiting or not waiting[0] or waiting[0][0].at > self.now() + SLACK:
            return None
        return waiting.pop(0)

    async def answer(self, node: str, verb: str, path: str, request: Request) -> "Sequence[Answer]":
        """Return what a request got, once it is due. Waits for ever for what was never answered.

        Raises `RailUnavailable` for what the recording does not hold, and `missed` is set.
        """
        asked_at = self.now()
        try:
            found = self._book.find(node, verb, path, request, asked_at)
        except KeyError as unknown:
            method, parameters = unknown.args[0]
            if asked_at < self._length - SLACK:
                raise self._miss(NotRecorded(node, method, _short(parameters), asked_at)) from None
            # So near its end the recording ended before the answer, or even the question, came.
            found = None
        if found is None:
            await asyncio.Event().wait()
            return []
        longest = max(found, key=lambda each: each.came_at).exchange
        if longest.left_out:
            why = f"its answer of {longest.left_out:,} bytes was too large to be recorded"
            method, parameters = (request.calls or [(verb, path)])[0]
            raise self._miss(NotRecorded(node, method, _short(parameters), asked_at, why))
        # An answer that is given again arrives after the delay of its recording.
        await self.until(max(longest.at + longest.took, asked_at + longest.took))
        self.answered += 1
        return found

    def _miss(self, missing: NotRecorded) -> RailUnavailable:
        if self.missing is None:
            self.missing = missing
        self.missed.set()
        return RailUnavailable(str(missing))


class _PlayedSession:
    def __init__(self, player: Player) -> None:
        self._player = player

    def request(self, method: str, url: str, **options: Any) -> AbstractAsyncContextManager[Response]:
        return _PlayedExchange(self._player, method, str(url), options)

    def post(self, url: str, **options: Any) -> AbstractAsyncContextManager[Response]:
        return self.request("POST", url, **options)

    async def close(self) -> None:
        """Nothing is open."""


class _PlayedExchange:
    """One request and its recorded answer (`Response`)."""

    def __init__(self, player: Player, verb: str, url: str, options: Mapping[str, Any]) -> None:
        self._player, self._verb = player, verb
        self._node, self._path = player.names.split(url)
        self._request = read_request(options.get("data"))
        self.status = 0
        self.headers: Mapping[str, str] = CIMultiDict()
        self._body = b""
        self._failed: str | None = None

    async def __aenter__(self) -> Self:
        answers = await self._player.answer(self._node, self._verb, self._path, self._request)
        exchange = answers[0].exchange
        if exchange.failed == ABANDONED:
            await asyncio.Event().wait()
        replies = [answer.reply for answer in answers if answer.reply is not None]
        if replies:
            self._body = joined(replies, self._request)
        else:
            self._body = with_ids(exchange.content(), exchange.ids, self._request.ids)
        self.status, self._failed = exchange.status, exchange.failed
        self.headers = CIMultiDict(exchange.headers)
        if self._failed is not None and not self.status:
            raise _error(self._failed)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open."""

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()

    @property
    def content(self) -> Self:
        return self

    async def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        """Yield the body, and fail where it failed then."""
        for start in range(0, len(self._body), n):
            yield self._body[start : start + n]
        if self._failed is not None:
            raise _error(self._failed)


class _PlayedSocket:
    """A websocket whose messages come when they came."""

    def __init__(self, player: Player, messages: list[Message]) -> None:
        self._player = player
        self._waiting = [each for each in messages if each.what in ("received", "failed")]

    async def send(self, message: str | bytes, text: bool | None = None) -> None:
        """Drop the message: the replay reads no requests here."""

    async def recv(self) -> str | bytes:
        if not self._waiting:
            await asyncio.Event().wait()
        await self._player.until(self._waiting[0].at)
        message = self._waiting.pop(0)
        if message.what == "failed":
            raise _error(message.failed or "")
        return message.text or ""


class _PlayedSubscriber:
    """A subscription whose messages come when they came."""

    def __init__(self, player: Player, messages: list[Message]) -> None:
        self._player = player
        self._waiting = [each for each in messages if each.what == "received"]

    async def poll(self, seconds: float) -> bool:
        until = self._player.now() + seconds
        await self._player.until(min(until, self._waiting[0].at) if self._waiting else until)
        return self._is_due()

    def receive(self) -> list[bytes] | None:
        return self._waiting.pop(0).parts() if self._is_due() else None

    def close(self) -> None:
        """Nothing is open."""

    def _is_due(self) -> bool:
        # What was due a moment ago by the recording's clock is due: sleeping ends within a microsecond of it.
        return bool(self._waiting) and self._waiting[0].at <= self._player.now() + 1e-6


def _short(parameters: Any) -> str:
    text = parameters if isinstance(parameters, str) else json.dumps(parameters)
    return text if len(text) <= PARAMETERS_MAX else text[:PARAMETERS_MAX] + " ..."


_BASES: Mapping[str, type[Exception]] = {
    "TimeoutError": TimeoutError,
    "ServerTimeoutError": TimeoutError,
    "ConnectionRefusedError": ConnectionRefusedError,
    "ConnectionResetError": ConnectionResetError,
    "OSError": OSError,
    "gaierror": OSError,
}


def _error(name: str) -> Exception:
    """Return an error of the recorded kind: adapters handle it by its family, and reasons name it."""
    if name in _BASES:
        base = _BASES[name]
    elif hasattr(websockets.exceptions, name):
        base = websockets.exceptions.WebSocketException
    else:
        base = aiohttp.ClientError
    error: Exception = base() if base.__name__ == name else type(name, (base,), {})()
    return error

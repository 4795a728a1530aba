"""A listener for health pages that no client can exhaust: few connections, short requests, little time.

It answers GET and HEAD, closes each connection after its answer, and reads no body. At the maximum of connections it
closes the oldest one, so a client that sends its request at once is always served.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Protocol

import structlog

from railwatch.reasons import describe

CONNECTIONS_MOST = 64
"""Connections at once."""
HEAD_MOST = 8_192
"""Bytes of a request line and its headers."""
REQUEST_SECONDS = 5.0
"""Seconds of one connection in all: to send its request, and to read the answer."""
BACKLOG = 64
"""Connections that the kernel queues while the process is busy."""
EXHAUSTED_PAUSE = 1.0
"""Seconds before the next attempt when the process, or the machine, has no free file descriptor."""
LOG_INTERVAL = 60.0
"""Seconds between two log events about one kind of failure."""
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
BROKEN = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK})
"""Errors of a socket that no longer listens; another attempt would fail forever."""

REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Answered(Protocol):
    """The page that the listener sends."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def body(self) -> bytes:
        """The whole body."""

    @property
    def kind(self) -> str:
        """The media type."""


Answer = Callable[[str], Answered]
"""Returns the page at a path."""


async def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Listen on each address of ``host``. Raises OSError, and closes all sockets then."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    opened: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            opened.append(one)
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            one.listen(BACKLOG)
    except OSError:
        for each in opened:
            each.close()
        raise
    return opened


class Listening:
    """The server of pages on listening sockets."""

    def __init__(self, answer: Answer, failed: Callable[[str], None] = lambda _: None) -> None:
        """Create a server. ``failed`` receives ``http.page`` for each page that fails."""
        self._answer, self._failed = answer, failed
        self._serving: dict[asyncio.Task[None], socket.socket] = {}  # the oldest first
        self._logged_at: dict[str, float] = {}
        self._spare = _spare_descriptor()

    async def run(self, sockets: Sequence[socket.socket]) -> None:
        """Accept and answer until cancelled, then close the sockets."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for each in sockets:
                    tasks.create_task(self._accept_all(each))
        finally:
            for task in list(self._serving):
                task.cancel()
            for each in sockets:
                each.close()
            if self._spare is not None:
                os.close(self._spare)

    async def _accept_all(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listening)
            except OSError as error:
                if error.errno in BROKEN:
                    raise
                if error.errno in EXHAUSTED:
                    await self._pause(listening, error)
                # Any other error concerns one connection, which is already closed.
                continue
            client.setblocking(False)
            self._make_room()
            task = loop.create_task(self._serve(client))
            self._serving[task] = client
            task.add_done_callback(self._leave)

    def _log(self, event: str, **facts: object) -> None:
        """Log an event at most once in `LOG_INTERVAL`: clients decide how often it happens."""
        if monotonic() - self._logged_at.get(event, -LOG_INTERVAL) >= LOG_INTERVAL:
            self._logged_at[event] = monotonic()
            structlog.get_logger().warning(event, **facts)

    def _leave(self, task: asyncio.Task[None]) -> None:
        """Close the connection, also of a task that was cancelled before its start."""
        self._serving.pop(task).close()

    def _make_room(self) -> None:
        """Close the oldest connections that have no answer yet."""
        for task in list(self._serving)[: max(0, len(self._serving) - CONNECTIONS_MOST + 1)]:
            task.cancel()

    async def _pause(self, listening: socket.socket, error: OSError) -> None:
        """Refuse one client with the spare descriptor, log it at intervals, and pause."""
        self._log("http.exhausted", reason=error.strerror, again_in=EXHAUSTED_PAUSE)
        for task in list(self._serving):
            task.cancel()
        if self._spare is not None:
            os.close(self._spare)
            with suppress(OSError):
                listening.accept()[0].close()
        await asyncio.sleep(EXHAUSTED_PAUSE)
        self._spare = _spare_descriptor()

    async def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError, TimeoutError):
            async with asyncio.timeout(REQUEST_SECONDS):
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(client, self._respond(await _read_head(client)))
                client.shutdown(socket.SHUT_WR)
                # A close with unread data resets the connection, and the client may lose the answer.
                await loop.sock_recv(client, HEAD_MOST)

    def _respond(self, head: bytes) -> bytes:
        line = head.split(b"\r\n", 1)[0].decode("latin-1")
        words = line.split(" ")
        if len(head) > HEAD_MOST:
            return _response(431, b"the request is longer than 8192 bytes\n")
        if len(words) != 3 or not words[2].startswith("HTTP/1.") or not words[1].startswith("/"):
            return _response(400, b"this is not an HTTP/1 request\n")
        if words[0] not in ("GET", "HEAD"):
            return _response(405, b"only GET and HEAD are allowed\n", extra="Allow: GET, HEAD\r\n")
        try:
            page = self._answer(words[1])
        except Exception as defect:  # noqa: BLE001 - a page that fails is answered with 500, and its cause is logged
            self._failed("http.page")
            self._log("http.page_failed", reason=describe(defect), exc_info=defect)
            return _response(500, b"this page failed; see the log event http.page_failed\n")
        return _response(page.status, page.body, page.kind, only_head=words[0] == "HEAD")


async def _read_head(client: socket.socket) -> bytes:
    """Return the bytes up to the empty line; without one, more than `HEAD_MOST` bytes.

    Raises ConnectionAbortedError if the client closes before that.
    """
    loop, head = asyncio.get_running_loop(), b""
    while len(head) <= HEAD_MOST and b"\r\n\r\n" not in head:
        more = await loop.sock_recv(client, HEAD_MOST)
        if not more:
            raise ConnectionAbortedError("the client closed the connection before its request ended")
        head += more
    return head if b"\r\n\r\n" not in head else head[: head.index(b"\r\n\r\n") + 4]


def _response(
    status: int, body: bytes, kind: str = "text/plain; charset=utf-8", *, extra: str = "", only_head: bool = False
) -> bytes:
    head = (
        f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n{extra}Connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (b"" if only_head else body)


def _spare_descriptor() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None

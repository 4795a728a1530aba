"""The file of a recording: lines of JSON in gzip, the first of which says what it is and the last that it is whole.

It is written as it comes, and can be read up to the last second before a crash. docs/record-replay.md describes it.
"""

import base64
import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

VERSION = 1
"""Of the format. A file of another version is refused."""
Ending: TypeAlias = Literal["time", "interrupted", "full"]
"""Why a recording ended: the time was up, a person ended it, or the file was full."""
FLUSH_SECONDS = 1.0
"""Seconds of a recording that a crash can lose, at most."""
_GZIP = 31
_CHUNK = 1024 * 1024
LINE_MAX = 128 * 1024 * 1024
"""Bytes of a line, decompressed: a file from elsewhere must not fill the memory."""


class NotARecording(ValueError):
    """The file is none, or of a version that is not known here. The message names the file."""


class Header(msgspec.Struct, tag="header", tag_field="kind", kw_only=True):
    """The first line. ``rail`` and ``policies`` are tables of the configuration, without secrets."""

    version: int = VERSION
    made_by: str
    started_at: datetime
    rail: dict[str, Any]
    policies: list[dict[str, Any]] = []
    invoices: list[dict[str, Any]] = []
    """Requests for `create_invoice`, each with ``at`` if it came later than the start (seconds)."""
    keep_watching: int = 0


class Http(msgspec.Struct, tag="http", tag_field="kind", kw_only=True, omit_defaults=True):
    """One request and what came of it. ``at``: seconds from the start; ``took``: seconds."""

    at: float
    took: float
    node: str
    verb: str = "POST"
    path: str = ""
    """Beyond the node's own URL, as with REST."""
    calls: list[tuple[str, Any]] = []
    """Method and parameters, one for each call of a JSON-RPC request."""
    ids: list[Any] = []
    """The ids of these calls, by which the body names them."""
    status: int = 0
    headers: dict[str, str] = {}
    body: str | None = None
    body_base64: str | None = None
    """In place of ``body`` where that is no text."""
    failed: str | None = None
    """The kind of error that came instead of an answer; `ABANDONED`: the caller stopped waiting."""
    left_out: int = 0
    """Bytes of a body that was too large to be kept."""

    def content(self) -> bytes:
        """Return the body."""
        return _bytes(self.body, self.body_base64)


class Message(msgspec.Struct, tag="message", tag_field="kind", kw_only=True, omit_defaults=True):
    """What happened on the ``connection``-th websocket or subscription to a node."""

    at: float
    node: str
    channel: Literal["websocket", "subscription"]
    connection: int
    what: Literal["opened", "sent", "received", "failed", "closed"]
    text: str | None = None
    parts_base64: list[str] = []
    failed: str | None = None

    def parts(self) -> list[bytes]:
        """Return the parts of a subscription's message."""
        return [base64.b64decode(part) for part in self.parts_base64]


class End(msgspec.Struct, tag="end", tag_field="kind", kw_only=True):
    """The last line."""

    at: float
    why: Ending


Event: TypeAlias = Http | Message
ABANDONED = "abandoned"

_line = msgspec.json.Decoder(Header | Http | Message | End)


def text_or_base64(body: bytes) -> tuple[str | None, str | None]:
    """Return ``body`` for the fields ``body`` and ``body_base64``."""
    try:
        return body.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(body).decode()


def _bytes(text: str | None, encoded: str | None) -> bytes:
    return text.encode() if text is not None else base64.b64decode(encoded or "")


class Writer:
    """Writes a new file, which only its owner may read. Raises FileExistsError and other OSErrors on opening."""

    def __init__(self, path: Path, header: Header, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._packer = zlib.compressobj(wbits=_GZIP)
        self._flushed_at = time.monotonic()
        self._ended = False
        self.size = 0
        """Bytes that were written so far."""
        self.answers = 0
        self.left_out = 0
        self.is_full = False
        self._put(header)
        self.flush()

    def add(self, event: Event) -> None:
        """Append one event, unless the file is full or has been ended."""
        if self._ended or self.is_full:
            return
        if isinstance(event, Http):
            self.answers += 1
            self.left_out += event.left_out > 0
        self._put(event)
        if time.monotonic() - self._flushed_at >= FLUSH_SECONDS:
            self.flush()
        self.is_full = self.size >= self._bytes_max

    def flush(self) -> None:
        """Hand on all that was added, so that it can be read whatever happens next."""
        if self._ended:
            return
        self._write(self._packer.flush(zlib.Z_SYNC_FLUSH))
        self._file.flush()
        self._flushed_at = time.monotonic()

    def end(self, at: float, why: Ending) -> None:
        """Write the last line, and close the file. Idempotent."""
        if not self._ended:
            self._put(End(at=at, why=why))
            self._ended = True
            self._write(self._packer.flush(zlib.Z_FINISH))
            self._file.close()

    def _put(self, line: Header | Event | End) -> None:
        self._write(self._packer.compress(msgspec.json.encode(line) + b"\n"))

    def _write(self, packed: bytes) -> None:
        self._file.write(packed)
        self.size += len(packed)


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording that was read whole. ``cut``: why it ends before its time was up; None: it does not."""

    header: Header
    events: list[Event]
    length: float
    """Seconds."""
    cut: str | None


def read_recording(path: Path) -> Recording:
    """Read a file, as far as it goes. Raises `NotARecording`, and OSError where it cannot be read."""
    header: Header | None = None
    events: list[Event] = []
    end: End | None = None
    try:
        for raw in _lines(path):
            line = _line.decode(raw)
            if isinstance(line, Header):
                header = line
                if header.version != VERSION:
                    raise NotARecording(f"{path} has version {header.version} of the format; known is {VERSION}")
            elif isinstance(line, End):
                end = line
            else:
                events.append(line)
            if header is None:
                break
    except (zlib.error, msgspec.DecodeError, RecursionError) as error:
        if header is None:
            raise NotARecording(f"{path} is no recording of `railwatch record`: {error}") from None
        # Whatever follows the damage cannot be trusted, so the recording ends there.
        end = None
    if header is None:
        raise NotARecording(f"{path} is no recording of `railwatch record`: it has no header")
    last = max((event.at + (event.took if isinstance(event, Http) else 0) for event in events), default=0.0)
    cut = "the writer died" if end is None else {"time": None, "interrupted": "a person ended it"}.get(end.why, "full")
    return Recording(header, events, end.at if end else last, cut)


def _lines(path: Path) -> Iterator[bytes]:
    """Yield whole lines. What follows the last line's end was cut off in the middle."""
    unpacker = zlib.decompressobj(wbits=_GZIP)
    rest = b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            while chunk:
                *lines, rest = (rest + unpacker.decompress(chunk, _CHUNK)).split(b"\n")
                yield from lines
                if len(rest) > LINE_MAX:
                    raise NotARecording(f"{path} has a line of more than {LINE_MAX:,} bytes")
                chunk = unpacker.unconsumed_tail

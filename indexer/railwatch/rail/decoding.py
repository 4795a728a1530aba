"""The one way in for what a node sends: bounded bytes, bounded nesting, typed JSON, and values of a known shape.

Every adapter reads its nodes through this module, so that no answer can cost unbounded memory, end the process or
raise anything but `RailUnavailable` (HAZARDS, "Nodes"; a fault of one node is temporary and is not the rail's).

The nesting bound costs nothing in the usual case: msgspec's own recursion check is the first bound, as long as the
interpreter's recursion limit has a sane value. Some libraries raise that limit to a value at which C code overflows the
stack (py_ecc sets 100,000), so `decode` lowers it again before it trusts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from railwatch.rail.errors import RailUnavailable
from railwatch.rail.printable import printable as printable_text

if TYPE_CHECKING:
    from railwatch.rail.transport import Response

__all__ = [
    "AHEAD",
    "ANSWER_MOST",
    "ERROR_STATUS",
    "IDENTITY",
    "LARGE",
    "NESTING_MOST",
    "SMALL_MOST",
    "VALUES_AT_ONCE",
    "VALUES_MOST",
    "AnswerTooLarge",
    "Decodes",
    "TooDeep",
    "TooMany",
    "WrongShape",
    "bound_recursion",
    "check_nesting",
    "decode",
    "decode_beside",
    "decode_each",
    "nesting",
    "off_loop",
    "printable",
    "read_body",
    "read_hex",
    "read_index",
    "read_quantity",
    "read_text",
    "read_time",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

IDENTITY = {"Accept-Encoding": "identity"}
"""The request header that asks a node for plain bytes. A node that compresses all the same is read with a bound."""
ANSWER_MOST = 64 * 1024 * 1024
"""Bytes of one answer, decompressed, unless the caller has a cap of its own."""
SMALL_MOST = 1024 * 1024
"""Bytes of an answer that holds a few values (an id, a number, an error), whatever it was asked with."""
LARGE = 4 * 1024 * 1024
"""Bytes from which an answer is decoded in a thread: 4 MiB take some 20 ms."""
VALUES_MOST = 3_000_000
"""Values in one answer. Bytes alone bound no memory: an empty array is three bytes, and sixty once it is decoded."""
VALUES_AT_ONCE = 1_000_000
"""Values that one call of a decoder may build: it holds the interpreter's lock to its end, here for some 100 ms."""
NESTING_MOST = 3 * 1024 + 64
"""Levels of arrays and objects: 1,024 calls (yellow paper) at two levels each, with a margin. Deeper is hostile."""
RECURSION_LIMIT = 1_000
"""CPython's own default, at which the C recursion of a decoder stays far below 8 MiB of stack."""

FIRST_TIME = datetime(2009, 1, 1, tzinfo=UTC)
"""No chain has an older block, except for genesis blocks without a time."""
AHEAD = timedelta(days=1)
"""How far a block's time may lie ahead of our clock."""

ERROR_STATUS = 400
"""The first of HTTP's statuses that are errors."""

_CHUNK = 256 * 1024
_ROUNDS = 32
_STRUCTURE = bytes(set(range(256)) - set(b'"[]{}'))
_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ALIKE = bytes.maketrans(b"[{]}", b"(())")
_STEPS = tuple({ord("("): 1, ord(")"): -1}.get(char, 0) for char in range(256))
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_PLAIN_STRING = re.compile(rb'"[^"]*+"?')
_HEX = re.compile(r"0x(?:[0-9a-fA-F]{2})*+")
_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")


class Decodes(Protocol[T_co]):
    """A decoder of msgspec's, or one made of several. Raises ValueError or RecursionError."""

    def decode(self, buf: bytes | msgspec.Raw, /) -> T_co:
        """Return the typed value."""


class AnswerTooLarge(RailUnavailable):
    """The answer is larger than the caller's cap. Asking for less may help."""


class WrongShape(RailUnavailable):
    """The answer is not of the form that its method gives. Asking in another way may help."""


class TooMany(AnswerTooLarge):
    """The answer has more values than its decoder may build. Asking for less may help."""


class TooDeep(RailUnavailable):
    """The answer has more levels of nesting than a recursive decoder may follow."""


async def read_body(response: Response, most: int, what: str) -> bytes:
    """Return the body, at most ``most`` bytes after decompression. Raises `AnswerTooLarge` or `RailUnavailable`.

    What comes with an error's status has at most `SMALL_MOST`. The session must have ``auto_decompress=False``: aiohttp
    inflates a whole chunk before a reader can count it.
    """
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    inflate = _inflater(coding, what)
    if response.status >= ERROR_STATUS:
        most = min(most, SMALL_MOST)
    # It returns its bytes without a copy, which a list of parts cannot.
    body, size = io.BytesIO(), 0
    async for chunk in response.content.iter_chunked(_CHUNK):
        for part in inflate(chunk) if inflate else (chunk,):
            size += len(part)
            if size > most:
                raise AnswerTooLarge(f"{what}: the answer is larger than {most:,} bytes")
            body.write(part)
            if inflate:
                await asyncio.sleep(0)
    return body.getvalue()


def _inflater(coding: str, what: str) -> Callable[[bytes], Iterator[bytes]] | None:
    """Return what inflates a chunk in pieces of bounded size, or None where nothing is to be inflated."""
    if coding in ("identity", ""):
        return None
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise RailUnavailable(
            f"{what}: the answer is in the content coding {printable(coding, 40)}, which was not requested"
        )
    engine = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)

    def inflate(chunk: bytes) -> Iterator[bytes]:
        try:
            while chunk:
                yield engine.decompress(chunk, _CHUNK)
                chunk = engine.unconsumed_tail
        except zlib.error as error:
            raise RailUnavailable(f"{what}: the answer is not {coding}") from error

    return inflate


def decode(raw: bytes | msgspec.Raw, decoder: Decodes[T], what: str, most: int = VALUES_AT_ONCE) -> T:
    """Return the decoded value. Raises `WrongShape` for another shape, `TooDeep` for too many levels.

    Raises `TooMany` for more than ``most`` values, which only who leaves the inner ones undecoded may set higher.
    """
    bound_recursion()
    check_values(raw, most, what)
    try:
        return decoder.decode(raw)
    except ValueError as error:
        # msgspec's own DecodeError, and UnicodeDecodeError for bytes that are no UTF-8.
        raise WrongShape(f"{what}: an answer of the wrong shape: {printable(error)}") from error
    except RecursionError as error:
        raise TooDeep(f"{what}: the answer has too many levels of nesting") from error


def decode_each(raw: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[T], what: str) -> list[T]:
    """Return the items of an array, decoded one by one, so that other threads run in between. Null is an empty array.

    msgspec holds the interpreter's lock for a whole call, also in a thread; this bounds the time of each call. Raises
    as `decode`.
    """
    return [decode(item, decoder, what) for item in decode(raw, _items, what, VALUES_MOST) or ()]


_items: msgspec.json.Decoder[list[msgspec.Raw] | None] = msgspec.json.Decoder(list[msgspec.Raw] | None)


async def off_loop(size: int, work: Callable[[], T]) -> T:
    """Return what ``work`` does with ``size`` bytes: on the loop if they are few, else in a thread."""
    return work() if size < LARGE else await asyncio.to_thread(work)


async def decode_beside(raw: bytes | msgspec.Raw, decoder: Decodes[T], what: str, most: int = VALUES_AT_ONCE) -> T:
    """Return what `decode` does, in a thread if the answer is large."""
    return await off_loop(len(raw), lambda: decode(raw, decoder, what, most))


def check_values(raw: bytes | msgspec.Raw, most: int, what: str) -> None:
    """Raise `TooMany` if ``raw`` has more than ``most`` values: one for each comma and each opening bracket.

    Those inside texts are counted too, of which a node's own answers have few. What is smaller than a mebibyte is not
    counted: half a million values are the most that it can hold.
    """
    if len(raw) <= SMALL_MOST:
        return
    text = bytes(raw)
    values = 0
    for at in range(0, len(text), _CHUNK):
        values += sum(text.count(sign, at, at + _CHUNK) for sign in (b",", b"[", b"{"))
        if values > most:
            raise TooMany(f"{what}: the answer has more than {most:,} values")


def bound_recursion() -> None:
    """Lower the interpreter's recursion limit to `RECURSION_LIMIT` where a library has raised it."""
    if sys.getrecursionlimit() > RECURSION_LIMIT:
        # Python refuses a limit below the present depth. Then the next call lowers it.
        with contextlib.suppress(RecursionError):
            sys.setrecursionlimit(RECURSION_LIMIT)


def nesting(raw: bytes) -> int:
    """Return how many levels of arrays and objects ``raw`` has, brackets inside strings left out.

    One pass at some 1.5 GB/s over an ordinary answer. Brackets that are not balanced are a decoder's to refuse.
    """
    if b"\\" in raw:
        brackets = _STRING.sub(b"", raw).translate(_ALIKE, _BRACKETS)
    else:
        brackets = raw.translate(_ALIKE, _STRUCTURE).replace(b'""', b"")
        if b'"' in brackets:
            brackets = _PLAIN_STRING.sub(b"", brackets)
    for level in range(_ROUNDS):
        if not brackets:
            return level
        fewer = brackets.replace(b"()", b"")
        if fewer == brackets:
            return level + _deepest(brackets)
        brackets = fewer
    return _ROUNDS + _deepest(brackets)


def _deepest(brackets: bytes) -> int:
    """Return the greatest number of open brackets, chunk by chunk, so that other threads run in between."""
    depth = deepest = 0
    for at in range(0, len(brackets), _CHUNK):
        depths = list(accumulate(map(_STEPS.__getitem__, brackets[at : at + _CHUNK]), initial=depth))
        highest = max(depths)
        deepest, depth = max(deepest, highest), depths[-1]
    return deepest


def check_nesting(raw: bytes, most: int, what: str) -> None:
    """Raise `RailUnavailable` if ``raw`` has more than ``most`` levels. For answers of any shape."""
    if (levels := nesting(raw)) > most:
        raise RailUnavailable(f"{what}: the answer has {levels:,} levels of nesting, more than {most:,}")


def read_hex(text: str, size: int, what: str) -> str:
    """Return ``size`` bytes of hex with 0x, in lower case: hashes and addresses are names, and a name has one form."""
    if len(text) != 2 + 2 * size or not _HEX.fullmatch(text):
        raise RailUnavailable(f"{what}: {printable(text, 80)!r} is not {size} bytes of hex")
    return text.lower()


def read_quantity(text: str, what: str) -> int:
    """Return the number that 0x and 1 to 64 hex digits spell: 0 up to 2^256 - 1."""
    if not _QUANTITY.fullmatch(text):
        raise RailUnavailable(f"{what}: {printable(text, 80)!r} is no quantity")
    return int(text, 16)


def read_time(seconds: int, what: str, ahead: timedelta = AHEAD) -> datetime:
    """Return a block's time, given in seconds since 1970: from 2009 up to ``ahead`` of our clock."""
    latest = datetime.fromtimestamp(time.time(), UTC) + ahead
    if not FIRST_TIME.timestamp() <= seconds <= latest.timestamp():
        raise RailUnavailable(f"{what}: {printable(seconds, 40)} is no time of a block: before 2009 or in the future")
    return datetime.fromtimestamp(seconds, UTC)


def read_index(value: int, most: int, what: str) -> int:
    """Return a position: 0 up to ``most``, inclusive."""
    if isinstance(value, bool) or not 0 <= value <= most:
        raise RailUnavailable(f"{what}: {printable(value, 40)} is no position from 0 to {most}")
    return value


def read_text(text: str, most: int, what: str) -> str:
    """Return a text of at most ``most`` characters that holds no control characters, surrogates or NUL."""
    if len(text) > most or not text.isprintable():
        raise RailUnavailable(f"{what}: {printable(text, 80)!r} is no plain text of at most {most} characters")
    return text


def printable(text: object, most: int = 200) -> str:
    """Return a node's words for a reason or a log: one line of at most ``most`` characters, nothing in it invisible."""
    return printable_text(text, most)

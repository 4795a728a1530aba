"""What a hostile client does with one connection to a listener. Each act is seeded, and ends by itself or is ended."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import TypeAlias

Act: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter, random.Random], Awaitable[bytes]]

GOOD = b"GET /readyz HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n"
LINES = (
    *(b"GET", b"GET /", b"GET / HTTP/1.1 more", b" GET / HTTP/1.1", b"GET  / HTTP/1.1", b"GET\t/\tHTTP/1.1"),
    *(b"G\0ET / HTTP/1.1", b"GET / HTTP/2.0", b"PRI * HTTP/2.0", b"GET * HTTP/1.1", b"CONNECT x:1 HTTP/1.1"),
    *(b"GET http://127.0.0.1/healthz HTTP/1.1", b"OPTIONS * HTTP/1.1", b"get /healthz HTTP/1.1", b"", b"\x16\x03\x01"),
    *(b"GET /healthz http/1.1", b"\xff\xfe / HTTP/1.1", b"GET /" + b"a" * 9_000 + b" HTTP/1.1", b"x" * 20_000),
    *(b"GET / HTTP/1.1\rX: y", b"GET / HTTP/1.1\nHost: x\n"),
)
PATHS = (
    *("/", "//healthz", "/healthz/", "/healthz/../readyz", "/%68ealthz", "/readyz?x=" + "y" * 4_000, "/metrics#x"),
    *("/METRICS", "/../../etc/passwd", "/..%2f..%2fetc/passwd", "/healthz;x", "/healthz%00", "/\x7f", "/\x1b[2J"),
    *(
        "/\xe2\x80\xae",
        "/?",
        "/#",
        "/debug/pprof",
        "/.env",
        "/config",
        "/railwatch.toml",
        "/healthz\xff",
        "/" + "a/" * 2_000,
    ),
)
HEADERS = (
    *(b"Content-Length: 99999999999", b"Content-Length: -1", b"Transfer-Encoding: chunked", b"Expect: 100-continue"),
    *(b"Connection: keep-alive", b"Upgrade: websocket", b": x", b"no colon", b"X: " + b"y" * 9_000, b"A\0: b"),
    *(
        b"Range: bytes=0-",
        b"Accept-Encoding: gzip;q=nan",
        b"Host: a\r\nHost: b",
        b" folded",
        b"Cookie: " + b"a=b;" * 1_000,
    ),
    b"\xff" * 100,
)


async def ask_oddly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dice: random.Random) -> bytes:
    """Begin with a line that is no request, or one that hardly is."""
    writer.write(dice.choice(LINES) + b"\r\n\r\n")
    return await reader.read()


async def ask_for_odd_paths(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dice: random.Random) -> bytes:
    """Ask properly for what is not there."""
    writer.write(b"GET " + dice.choice(PATHS).encode("latin-1") + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    return await reader.read()


async def add_odd_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dice: random.Random) -> bytes:
    """Ask for a page with headers that readers of HTTP disagree on, or with a body."""
    verb = dice.choice((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"TRACE", b"PATCH"))
    writer.write(
        verb + b" /readyz HTTP/1.1\r\n" + dice.choice(HEADERS) + b"\r\n\r\n" + dice.choice((b"", b"x" * 5_000))
    )
    return await reader.read()


async def pipeline(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dice: random.Random) -> bytes:
    """Ask many times at once, and read what comes."""
    writer.write(GOOD * dice.randint(2, 500))
    return await reader.read()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dice: random.Random) -> bytes:
    """Send a request byte by byte, and never its end."""
    for byte in (GOOD[:-2] + b"X: " + b"y" * 10_000)[: dice.randint(1, 400)]:
        if writer.is_closing():
            break
        writer.write(bytes([byte]))
        await asyncio.sleep(0.005)
    return await reader.read()


async def stay_half_open(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dice: random.Random) -> bytes:
    """Send a part of a request, close that direction or not, and wait."""
    writer.write(GOOD[: dice.randint(0, len(GOOD) - 1)])
    if dice.random() < 0.5 and writer.can_write_eof():
        writer.write_eof()
    return await reader.read()


async def never_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dice: random.Random) -> bytes:
    """Ask for the largest page, and read nothing of it."""
    writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
    await asyncio.sleep(dice.uniform(0, 1))
    return b""


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dice: random.Random) -> bytes:
    """Send the first bytes of a request, or all of it, and reset the connection."""
    writer.write(GOOD[: dice.randint(0, len(GOOD))])
    await asyncio.sleep(dice.choice((0, 0, 0.01)))
    reset_after(writer)
    return b""


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dice: random.Random) -> bytes:
    """Send headers, or noise, until the listener has had enough."""
    part = dice.choice((b"X: y\r\n" * 1_000, b"a" * 65_536, dice.randbytes(65_536)))
    writer.write(b"GET / HTTP/1.1\r\n")
    for _ in range(200):
        if writer.is_closing():
            break
        writer.write(part)
        await writer.drain()
    return await reader.read()


def reset_after(writer: asyncio.StreamWriter) -> None:
    """Reset the connection, after what was sent."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


ACTS: tuple[Act, ...] = (
    *(ask_oddly, ask_for_odd_paths, add_odd_headers, pipeline, drip, stay_half_open, never_read, reset, flood),
)

"""What a hostile receiver does with one request. Each act is seeded; what it wrote is the oracle's evidence.

An act gets the connection after the request's head. It reads the body itself, if it reads it at all.
"""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import TypeAlias

from tests.fuzz.receivers.wire import Wire

Act: TypeAlias = Callable[[Wire, random.Random], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNK = b"a" * 65_536
LINES = (
    *(b"HTTP/1.1 2O0 OK", b"HTTP/1.1 200", b"HTTP/1.1  200 OK", b"HTTP/1.1 0200 OK", b"HTTP/1.1 +200 OK"),
    *(b"HTTP/1.1 200\0OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1 -200 OK", b"HTTP/1.1 200.5 OK"),
    *(
        b"HTTP/0.9 200 OK",
        b"HTTP/1.0 200 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/2 200",
        b"HTTP/9.9 200 OK",
        b"http/1.1 200 OK",
    ),
    *(
        b"ICY 200 OK",
        b"200 OK",
        b" HTTP/1.1 200 OK",
        b"HTTP/1.1\t200\tOK",
        b"HTTP/1.1 200 " + b"x" * 9_000,
        b"\xff" * 40,
    ),
    *(b"HTTP/1.1 199 OK", b"HTTP/1.1 299 OK", b"HTTP/1.1 300 OK", b"HTTP/1.1 000 OK", b"HTTP/1.1 999 OK", b""),
    *(b"HTTP/1.1 \xd9\xa2\xd9\xa0\xd9\xa0 OK", b"HTTP/1.1 200 \x1b[2J\xe2\x80\xae", b"POST /hook HTTP/1.1"),
)
"""Lines of status, most of them wrong."""
HEADERS = (
    *(b"Content-Length: -1", b"Content-Length: 0x10", b"Content-Length: " + b"9" * 400, b"Content-Length: 2, 2"),
    *(
        b"Content-Length: 1\r\nContent-Length: 7",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3",
        b"Content-Length:",
    ),
    *(b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding: xchunked"),
    *(b"Content-Encoding: gzip", b"Content-Encoding: br", b"Content-Encoding: zstd", b"Content-Encoding: \xff"),
    *(b": empty", b"No colon", b"A\0B: c", b"X: a\nY: b", b" folded: x", b"X: a\r\n folded", b"X : y", b"\r: x"),
    *(b"Connection: upgrade\r\nUpgrade: websocket", b"Connection: close", b"Keep-Alive: timeout=" + b"9" * 30),
    *(b"Retry-After: " + each for each in (b"9" * 5_000, b"-1", b"1e400", b"nan", b"\xd9\xa3", b"Wed, 99 Foo 2099")),
    *(b"Set-Cookie: a=" + b"b" * 4_000, b"Set-Cookie: \x01=\x02; Domain=..", b"Content-Type: a\xffb; charset=\x1b[31m"),
    *(b"Location: //[", b"Link: <" + b"a" * 4_000 + b">", b'Alt-Svc: h3=":1"', b'WWW-Authenticate: Basic realm="x'),
)
PLACES = (
    *("/hook", "//127.0.0.1:1/", "http://169.254.169.254/latest/meta-data/", "https://[::1]/", "file:///etc/passwd"),
    *("gopher://127.0.0.1:11211/", "unix:/run/x.sock", "data:text/plain,ok", "", "http://[", "\x7f", "http://a@b@c/"),
)
INTERIM = (
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\n\r\n",
    b"HTTP/1.1 103 Hints\r\nLink: <x>\r\n\r\n",
)


async def accept(wire: Wire, dice: random.Random) -> None:
    """Answer as an honest receiver does, and stay."""
    await wire.read_body()
    await wire.say(
        dice.choice((OK, b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"))
    )


async def refuse(wire: Wire, dice: random.Random) -> None:
    """Say any other status, with any pause to wait for."""
    await wire.read_body()
    status = dice.choice((400, 401, 403, 404, 409, 410, 413, 418, 429, 500, 502, 503, 504, 599))
    pause = dice.choice((b"1", b"9" * 300, b"", b"Fri, 31 Dec 9999 23:59:59 GMT", b"\xff"))
    await wire.say(b"HTTP/1.1 %d No\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n" % (status, pause))


async def redirect(wire: Wire, dice: random.Random) -> None:
    """Lead elsewhere: inside, in a circle, to other schemes."""
    status, place = dice.choice((300, 301, 302, 303, 307, 308, 399)), dice.choice(PLACES).encode()
    await wire.say(b"HTTP/1.1 %d Go\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (status, place))


async def say_odd_line(wire: Wire, dice: random.Random) -> None:
    """Begin with a line of status that is none, and go on as if it were one."""
    await wire.say(dice.choice(LINES) + b"\r\nContent-Length: 0\r\n\r\n")
    await wire.close()


async def say_odd_header(wire: Wire, dice: random.Random) -> None:
    """Add one header that readers of HTTP disagree on."""
    status = dice.choice((b"200 OK", b"200 OK", b"503 No", b"204 None"))
    await wire.say(b"HTTP/1.1 " + status + b"\r\n" + dice.choice(HEADERS) + b"\r\n\r\nab\r\n0\r\n\r\n")
    await wire.close()


async def say_many_headers(wire: Wire, dice: random.Random) -> None:
    """Send headers without end: short ones, or one that is long."""
    await wire.say(b"HTTP/1.1 200 OK\r\n")
    line = dice.choice((b"X: y\r\n" * 5_000, CHUNK, b"X: " + CHUNK + b"\r\n"))
    await wire.say_for_ever(line)


async def drip(wire: Wire, dice: random.Random) -> None:
    """Send a head, a body or a chunk byte by byte, and never end."""
    begin = dice.choice((b"HTTP/1.1 200 OK\r\nX: ", b"", b"HTTP/1.1 503 No\r\nContent-Length: 9999999\r\n\r\n", b"H"))
    await wire.say(begin)
    await wire.say_for_ever(b"1", pause=0.01)


async def hang(wire: Wire, dice: random.Random) -> None:
    """Keep the connection and say nothing, or half of something."""
    await wire.say(dice.choice((b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 2", b"HTTP/1.1 100 Continue\r\n\r\n")))
    await asyncio.Event().wait()


async def flood_interim(wire: Wire, dice: random.Random) -> None:
    """Send answers that promise an answer, without end."""
    await wire.say_for_ever(dice.choice(INTERIM) * 500)


async def flood_body(wire: Wire, dice: random.Random) -> None:
    """Send a body without end, in chunks or until the close, with any status."""
    status = dice.choice((b"200 OK", b"500 No"))
    if dice.random() < 0.5:
        await wire.say(b"HTTP/1.1 " + status + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        await wire.say_for_ever(b"10000\r\n" + CHUNK + b"\r\n")
    await wire.say(b"HTTP/1.1 " + status + b"\r\n\r\n")
    await wire.say_for_ever(CHUNK)


@lru_cache(maxsize=1)
def bomb() -> bytes:
    """256 MiB of zeros in a quarter of a megabyte."""
    return gzip.compress(b"\0" * (256 << 20), 9)


async def inflate(wire: Wire, dice: random.Random) -> None:
    """Send what is large once it is unpacked, though no client asked for a coding."""
    status = dice.choice((b"200 OK", b"503 No"))
    await wire.say(b"HTTP/1.1 " + status + b"\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb()))
    await wire.say(bomb())


async def chunk_badly(wire: Wire, dice: random.Random) -> None:
    """Send chunks whose sizes are none, or whose ends are missing."""
    size = dice.choice(
        (b"-1", b"zz", b"f" * 40, b"0x5", b"5;" + b"e" * 20_000, b"", b" 5", b"5\n", b"80000000000000000")
    )
    await wire.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\nhello\r\n")
    await wire.say(dice.choice((b"0\r\n\r\n", b"0\r\nTrailer: x\r\n" * 50, b"")))
    await wire.close()


async def close_early(wire: Wire, dice: random.Random) -> None:
    """Send the first bytes of a good answer, and close or reset."""
    await wire.say(OK[: dice.randint(0, len(OK))])
    await wire.close(reset=dice.random() < 0.5)


async def answer_unread(wire: Wire, dice: random.Random) -> None:
    """Answer before the body was read, then read some of it, close or reset."""
    await wire.say(dice.choice((OK, b"HTTP/1.1 413 Too large\r\nContent-Length: 0\r\n\r\n")))
    await wire.close(reset=dice.random() < 0.5)


async def speak_no_http(wire: Wire, dice: random.Random) -> None:
    """Speak another protocol: HTTP/0.9, SMTP, TLS, HTTP/2, a websocket, or noise."""
    words = (
        *(b"<html>200 OK</html>", b"220 smtp.example ESMTP\r\n", b"\x16\x03\x01\x00\x05hello", b"SSH-2.0-x\r\n"),
        *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\0\x12\x04\0\0\0\0\0", dice.randbytes(2_000), b"\r\n" * 5_000),
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello",
    )
    await wire.say(dice.choice(words))
    await wire.close()


async def answer_the_next_too(wire: Wire, dice: random.Random) -> None:
    """Refuse this request, and send the answer of the next one before it is asked, at once or a little later."""
    first = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
    await wire.read_body()
    if dice.random() < 0.5:
        wire.poisoned.clear()
        await wire.say(first)
        await asyncio.sleep(0.03)
        await wire.poison(OK)
    else:
        await wire.say(first + OK, counts=len(first))


ACTS: tuple[Act, ...] = (
    *(accept, refuse, redirect, say_odd_line, say_odd_header, say_many_headers, drip, hang, flood_interim, flood_body),
    *(inflate, chunk_badly, close_early, answer_unread, speak_no_http, answer_the_next_too),
)
COSTLY = frozenset((drip, hang, flood_interim, flood_body, say_many_headers))
"""Acts that go on until the deliverer's patience ends."""

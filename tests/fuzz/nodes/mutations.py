"""How an honest answer is made hostile: one change of its JSON, of its bytes, or of its HTTP. Pure, and seeded."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

MIB = 1024 * 1024
NASTY: tuple[Any, ...] = (
    *(None, True, False, "", "0x", "0x0", "-0x5", "0x1_0", " 0x1", "0X1", "0x" + "f" * 64, "0x" + "f" * 65),
    *("a\0b", "\x1b[31m", "\u202e", "\U0001f600" * 30, "x" * 6_000, "zz" * 20, "0x" + "00" * 32, "0x" + "AB" * 32),
    *("1" * 44, "1" * 88, "0" * 64, "F" * 64, "-1", "1e9", "latest", "ok"),
    *(-1, 0, 1, 255, 65_535, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, -(2**63), 10**30, 1.5, 1e308, -0.0),
    *([], {}, [[]], [None], [{}], {"": {}}, {"calls": [{"type": "CALL"}]}, {"code": -32000, "message": "no"}),
)
"""Values that some JSON parser confuses with another."""
ERRORS: tuple[Any, ...] = (
    *({}, [], "rate limit", 7, {"code": "x"}, {"code": None, "message": None}, {"code": 10**30, "message": "a\0b"}),
    *({"code": -32005, "message": "x" * 9_000}, {"message": {"deep": [1]}}, {"code": -32601, "message": "\x1b[2J"}),
    *({"code": -32601, "message": "no"}, {"code": -32000, "message": "header not found"}, {"code": -5, "message": "?"}),
    *({"code": -8, "message": "out of range"}, {"code": -28, "message": "Loading"}, {"code": 1.5, "message": "x"}),
    *({"code": -32015, "message": "version"}, {"code": -32001, "message": "cleaned up"}, {"code": -32004}),
    *({"code": -32016, "message": "behind"}, {"code": -1, "message": "prune"}, {"code": -32602, "message": "param"}),
)
STATUSES = (100, 204, 206, 301, 302, 304, 400, 401, 403, 404, 405, 408, 413, 429, 451, 500, 501, 502, 503, 504, 599)
PAUSES = ("", "1", "-1", "0", "1e400", "nan", "inf", "9" * 400, "Wed, 21 Oct 2099 07:28:00 GMT", "a\xffb", "٣")


@dataclass(slots=True)
class Hostile:
    """What is sent instead of an honest answer. ``raw``: instead of a whole HTTP response, and then the socket closes.

    ``words`` say what was done. ``slow``: seconds before each kilobyte. ``endless``: ``body`` is sent again and again.
    """

    words: str
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    hangs: bool = False
    endless: bool = False
    slow: float = 0.0


def make_hostile(honest: bytes, dice: random.Random, *, heavy: bool) -> Hostile:
    """Change an answer. ``heavy``: what costs many megabytes may be chosen too."""
    roll = dice.random()
    if roll < 0.72:
        return change_json(honest, dice, heavy=heavy)
    if roll < 0.86:
        return change_bytes(honest, dice)
    return change_http(honest, dice, heavy=heavy)


def change_json(honest: bytes, dice: random.Random, *, heavy: bool) -> Hostile:
    """Change one thing somewhere in it, or a few; bytes where it is no JSON."""
    try:
        value = json.loads(honest)
    except ValueError:
        return change_bytes(honest, dice)
    raws: dict[str, bytes] = {}
    words = []
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        value, what = _changed(value, dice, raws, heavy, "")
        words.append(what)
    text = json.dumps(value).encode("utf-8", "surrogatepass")
    for token, raw in raws.items():
        text = text.replace(json.dumps(token).encode(), raw)
    return Hostile("; ".join(words), text)


def _changed(value: Any, dice: random.Random, raws: dict[str, bytes], heavy: bool, where: str) -> tuple[Any, str]:
    """Return the value with one thing in it changed, and which."""
    if isinstance(value, dict) and value and dice.random() < 0.88:
        return _changed_object(value, dice, raws, heavy, where)
    if isinstance(value, list) and value and dice.random() < 0.88:
        return _changed_list(value, dice, raws, heavy, where)
    if isinstance(value, str) and value and dice.random() < 0.5:
        return _changed_text(value, dice, where)
    if dice.random() < 0.2:
        name, raw = _raw_value(dice, heavy)
        token = f"@@{len(raws)}@@"
        raws[token] = raw
        return token, f"{where or 'all'} became {name}"
    if dice.random() < 0.15:
        return _other_type(value), f"{where or 'all'} has another type"
    made = dice.choice(NASTY)
    return made, f"{where or 'all'} became {made!r:.60}"


def _changed_object(
    value: dict[str, Any], dice: random.Random, raws: dict[str, bytes], heavy: bool, where: str
) -> tuple[Any, str]:
    key = dice.choice(sorted(value))
    place = f"{where}.{key}"
    roll = dice.random()
    if roll < 0.08:
        return {name: item for name, item in value.items() if name != key}, f"{place} left out"
    if roll < 0.14 and "id" in value:
        error = dice.choice(ERRORS)
        kept = {} if dice.random() < 0.5 else value
        return {**kept, "id": value["id"], "error": error}, f"{where} has the error {error!r:.60}"
    if roll < 0.18:
        other = dice.choice(sorted(value))
        return {**value, key: value[other], other: value[key]}, f"{place} and .{other} change places"
    if "result" in value and roll < 0.6:
        key, place = "result", f"{where}.result"
    changed, words = _changed(value[key], dice, raws, heavy, place)
    return {**value, key: changed}, words


def _changed_list(
    value: list[Any], dice: random.Random, raws: dict[str, bytes], heavy: bool, where: str
) -> tuple[Any, str]:
    at = dice.randrange(len(value))
    place = f"{where}[{at}]"
    roll = dice.random()
    if roll < 0.06:
        return [*value[:at], *value[at + 1 :]], f"{place} left out"
    if roll < 0.12:
        return [*value[:at], value[at], *value[at:]], f"{place} twice"
    if roll < 0.16:
        return dice.sample(value, len(value)), f"{where} in another order"
    if roll < 0.19:
        return value[: len(value) // 2], f"{where} cut in half"
    if roll < 0.22:
        text = json.dumps(value[at]).encode()
        size = dice.choice((MIB // 4, 2 * MIB, 60 * MIB if heavy else 6 * MIB))
        token = f"@@{len(raws)}@@"
        raws[token] = b"[" + b",".join([text] * max(2, size // (len(text) + 1))) + b"]"
        return token, f"{where} holds {place} for {len(raws[token]):,} bytes"
    changed, words = _changed(value[at], dice, raws, heavy, place)
    return [*value[:at], changed, *value[at + 1 :]], words


def _changed_text(value: str, dice: random.Random, where: str) -> tuple[str, str]:
    at = dice.randrange(len(value))
    ways: tuple[tuple[str, Callable[[], str]], ...] = (
        ("cut", lambda: value[:at]),
        ("one character less", lambda: value[:at] + value[at + 1 :]),
        ("one character more", lambda: value[:at] + dice.choice("0fFzZ \0\n-") + value[at:]),
        ("another character", lambda: value[:at] + dice.choice("0123456789abcdef") + value[at + 1 :]),
        ("ff from there on", lambda: value[:at] + "f" * (len(value) - at)),
        ("00 from there on", lambda: value[:at] + "0" * (len(value) - at)),
        ("upper case", value.upper),
        ("twice", lambda: value * 2),
        ("a thousand times", lambda: value[:2_000] * 1_000),
        ("an eth of its own", lambda: "0x" + f"{dice.getrandbits(8 * 32):064x}"),
    )
    name, made = dice.choice(ways)
    return made(), f"{where}, a text of {len(value)}: {name} (at {at})"


def _other_type(value: Any) -> Any:
    if isinstance(value, str):
        return int(value, 16) if value.startswith("0x") and value[2:].isalnum() and _is_hex(value) else [value]
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list):
        return {str(at): item for at, item in enumerate(value[:50])}
    return list(value.values())


def _is_hex(text: str) -> bool:
    try:
        int(text, 16)
    except ValueError:
        return False
    return True


def _raw_value(dice: random.Random, heavy: bool) -> tuple[str, bytes]:
    """JSON that Python's own encoder would not write."""
    deep = dice.choice((100, 900, 1_100, 3_100, 50_000))
    many = dice.choice((1_000, MIB, 20 * MIB if heavy else 2 * MIB))
    ways: tuple[Callable[[], tuple[str, bytes]], ...] = (
        lambda: (f"{deep:,} nested arrays", b"[" * deep + b"]" * deep),
        lambda: (f"{deep:,} nested objects", b'{"a":' * deep + b"1" + b"}" * deep),
        lambda: (f"{deep:,} nested calls", b'{"type":"CALL","calls":[' * deep + b"]}" * deep),
        lambda: (f"{deep:,} brackets without an end", b"[" * deep),
        lambda: (f"a number of {deep:,} digits", b"9" * deep),
        lambda: (f"a negative number of {deep:,} digits", b"-" + b"9" * deep),
        lambda: (f"a number with {deep:,} digits after its point", b"0." + b"3" * deep),
        lambda: ("1e999999", b"1e999999"),
        lambda: ("NaN", b"NaN"),
        lambda: ("a lone surrogate", b'"\\ud800"'),
        lambda: ("bytes that are no UTF-8", b'"\xff\xfe\x80"'),
        lambda: ("a key twice", b'{"hash":"a","hash":1,"hash":null}'),
        lambda: (f"{many:,} empty arrays", b"[" + b"[]," * many + b"[]]"),
        lambda: (f"{many:,} empty objects", b"[" + b"{}," * many + b"{}]"),
        lambda: (f"{many:,} empty texts", b"[" + b'"",' * many + b'""]'),
        lambda: (f"{many:,} zeros", b"[" + b"0," * many + b"0]"),
        lambda: (f"an object of {many // 8:,} keys", _many_keys(many // 8)),
        lambda: (f"a text of {many:,}", b'"' + b"a" * many + b'"'),
        lambda: (f"a text of {many:,} escapes", b'"' + b"\\u0041" * (many // 6) + b'"'),
        lambda: (f"hex of {many:,}", b'"0x' + b"f" * many + b'"'),
        lambda: (f"{many:,} blanks", b" " * many + b"1"),
    )
    return dice.choice(ways)()


@lru_cache(maxsize=4)
def _many_keys(count: int) -> bytes:
    return b"{" + b",".join(b'"%x":0' % at for at in range(count)) + b"}"


def change_bytes(honest: bytes, dice: random.Random) -> Hostile:
    """Change bytes, whatever they mean."""
    at = dice.randrange(len(honest) + 1)
    flipped = bytearray(honest)
    for _ in range(dice.choice((1, 1, 4, 20))):
        if flipped:
            flipped[dice.randrange(len(flipped))] = dice.randrange(256)
    ways: tuple[tuple[str, Callable[[], bytes]], ...] = (
        (f"cut at {at}", lambda: honest[:at]),
        ("bytes flipped", lambda: bytes(flipped)),
        ("bytes flipped once more", lambda: bytes(flipped)),
        ("empty", lambda: b""),
        ("blanks", lambda: b" " * 2_000),
        ("HTML", lambda: b"<html><body>502 Bad Gateway</body></html>"),
        ("a mark of byte order", lambda: b"\xef\xbb\xbf" + honest),
        ("UTF-16", lambda: honest.decode("utf-8", "replace").encode("utf-16")),
        ("twice", lambda: honest + honest),
        ("something after it", lambda: honest + b"]}"),
        ("in an array", lambda: b"[" + honest + b"]"),
        ("ff from there on", lambda: honest[:at] + b"\xff" * (len(honest) - at)),
        ("zeros from there on", lambda: honest[:at] + bytes(len(honest) - at)),
        ("random bytes", lambda: dice.randbytes(dice.choice((1, 80, 4_000)))),
        ("null", lambda: b"null"),
        ("a bare number", lambda: b"7"),
    )
    name, made = dice.choice(ways)
    return Hostile(name, made())


def change_http(honest: bytes, dice: random.Random, *, heavy: bool) -> Hostile:
    """Change how it is sent."""
    status = dice.choice(STATUSES)
    odd = dice.choice((b"", honest, b"no", b"<html>", b'{"error":"no"}', b'{"message":"a\\u0000b"}', b"[]", b"{}"))
    deflated = zlib.compress(honest)
    ways: list[Callable[[], Hostile]] = [
        lambda: Hostile(f"HTTP {status} with {odd[:20]!r}", odd, status),
        lambda: _paused(dice, odd),
        lambda: Hostile("gzip, as it says", gzip.compress(honest), headers={"Content-Encoding": "gzip"}),
        lambda: Hostile("no gzip, as it says", honest, headers={"Content-Encoding": "gzip"}),
        lambda: Hostile("cut gzip", gzip.compress(honest)[:-9], headers={"Content-Encoding": "gzip"}),
        lambda: Hostile("deflate", deflated, headers={"Content-Encoding": "deflate"}),
        lambda: Hostile("br", honest, headers={"Content-Encoding": "br"}),
        lambda: Hostile("gzip twice", gzip.compress(gzip.compress(honest)), headers={"Content-Encoding": "gzip, gzip"}),
        lambda: Hostile("an odd coding", honest, headers={"Content-Encoding": "\x1b[31m" + "x" * 5_000}),
        lambda: Hostile("another kind of content", honest, headers={"Content-Type": dice.choice(KINDS)}),
        lambda: Hostile("a redirect", b"", 302, {"Location": dice.choice(("/", "http://[", "file:///etc/passwd"))}),
        lambda: Hostile("cookies", honest, headers={"Set-Cookie": "a=" + "b" * 4_000 + "; Domain=.; Max-Age=9" * 3}),
        lambda: Hostile("never", hangs=True),
        lambda: Hostile("slow", honest, slow=0.2),
        *(partial(Hostile, name, raw=raw) for name, raw in _broken_http(honest)),
    ]
    if heavy:
        ways += [
            lambda: Hostile("a bomb of 2 GB", bomb(2_048), headers={"Content-Encoding": "gzip"}),
            lambda: Hostile("a bomb of empty arrays", bomb(512, b"[],"), headers={"Content-Encoding": "gzip"}),
            lambda: Hostile("an endless body", b"[" * MIB, endless=True),
            lambda: Hostile("endless headers", endless=True, raw=b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 10_000),
            lambda: Hostile("a header without an end", endless=True, raw=b"HTTP/1.1 200 OK\r\nX: " + b"b" * 100_000),
        ]
    return dice.choice(ways)()


KINDS = ("text/html", "", "application/json; charset=nonsense", "a/b; charset=utf-7", "\xff", "x" * 3_000, "text/plain")


def _paused(dice: random.Random, odd: bytes) -> Hostile:
    pause = dice.choice(PAUSES)
    return Hostile(f"429 with Retry-After {pause[:20]!r}", odd, dice.choice((429, 503)), {"Retry-After": pause})


def _broken_http(honest: bytes) -> tuple[tuple[str, bytes], ...]:
    start = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    chunked = start + b"Transfer-Encoding: chunked\r\n\r\n"
    return (
        ("closed at once", b""),
        ("no HTTP", b"SSH-2.0-OpenSSH_9.2p1\r\n"),
        ("HTTP/0.9", honest),
        ("a status without a number", b"HTTP/1.1 abc OK\r\n\r\n"),
        ("a status of six digits", b"HTTP/1.1 200200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("more promised than sent", start + b"Content-Length: 99999999\r\n\r\n" + honest),
        ("less promised than sent", start + b"Content-Length: 3\r\n\r\n" + honest),
        ("a length that is none", start + b"Content-Length: -1\r\n\r\n" + honest),
        ("two lengths", start + b"Content-Length: 1\r\nContent-Length: 9\r\n\r\n" + honest),
        ("a huge chunk", chunked + b"ffffffffffffffff\r\n" + honest),
        ("a chunk that is none", chunked + b"zz\r\n" + honest),
        ("a cut chunk", chunked + b"ffff\r\n" + honest[:100]),
        ("a long chunk extension", chunked + b"1;" + b"a" * 20_000 + b"\r\n{\r\n0\r\n\r\n"),
        ("a header with a NUL", start + b"X-\0: \0\r\nContent-Length: 2\r\n\r\n{}"),
        ("a hundred continues", b"HTTP/1.1 100 Continue\r\n\r\n" * 100 + start + b"Content-Length: 2\r\n\r\n{}"),
        (
            "switching protocols",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + honest,
        ),
    )


@lru_cache(maxsize=2)
def bomb(megabytes: int, filling: bytes = b" ") -> bytes:
    """Gzip that inflates to so many megabytes."""
    engine = zlib.compressobj(9, wbits=31)
    block = filling * (MIB // len(filling))
    parts = [engine.compress(b"["), *(engine.compress(block) for _ in range(megabytes)), engine.flush()]
    return b"".join(parts)

"""What a node sends is bounded before any code reads it: bytes, levels of nesting, and the shape of every value."""

import asyncio
import gzip
import json
import resource
import sys
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from railwatch.rail import RailUnavailable
from railwatch.rail.decoding import (
    AnswerTooLarge,
    TooMany,
    bound_recursion,
    check_nesting,
    decode,
    decode_each,
    nesting,
    off_loop,
    printable,
    read_body,
    read_hex,
    read_index,
    read_quantity,
    read_text,
    read_time,
)

MEGABYTE = 1024 * 1024
ANYTHING: "msgspec.json.Decoder[Any]" = msgspec.json.Decoder()
BRACKETS = st.sampled_from(["[", ']"', "{}", "\\", '\\"', "plain"])
JSON = st.recursive(
    st.none() | st.integers() | BRACKETS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(BRACKETS, inner, max_size=3),
    max_leaves=60,
)


def levels(value: Any) -> int:
    """Return the levels of nesting, counted on the decoded value."""
    if not isinstance(value, list | dict):
        return 0
    return 1 + max(map(levels, value.values() if isinstance(value, dict) else value), default=0)


@given(JSON, st.booleans())
@settings(max_examples=200, deadline=None)
def test_nesting_is_counted_outside_strings_only(value: Any, spaced: bool) -> None:
    assert nesting(json.dumps(value, indent=1 if spaced else None).encode()) == levels(value)


@pytest.mark.parametrize("depth", [1, 31, 32, 33, 1_000, 100_000])
def test_deep_nesting_is_counted_to_its_end(depth: int) -> None:
    assert nesting(b"[" * depth + b"]" * depth) == depth
    assert nesting(b'[1,{"a":' * depth + b"0" + b"}]" * depth) == 2 * depth
    with pytest.raises(RailUnavailable, match="levels of nesting"):
        check_nesting(b"[" * depth, depth - 1, "node")


@pytest.mark.parametrize("raw", [b'"' + b'\\"' * 1_000_000, b'"' * 1_000_001, b'["' + b"[" * 1_000_000])
def test_unfinished_strings_are_passed_in_linear_time(raw: bytes) -> None:
    begun = time.process_time()
    assert nesting(raw) <= 1
    assert time.process_time() - begun < 2


def test_deep_json_is_refused_whatever_limit_a_library_has_set() -> None:
    """py_ecc, which web3 imports, sets a limit of 100,000: then C code overflows the stack and the process ends."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        for depth in (30_000, 2_000_000):
            with pytest.raises(RailUnavailable, match=r"levels of nesting|values"):
                decode(b"[" * depth + b"]" * depth, ANYTHING, "node")
        assert sys.getrecursionlimit() == 1_000
    finally:
        sys.setrecursionlimit(before)
        bound_recursion()


@pytest.mark.parametrize(
    "raw", [b"", b"<html>", b'{"a":', b"\xff", b'"\\ud800"', b'{"a":"\xf9\x00"}', b"nan", b'{"a":1}x', b"1" * 10_000]
)
def test_what_is_no_json_of_the_expected_shape_is_the_nodes_fault(raw: bytes) -> None:
    decoder = msgspec.json.Decoder(dict[str, str])
    with pytest.raises(RailUnavailable):
        decode(raw, decoder, "node")


@pytest.mark.parametrize("value", [b"[]", b"{}", b'""', b"0", b"[[],{}]"])
def test_bytes_alone_bound_no_memory_so_values_are_counted(value: bytes) -> None:
    """An empty array is three bytes, and sixty once it is decoded: 60 MB of them would be 1.2 GB (10 MB here)."""
    raw = b"[" + b",".join([value] * (10 * MEGABYTE // (len(value) + 1))) + b"]"
    tracemalloc.start()
    try:
        for read in (lambda: decode(raw, ANYTHING, "node"), lambda: decode_each(raw, ANYTHING, "node")):
            with pytest.raises(TooMany, match="values"):
                read()
        assert tracemalloc.get_traced_memory()[1] < 32 * MEGABYTE
    finally:
        tracemalloc.stop()


def test_what_real_nodes_answer_has_fewer_values_than_the_bound() -> None:
    """32 MB of logs, as a range of many blocks may give: the densest that is asked for together."""
    item = {"address": "0x" + "a" * 40, "topics": ["0x" + "b" * 64] * 3, "data": "0x" + "c" * 64, "logIndex": "0x1"}
    raw = msgspec.json.encode([item] * 90_000)
    assert len(raw) > 30 * MEGABYTE
    assert len(decode_each(raw, ANYTHING, "node")) == 90_000


def test_an_array_is_decoded_item_by_item() -> None:
    decoder = msgspec.json.Decoder(int)
    assert decode_each(b" [1, 2 ,3]", decoder, "node") == [1, 2, 3]
    assert decode_each(b"null", decoder, "node") == []
    with pytest.raises(RailUnavailable):
        decode_each(b'[1,"2"]', decoder, "node")


@asynccontextmanager
async def served(
    body: Callable[[web.StreamResponse], Any], headers: dict[str, str], status: int = 200
) -> AsyncIterator[str]:
    """Yield a server whose answer ``body`` writes."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        with suppress(ConnectionError, asyncio.CancelledError):
            await body(response)
        return response

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def fetched(url: str, most: int) -> bytes:
    """Return what `read_body` makes of the server's answer."""
    async with aiohttp.ClientSession(auto_decompress=False) as session, session.get(url) as response:
        return await read_body(response, most, "node")


@pytest.mark.parametrize(("coding", "pack"), [("identity", bytes), ("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_body_within_its_cap_is_read_whole(coding: str, pack: Callable[[bytes], bytes]) -> None:
    plain = bytes(range(256)) * 4096
    async with served(lambda response: response.write(pack(plain)), {"Content-Encoding": coding}) as url:
        assert await fetched(url, len(plain)) == plain
        with pytest.raises(AnswerTooLarge, match="larger than"):
            await fetched(url, len(plain) - 1)


async def test_a_bomb_costs_no_more_than_its_cap() -> None:
    """1 MB on the wire that would be 0.5 GB: refused at 8 MiB, while the loop goes on."""
    engine = zlib.compressobj(1, wbits=31)
    bomb = b"".join(engine.compress(bytes(16 * MEGABYTE)) for _ in range(32)) + engine.flush()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stalled = 0.0

    async def tick() -> None:
        nonlocal stalled
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.005)
            stalled = max(stalled, time.monotonic() - begun)

    async with served(lambda response: response.write(bomb), {"Content-Encoding": "gzip"}) as url:
        ticking = asyncio.create_task(tick())
        with pytest.raises(AnswerTooLarge):
            await fetched(url, 8 * MEGABYTE)
        ticking.cancel()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 64, f"{grown:.0f} MB more"
    assert stalled < 0.25


async def test_what_comes_with_an_error_is_short() -> None:
    """Its words are all that is needed of it."""
    async with served(lambda response: response.write(b" " * 2 * MEGABYTE), {}, status=500) as url:
        with pytest.raises(AnswerTooLarge):
            await fetched(url, 64 * MEGABYTE)


async def test_an_endless_body_ends_at_its_cap() -> None:
    async def endless(response: web.StreamResponse) -> None:
        while True:
            await response.write(b"[" * 65_536)

    async with served(endless, {}) as url:
        with pytest.raises(AnswerTooLarge):
            await fetched(url, MEGABYTE)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "gzip"])
async def test_a_coding_that_cannot_be_bounded_is_the_nodes_fault(coding: str) -> None:
    async with served(lambda response: response.write(b"[]"), {"Content-Encoding": coding}) as url:
        with pytest.raises(RailUnavailable):
            await fetched(url, MEGABYTE)


async def test_a_large_answer_is_decoded_outside_the_loop() -> None:
    """50 MB of logs, item by item: the loop goes on turning all the while."""
    item = b'{"topics":["' + b"a" * 66 + b'"],"data":"' + b"0" * 300 + b'"}'
    raw = b"[" + b",".join([item] * 120_000) + b"]"
    decoder = msgspec.json.Decoder(dict[str, Any])
    work, turns = asyncio.create_task(off_loop(len(raw), lambda: decode_each(raw, decoder, "node"))), 0
    while not work.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert len(await work) == 120_000
    assert turns > 5


HASH = "0x" + "aB" * 32
NOW = int(time.time())


def test_values_of_the_right_shape_are_accepted() -> None:
    assert read_hex(HASH, 32, "hash") == HASH.lower()
    assert read_quantity("0x" + "f" * 64, "value") == 2**256 - 1
    assert read_time(NOW, "time").timestamp() == NOW
    assert read_index(0, 0, "index") == 0
    assert read_text("Überweisung 7", 20, "memo") == "Überweisung 7"


@pytest.mark.parametrize(
    "read",
    [
        lambda: read_hex(HASH[:-1], 32, "hash"),
        lambda: read_hex(HASH[:-1] + "\0", 32, "hash"),
        lambda: read_hex(HASH + "\n", 32, "hash"),
        lambda: read_hex("0x" + "a_" * 32, 32, "hash"),
        lambda: read_quantity("0x", "value"),
        lambda: read_quantity("-0x5", "value"),
        lambda: read_quantity("0x" + "f" * 65, "value"),
        lambda: read_quantity("0x1_0", "value"),
        lambda: read_quantity("0x1\n", "value"),
        lambda: read_time(-1, "time"),
        lambda: read_time(0, "time"),
        lambda: read_time(2**64, "time"),
        lambda: read_time(10**5000, "time"),
        lambda: read_time(NOW + 100_000, "time"),
        lambda: read_index(-1, 5, "index"),
        lambda: read_index(6, 5, "index"),
        lambda: read_text("\x1b[31m", 20, "memo"),
        lambda: read_text("a\0b", 20, "memo"),
        lambda: read_text("\ud800", 20, "memo"),
        lambda: read_text("a" * 21, 20, "memo"),
    ],
)
def test_values_of_another_shape_are_the_nodes_fault(read: Callable[[], object]) -> None:
    with pytest.raises(RailUnavailable) as caught:
        read()
    assert str(caught.value).isprintable()


def test_a_nodes_words_are_printed_without_control_characters() -> None:
    assert printable("a\0b\x1b[31mc\nd") == r"a\x00b\x1b[31mc\nd"
    assert len(printable("x" * 10_000)) == 200

"""Hostile receivers of webhooks, for some seconds: the long form is ``make fuzz-receivers ARGS="--minutes 60"``."""

import asyncio
import os
import random
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from railwatch.store.database import Database
from railwatch.webhooks.sender import Sender
from tests.fuzz.receivers import acts
from tests.fuzz.receivers.__main__ import format_report
from tests.fuzz.receivers.run import endpoint, event, fuzz
from tests.fuzz.receivers.server import hostile_receiver
from tests.fuzz.receivers.wire import Wire
from tests.nodes.proxies import make_authority
from tests.webhooks.conftest import shop  # noqa: F401  (a fixture)
from tests.webhooks.receiver import receiver
from tests.webhooks.shop import Shop, until, webhook

EXAMPLES = 40
SEED = 1


async def test_every_attempt_ends_in_words_and_only_a_2xx_to_that_request_counts() -> None:
    """Times and memory are printed, not compared."""
    report = await fuzz(SEED, examples=EXAMPLES)
    print(format_report(report))
    assert len(report.acts) == len(acts.ACTS)
    assert report.accepted > EXAMPLES
    assert not report.findings, "\n".join(report.findings)


@pytest.mark.parametrize("reset", [False, True], ids=["close", "reset"])
async def test_an_answer_that_ends_at_any_byte_counts_from_its_whole_head_on(reset: bool) -> None:
    length, head = iter(range(len(acts.OK) + 1)), acts.OK.index(b"\r\n\r\n") + 4

    async def cut(wire: Wire, _: random.Random) -> None:
        await wire.read_body()
        await wire.say(acts.OK[: next(length)])
        await wire.close(reset=reset)

    async with hostile_receiver("", [cut]) as shopkeeper, Sender(*endpoint(shopkeeper.url, timeout=5)) as sender:
        for sent in range(len(acts.OK) + 1):
            attempt = await sender.post(event())
            # What was sent before a reset may be lost with it, and then it was not answered.
            assert attempt.failure is not None or sent >= head
            assert attempt.failure is None or sent < head or reset


@pytest.mark.parametrize("pause", [0.0, 0.05], ids=["at once", "later"])
async def test_an_answer_that_was_sent_before_its_question_is_none(pause: float) -> None:
    """A kept connection on which something came in is left; the next request goes over another one."""
    sent = asyncio.Event()

    async def ahead(wire: Wire, _: random.Random) -> None:
        await wire.read_body()
        await wire.say(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
        await asyncio.sleep(pause)
        await wire.poison(acts.OK)
        sent.set()

    async with hostile_receiver("", [ahead]) as shopkeeper, Sender(*endpoint(shopkeeper.url, timeout=5)) as sender:
        for _ in range(4):
            assert (await sender.post(event())).failure == "HTTP 503"
            await sent.wait()
            sent.clear()


async def test_a_kept_connection_is_used_again() -> None:
    """What leaves poisoned connections leaves no others."""
    connections = 0

    async def count(wire: Wire, dice: random.Random) -> None:
        nonlocal connections
        connections += wire.writer not in seen
        seen.add(wire.writer)
        await acts.accept(wire, dice)

    seen: set[asyncio.StreamWriter] = set()
    async with hostile_receiver("", [count]) as shopkeeper, Sender(*endpoint(shopkeeper.url, timeout=5)) as sender:
        for _ in range(20):
            assert (await sender.post(event())).failure is None
    assert connections == 1


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def speaking(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Yield the URL of a server with one way of speaking. Its connections end with it."""
    tasks: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await serve(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    finally:
        server.close()
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def answers_in_plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(acts.OK)
    await reader.read(1)


async def speaks_noise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(b"\x16\x03\x03\xff\xff" + bytes(range(256)) * 200)
    await writer.drain()


async def closes_in_the_handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)


async def hangs_in_the_handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(65_536):
        pass


@pytest.mark.parametrize(
    "serve",
    [answers_in_plain, speaks_noise, closes_in_the_handshake, hangs_in_the_handshake],
    ids=lambda each: each.__name__,
)
async def test_what_is_no_tls_is_no_answer(serve: Serve) -> None:
    async with speaking(serve) as url, Sender(*endpoint(url)) as sender:
        for _ in range(3):
            failure = (await sender.post(event())).failure
            assert failure is not None
            assert len(failure) < 200
            assert failure.isprintable()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
async def test_an_untrusted_certificate_is_reported_without_its_texts(tmp_path: Path) -> None:
    _, context = await asyncio.to_thread(make_authority, tmp_path, "IP:127.0.0.1")
    asked = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(100))

    async with speaking(serve, context) as url, Sender(*endpoint(url, timeout=5)) as sender:
        assert (await sender.post(event())).failure == "its certificate is not valid"
    assert not any(asked)


ENDPOINTS = int(os.environ.get("RAILWATCH_ENDPOINTS", "32"))
"""The long form has as many as may be. One in eight hangs, one in eight does whatever it likes."""


async def test_of_many_endpoints_those_that_hang_hold_up_no_other(shop: Shop) -> None:  # noqa: F811
    for _ in range(3):
        await shop.order()
    async with receiver() as good, hostile_receiver("many") as bad, hostile_receiver("deaf", [acts.hang]) as deaf:
        kinds = [{0: deaf, 4: bad}.get(number % 8, good) for number in range(ENDPOINTS)]
        table = [
            webhook(
                kind.url if kind is good else f"{kind.url}/{number}",
                f"shop-{number}",
                attempts=100,
                timeout=30 if kind is good else 3 if kind is deaf else 0.3,
                first_pause=0.05,
            )
            for number, kind in enumerate(kinds)
        ]
        honest = [f"shop-{number}" for number, kind in enumerate(kinds) if kind is good]

        async def all_got(events: int) -> bool:
            return len(honest) == await beside.value(GOT, honest, events)

        # A connection of its own, since the endpoints take turns on those of the deliverer.
        async with Database(shop.database.dsn, size=1) as beside, shop.delivering(*table):
            await until(lambda: all_got(3), 60)
            for order in shop.orders:
                await shop.emit(order)
            await until(lambda: all_got(6), 60)
        ends = await shop.endpoints()
        assert not any(ends[f"shop-{number}"]["delivered"] for number, kind in enumerate(kinds) if kind is deaf)
        for number in (number for number, kind in enumerate(kinds) if kind is bad):
            gone = await shop.database.rows(ACCEPTED, f"shop-{number}")
            assert all(bad.has_accepted(str(each["event_id"]), f"/hook/{number}") for each in gone)


GOT = "select count(*) from railwatch.webhook_endpoints where name = any($1::text[]) and delivered >= $2"
ACCEPTED = """
select t.event_id from railwatch.transitions t join railwatch.webhook_endpoints e on t.seq <= e.position
where e.name = $1 and not exists (
    select from railwatch.webhook_deliveries d where d.endpoint = e.name and d.event_id = t.event_id)
"""
"""What was owed to an endpoint once, and is no more."""

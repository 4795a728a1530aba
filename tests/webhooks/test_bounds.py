"""A receiver that drips, floods, hangs or lies costs one attempt, and nothing more."""

import asyncio
import random
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
from aiohttp import web

from railwatch.webhooks.backoff import PAUSE_MAX_SECONDS, pause_after
from tests.webhooks.receiver import Got, never, receiver
from tests.webhooks.shop import Shop, until, webhook

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw_server(serve: Serve) -> AsyncIterator[str]:
    """Run a server with arbitrary answers, and yield its URL. Its failed assertions are raised at the end."""
    wrong: list[AssertionError] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except AssertionError as error:
            wrong.append(error)
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    finally:
        server.close()
    assert not wrong


async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.01)


async def flood_headers(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X: " + b"a" * 60_000)
        await writer.drain()


FLOOD = 64 << 20
"""Bytes: far more than the buffers between two sockets hold."""


async def flood_body(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _chunk in range(FLOOD // 65_536):
        writer.write(b"10000\r\n" + b"a" * 65_536 + b"\r\n")
        await writer.drain()
    raise AssertionError("it was read to the end")


async def break_off(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
    await writer.drain()


async def nonsense(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 smtp.example ready\r\n")
    await writer.drain()


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    return


@pytest.mark.parametrize(
    ("serve", "message"),
    [
        (drip, "no answer within 0.3 s"),
        (flood_headers, "no usable answer"),
        (nonsense, "no usable answer"),
        (hang_up, "it closed the connection without an answer"),
    ],
)
async def test_no_answer_is_a_failed_attempt(shop: Shop, serve: Serve, message: str) -> None:
    await shop.order()
    async with raw_server(serve) as url:
        left = (await shop.once(webhook(url, attempts=1, timeout=0.3)))["shop"]
    assert (left["dead"], left["delivered"]) == (1, 0)
    assert left["last_failure"].startswith(message)


@pytest.mark.parametrize("serve", [flood_body, break_off])
async def test_the_status_decides_and_the_body_is_read_no_further_than_it_may(shop: Shop, serve: Serve) -> None:
    await shop.order()
    async with raw_server(serve) as url:
        left = (await shop.once(webhook(url, attempts=1)))["shop"]
    assert (left["dead"], left["delivered"]) == (0, 1)


async def test_a_receiver_that_never_answers_is_left_after_the_timeout(shop: Shop) -> None:
    await shop.order()
    async with receiver(behave=never) as shopkeeper:
        left = (await shop.once(webhook(shopkeeper, attempts=2, timeout=0.2, first_pause=0.01)))["shop"]
    assert left["last_failure"] == "no answer within 0.2 s"


async def test_a_closed_port_is_a_failed_attempt(shop: Shop) -> None:
    await shop.order()
    left = (await shop.once(webhook("http://127.0.0.1:9/hook", attempts=1)))["shop"]
    assert left["last_failure"].startswith("cannot connect: ")
    left = (await shop.once(webhook("http://nowhere.invalid/hook", "other", attempts=1)))["other"]
    assert left["last_failure"] == "its name cannot be resolved"


async def test_names_that_are_never_resolved_delay_no_other(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    await shop.order()
    real, release = socket.getaddrinfo, threading.Event()

    def hanging(host: Any, *args: Any, **more: Any) -> Any:
        if host == "hangs.example":
            release.wait(30)
            raise socket.gaierror("at last")
        return real(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    more_than_threads = [
        webhook("http://hangs.example/hook", f"hangs-{number}", attempts=50, timeout=0.1) for number in range(12)
    ]
    try:
        async with receiver() as shopkeeper:
            good = webhook(shopkeeper.url.replace("127.0.0.1", "localhost"))
            async with shop.delivering(*more_than_threads):
                await until(lambda: _have_failed(shop, 24))
            async with shop.delivering(*more_than_threads, good):
                await until(shop.owes_nothing)
            assert len(shopkeeper.accepted) == 1
    finally:
        release.set()


async def _have_failed(shop: Shop, attempts: int) -> bool:
    """So many attempts have failed at the unresolved names."""
    count = "select coalesce(sum(attempts), 0) from railwatch.webhook_deliveries"
    return int(await shop.database.value(count) or 0) >= attempts


async def test_an_unknown_name_is_a_failed_attempt(shop: Shop) -> None:
    """The configuration cannot know: it is well formed (RFC 6761)."""
    await shop.order()
    left = (await shop.once(webhook("http://nobody.invalid/hook", attempts=1)))["shop"]
    assert left["last_failure"] == "its name cannot be resolved"


DEFECT = """
create function railwatch.defect() returns trigger language plpgsql as $$ begin raise 'a defect'; end $$;
create trigger defect before insert on railwatch.webhook_deliveries
for each row when (new.endpoint = 'faulty') execute function railwatch.defect();
"""


async def test_an_endpoint_that_breaks_by_a_defect_is_loud_and_breaks_no_other(shop: Shop) -> None:
    order = await shop.order()
    async with shop.database.connection() as connection:
        await connection.execute(DEFECT)
    with structlog.testing.capture_logs() as logs:
        async with receiver() as shopkeeper:
            async with shop.delivering(webhook(shopkeeper, "faulty"), webhook(shopkeeper, "whole")):
                await until(lambda: any(each.get("task") == "webhook.faulty" for each in logs))
                await shop.emit(order)
                await until(lambda: len(shopkeeper.got) == 2)
            async with shop.database.connection() as connection:
                await connection.execute("drop function railwatch.defect cascade")
            left = await shop.once(webhook(shopkeeper, "faulty"))
    assert {each["endpoint"] for each in logs if each["event"] == "task.failed"} == {"faulty"}
    assert (left["faulty"]["pending"], len(shopkeeper.got)) == (0, 4)


async def test_a_receiver_may_ask_for_a_longer_pause(shop: Shop) -> None:
    await shop.order()

    async def later(_: Got) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": "3600"})

    async with receiver(behave=later) as shopkeeper:
        await shop.once(webhook(shopkeeper))
    wait = "select extract(epoch from due_at - now())::int from railwatch.webhook_deliveries"
    assert 3500 < await shop.database.value(wait) <= 3600


def test_pauses_grow_threefold_with_a_spread_and_come_to_an_end() -> None:
    dice = random.Random(1)
    pauses = [pause_after(attempts, 12, 5.0, dice=dice) for attempts in range(1, 13)]
    assert pauses[-1] is None
    middles = [5.0, 15.0, 45.0, 135.0, 405.0, 1215.0, 3645.0, 10935.0, 32805.0, PAUSE_MAX_SECONDS, PAUSE_MAX_SECONDS]
    for pause, middle in zip(pauses, middles, strict=False):
        assert pause is not None
        assert 0.75 * middle <= pause <= min(1.25 * middle, PAUSE_MAX_SECONDS)
    assert len(set(pauses)) > 9, "what failed together would come back together"


def test_what_a_receiver_asks_for_is_bounded_and_shortens_nothing() -> None:
    assert pause_after(1, 5, 10.0, asked=10.0**9) == PAUSE_MAX_SECONDS
    assert (pause_after(1, 5, 10.0, asked=0.0) or 0) >= 7.5
    assert pause_after(5, 5, 10.0, asked=60.0) is None
    assert pause_after(10**6, 10**7, 1.0) is not None

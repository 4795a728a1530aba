"""Waiting for notifications: woken at once, never for ever, and again after the connection was lost."""

import asyncio
import time

import pytest

from railwatch.store.database import Database
from railwatch.store.notifications import Listener

LISTENING = "select pid from pg_stat_activity where datname = current_database() and query ilike 'listen%'"


async def woken_after(listener: Listener, timeout: float) -> float:
    begun = time.monotonic()
    await listener.wait(timeout)
    return time.monotonic() - begun


async def connected(listener: Listener) -> None:
    """Wait for the first wake-up, which means that the connection is subscribed and a poll is due."""
    assert await woken_after(listener, 5) < 4


async def test_a_notification_on_any_of_the_channels_ends_the_wait(database: Database) -> None:
    async with Listener(database.dsn, ("one", "two")) as listener:
        await connected(listener)
        waiting = asyncio.create_task(woken_after(listener, 10))
        await asyncio.sleep(0.05)
        await database.value("select pg_notify('two', 'x')")
        assert await waiting < 5


async def test_what_came_before_the_wait_is_not_lost(database: Database) -> None:
    async with Listener(database.dsn, ("one",)) as listener:
        await connected(listener)
        await database.value("select pg_notify('one', '')")
        await asyncio.sleep(0.1)
        assert await woken_after(listener, 10) < 5


async def test_silence_ends_with_the_timeout(database: Database) -> None:
    async with Listener(database.dsn, ("one",)) as listener:
        await connected(listener)
        assert await woken_after(listener, 0.1) >= 0.1


async def test_a_cut_connection_is_replaced_and_the_waiter_is_woken(database: Database) -> None:
    async with Listener(database.dsn, ("one",)) as listener:
        await connected(listener)
        pid = await database.value(LISTENING)
        assert await database.value("select pg_terminate_backend($1)", pid)
        assert await woken_after(listener, 10) < 5
        assert await database.value(LISTENING) != pid
        await database.value("select pg_notify('one', '')")
        assert await woken_after(listener, 10) < 5


async def test_a_connection_that_falls_silent_is_found_by_the_heartbeat(database: Database) -> None:
    async with Listener(database.dsn, ("one",), heartbeat=0.1) as listener:
        await connected(listener)
        await asyncio.sleep(0.35)
        assert await database.value(
            "select count(*) from pg_stat_activity where datname = current_database() and query = 'select 1'"
        )


async def test_without_a_server_it_waits_out_its_time() -> None:
    async with Listener("postgresql://postgres@/none?host=/nowhere", ("one",)) as listener:
        assert 0.1 <= await woken_after(listener, 0.1) < 5


async def test_a_listener_that_was_left_says_so(database: Database) -> None:
    async with Listener(database.dsn, ("one",)) as listener:
        await connected(listener)
    with pytest.raises(RuntimeError, match="not running"):
        await listener.wait(0.01)

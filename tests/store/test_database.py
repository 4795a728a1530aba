"""The connection to Postgres, where its end meets ours."""

import asyncio
import gc

import pytest

from railwatch.store.database import Database
from railwatch.store.errors import StoreUnavailable


@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_cancelled_transaction_on_a_dead_connection_is_cancelled(database: Database, cancelled: bool) -> None:
    """The rollback fails, and what it says may not take the cancellation's place: a stop would wait for ever."""
    dead = asyncio.Event()

    async def transact() -> None:
        async with database.transaction() as connection:
            connection.terminate()
            dead.set()
            if cancelled:
                await asyncio.Event().wait()

    task = asyncio.create_task(transact())
    await dead.wait()
    if cancelled:
        task.cancel()
    with pytest.raises(asyncio.CancelledError if cancelled else StoreUnavailable):
        await task


async def test_a_connection_that_is_given_back_during_a_stop_leaves_no_error_behind(dsn: str) -> None:
    """The driver shields that from our cancellation. If it had to ask Postgres for it, to close would cut it off."""
    unheard: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context["message"]))
    async with Database(dsn, size=1) as database:
        gives_back = asyncio.Event()

        async def ask() -> None:
            async with database.connection() as connection:
                await connection.fetchval("select 1")
                gives_back.set()

        task = asyncio.create_task(ask())
        await gives_back.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    for _ in range(3):
        await asyncio.sleep(0)
    del task
    gc.collect()
    assert unheard == []

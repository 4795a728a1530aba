"""The connection to Postgres, where its end meets ours."""

import asyncio

import pytest

from indexer.store.database import Database
from indexer.store.errors import StoreUnavailable


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

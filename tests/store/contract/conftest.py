"""A database for each module of these tests, with three rails in it."""

import asyncio
from collections.abc import AsyncIterator
from itertools import count

import asyncpg
import pytest

from railwatch.store.config_sync import sync_config
from railwatch.store.database import Database
from tests.store.contract.requests import RAILS

_numbers = count(1)


@pytest.fixture(scope="module")
def place(server: str) -> str:
    """A database of this module's own, with three rails in it."""

    name = f"contract_{next(_numbers)}"

    async def prepare() -> str:
        connection = await asyncpg.connect(server, database="postgres")
        try:
            await connection.execute(f"create database {name} template railwatch")
        finally:
            await connection.close()
        dsn = server.replace("/railwatch?", f"/{name}?")
        async with Database(dsn, size=1) as database, database.connection() as connection:
            await sync_config(connection, RAILS, {"closes_in": 1000})
        return dsn

    return asyncio.run(prepare())


@pytest.fixture
async def database(place: str) -> AsyncIterator[Database]:
    async with Database(place, size=8) as database:
        yield database

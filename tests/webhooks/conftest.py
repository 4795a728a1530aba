"""A shop over a database of its own."""

import pytest

from railwatch.store.database import Database
from tests.webhooks.shop import Shop, furnish


@pytest.fixture
async def shop(database: Database) -> Shop:
    await furnish(database)
    return Shop(database)

"""A daemon that follows a chain, for stories of what is done by hand beside it."""

from collections.abc import AsyncIterator

import pytest

from railwatch.store.database import Database
from railwatch_fake import Rules
from tests.scenarios.daemon_harness import DaemonHarness, chain_named


@pytest.fixture
async def rough(database: Database) -> AsyncIterator[DaemonHarness]:
    """A daemon that follows a chain; a payment counts at two confirmations. For stories that force a state by hand."""
    async with DaemonHarness(database, [chain_named(rules=Rules(tokens=("gold",)))]) as stage:
        yield stage


@pytest.fixture
async def stage(rough: DaemonHarness) -> AsyncIterator[DaemonHarness]:
    """The same, and whatever was done to it, its feed is whole in the end."""
    yield rough
    await rough.audit()

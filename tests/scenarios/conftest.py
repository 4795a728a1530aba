"""The stages on which stories play."""

from collections.abc import AsyncIterator

import pytest

from railwatch.daemon.follow import steadiness
from railwatch.store.database import Database
from railwatch_fake import Rules
from tests.scenarios.daemon_harness import DaemonHarness, chain_named


@pytest.fixture
async def stage(database: Database) -> AsyncIterator[DaemonHarness]:
    """One rail with a mempool and without finality, like Bitcoin's."""
    async with DaemonHarness(database, [chain_named()]) as stage:
        yield stage
        await stage.audit()


@pytest.fixture
async def finality(database: Database) -> AsyncIterator[DaemonHarness]:
    """One rail without a mempool and with finality eight blocks below its head, like Ethereum's."""
    rules = Rules(finality=8, safe=4, mempool=False)
    async with DaemonHarness(database, [chain_named(rules=rules)]) as stage:
        yield stage
        await stage.audit()


@pytest.fixture(autouse=True)
def _soon_halted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that cannot be read halts a rail sooner than in a shop, where the node may soon answer rightly."""
    monkeypatch.setattr(steadiness, "FAULT_SECONDS", 0.5)

"""A daemon that follows a chain over real Postgres, and a shell next to it."""

import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from railwatch.store.database import Database
from tests.ops.shell import Shell
from tests.scenarios.daemon_harness import DaemonHarness, chain_named


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """Redirect the logs of the daemon, which shares the process, to keep them out of the output of commands."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(io.StringIO()))
    yield
    structlog.reset_defaults()


@pytest.fixture
async def stage(elsewhere: None, database: Database) -> AsyncIterator[DaemonHarness]:
    async with DaemonHarness(database, [chain_named()]) as stage:
        yield stage


@pytest.fixture
def shell(stage: DaemonHarness, tmp_path: Path) -> Shell:
    return Shell(stage, tmp_path)

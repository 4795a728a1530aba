"""What a story needs before it begins: the daemon, its Postgres and live rails; and a check that they stay alive."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from railwatch.demo.processes import Process, ProcessGroup
from railwatch.demo.progress_view import View
from railwatch.demo.workspace import Workspace
from railwatch.rail.demo import DemoError
from railwatch.store.database import Database
from railwatch.store.embedded.server import dsn_of_running
from railwatch.store.errors import SchemaMismatch, StoreUnavailable
from railwatch.store.migrate import require_current
from railwatch.store.read_models import read_status

START_SECONDS = 60.0
"""For each step of the start; the first one makes a whole database cluster."""
LOOK_SECONDS = 0.05
DYING_SECONDS = 0.2
"""A process closes its connections a little before it can be seen to have ended."""


@dataclass(slots=True)
class DemoEnvironment:
    """One demo's folder and processes, and where it says what it does."""

    workspace: Workspace
    processes: ProcessGroup
    view: View

    def start_daemon(self) -> Process:
        """Start it as an operator would, in a process of its own."""
        command = (sys.executable, "-m", "railwatch", "run", "--config", str(self.workspace.config))
        daemon = self.processes.start("daemon", command)
        self.view.say(f"the daemon runs (pid {daemon.pid}); waiting for its Postgres")
        return daemon

    @asynccontextmanager
    async def database(self, daemon: Process) -> AsyncIterator[Database]:
        """Open the daemon's own Postgres, once its schema exists and every rail is live."""
        await self._wait(self._has_server, daemon, "its Postgres does not run")
        async with Database(await self.dsn(), size=4) as database:
            await self._wait(lambda: has_schema(database), daemon, "the schema is not there")
            self.view.say("Postgres runs; waiting for the rails to be live")
            await self._wait(lambda: all_live(database), daemon, "not every rail is live")
            yield database

    async def dsn(self) -> str:
        """Where the daemon's Postgres is reached. Raises `DemoError` if it does not run."""
        dsn = await dsn_of_running(self.workspace.data_dir)
        if dsn is None:
            raise DemoError(f"no Postgres runs in {self.workspace.data_dir}")
        return dsn

    @asynccontextmanager
    async def guarded(self) -> AsyncIterator[None]:
        """Give up with one `DemoError` when a process ends by itself, or something fails that all the rest needs."""
        try:
            async with asyncio.TaskGroup() as tasks:
                guard = tasks.create_task(self.processes.guard())
                yield
                guard.cancel()
        except* (DemoError, StoreUnavailable) as failures:
            # When a process dies, others complain of it: whose end it was is better to know.
            await asyncio.sleep(DYING_SECONDS)
            self.processes.check()
            raise DemoError(str(first_of(failures))) from None

    async def _has_server(self) -> bool:
        return await dsn_of_running(self.workspace.data_dir) is not None

    async def _wait(self, condition: Callable[[], Awaitable[bool]], daemon: Process, trouble: str) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                while True:
                    if await condition():
                        return
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            raise DemoError(
                f"{START_SECONDS:.0f} s after the daemon was started {trouble}; "
                f"the end of {daemon.log}:\n{daemon.tail()}"
            ) from None


async def has_schema(database: Database) -> bool:
    """Whether the daemon has put the schema there."""
    with suppress(SchemaMismatch):
        async with database.connection() as connection:
            await require_current(connection)
            return True
    return False


async def all_live(database: Database) -> bool:
    """Whether every rail is followed at its head."""
    rails = (await read_status(database)).rails
    return bool(rails) and all(rail["state"] == "live" for rail in rails)


def first_of(failures: BaseException) -> BaseException:
    """Return the first plain exception of a group of groups."""
    while isinstance(failures, BaseExceptionGroup):
        failures = failures.exceptions[0]
    return failures

"""Drive the daemon from a recording: the same runner, core and tables, other nodes and another clock."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from railwatch.cancellation import end
from railwatch.config import Config
from railwatch.daemon.rail_runner import RailRunner
from railwatch.daemon.supervisor import NullReporter, follow, mirror_rails
from railwatch.rail.transport import through
from railwatch.replay.invoices import Requests, register
from railwatch.replay.nodes import NodeNames
from railwatch.replay.player import NotRecorded, Player
from railwatch.replay.recording import Recording
from railwatch.replay.virtual_time import VirtualLoop, recorded_time
from railwatch.store.lease import RELEASED, LeaseKeeper
from railwatch.store.ledger import read_ledger
from railwatch.store.notifications import Listener
from railwatch.store.read_models import Record
from railwatch.store.scratch import ScratchDatabase
from railwatch.store.steps import Lease


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a replay came to. ``missing``: the request at which it had to stop; ``seconds``: how far it came."""

    ledger: Record
    seconds: float
    answers: int
    missing: NotRecorded | None


def replay(recording: Recording, dsn: str, invoices: Requests | None = None) -> Outcome:
    """Play the recording into the database at ``dsn`` (`scratch_database` with a clock), in an event loop of its own.

    ``invoices``: requests to be registered in place of the recorded ones. Raises `RpcRejected` for one that is refused,
    and ValueError where the recording's rail cannot be configured here.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        return runner.run(_replay(recording, dsn, recording.header.invoices if invoices is None else invoices, loop))


def config_of(recording: Recording, dsn: str) -> Config:
    """Return the configuration that was recorded, over a database of the replay's own."""
    header = recording.header
    invoices = {"keep_watching": header.keep_watching} if header.keep_watching else {}
    return Config.model_validate(
        {"database": {"url": dsn}, "rail": [header.rail], "policy": header.policies, "invoices": invoices}
    )


async def _replay(recording: Recording, dsn: str, invoices: Requests, loop: VirtualLoop) -> Outcome:
    config = config_of(recording, dsn)
    started_at = recording.header.started_at
    with recorded_time(loop, started_at) as clock:
        async with ScratchDatabase(dsn, clock, loop.awaiting) as database:
            await mirror_rails(database, config, None)
            await register(database, [each for each in invoices if not each.get("at")])
            player = Player(recording, NodeNames(recording.header.rail["nodes"]), loop)
            later = sorted((each for each in invoices if each.get("at")), key=lambda each: each["at"])
            async with _playing(config, database, player, later):
                end = asyncio.create_task(player.until(recording.length))
                missed = asyncio.create_task(player.missed.wait())
                await asyncio.wait({end, missed}, return_when=asyncio.FIRST_COMPLETED)
                for each in (end, missed):
                    each.cancel()
                ledger = await read_ledger(database, config.rails[0].name, started_at)
                seconds = round(player.now(), 3)
            return Outcome(ledger, seconds, player.answered, player.missing)


@asynccontextmanager
async def _playing(config: Config, database: ScratchDatabase, player: Player, later: Requests) -> AsyncIterator[None]:
    """Run the daemon over the player, and register what comes ``later``. A defect of either is raised."""
    with through(player):
        work = asyncio.create_task(_work(config, database, player, later))
    try:
        yield
        if work.done():
            await work
    finally:
        await end(work)


async def _work(config: Config, database: ScratchDatabase, player: Player, later: Requests) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(follow(database, config, None, NullReporter(), partial(_arrange, database)))
        tasks.create_task(_register_later(database, player, later))


async def _register_later(database: ScratchDatabase, player: Player, later: Requests) -> None:
    for request in later:
        await player.until(float(request["at"]))
        await register(database, [request])


def _arrange(database: ScratchDatabase, runner: RailRunner) -> None:
    """Use a lease that needs no renewal, and poll each second: no other daemon has the database."""
    runner.keep_lease = lambda _, rail, holder: _OwnLease(database, rail, holder)
    runner.listen = _Poll


class _OwnLease(LeaseKeeper):
    """The lease of a rail in a database without another daemon."""

    def __init__(self, database: ScratchDatabase, rail: str, holder: str) -> None:
        super().__init__(database, rail, holder)
        self._scratch = database

    async def acquire(self) -> Lease | None:
        async with self._scratch.turn():
            return await super().acquire()

    async def renew(self) -> None:
        """Do nothing: no other process acquires this lease."""

    async def release(self, reason: str = RELEASED) -> None:
        """Do nothing: the lease ends with the database."""


class _Poll(Listener):
    """Poll each second: a notification would come at another moment each time."""

    def __init__(self, dsn: str, channels: Sequence[str], **_: Any) -> None:
        super().__init__(dsn, channels)

    async def __aenter__(self) -> Self:
        return self

    async def wait(self, timeout: float) -> None:
        await asyncio.sleep(timeout)

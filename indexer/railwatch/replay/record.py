"""Make a recording: the daemon follows the rail as ever, into a database of its own, and a recorder listens."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from railwatch.cancellation import end
from railwatch.config import Config, RailConfig
from railwatch.daemon.rail_runner import RailRunner
from railwatch.daemon.supervisor import NullReporter, follow, mirror_rails
from railwatch.rail.transport import through
from railwatch.replay.cleaning import Cleaner, clean_node
from railwatch.replay.invoices import Requests, register, scratch_config
from railwatch.replay.nodes import NodeNames
from railwatch.replay.recorder import Recorder
from railwatch.replay.recording import Ending, Header, Writer
from railwatch.store.database import Database
from railwatch.store.scratch import scratch_database

PROGRESS_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a recording is. ``blocks``: how many were followed; ``why``: why it ended, once it has."""

    seconds: float
    answers: int
    megabytes: float
    height: int | None
    blocks: int
    left_out: int
    why: str | None = None


async def record(
    config: Config,
    rail: RailConfig,
    path: Path,
    *,
    seconds: float,
    bytes_max: int,
    invoices: Requests,
    stop: asyncio.Event,
    report: Callable[[Progress], None],
    at_stop: Ending = "interrupted",
) -> Progress:
    """Follow ``rail`` for ``seconds`` and write what its nodes say to ``path``, a new file; returns how it ended.

    Nothing is written but the file, and a database that is made for the while. ``report`` is called each second.
    ``at_stop``: what the file says if ``stop`` ended it.
    Raises FileExistsError and other OSErrors, `EmbeddedPostgresError`, and `RpcRejected` for an invoice.
    """
    async with scratch_database() as dsn, Database(dsn) as database:
        own = scratch_config(config, rail, dsn)
        await mirror_rails(database, own, None)
        await register(database, invoices)
        recorder = Recorder(
            Writer(path, _header(own, invoices), bytes_max),
            NodeNames([node.reveal() for node in rail.nodes]),
            Cleaner(rail.nodes),
        )
        return await _Session(recorder, stop, report, at_stop).run(database, own, seconds)


def _header(config: Config, invoices: Requests) -> Header:
    [rail] = config.rails
    cleaner = Cleaner(rail.nodes)
    table = rail.model_dump(mode="json", by_alias=True, exclude={"nodes"})
    return Header(
        made_by=version("railwatch"),
        started_at=datetime.now(UTC),
        rail={**table, "nodes": [clean_node(node, number) for number, node in enumerate(rail.nodes, 1)]},
        policies=[each.model_dump(mode="json", exclude_none=True) for each in config.policies],
        invoices=cleaner.clean_json(invoices),
        keep_watching=config.invoices.keep_watching,
    )


@dataclass(slots=True)
class _Session:
    """One recording while it is made."""

    recorder: Recorder
    stop: asyncio.Event
    report: Callable[[Progress], None]
    at_stop: Ending
    runner: RailRunner | None = None
    first_height: int | None = None

    async def run(self, database: Database, config: Config, seconds: float) -> Progress:
        why: Ending = "interrupted"
        with through(self.recorder):
            work = asyncio.create_task(follow(database, config, None, NullReporter(), self._arrange))
        try:
            why = await self._until_over(work, seconds)
        finally:
            # Before the daemon ends: what it gives up then says nothing of the node.
            self.recorder.writer.end(self.recorder.now(), why)
            await end(work)
        return self._progress(why)

    async def _until_over(self, work: "asyncio.Task[None]", seconds: float) -> Ending:
        while not work.done():
            left = seconds - self.recorder.now()
            if left <= 0:
                return "time"
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, PROGRESS_SECONDS)):
                    await self.stop.wait()
            if self.stop.is_set():
                return self.at_stop
            if self.recorder.writer.is_full:
                return "full"
            self.recorder.writer.flush()
            self.report(self._progress(None))
        await work
        return "interrupted"

    def _arrange(self, runner: RailRunner) -> None:
        self.runner = runner

    def _progress(self, why: str | None) -> Progress:
        follower = self.runner.follower if self.runner else None
        height = follower.sync.cursor.height if follower and follower.sync.cursor else None
        self.first_height = height if self.first_height is None else self.first_height
        blocks = height - self.first_height if height is not None and self.first_height is not None else 0
        writer = self.recorder.writer
        megabytes = round(writer.size / 1e6, 3)
        return Progress(round(self.recorder.now(), 1), writer.answers, megabytes, height, blocks, writer.left_out, why)

"""Runs stories: one event loop and one Postgres for all of them, and for each a world that settles and is compared."""

import asyncio
import json
import time
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from railwatch.daemon.follow.health import FRESH_LEAST
from railwatch.daemon.follow.steadiness import UNSTEADY_SECONDS
from tests.model import oracle
from tests.model.clock import StoryClock, story_time
from tests.model.episodes import EPISODES, ON_TWO_RAILS
from tests.model.reached import Reached
from tests.model.server import Server
from tests.model.setting import RULES, Setting
from tests.model.side import MOST_CONFIRMATIONS
from tests.model.tables import read
from tests.model.world import World

T = TypeVar("T")

PATIENCE = 45.0
"""Seconds of real time after which a world that still moves is compared as it is."""

TURNS = 500
"""Looks at a world, and pauses between them, after which it has had some time of its own."""

QUIET, QUIET_ASKED = 1.5, 30
"""Seconds of real time without a change, at the tip, and questions to the nodes meanwhile, after which nothing more
will come. A busy machine asks later, and is waited for."""


class Harness:
    """Owns the loop and the server. Use it as a context."""

    def __init__(self) -> None:
        self.clock = StoryClock()
        self.world: World | None = None
        self.reached: Reached | None = None
        """Counts what stories come to, if somebody wants to know."""

    def __enter__(self) -> "Harness":
        self._runner = asyncio.Runner()
        self.server = Server()
        self._time = story_time(self.clock, self.server.sessions)
        self._time.__enter__()
        self._stack = AsyncExitStack()
        self.run(self._stack.enter_async_context(self.server))
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._stack.aclose())
        self._time.__exit__(None, None, None)
        self._runner.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the loop, and every daemon with it, until ``work`` is done."""
        return self._runner.run(work)

    def begin(self, setting: Setting) -> World:
        """Return a new world."""
        self.world = World(self.server, self.clock, setting)
        self.run(self.world.__aenter__())
        return self.world

    def end(self) -> None:
        """End the world."""
        world, self.world = self.world, None
        if world is not None:
            if self.reached is not None:
                self.run(self.reached.note(world))
            self.run(world.__aexit__())

    @contextmanager
    def playing(self, setting: Setting) -> Iterator[World]:
        """A world for the length of the context."""
        world = self.begin(setting)
        try:
            yield world
        finally:
            self.end()

    def replay(self, story: Mapping[str, Any]) -> None:
        """Play a written story, and compare its end. Raises AssertionError with the differences."""
        with self.playing(Setting(**story["setting"])) as world:
            for name, arguments in story["verbs"]:
                if name == "settles":
                    self.run(settle(world))
                else:
                    self.run(getattr(world, name)(**arguments))
            self.run(settle(world, fully=True))

    def live_through(self, episode: str, number: int) -> None:
        """Play a story of one episode, and compare its end. Raises AssertionError with the differences.

        ``number`` says with which rules, nodes and variation; all of them differ within 120 numbers.
        """
        rails = 2 if episode in ON_TWO_RAILS else 1
        with self.playing(Setting(rules=number % len(RULES), nodes=(3, 1, 2)[number % 3], rails=rails)) as world:
            self.run(world.is_followed())
            self.run(world.registers(amount=100))
            for name, arguments in EPISODES[episode](number % 8):
                self.run(getattr(world, name)(**arguments))
            self.run(settle(world, fully=True))


async def settle(world: World, *, fully: bool = False) -> None:
    """Let everything be well again, wait until the daemon is through, and compare. Raises AssertionError.

    ``fully``: the end of a story, at which everything is released and confirmed as well.
    """
    await _make_well(world)
    await _becomes_exact(world, rescanned=False)
    await _is_rescanned(world)
    await _becomes_exact(world)
    if fully:
        await world.passes(10)
        for side in world.sides:
            side.chain.mine(MOST_CONFIRMATIONS)
        await _becomes_exact(world)
        for order in world.acts.orders:
            await world.act("select railwatch.release_invoice($1, actor => 'ann')", order.id)
        await _becomes_exact(world)


async def _make_well(world: World) -> None:
    world.heal()
    for each in world.standstills.values():
        each.go_on()
    await world.mend()
    world.raise_for_dead_daemons()
    if not world.daemons:
        world.start()
    if world.flapped:
        world.flapped = False
        await world.passes(UNSTEADY_SECONDS)
        world.chain.mine()
    for side in world.sides:
        # A rail that was not followed for a while is covered again from a fresh block on: no time may pass after it.
        if (world.clock.now() - side.chain.tip.time).total_seconds() > FRESH_LEAST / 2:
            side.chain.mine()
    await _until(world, world.is_at_tip, "the daemon does not follow")
    waiting = "select count(*) from railwatch.destinations where watch_state = 'registered'"
    await _until(world, lambda: _is_zero(world, waiting), "registrations wait")
    aside = "select count(*) from railwatch.quarantine"
    await _until(world, lambda: _is_zero(world, aside), "a mended invoice stays in quarantine")


async def _is_rescanned(world: World) -> None:
    """Look for what came before an address was watched, and farther back than anybody looks by himself."""
    for side in world.sides:
        await world.database.value("select railwatch.request_rescan($1, 0)", side.name)
    world.clock.naps.end()  # No notification says that a rescan waits.
    waiting = "select count(*) from railwatch.rescans where finished_at is null"
    await _until(world, lambda: _is_zero(world, waiting), "rescans wait")


async def _is_zero(world: World, count: str) -> bool:
    return bool(await world.database.value(count) == 0)


async def _until(world: World, condition: Any, what: str) -> None:
    deadline, turns = time.monotonic() + PATIENCE, 0
    while not await condition():
        world.raise_for_dead_daemons()
        turns += 1
        # A machine that stood still itself for a while has shown nothing.
        if time.monotonic() > deadline and turns > TURNS:
            rails = [dict(rail) for rail in await world.database.rows("select * from railwatch.rails")]
            raise AssertionError(
                f"{what}: {rails}; tips {[side.chain.tip.height for side in world.sides]}\n"
                + "\n".join(await _stuck(world))
            )
        await asyncio.sleep(0.005)


async def _stuck(world: World) -> list[str]:
    """Say where every task of the daemons stands, and what every session of theirs does."""
    lines = []
    for task in asyncio.all_tasks():
        driven = task.get_coro()
        where, waits = [], getattr(driven, "work", driven)
        while waits is not None:
            if (frame := getattr(waits, "cr_frame", None)) is not None:
                where.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
            waits = getattr(waits, "cr_await", None)
        lines.append(f"{task.get_name()}: {' > '.join(where)}")
    sessions = await world.database.rows(
        "select pid, state, wait_event, now() - xact_start as since, left(query, 80) as query from pg_stat_activity "
        "where datname = current_database()"
    )
    return lines + [str(dict(row)) for row in sessions]


async def _becomes_exact(world: World, *, rescanned: bool = True) -> None:
    deadline, quiet_since, asked, before = time.monotonic() + PATIENCE, time.monotonic(), 0, None
    while True:
        world.raise_for_dead_daemons()
        for reader in world.readers:
            await reader.reads(world.database)
        tables = await read(world.database)
        wrong = oracle.differences(world, tables, rescanned=rescanned)
        if not wrong:
            return
        now, at_tip = time.monotonic(), await world.is_at_tip()
        if (seen := (len(tables.lines), at_tip, tuple(wrong))) != before:
            before, quiet_since, asked = seen, now, world.asked
        is_quiet = at_tip and now - quiet_since > QUIET and world.asked - asked > QUIET_ASKED
        if is_quiet or now > deadline:
            raise AssertionError("\n".join(wrong))
        await asyncio.sleep(0.01)


def written(world: World) -> dict[str, Any]:
    """Return a story as it can be kept, and given to `Harness.replay`."""
    setting = {name: getattr(world.setting, name) for name in Setting.__slots__}
    return {"setting": setting, "verbs": world.story}


def keep(world: World, folder: Path, name: str, failure: BaseException) -> Path:
    """Write a story to a file, with how it failed; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**written(world), "failure": str(failure)}))
    return path

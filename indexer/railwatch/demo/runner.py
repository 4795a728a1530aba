"""Directs a demo: starts everything, runs every rail's stories, ends everything, and says how it went."""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack
from importlib.metadata import entry_points

from railwatch.demo.environment import DemoEnvironment
from railwatch.demo.feed import Feed
from railwatch.demo.processes import Process, ProcessGroup
from railwatch.demo.progress_view import View
from railwatch.demo.report import LeftRunning, Outcome
from railwatch.demo.scenario_run import Phase, ScenarioRun
from railwatch.demo.shop import StoryShop
from railwatch.demo.workspace import Workspace
from railwatch.rail.demo import DemoError, NotInstalled, OpenDemo, RailDemo
from railwatch.store.database import Database

GROUP = "railwatch.demos"

STORY_SECONDS = 40.0
"""The limit of one story; the longest here needs about six."""
STOP_WITHIN = 5.0
"""The daemon's promise after SIGTERM."""


def open_demos(names: Collection[str], say: Callable[[str], None]) -> list[RailDemo]:
    """Return the demos of the installed rails, or of the named ones. Raises `DemoError`.

    A rail whose node is not on this machine is left out with a word to ``say``, unless it is named or none is left.
    """
    points = {point.name: point for point in entry_points(group=GROUP)}
    for name in names:
        if name not in points:
            raise DemoError(f'there is no demo "{name}"; installed: {", ".join(sorted(points)) or "none"}')
    demos: list[RailDemo] = []
    missing: list[NotInstalled] = []
    for name in sorted(points):
        opener: OpenDemo = points[name].load()
        try:
            demos += [opener()] if not names or name in names else []
        except NotInstalled as why:
            missing.append(why)
            say(f"without {name}: {why}")
    if missing and (names or not demos):
        raise missing[0]
    if not demos:
        raise DemoError(f"no installed rail brings a demo (entry-point group {GROUP})")
    return demos


async def run_demo(demos: Sequence[RailDemo], view: View, *, keep: bool) -> Outcome:
    """Run all stories of ``demos`` against one daemon. With ``keep`` everything runs on afterwards, however it went.

    Raises `DemoError` when they could not run: something did not start, or ended by itself. Whatever happens,
    cancellation included, nothing that was started is left running unless all ran and is to be kept. What is left
    of a demo that went wrong is its logs and configuration; of one that was cancelled, or went well, nothing.
    """
    begun = time.monotonic()
    setting = Workspace()
    keep_logs, kept = True, False
    try:
        async with ProcessGroup(setting.folder) as household:
            backstage = DemoEnvironment(setting, household, view)
            daemon, tellings = await _perform(backstage, demos, keep=keep)
            outcome = await _close(backstage, daemon, tellings, begun, keep=keep)
    except asyncio.CancelledError:
        keep_logs = False
        raise
    else:
        keep_logs, kept = not outcome.agrees, outcome.kept is not None
        return outcome
    finally:
        if not kept:
            setting.clear(keep_logs=keep_logs)


async def _perform(
    backstage: DemoEnvironment, demos: Sequence[RailDemo], *, keep: bool
) -> tuple[Process, list[ScenarioRun]]:
    """Start the nodes, then the daemon, and run the stories. All processes keep running."""
    for demo in demos:
        for program in demo.programs(backstage.workspace.folder):
            process = backstage.processes.start(program.name, program.command)
            backstage.view.say(f"{program.name} runs (pid {process.pid})")
    async with backstage.guarded(), AsyncExitStack() as entered:
        for demo in demos:
            await entered.enter_async_context(demo)
        backstage.workspace.configure(demos)
        daemon = backstage.start_daemon()
        async with asyncio.TaskGroup() as tasks:
            drivers = [tasks.create_task(demo.mine_blocks()) for demo in demos]
            async with backstage.database(daemon) as database:
                tellings = await _run_stories(backstage.view, database, demos)
            for driver in drivers:
                driver.cancel()
        if keep:
            for demo in demos:
                await demo.keep_mining()
    return daemon, tellings


async def _run_stories(view: View, database: Database, demos: Sequence[RailDemo]) -> list[ScenarioRun]:
    """Run all rails at once; then read every invoice again, for what came after its story."""
    casts = [[ScenarioRun(str(demo.rail["name"]), story) for story in demo.scenarios] for demo in demos]
    tellings = [telling for cast in casts for telling in cast]
    view.show_plan(tellings)
    view.say("the stories are lived")
    feed = Feed(database, view.show_progress)
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(feed.follow())
        async with asyncio.TaskGroup() as rails:
            for demo, cast in zip(demos, casts, strict=True):
                rails.create_task(_tell_rail(view, [StoryShop(database, feed, demo, telling) for telling in cast]))
        following.cancel()
    await feed.look_again()
    return tellings


async def _tell_rail(view: View, shops: Sequence[StoryShop]) -> None:
    """Run most stories together, then one by one those that disturb the others."""
    async with asyncio.TaskGroup() as together:
        for shop in shops:
            if not shop.telling.scenario.exclusive:
                together.create_task(_run_story(view, shop))
    for shop in shops:
        if shop.telling.scenario.exclusive:
            await _run_story(view, shop)


async def _run_story(view: View, shop: StoryShop) -> None:
    """Live one story. What goes wrong in it is its own problem, and the others go on."""
    telling = shop.telling
    telling.phase = Phase.RUNNING
    try:
        async with asyncio.timeout(STORY_SECONDS):
            await telling.scenario.run(shop)
            await shop.ends()
    except DemoError as error:
        telling.problem = str(error)
    except TimeoutError:
        telling.problem = f"after {STORY_SECONDS:.0f} s this was still all"
    telling.phase = Phase.DONE
    view.show_progress(telling)


async def _close(
    backstage: DemoEnvironment, daemon: Process, tellings: Sequence[ScenarioRun], begun: float, *, keep: bool
) -> Outcome:
    """End the daemon as systemd would, or let everything run on."""
    stopped, problem, kept = None, None, None
    if keep:
        dsn = await backstage.dsn()
        pids = {each.name: each.pid for each in reversed(backstage.processes.leave_running())}
        kept = LeftRunning(dsn, backstage.workspace.config, pids)
    else:
        backstage.view.say("stopping the daemon")
        stopped = await backstage.processes.end(daemon)
        if stopped.code != 0 or stopped.seconds > STOP_WITHIN:
            problem = (
                f"after SIGTERM the daemon ended with {stopped.code} in {stopped.seconds:.1f} s, "
                f"and should with 0 within {STOP_WITHIN:.0f} s"
            )
    wrong = problem is not None or not all(each.agrees for each in tellings)
    tail = daemon.tail() if wrong else ""
    return Outcome(tellings, time.monotonic() - begun, daemon.log, tail, stopped, problem, kept)

"""Every task is supervised: each fails once and starts again, told by name and counted, and the others go on."""

import ast
import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from railwatch import supervision
from railwatch.daemon import rail_runner
from railwatch.daemon.supervisor import NullReporter
from railwatch.store.database import Database
from railwatch_fake import Rules
from tests.scenarios.daemon_harness import DaemonHarness, chain_named
from tests.webhooks.receiver import receiver
from tests.webhooks.shop import Shop, furnish, until, webhook

INDEXER = Path(__file__).parents[2] / "indexer/railwatch"

STARTED = {
    "cli/deliver.py _serve": "both end the command: the work, and pages that cannot listen at the start",
    "cli/demo.py run_until_signal": "a demo, whose end is its result",
    "cli/daemon_reporter.py serve_daemon": "both end the command: the daemon, and pages that cannot listen at "
    "the start",
    "daemon/open_database.py open_database": "keep_running",
    "daemon/follow/planner.py prefetch": "a question ahead, whose answer the next turn takes",
    "daemon/nodes/voting.py _connect_secondary": "a node that comes in; its failure is that node's",
    "daemon/nodes/voting.py heads": "a question, whose asker waits for it",
    "daemon/rail_runner.py _follow": "lease and chain end the rail's tasks, and it begins anew; the others: "
    "keep_running",
    "daemon/supervisor.py follow": "keep_running",
    "daemon/supervisor.py run_daemon": "waits for both",
    "webhooks/deliverer.py _deliver_in_turn": "run_to_end",
    "webhooks/deliverer.py _keep_all_running": "keep_running",
    "webhooks/deliverer.py _acquired_before": "waits for either",
    "webhooks/deliverer.py deliver": "waits for it",
    "webhooks/worker.py run": "senders, which fail no attempt; a group, which the endpoint's run_to_end hears",
    "ops/listener.py _accept_all": "one connection, which ends by itself",
    "ops/listener.py run": "a group, which keep_running hears",
    "rail/jsonrpc.py _one_by_one": "gathered; the first failure cancels the others and is raised",
    "rail/prefetch.py in_order": "awaited in its turn; the end of the reader cancels it",
    "rail/push.py wait": "waited for by whoever waits for a change",
    "store/notifications.py __aenter__": "its failure is raised to whoever waits for a notification",
    "cancellation.py in_own_task": "waits for it",
}
"""Where tasks are started, and who hears of their ends. What is missing here is a task that can die unheard."""
ELSEWHERE = ("replay/", "demo/", "conformance/")
"""Not parts of the daemon or the deliverer."""


def test_it_is_known_who_hears_of_the_end_of_each_task() -> None:
    found = {place for path in INDEXER.rglob("*.py") for place in _starts(path)}
    found = {place for place in found if not place.startswith(ELSEWHERE)}
    assert found == set(STARTED)


def _starts(path: Path) -> Iterator[str]:
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                called = node.func if isinstance(node, ast.Call) else None
                if isinstance(called, ast.Attribute) and called.attr in ("create_task", "ensure_future"):
                    yield f"{path.relative_to(INDEXER)} {function.name}"


class Injected(Exception):
    """A failure that nobody foresaw."""


class Saboteur:
    """Lets each task that is run fail once: at its start, or when `strike` is called. ``seen`` counts starts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, at_start: bool) -> None:
        self.seen: Counter[str] = Counter()
        self._now = asyncio.Event()
        if at_start:
            self._now.set()
        self._honest = supervision.in_own_task
        monkeypatch.setattr(supervision, "in_own_task", self._run)
        monkeypatch.setattr(supervision, "PAUSE_FIRST", 0.05)

    def strike(self) -> None:
        self._now.set()

    async def _run(self, work: Awaitable[None]) -> None:
        task = asyncio.current_task()
        assert task is not None
        name = task.get_name()
        self.seen[name] += 1
        if self.seen[name] > 1:
            await self._honest(work)
            return
        now, running = asyncio.ensure_future(self._now.wait()), asyncio.ensure_future(self._honest(work))
        try:
            await asyncio.wait({now, running}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            now.cancel()
            running.cancel()
            await asyncio.gather(now, running, return_exceptions=True)
        raise Injected(name)


class Counting(NullReporter):
    """A reporter that counts what fails."""

    def __init__(self) -> None:
        object.__setattr__(self, "broken", Counter())

    def failed(self, task: str) -> None:
        self.broken[task] += 1  # type: ignore[attr-defined]


COMMON = {"closing", "alarms", "beat", "counting"}
OF_A_RAIL = {"push", "register", "lookback", "rescan", "spends", "quarantine", "slowness", "balances", "assign"}


@pytest.mark.parametrize("at_start", [True, False], ids=["at its start", "later"])
async def test_each_task_of_the_daemon_fails_once_and_the_rest_goes_on(
    database: Database, monkeypatch: pytest.MonkeyPatch, at_start: bool
) -> None:
    saboteur, reporter = Saboteur(monkeypatch, at_start=at_start), Counting()
    chain, options = chain_named(rules=Rules(balances=True)), {"reconcile_every": 3600}
    expected = {*COMMON, "rail.story", *(f"story.{each}" for each in OF_A_RAIL)}
    with capture_logs() as logs:
        async with DaemonHarness(database, [chain], options=options, reporter=reporter) as stage:
            paid_before = None if at_start else await stage.invoice()
            saboteur.strike()
            await until(lambda: all(saboteur.seen[name] > 1 for name in expected), 45)
            assert set(saboteur.seen) == expected
            for invoice in filter(None, (paid_before, await stage.invoice())):
                await stage.pay(invoice)
                await stage.mine(2)
                await stage.wait_for_state(invoice, "paid")
            await stage.audit()
    # An end of the rail ends its tasks as well, and those do not fail by themselves then.
    assert set(reporter.broken) <= expected  # type: ignore[attr-defined]
    assert {*COMMON, "rail.story"} <= set(reporter.broken)  # type: ignore[attr-defined]
    told = {each["task"]: each["reason"] for each in logs if each["event"] == "task.failed"}
    assert set(told) == set(reporter.broken)  # type: ignore[attr-defined]
    assert all(f"Injected: {name}" in why for name, why in told.items())


@pytest.mark.parametrize("name", ["_renew_lease", "_follow_chain", "_begin"])
async def test_a_rail_whose_lease_or_chain_breaks_begins_anew(
    database: Database, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    honest: Callable[..., Awaitable[object]] = getattr(rail_runner.RailRunner, name)
    broken: list[str] = []

    async def once(self: rail_runner.RailRunner, *args: object) -> object:
        if not broken:
            broken.append(self.name)
            raise Injected(name)
        return await honest(self, *args)

    monkeypatch.setattr(rail_runner, "RESTART_MIN_SECONDS", 0.05)
    monkeypatch.setattr(rail_runner.RailRunner, name, once)
    async with DaemonHarness(database, [chain_named(), chain_named("other")]) as stage:
        invoice = await stage.invoice()
        await stage.pay(invoice)
        await stage.mine(2)
        await stage.wait_for_state(invoice, "paid")
    assert len(broken) == 1


@pytest.mark.parametrize("at_start", [True, False], ids=["at its start", "later"])
async def test_each_task_of_the_deliverer_fails_once_and_the_rest_goes_on(
    database: Database, monkeypatch: pytest.MonkeyPatch, at_start: bool
) -> None:
    await furnish(database)
    shop, saboteur = Shop(database), Saboteur(monkeypatch, at_start=at_start)
    of_deliver = ("lock", "beat", "endpoints", "wake", "stop")
    expected = {"webhook.one", "webhook.two", *(f"deliver.{each}" for each in of_deliver)}
    async with receiver() as one, receiver() as two:
        async with shop.delivering(webhook(one, "one"), webhook(two, "two")) as running:
            order = await shop.order()
            saboteur.strike()
            await until(lambda: all(saboteur.seen[name] > 1 for name in expected), 45)
            await shop.tell(order)
            for name in ("one", "two"):
                await until(lambda name=name: shop.owes_nothing(name), 45)  # type: ignore[misc]
            assert set(running.broken) == expected
            assert b"railwatch_task_failures_total" in running.metrics.text()
        assert set(saboteur.seen) == expected
    with suppress(StopIteration):
        assert next(iter(one.accepted)).seq == 1

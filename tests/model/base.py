"""The world of a story without its verbs: how it begins and ends, its daemons, and what its verbs share."""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Concatenate, ParamSpec, Self, TypeVar
from uuid import UUID

from railwatch.config import Config
from railwatch.daemon.supervisor import NullReporter, serve
from railwatch.store.errors import Refused
from railwatch_fake import FakeNode, Output, address, forget
from tests.model.acts import Acts, Order
from tests.model.clock import StoryClock
from tests.model.patience import PatientDatabase
from tests.model.reader import Reader
from tests.model.server import Server
from tests.model.setting import BEGINS_WITHIN, CONNECTION_LOST, OTHER, POLL, RAIL, REFUSALS, RULES, Setting
from tests.model.side import Side
from tests.model.standstill import Standstill, start_with

P = ParamSpec("P")
W = TypeVar("W", bound="WorldBase")


class Watcher(NullReporter):
    """A reporter that knows whether the daemon got through its start, and what failed unexpectedly."""

    __slots__ = ("failures", "is_ready")
    failures: list[str]
    is_ready: bool

    def __init__(self, failures: list[str]) -> None:
        object.__setattr__(self, "failures", failures)
        object.__setattr__(self, "is_ready", False)

    def ready(self) -> None:
        """Every rail has its task."""
        object.__setattr__(self, "is_ready", True)

    def failed(self, task: str) -> None:
        """A task failed, and starts again."""
        self.failures.append(task)


def verb(
    act: Callable[Concatenate[W, P], Coroutine[Any, Any, None]],
) -> Callable[Concatenate[W, P], Coroutine[Any, Any, None]]:
    """Write the call into the story, then do it."""

    @functools.wraps(act)
    async def written(world: W, /, *args: P.args, **kwargs: P.kwargs) -> None:
        assert not args, "a verb's arguments are named, so that a story can be read"
        world.story.append((act.__name__, kwargs))
        await act(world, *args, **kwargs)

    return written


class WorldBase:
    """What every verb finds: chains, nodes, daemons, a database and what was done so far.

    Enter it before use; the daemons run whenever the event loop does.
    """

    def __init__(self, server: Server, clock: StoryClock, setting: Setting) -> None:
        self.server, self.clock, self.setting = server, clock, setting
        self.story: list[tuple[str, dict[str, Any]]] = []
        self.acts = Acts()
        self._databases: list[str] = []
        self.backup: tuple[str, Acts] | None = None
        self.unregistered: list[str] = []
        self.with_gold = True
        self.lying: int | None = None
        self.lied = False
        """A node once contradicted the others, so that a second look at a block may have met another one there."""
        self.contradicted: list[UUID] = []
        """Detections whose blocks every other node now tells otherwise than the one that told them first."""
        self.flapped = False
        """The chain went to and fro lately, which the daemon takes for two chains behind one address."""
        self.lagged = False
        """A node once showed an old head as its newest: the daemon cannot know what lay above."""
        self.readers = [Reader(keeps_events=True), Reader(keeps_events=False)]
        self.daemons: dict[str, asyncio.Task[None]] = {}
        self.standstills: dict[str, Standstill] = {}
        self.watchers: dict[str, Watcher] = {}
        self.named = 0
        self.unnoticed: list[tuple[datetime, datetime]] = []
        """From when to when a daemon could not know yet that it is blind."""
        self.failures: list[str] = []
        """Tasks of daemons that failed unexpectedly."""
        self.happened: set[str] = set()
        """Which acts of services and people were done, and which were refused."""
        self.told: dict[UUID, tuple[Any, ...]] = {}
        """Every event id that any generation of the feed had, with what it said."""

    async def __aenter__(self) -> Self:
        self.clock.passed = 0.0
        nodes, confirmations = self.setting.nodes, self.setting.confirmations
        main = Side(RAIL, RULES[self.setting.rules], self.clock.now, nodes=nodes, confirmations=confirmations)
        self.chain, self.truth, self.sides = main.chain, main.truth, [main]
        if self.setting.rails > 1:
            rules, fewer = RULES[(self.setting.rules + 2) % len(RULES)], max(1, nodes - 1)
            other = Side(OTHER, rules, self.clock.now, nodes=fewer, confirmations=confirmations + 1)
            self.sides.append(other)
        await self._open(await self._takes(self.server.take()))
        self.start()
        await self._has_begun()
        return self

    async def _has_begun(self) -> None:
        """Wait until the rail is followed: before that every registration is refused, and the story is empty."""
        async with asyncio.timeout(BEGINS_WITHIN):
            while not await self.is_at_tip():
                self.raise_for_dead_daemons()
                await asyncio.sleep(POLL)

    async def __aexit__(self, *_: object) -> None:
        for name in list(self.daemons):
            with suppress(Exception):
                await self.stop(name)
        await self.database.close()
        for name in self._databases:
            await self.server.give_back(name)
        for side in self.sides:
            forget(side.name)

    async def _open(self, name: str) -> None:
        self.name = name
        self.database = PatientDatabase(self.server.dsn(name), size=1)
        await self.database.open()
        await self.database.value(
            "update model.clock set passed = $1 returning 1", timedelta(seconds=self.clock.passed)
        )

    # Daemons

    def config(self, daemon: str) -> Config:
        """What the operator would have written. ``daemon`` names its sessions, so that its steps can be told apart."""
        rails = [side.config(with_gold=self.with_gold or number > 0) for number, side in enumerate(self.sides)]
        policies = [{"rail": side.name, "confirmations": side.confirmations} for side in self.sides]
        return Config.model_validate({"database": {"url": self._dsn_of(daemon)}, "rail": rails, "policy": policies})

    def _dsn_of(self, daemon: str) -> str:
        return f"{self.database.dsn}&model.daemon={daemon}"

    def start(self) -> str:
        """Start a daemon, which stands by while another one follows the rail; returns its name."""
        # The name of one that has ended is free again, and its sessions with it.
        name = next(name for name in map("daemon{}".format, count(1)) if name not in self.daemons)

        async def run() -> None:
            while True:
                watcher = self.watchers[name] = Watcher(self.failures)
                try:
                    await serve(self.config(name), None, watcher)
                except CONNECTION_LOST:
                    # The service manager restarts a daemon that cannot reach Postgres at its start.
                    if watcher.is_ready or self._is_cancelled():
                        raise
                    await asyncio.sleep(0.05)

        holds = functools.partial(self.server.sessions.is_in_transaction, self._dsn_of(name))
        self.standstills[name] = Standstill(holds)
        self.daemons[name] = start_with(self.standstills[name], run(), name)
        return name

    @staticmethod
    def _is_cancelled() -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    async def stop(self, name: str) -> None:
        """Stop a daemon as SIGTERM would. Raises what it died of, if it had died."""
        self.standstills.pop(name).go_on()
        daemon = self.daemons.pop(name)
        daemon.cancel()
        with suppress(asyncio.CancelledError, *CONNECTION_LOST):
            await daemon

    async def stop_all(self) -> None:
        """Stop every daemon."""
        for name in list(self.daemons):
            await self.stop(name)

    def raise_for_dead_daemons(self) -> None:
        """Raise what a daemon, or one of its tasks, died of."""
        if self.failures:
            raise AssertionError(f"tasks failed: {self.failures}")
        for daemon in self.daemons.values():
            if daemon.done():
                daemon.result()

    # Helpers

    def node(self, number: int) -> FakeNode:
        """Return a node by its number, which wraps around."""
        return self.sides[0].node(number)

    def nodes(self) -> list[FakeNode]:
        """Return all nodes of all rails."""
        return [node for side in self.sides for node in side.all_nodes()]

    def side(self, number: int) -> Side:
        """Return a rail by its number, which wraps around."""
        return self.sides[number % len(self.sides)]

    def side_of(self, rail: str) -> Side:
        """Return a rail by its name."""
        return self.sides[0] if rail == self.sides[0].name else self.sides[1]

    @property
    def asked(self) -> int:
        """How many questions the nodes were asked so far, which shows that a daemon goes on."""
        return sum(node.asked for node in self.nodes())

    @staticmethod
    async def _waits(condition: Callable[[], Awaitable[Any]], seconds: float) -> None:
        """Ask for ``condition`` until it holds, for ``seconds`` at most. No question is broken off on its session."""
        ends = time.monotonic() + seconds
        while not await condition() and time.monotonic() < ends:  # noqa: ASYNC110 - it is in a database
            await asyncio.sleep(POLL)

    def order(self, number: int) -> Order | None:
        """Return an order by its number, which wraps around and counts from the newest; None without orders."""
        orders = self.acts.orders
        return orders[-1 - number % len(orders)] if orders else None

    async def act(self, call: str, *args: object) -> Any:
        """Do what a person does, unless the contract refuses it at this moment."""
        name = call.partition("railwatch.")[2].partition("(")[0]
        try:
            done = await self.database.value(call, *args)
        except Refused as refused:
            if refused.code not in REFUSALS:
                raise
            self.happened.add(f"act {name} refused, {refused.code}")
            return None
        self.happened.add(f"act {name}")
        return done

    async def passes(self, seconds: float) -> None:
        """Move the story's clock. Daemons renewed their leases meanwhile, but for what had run out before."""
        self.clock.passed += seconds
        await self.database.value(
            "with moved as (update model.clock set passed = $1 returning 1) "
            "update railwatch.leases set expires_at = expires_at + $2 from moved where expires_at > now() returning 1",
            timedelta(seconds=self.clock.passed),
            timedelta(seconds=seconds),
        )

    def output(self, to: str, amount: int, gold: bool = False) -> Output:
        """Return an output of a transaction."""
        return Output(address.parse(to).key, amount, "gold" if gold else "")

    async def is_at_tip(self) -> bool:
        """Whether what is committed reaches each chain's tip, and the rails say so."""
        rows = await self.database.rows("select name, cursor_hash, state from railwatch.rails")
        committed = {row["name"]: (row["cursor_hash"], row["state"]) for row in rows}
        return all(committed.get(side.name) == (side.chain.tip.hash, "live") for side in self.sides)

    async def _has_read_all(self) -> bool:
        """Whether what is committed reaches each chain's tip, however old that is."""
        rows = await self.database.rows("select name, cursor_hash from railwatch.rails")
        committed = {row["name"]: row["cursor_hash"] for row in rows}
        return all(committed.get(side.name) == side.chain.tip.hash for side in self.sides)

    def _in_trouble(self) -> bool:
        if len(self.daemons) == sum(each.is_to_stop for each in self.standstills.values()):
            return True
        return self.lying is not None or self._a_node_is_in_trouble()

    def _a_node_is_in_trouble(self) -> bool:
        return any(node.down or node.hangs or node.lag for node in self.nodes())

    async def _takes(self, taken: Awaitable[str]) -> str:
        """Note a database, to give it back when the story ends: until then its files tell it from others."""
        self._databases.append(await taken)
        return self._databases[-1]

"""The world of one story: a chain, its nodes, daemons, a database, people; every verb is a thing that happens there.

A story is a list of verbs with plain arguments (`World.story`), so that it can be printed, kept and played again.
"""

import asyncio
import functools
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any, Concatenate, ParamSpec
from uuid import UUID

import asyncpg

from railwatch.config import Config
from railwatch.daemon.supervisor import NullReporter, serve
from railwatch.store.database import Database
from railwatch.store.errors import Refused, StoreUnavailable
from railwatch_fake import FakeChain, FakeNode, Output, Rules, address, forget
from tests.model.clock import StoryClock
from tests.model.server import Server
from tests.model.side import STALL_AFTER, Side
from tests.model.standstill import Standstill, start_with
from tests.model.truth import LEAST

RAIL, OTHER = "story", "other"
"""The rail of every story, and the second one of some, of the same family of addresses."""

BLOCK_SECONDS = 10
RULES = [
    Rules(lookback=5, horizon=9),
    Rules(mempool=False, finality=8, safe=4, lookback=5, span_max=7),
    Rules(horizon=12, lookback=5, span_max=3),
    Rules(mempool=False, horizon=9, lookback=5),
    Rules(finality=6, safe=3, lookback=5),
]
NOTICED_WITHIN = 20.0
"""Seconds of real time in which a daemon on a busy machine notices that the newest block has grown old."""

LOOKS_AGAIN = 30
"""Questions to nodes in which a daemon ends what it was at, and has looked at the newest block anew."""

BEGINS_WITHIN, SEEN_WITHIN = 60.0, 2.0
"""Seconds of real time in which a first daemon follows its rail, and in which one sees what waits for a block."""

IN_TROUBLE_WITHIN = 0.15
"""The same where a node or a daemon is in trouble, so that it may well not see it before the story goes on."""

POLL = 0.008
"""Seconds between two looks at whether something has come about."""

GOES_ON_WITHIN = 20.0
"""Seconds of real time in which a daemon on a busy machine goes on after a step that failed."""

LATE_BLOCKS = timedelta(seconds=5)
"""For how long after the end of a window a block of that time may still come: a rail's `time_margin`."""

DEEPEST = 4
"""Blocks that a reorg replaces at most, which finality and horizon are always below."""

REFUSALS = ("RW002", "RW003", "RW007", "RW008", "RW010", "RW012", "RW013", "RW014")
"""What the contract may answer to a verb that does not fit the moment."""

CONNECTION_LOST = (
    StoreUnavailable,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Setting:
    """What a story begins with. ``nodes``: how many follow the chain and are configured. ``rails``: one, or two."""

    rules: int = 0
    nodes: int = 1
    confirmations: int = 2
    rails: int = 1


@dataclass(frozen=True, slots=True)
class Order:
    """An invoice as it was registered. ``asks``: amount by asset id."""

    id: UUID
    address: str
    asks: dict[str, int]
    created_at: datetime
    expires_at: datetime
    closes_at: datetime
    time_basis: str
    accept_before: int
    policies: dict[str, dict[str, Any]]
    """By rail. Those that are in it are the rails on which it can be paid."""


@dataclass(frozen=True, slots=True)
class Dispute:
    """What a second look found. ``state``: that of the payment then. ``verdict``: what a person said; None: nothing."""

    state: str
    verdict: str | None = None


@dataclass(slots=True)
class Acts:
    """What services and people did, as far as the database can know it: a failover forgets the newest of it."""

    orders: list[Order] = field(default_factory=list)
    surplus: dict[tuple[UUID, str], int] = field(default_factory=dict)
    """By invoice and asset: what a person gave back of what was more than a settled order had asked for."""
    waived: dict[tuple[UUID, str], int] = field(default_factory=dict)
    """The same: what was given back out of a settled order by choice, below what it had asked for."""
    was_without_gold: bool = False
    watched_at: dict[tuple[UUID, str], int] = field(default_factory=dict)
    """By invoice and rail: the tip's height at a moment when its addresses there were watched already."""

    disputed: dict[tuple[str, str, str], Dispute] = field(default_factory=dict)
    """By transaction, credit and block: what another node was found to tell otherwise before it was final."""

    def copy(self) -> "Acts":
        return Acts(
            list(self.orders),
            dict(self.surplus),
            dict(self.waived),
            self.was_without_gold,
            dict(self.watched_at),
            dict(self.disputed),
        )


@dataclass(slots=True)
class Purse:
    """What an invoice had received and given back, by asset, at one moment."""

    order: Order
    sticky: bool
    paid: defaultdict[str, int]
    """Confirmed payments."""
    came: defaultdict[str, int]
    """All that is confirmed, of whatever kind."""
    refunded: defaultdict[str, int]

    @classmethod
    async def read(cls, connection: Any, order: Order) -> "Purse":
        """Read it under the invoice's lock."""
        row = await connection.fetchrow("select * from railwatch.invoices where id = $1 for update", order.id)
        lines = await connection.fetch(
            "select to_state from railwatch.transitions where invoice_id = $1 and subject = 'invoice' order by seq",
            order.id,
        )
        states = [line["to_state"] for line in lines if line["to_state"] != "flagged"]
        purse = cls(
            order, states[-1] in ("cancelled", "refunded"), defaultdict(int), defaultdict(int), defaultdict(int)
        )
        assert row is not None
        confirmed = "select * from railwatch.detections where invoice_id = $1 and state in ('confirmed', 'final')"
        for each in await connection.fetch(confirmed, order.id):
            purse.came[each["asset"]] += int(each["amount"])
            purse.paid[each["asset"]] += int(each["amount"]) if each["kind"] == "payment" else 0
        for each in await connection.fetch(
            "select asset, amount from railwatch.refunds where invoice_id = $1", order.id
        ):
            purse.refunded[each["asset"]] += int(each["amount"])
        return purse

    def is_paid(self, asset: str, waived: int) -> bool:
        """Whether the merchant has what was asked for in this asset, but for what was waived."""
        asked = self.order.asks[asset]
        has = self.came[asset] - self.refunded[asset]
        return not self.sticky and self.paid[asset] >= asked and has >= asked - waived

    def excess(self, asset: str, waived: int) -> int:
        """How much more is there than was asked for; below zero where this asset does not settle the order."""
        if asset not in self.order.asks:
            return -1
        return self.came[asset] - (self.refunded[asset] - waived) - self.order.asks[asset]


class Reader:
    """A consumer elsewhere, which keeps the lines that it read, and its position with the feed's generation.

    ``keeps_events``: also the last line's event. Who does not is told of a failover by the generation alone.
    """

    def __init__(self, *, keeps_events: bool) -> None:
        self.keeps_events = keeps_events
        self.lines: list[tuple[int, UUID]] = []
        self.generation: UUID | None = None

    async def reads(self, database: Database) -> None:
        """Go back to where `feed_check` says, and read on, as docs/contract.md asks of a consumer."""
        async with database.connection() as connection, connection.transaction(isolation="repeatable_read"):
            seq, event = self.lines[-1] if self.lines else (0, None)
            if self.generation is not None:
                check = "select railwatch.feed_check($1, $2, $3)"
                seq = await connection.fetchval(check, self.generation, seq, event if self.keeps_events else None)
                self.lines = [line for line in self.lines if line[0] <= seq]
            self.generation = await connection.fetchval("select railwatch.feed_generation()")
            more = "select seq, event_id from railwatch.transitions where seq > $1 order by seq"
            self.lines += [(row["seq"], row["event_id"]) for row in await connection.fetch(more, seq)]


class Watcher(NullReporter):
    """A reporter that knows whether the daemon got through its start, and what failed that nobody foresaw."""

    __slots__ = ("failures", "is_ready")

    def __init__(self, failures: list[str]) -> None:
        object.__setattr__(self, "failures", failures)
        object.__setattr__(self, "is_ready", False)

    def ready(self) -> None:
        """Every rail has its task."""
        object.__setattr__(self, "is_ready", True)

    def failed(self, task: str) -> None:
        """A task failed, and starts again."""
        self.failures.append(task)


def verb(act: Callable[Concatenate["World", P], Awaitable[None]]) -> Callable[Concatenate["World", P], Awaitable[None]]:
    """Write the call into the story, then do it."""

    @functools.wraps(act)
    async def written(world: "World", *args: P.args, **kwargs: P.kwargs) -> None:
        assert not args, "a verb's arguments are named, so that a story can be read"
        world.story.append((act.__name__, kwargs))
        await act(world, **kwargs)

    return written


class World:
    """One story's world. Enter it before use; the daemon runs whenever the event loop does."""

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
        """Tasks of daemons that failed for a reason that nobody foresaw."""
        self.happened: set[str] = set()
        """Which acts of services and people were done, and which were refused."""
        self.told: dict[UUID, tuple[Any, ...]] = {}
        """Every event id that any generation of the feed had, with what it said."""

    async def __aenter__(self) -> "World":
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
        self.database = Database(self.server.dsn(name), size=1)
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
                    # Whoever cannot reach Postgres at the start is started again by the service manager.
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

    # Services and people

    @verb
    async def registers(
        self, *, amount: int, gold: bool = False, both: bool = False, expires: int = 3600, closes: int = 2_592_000,
        basis: str = "first_seen", finalized: bool = False, known: int | None = None, accept: int = 600,
        other: bool = False,
    ) -> None:  # fmt: skip
        """Register an invoice at a new address, or at one that was registered or paid before (``known``, -1: last).

        ``other``: it can be paid on the second rail as well, where there is one.
        """
        used = [*(order.address for order in self.acts.orders), *self.unregistered]
        at = used[known % len(used)] if known is not None and used else address.render(self.chain.new_key())
        symbols = ["COIN", "GOLD"] if both else ["GOLD"] if gold else ["COIN"]
        ways = [(self.sides[0], each) for each in symbols]
        ways += [(side, "COIN") for side in self.sides[1:] if other]
        self.named += 1
        request = {
            "merchant_id": "shop",
            "order_id": str(self.named),
            "expires_in": expires,
            "closes_in": closes,
            "time_basis": basis,
            "accept_before": accept,
            "destinations": [
                {"rail": side.name, "asset": each, "amount": amount, "address": at} for side, each in ways
            ],
        }
        if finalized and all(side.chain.rules.finality is not None for side, _ in ways):
            request["policy"] = {"finalized": True}
        made = await self.act("select railwatch.create_invoice($1)", request)
        if made is None:
            return
        if at in self.unregistered:
            self.unregistered.remove(at)
        row = await self.database.row("select * from railwatch.invoices where id = $1", made)
        assert row is not None
        asks = {side.gold if each == "GOLD" else side.coin: amount for side, each in ways}
        rows = await self.database.rows("select rail, policy from railwatch.destinations where invoice_id = $1", made)
        policies = {each["rail"]: each["policy"] for each in rows}
        self.acts.orders.append(
            Order(made, at, asks, row["created_at"], row["expires_at"], row["closes_at"], basis, accept, policies)
        )

    @verb
    async def holds(self, *, order: int) -> None:
        """Hold an invoice."""
        if (held := self.order(order)) is not None:
            await self.act("select railwatch.hold_invoice($1, actor => 'ann', reason => 'looks odd')", held.id)

    @verb
    async def releases(self, *, order: int) -> None:
        """Release an invoice."""
        if (held := self.order(order)) is not None:
            await self.act("select railwatch.release_invoice($1, actor => 'ann')", held.id)

    @verb
    async def cancels(self, *, order: int) -> None:
        """Cancel an invoice."""
        if (cancelled := self.order(order)) is not None:
            await self.act("select railwatch.cancel_invoice($1)", cancelled.id)

    @verb
    async def refunds(self, *, order: int, amount: int, gold: bool = False, rail: int = 0) -> None:
        """Record a refund, and note what of it was given back out of a settled order."""
        refunded = self.order(order)
        if refunded is None:
            return
        self.named += 1
        side = self.side(rail)
        asset = side.gold if gold else side.coin
        key = refunded.id, asset
        with suppress(Refused):
            async with self.database.transaction() as connection:
                moment = await Purse.read(connection, refunded)
                await connection.fetchval(
                    "select railwatch.record_refund($1, $2, $3, actor => 'ann', rail => $4, asset => $5)",
                    refunded.id, Decimal(amount), f"back {self.named}", side.name, asset,
                )  # fmt: skip
            waived = self.acts.waived
            excess = moment.excess(asset, waived.get(key, 0))
            if excess >= 0 and any(moment.is_paid(each, waived.get((refunded.id, each), 0)) for each in refunded.asks):
                surplus = min(amount, excess)
                self.acts.surplus[key] = self.acts.surplus.get(key, 0) + surplus
                others = [each for each in refunded.asks if each != asset]
                if not any(moment.is_paid(each, waived.get((refunded.id, each), 0)) for each in others):
                    waived[key] = waived.get(key, 0) + amount - surplus

    @verb
    async def is_poisoned(self, *, order: int) -> None:
        """An invoice's row becomes such as nothing can load."""
        if (bad := self.order(order)) is not None:
            await self.database.value(
                "with spoilt as (update railwatch.destinations set policy = '[7]' where invoice_id = $1 returning 1) "
                "select count(*) from spoilt", bad.id,
            )  # fmt: skip

    @verb
    async def goes_on(self) -> None:
        """The rail is followed to its tip, whatever is wrong with one invoice. Raises AssertionError.

        A node that is stuck, or alone, is borne with for half a minute, so with one of those nothing is asked.
        """
        if self._in_trouble():
            return
        await self._waits(self._has_read_all, GOES_ON_WITHIN)
        if not await self._has_read_all():
            rails = await self.database.rows("select name, state, reason, cursor_height from railwatch.rails")
            raise AssertionError(f"a rail does not go on: {rails}; tips {[s.chain.tip.height for s in self.sides]}")
        self.raise_for_dead_daemons()

    async def _has_read_all(self) -> bool:
        """Whether what is committed reaches each chain's tip, however old that is."""
        rows = await self.database.rows("select name, cursor_hash from railwatch.rails")
        told = {row["name"]: row["cursor_hash"] for row in rows}
        return all(told.get(side.name) == side.chain.tip.hash for side in self.sides)

    @verb
    async def is_mended(self) -> None:
        """Every row is again as it was when it was made."""
        await self.mend()

    async def mend(self) -> None:
        """Write the policies that the orders began with over those that cannot be read."""
        for order in self.acts.orders:
            await self.database.value(
                "with mended as (update railwatch.destinations set policy = $2::jsonb -> rail "
                "where invoice_id = $1 and jsonb_typeof(policy) = 'array' returning 1) select count(*) from mended",
                order.id, order.policies,
            )  # fmt: skip

    @verb
    async def resolves(self, *, which: int) -> None:
        """A person resolves one of the open exceptions."""
        rows = await self.database.rows(
            "select id from railwatch.exceptions where resolved_at is null and kind <> 'content_mismatch' order by id"
        )
        if rows:
            call = "select railwatch.resolve_exception($1, actor => 'ann', resolution => 'seen to')"
            await self.act(call, rows[which % len(rows)]["id"])

    @verb
    async def is_read(self) -> None:
        """The consumers elsewhere read the feed."""
        for reader in self.readers:
            await reader.reads(self.database)

    @verb
    async def rescans(self, *, start: int, rail: int = 0) -> None:
        """Ask for a rescan from a height up to the cursor."""
        await self.act("select railwatch.request_rescan($1, $2)", self.side(rail).name, start)

    @verb
    async def gives_up_rescans(self) -> None:
        """A person cancels whatever rescan is on its way."""
        for row in await self.database.rows("select id from railwatch.rescans where finished_at is null"):
            await self.act("select railwatch.cancel_rescan($1, 'ann')", row["id"])

    # The chain

    @verb
    async def pays(
        self, *, order: int, amount: int, gold: bool = False, maturity: int = 1, rail: int = 0
    ) -> None:  # fmt: skip
        """A customer pays an invoice's address, maybe on a rail on which nobody asked for it."""
        if (paid := self.order(order)) is not None:
            self.side(rail).chain.send(self.output(paid.address, amount, gold), maturity=maturity)

    @verb
    async def pays_dust(self, *, order: int, amount: int) -> None:
        """Somebody sends an invoice's address less than moves anything."""
        if (paid := self.order(order)) is not None:
            self.chain.send(self.output(paid.address, amount % LEAST))

    @verb
    async def pays_many(self, *, orders: list[int], amount: int) -> None:
        """One transaction pays several invoices, maybe one of them twice."""
        paid = [found.address for found in map(self.order, orders) if found is not None]
        if paid:
            self.chain.send(*(self.output(each, amount) for each in paid))

    @verb
    async def pays_first(self, *, amount: int, rail: int = 0) -> None:
        """Somebody pays an address that no invoice has yet."""
        self.unregistered.append(address.render(self.chain.new_key()))
        self.side(rail).chain.send(self.output(self.unregistered[-1], amount))

    @verb
    async def mines(self, *, blocks: int, change: int = 0, rail: int = 0) -> None:
        """The chain grows. ``change``: what a waiting transaction pays turns out otherwise in its block."""
        chain = self.side(rail).chain
        for _ in range(blocks):
            await self.passes(BLOCK_SECONDS)
            if change and chain.waiting:
                self._change(chain, list(chain.waiting)[change % len(chain.waiting)], change)
            chain.mine()

    @verb
    async def reorgs(self, *, depth: int, fate: str, change: int = 0, rail: int = 0) -> None:
        """The newest blocks are replaced. ``fate`` of their transactions: kept, lost, half, back or changed."""
        chain = self.side(rail).chain
        depth = min(depth, DEEPEST, len(chain.line) - 2)
        if depth < 1:
            return
        orphaned = [tx for block in chain.line[-depth:] for tx in block.txs]
        changed = {tx.id for tx in orphaned[change % 2 :: 2]} if fate == "changed" else set[str]()
        for each in changed:
            self._change(chain, each, change)
        orphaned = [chain.txs[tx.id] for tx in orphaned]
        kept = {"kept": orphaned, "changed": orphaned, "half": orphaned[change % 2 :: 2]}.get(fate, [])
        await self.passes(BLOCK_SECONDS)
        block = chain.grow(chain.line[-depth - 1], kept)
        for _ in range(depth):
            block = chain.grow(block)
        chain.adopt(block.hash)
        consumed = {coin for each in chain.line for tx in each.txs for coin in tx.spends}
        if fate in ("back", "half"):
            for tx in orphaned:
                if tx not in kept and consumed.isdisjoint(tx.spends):
                    chain.resend(tx.id)

    @verb
    async def flaps(self, *, order: int, depth: int, times: int, milliseconds: int) -> None:
        """The chain shows a branch of the same length for moments, in which the order is paid, and pushes nothing."""
        chain, paid = self.chain, self.order(order)
        depth = min(depth, DEEPEST, len(chain.line) - 2)
        if depth < 1 or paid is None:
            return
        self.flapped = True
        await self.passes(BLOCK_SECONDS)
        tip = chain.tip.hash
        other = chain.grow(chain.line[-depth - 1], [chain.send(self.output(paid.address, 50))])
        for _ in range(depth - 1):
            other = chain.grow(other)
        for node in self.sides[0].all_nodes():
            node.silent = True
        for branch in (other.hash, tip) * times:
            chain.adopt(branch)
            await asyncio.sleep(milliseconds / 1000)
        for node in self.sides[0].all_nodes():
            node.silent = False

    @verb
    async def is_paid_by_a_late_block(self, *, order: int) -> None:
        """A block comes seconds after its timestamp, and pays an order whose window was over meanwhile."""
        paid, chain = self.order(order), self.chain
        if paid is None or (left := (paid.expires_at - self.clock.now()).total_seconds()) < 0:
            return
        await self.passes(left + 0.5)
        await asyncio.sleep(0.2)
        stamp = paid.expires_at - timedelta(seconds=2)
        usual, chain._clock = chain._clock, lambda: stamp
        chain.send(self.output(paid.address, paid.asks.get(self.sides[0].coin, 100)))
        late = chain.grow(chain.tip, list(chain.waiting.values()))
        chain._clock = usual
        chain.adopt(late.hash)

    def _change(self, chain: FakeChain, tx_id: str, how: int) -> None:
        """What the transaction pays depends on the state before it, so that it pays something else from now on."""
        tx = chain.txs[tx_id]
        out = tx.outputs[0]
        other = self.order(how)
        changes = [
            replace(out, amount=max(LEAST, out.amount * 3 // 5)),
            replace(out, amount=out.amount * 2),
            replace(out, to=address.parse(other.address).key) if other else out,
            replace(out, token="" if out.token else "gold"),
            replace(out, to=chain.new_key()),
        ]
        changed = replace(tx, outputs=(changes[how % len(changes)], *tx.outputs[1:]), maturity=1 + how % 3)
        chain.txs[tx_id] = changed
        if tx_id in chain.waiting:
            chain.waiting[tx_id] = changed

    @verb
    async def replaces(self, *, which: int, rail: int = 0) -> None:
        """A rival takes the coins of a waiting transaction elsewhere."""
        chain = self.side(rail).chain
        if chain.waiting:
            chain.replace(list(chain.waiting)[which % len(chain.waiting)])

    @verb
    async def drops(self, *, which: int, rail: int = 0) -> None:
        """The mempool forgets a transaction."""
        side = self.side(rail)
        if side.chain.waiting:
            side.dropped.append(list(side.chain.waiting)[which % len(side.chain.waiting)])
            side.chain.drop(side.dropped[-1])

    @verb
    async def resends(self, *, rail: int = 0) -> None:
        """A dropped transaction is back, unless its coins are gone."""
        side, chain = self.side(rail), self.side(rail).chain
        consumed = {coin for block in chain.line for tx in block.txs for coin in tx.spends}
        consumed |= {coin for tx in chain.waiting.values() for coin in tx.spends}
        if side.dropped and consumed.isdisjoint(chain.txs[side.dropped[-1]].spends):
            chain.resend(side.dropped.pop())

    # Nodes

    @verb
    async def troubles(self, *, node: int, kind: str, size: int = 1, rail: int = 0) -> None:
        """A node lags, is down, hangs, is slow, or stays on an old branch (only where others are the majority)."""
        if (side := self.side(rail)) is not self.sides[0]:
            self._trouble(side.node(node), kind, size)
            return
        node %= self.setting.nodes
        if self.lying is not None and (self._honest_away() or node == self.lying):
            return
        if self.lying is not None and kind in ("down", "hang") and self.setting.nodes == 2:
            return  # Of two nodes the one that is left decides alone.
        if kind == "pin" and self.setting.nodes > 1 and self._is_first_liar():
            self.lying, self.lied = node, True
            self.node(node).pin(self.chain.tip.hash)
        self._trouble(self.node(node), kind, size)

    def _trouble(self, troubled: FakeNode, kind: str, size: int) -> None:
        match kind:
            case "lag":
                troubled.lag, self.lagged = size, True
            case "down":
                troubled.down = True
            case "hang":
                troubled.hangs = True
            case "slow":
                troubled.latency = 0.004 * size
            case "restart":
                troubled.restart()

    @verb
    async def lies(self, *, node: int, order: int, back: int = 0, blocks: int = 10, early: bool = False) -> None:
        """A node makes up blocks of its own, the first with a payment, on the tip or ``back`` blocks below.

        ``early``: it also calls its newest block final.
        """
        paid = self.order(order)
        if self.setting.nodes < 2 or paid is None or not self._is_first_liar() or self._honest_away(but=node):
            return
        self.lying, self.lied = node % self.setting.nodes, True
        liar, amount = self.node(self.lying), sum(paid.asks.values())
        coin = self.sides[0].coin
        if back:
            liar.pin(self.chain.line[max(0, len(self.chain.line) - 1 - back)].hash)
        liar.make_up(blocks, self.output(paid.address, amount, coin not in paid.asks))
        if early and self.chain.rules.finality is not None:
            liar.finality = 0

    @verb
    async def others_retell(self) -> None:
        """Whoever did not tell of the newest order's payments, not final yet, tells other amounts from now on."""
        if self.setting.nodes < 2 or self._in_trouble() or (paid := self.order(0)) is None:
            return
        told = await self.database.rows(
            "select id, tx_id, evidence ->> 'node' as node from railwatch.detections where invoice_id = $1 "
            "and rail = $2 and kind = 'payment' and state in ('included', 'confirmed') and looked_at_block is null",
            paid.id, RAIL,
        )  # fmt: skip
        if not told:
            return
        for number in range(self.setting.nodes):
            if told[0]["node"] != f"node{number}":
                self.lying, self.lied = number, True
                for row in told:
                    tx = self.chain.txs[row["tx_id"]]
                    outputs = tuple(replace(out, amount=out.amount + 1) for out in tx.outputs)
                    self.node(number).retold[tx.id] = replace(tx, outputs=outputs)
        self.contradicted = [row["id"] for row in told if row["node"] == told[0]["node"]]

    @verb
    async def judges(self, *, verdict: str | None) -> None:
        """A person looks at what the second look found, and decides, or not (``verdict`` None).

        Raises AssertionError where it found nothing.
        """
        for each in self.contradicted:
            found = (
                "select id from railwatch.exceptions "
                "where kind = 'content_mismatch' and detection_id = $1 and ended_at is null"
            )
            await self._waits(functools.partial(self.database.value, found, each), GOES_ON_WITHIN)
            row = await self.database.row("select * from railwatch.detections where id = $1", each)
            case = await self.database.value(found, each)
            assert row is not None
            if case is None or row["state"] == "final":
                raise AssertionError(f"no second look found what another node tells of {row['tx_id'][:8]}: {row}")
            if verdict is not None:
                call = "select railwatch.resolve_exception($1, actor => 'ann', resolution => 'looked', verdict => $2)"
                await self.act(call, case, verdict)
            key = row["tx_id"], row["tx_index"].split("@")[0], row["block_hash"]
            self.acts.disputed[key] = Dispute(row["state"], verdict)
        self.contradicted = []

    def _in_trouble(self) -> bool:
        if len(self.daemons) == sum(each.is_to_stop for each in self.standstills.values()):
            return True
        return self.lying is not None or self._a_node_is_in_trouble()

    def _a_node_is_in_trouble(self) -> bool:
        return any(node.down or node.hangs or node.lag for node in self.nodes())

    def _is_first_liar(self) -> bool:
        return self.lying is None

    def _honest_away(self, but: int = -1) -> bool:
        """Whether an honest node does not answer: beside a lie, no more than a minority may be away."""
        return any(
            self.node(number).down or self.node(number).hangs
            for number in range(self.setting.nodes)
            if number not in (self.lying, but % self.setting.nodes)
        )

    @verb
    async def heals(self, *, node: int | None = None) -> None:
        """A node, or each of them on every rail, is well again."""
        self.heal(node)

    def heal(self, node: int | None = None) -> None:
        """Let a node, or each of them on every rail, be well."""
        for side in self.sides:
            for number in range(side.nodes):
                if node is None or number == node % side.nodes:
                    self._heal(side, number)

    def _heal(self, side: Side, number: int) -> None:
        healed = side.node(number)
        healed.down = healed.hangs = False
        healed.lag, healed.latency, healed.finality = 0, 0.0, None
        if side is self.sides[0] and self.lying == number:
            self.lying = None
        healed.retold.clear()
        healed.pin(None)

    # Time

    @verb
    async def time_passes(self, *, seconds: int) -> None:
        """Nothing happens for a while.

        A daemon cannot know that the newest block has grown old before it looks again: until then it is not blind.
        """
        is_stalled, asked = await self._is_stalled(), self.asked
        await self.passes(seconds)
        if seconds < STALL_AFTER or not self.daemons:
            return
        began = self.clock.now()
        if is_stalled:  # For another reason, which may just be over: then a step is on its way that saw a young block.
            await self._waits(functools.partial(self._was_asked, asked + LOOKS_AGAIN), NOTICED_WITHIN)
        # Else a step on its way, which saw a young block, may still come after what is told beside it: a slow node.
        old = not (is_stalled or self.flapped or self._in_trouble())
        await self._waits(functools.partial(self._is_stalled, for_its_age=old), NOTICED_WITHIN)
        self.unnoticed.append((began - timedelta(seconds=1), self.clock.now() + timedelta(seconds=0.5)))

    async def _was_asked(self, often: int) -> bool:
        return self.asked >= often

    async def _is_stalled(self, *, for_its_age: bool = False) -> bool:
        """Whether each rail says that it is stalled (``for_its_age``: because its newest block is old)."""
        because = "the newest block is older%" if for_its_age else "%"
        stalled = "select bool_and(state = 'stalled' and coalesce(reason, '') like $1) from railwatch.rails"
        return bool(await self.database.value(stalled, because))

    @verb
    async def breathes(self, *, milliseconds: int) -> None:
        """The daemon gets some time of its own."""
        await asyncio.sleep(milliseconds / 1000)

    @verb
    async def is_followed(self, *, within: int = 150) -> None:
        """Wait until the daemon is at the tip, ``within`` milliseconds at most, and less where nodes are in trouble."""
        if self._in_trouble():
            within = 15
        await self._waits(self.is_at_tip, within / 1000)

    @verb
    async def is_seen(self, *, rail: int = 0) -> None:
        """Wait until the daemon has told of the newest transaction that waits, where anybody can see it."""
        chain = self.side(rail).chain
        if not chain.rules.mempool or not chain.waiting:
            return
        newest = list(chain.waiting)[-1]
        known = "select count(*) from railwatch.detections where tx_id = $1"
        within = IN_TROUBLE_WITHIN if self._in_trouble() else SEEN_WITHIN
        await self._waits(lambda: self.database.value(known, newest), within)

    @verb
    async def is_watched(self, *, within: int = 500) -> None:
        """Wait until the newest order's addresses are watched, and note which blocks that promises to have seen."""
        there = "select bool_and(watch_state = 'watching') from railwatch.destinations where invoice_id = $1"
        if (newest := self.order(0)) is None:
            return
        seconds = min(within / 1000, IN_TROUBLE_WITHIN) if self._in_trouble() else within / 1000
        await self._waits(lambda: self.database.value(there, newest.id), seconds)
        if await self.database.value(there, newest.id):
            for rail in newest.policies:
                self.acts.watched_at.setdefault((newest.id, rail), self.side_of(rail).chain.tip.height)

    @verb
    async def has_read(self) -> None:
        """Wait until the daemon has committed the chain's tip, whatever it thinks of it."""
        there = "select count(*) from railwatch.rails where cursor_hash = $1"
        await self._waits(lambda: self.database.value(there, self.chain.tip.hash), SEEN_WITHIN)

    async def is_at_tip(self) -> bool:
        """Whether what is committed reaches each chain's tip, and the rails say so."""
        rows = await self.database.rows("select name, cursor_hash, state from railwatch.rails")
        told = {row["name"]: (row["cursor_hash"], row["state"]) for row in rows}
        return all(told.get(side.name) == (side.chain.tip.hash, "live") for side in self.sides)

    # Operators

    @verb
    async def restarts(self, *, with_gold: bool = True, confirmations: int = 2) -> None:
        """The operator restarts the daemon, maybe with another configuration, which is for the orders to come."""
        await self.stop_all()
        self.sides[0].confirmations = confirmations
        self.with_gold = with_gold
        self.acts.was_without_gold |= not with_gold
        self.start()

    @verb
    async def gets_a_standby(self) -> None:
        """A second daemon starts beside the first, and knows by the end of this what is watched now."""
        if len(self.daemons) >= 2:
            return
        name = self.start()
        with suppress(TimeoutError):
            async with asyncio.timeout(SEEN_WITHIN):
                while not (name in self.watchers and self.watchers[name].is_ready):  # noqa: ASYNC110 - another thing's
                    await asyncio.sleep(POLL)

    @verb
    async def loses_a_daemon(self, *, which: int) -> None:
        """One of two daemons ends, whatever it was doing."""
        if len(self.daemons) > 1:
            await self.stop(list(self.daemons)[which % len(self.daemons)])

    @verb
    async def is_cut_off(self) -> None:
        """Postgres ends every connection of the daemons at any point: the answer to a commit may be lost."""
        ours = await self.database.value("select pg_backend_pid()")
        await self.server.cut_off(self.name, but=ours)

    @verb
    async def lets_leases_run_out(self) -> None:
        """Whoever follows the rail is taken for dead, and goes on for a while all the same."""
        await self.database.value("update railwatch.leases set expires_at = now() - interval '1 s' returning 1")

    @verb
    async def stands_still(self, *, after: int, within: bool = False, which: int = 0) -> None:
        """A daemon will stop, as by SIGSTOP, after so many steps of its tasks (``within``: within transactions)."""
        if self.standstills:
            list(self.standstills.values())[which % len(self.standstills)].stop_after(after, within=within)

    @verb
    async def stood_still(self) -> None:
        """Wait until a daemon that was to stop has stopped; then whoever follows the rail is taken for dead."""
        within = IN_TROUBLE_WITHIN if self._a_node_is_in_trouble() else SEEN_WITHIN
        for each in self.standstills.values():
            await self._waits(each.has_stopped, within)
        await self.database.value("update railwatch.leases set expires_at = now() - interval '1 s' returning 1")

    @verb
    async def goes_on_from_there(self) -> None:
        """A daemon that stood still goes on with what it was at."""
        for each in self.standstills.values():
            each.go_on()

    @verb
    async def is_copied(self) -> None:
        """A replica has everything up to now, and nothing that follows."""
        self.backup = await self._takes(self.server.copy(self.database)), self.acts.copy()

    @verb
    async def fails_over(self) -> None:
        """The database is lost, and the replica takes its place: what was committed since is gone."""
        if self.backup is None:
            return
        await self.stop_all()
        await self.database.close()
        (name, self.acts), self.backup = self.backup, None
        await self._open(name)
        self.start()

    async def _takes(self, taken: Awaitable[str]) -> str:
        """Note a database, to give it back when the story ends: until then its files tell it from others."""
        self._databases.append(await taken)
        return self._databases[-1]

"""What the fuzzer plays on: a database with real orders, a daemon, a deliverer, and a login of each role."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import asyncpg

from railwatch.daemon.supervisor import NullReporter, serve
from railwatch.store.database import Database
from railwatch_fake import Rules
from tests.fuzz.sql.values import Known
from tests.scenarios.daemon_harness import DaemonHarness, Placed, chain_named
from tests.webhooks.receiver import Receiver, receiver
from tests.webhooks.shop import Shop, webhook

ROLES = ("service", "reader", "operator", "daemon", "deliverer", "stranger")
LEFT = "left"
"""A rail that no daemon follows, halted by a DeepReorg: for calls that only such a rail accepts."""
_numbers = count(1)

KNOWN_IDS = {
    "invoice": "select id from railwatch.invoices",
    "exception_id": "select id from railwatch.exceptions",
    "rescan": "select id from railwatch.rescans",
    "generation": "select generation from railwatch.feed_generations",
    "event_id": "select event_id from railwatch.transitions",
}
KNOWN_TEXTS = {
    "on_rail": "select name from railwatch.rails",
    "asset": "select symbol from railwatch.assets",
    "consumer": "select name from railwatch.consumers",
    "tx_id": "select tx_id from railwatch.detections union select tx_id from railwatch.refunds",
    "what": "select merchant_id || '/' || order_id from railwatch.invoices "
    "union select order_id from railwatch.invoices union select address from railwatch.destinations "
    "union select tx_id from railwatch.detections "
    "union select id::text from railwatch.invoices",
    "state": "select distinct from_state from railwatch.allowed_transitions",
}
ALWAYS = {
    "actor": ["ann", "a" * 200],
    "reason": ["why", "x" * 1_000],
    "note": ["noted", "two\nlines", "x" * 4_000],
    "owner": ["bob"],
    "resolution": ["accepted", "sent back"],
    "verdict": ["accepted", "rejected"],
    "cause": ["service", "operator"],
    "reference": ["payout 7", "payout 8"],
    "hash": ["0xabc"],
    "why": ["set aside by the fuzzer"],
    "new_name": ["renamed"],
    "consumer": ["books", "mail"],
    "subject": ["invoice", "exception"],
    "to_state": ["paid", "open", "created"],
    "code": ["RW001"],
    "message": ["no"],
    "tx_id": ["back-1", "back-2"],
    "what": ["nothing of that name"],
}


@dataclass(frozen=True, slots=True)
class Counting(NullReporter):
    """The daemon's reporter: failures that no code foresaw."""

    failures: list[str]

    def failed(self, task: str) -> None:
        self.failures.append(task)


@dataclass(slots=True)
class WatchedStage(DaemonHarness):
    """A stage whose daemon reports its failures."""

    failures: list[str] = field(default_factory=list)

    async def start(self, *, wait: bool = True) -> None:
        self._daemon = asyncio.create_task(serve(self.config, None, Counting(self.failures)))
        if wait:
            await self.follows()

    async def _is_at_tip(self) -> bool:
        row = await self.database.row("select cursor_hash, state from railwatch.rails where name = $1", self.chain.name)
        return row is not None and tuple(row) == (self.chain.tip.hash, "live")

    @property
    def is_over(self) -> bool:
        """Whether the daemon has ended."""
        return self._daemon is None or self._daemon.done()


@dataclass(slots=True)
class Ground:
    """All of it, started. ``logins`` are connections, one of each role."""

    stage: WatchedStage
    shop: Shop
    receiver: Receiver
    logins: dict[str, Any]
    users: dict[str, str]
    honest: list[Placed] = field(default_factory=list)
    known: Known = field(default_factory=Known)
    _addresses: Any = field(default_factory=count)

    @property
    def database(self) -> Database:
        """As the schema's owner."""
        return self.stage.database

    def new_address(self) -> str:
        """Return an address that has no owner."""
        return f"fake:{next(self._addresses) + 0x5EED:040x}"

    async def look_up(self) -> None:
        """Fill `known` with what there is by now, in an order that does not depend on random ids."""
        known = self.known
        for name, query in KNOWN_IDS.items():
            known.ids[name] = [str(row[0]) for row in await self.database.rows(f"{query} limit 200")]
        for name, query in KNOWN_TEXTS.items():
            known.texts[name] = sorted({*(row[0] for row in await self.database.rows(f"{query} limit 200"))})
        for name, texts in ALWAYS.items():
            known.texts[name] = [*known.texts.get(name, ()), *texts]
        known.texts["rail"] = known.texts["on_rail"]
        known.texts["old_name"] = [each for each in known.texts["on_rail"] if each != self.stage.chain.name] or [LEFT]
        rows = await self.database.rows("select address from railwatch.destinations order by address limit 50")
        known.addresses = [row["address"] for row in rows]


ORDERS: tuple[tuple[str, Callable[[DaemonHarness, Placed], Any]], ...] = (
    ("nothing came", lambda stage, invoice: _nothing()),
    ("paid", lambda stage, invoice: stage.pay(invoice)),
    ("paid too much", lambda stage, invoice: stage.pay(invoice, 150)),
    ("paid too little", lambda stage, invoice: stage.pay(invoice, 40)),
    ("paid with another asset", lambda stage, invoice: stage.pay(invoice, 7, stage.sim.assets[1])),
)


async def _nothing() -> None:
    pass


async def _furnish(stage: DaemonHarness) -> list[Placed]:
    """Orders in every stage of their lives, with what acts of people leave behind."""
    orders = []
    for _, happens in ORDERS:
        orders.append(invoice := await stage.invoice(100))
        await happens(stage, invoice)
    await stage.mine(3)
    value = stage.database.value
    paid = orders[1]
    await value("select railwatch.record_settlement($1, 'payout 1', actor => 'ann')", paid.id)
    await value("select railwatch.record_refund($1, 10, 'back-0', actor => 'ann')", orders[2].id)
    await value("select railwatch.hold_invoice($1, actor => 'ann', reason => 'odd')", orders[3].id)
    await value("select railwatch.ack('books', 1)")
    await stage.database.rows(
        "insert into railwatch.rails (name, chain_id, state, reason, cursor_height, cursor_hash, tip_height, family, "
        "fold_case, has_finality, enabled) "
        "values ($1, 'fake:left', 'halted', 'DeepReorg: another chain', 100, 'h', 100, 'fake', false, true, false)",
        LEFT,
    )
    await stage.database.rows(
        "insert into railwatch.assets (id, rail, symbol, decimals, enabled) "
        "values ('fake:left/x', $1, 'LEFT', 8, false)",
        LEFT,
    )
    return orders


@asynccontextmanager
async def ground(dsn: str) -> AsyncIterator[Ground]:
    """Start everything on an empty database that has the schema. Daemon and deliverer have no more than their roles."""
    number = next(_numbers)
    users = {role: f"fuzz_{role}_{number}" for role in ROLES}
    dsns = {role: re.sub(r"//[^@/]*@", f"//{user}@", dsn) for role, user in users.items()}
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(dsn, size=6))
        for role, user in users.items():
            member = "" if role == "stranger" else f" in role railwatch_{role}"
            await database.rows(f"create role {user} login{member}")
            stack.push_async_callback(database.rows, f"drop role {user}")
        chain = chain_named("story", rules=Rules(tokens=("gold",), finality=4))
        stage = await stack.enter_async_context(WatchedStage(database, [chain], daemon_dsn=dsns["daemon"]))
        posted = await stack.enter_async_context(receiver())
        shop = Shop(await stack.enter_async_context(Database(dsns["deliverer"], size=4)))
        await stack.enter_async_context(shop.delivering(webhook(posted)))
        honest = await _furnish(stage)
        logins = {}
        for role in ROLES:
            logins[role] = await asyncpg.connect(dsns[role])
            stack.push_async_callback(logins[role].close)
        yield Ground(stage, shop, posted, logins, users, honest)

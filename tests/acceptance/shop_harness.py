"""A shop that is built on Railwatch's tables, as another team would: SQL under its own role, the feed, a webhook.

`ShopHarness` holds all parts of one story: a daemon over chains, the deliverer with a receiver that verifies, and the
reference consumers of docs/consumers, which fulfil.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from railwatch.store.database import Database
from railwatch.store.read_models import Record
from railwatch_fake import FakeChain
from tests.consumers.test_fulfil import drain_python, drain_sql, open_shop
from tests.scenarios.daemon_harness import DaemonHarness, Placed
from tests.webhooks.receiver import Receiver, receiver
from tests.webhooks.shop import Shop, until, webhook

FEED = """
select to_state, reason from railwatch.transitions where invoice_id = $1 and subject = $2 order by seq
"""
OPEN = "select kind from railwatch.exceptions where invoice_id = $1 and resolved_at is null"
WAITS = "select count(*) from railwatch.destinations where invoice_id = $1 and watch_state = 'registered'"


@dataclass(slots=True)
class Service:
    """The shop's program. It may do what `railwatch_service` may, and knows the contract's page."""

    database: Database
    orders: int = 0

    def request(self, address: str, amount: int = 100, *, rail: str = "story", **terms: Any) -> dict[str, Any]:
        """What it asks for: one destination in COIN."""
        self.orders += 1
        way = {"rail": rail, "asset": "COIN", "amount": str(amount), "address": address}
        return {"merchant_id": "shop", "order_id": str(self.orders), "destinations": [way], "expires_in": 3600, **terms}

    async def register(self, request: dict[str, Any]) -> UUID:
        """Raises `railwatch.store.errors.Refused` with the contract's SQLSTATE."""
        invoice: UUID = await self.database.value("select railwatch.create_invoice($1)", request)
        return invoice

    async def order(self, address: str, amount: int = 100, **terms: Any) -> Placed:
        """Register an invoice, and wait until its address is registered, one way or the other."""
        invoice = await self.register(self.request(address, amount, **terms))
        await until(lambda: self._is_taken_in(invoice))
        return Placed(invoice, address)

    async def _is_taken_in(self, invoice: UUID) -> bool:
        return bool(await self.database.value(WAITS, invoice) == 0)

    async def row(self, view: str, order: Placed) -> dict[str, Any]:
        """The one row that a view has of the order."""
        [row] = await self.database.rows(f"select * from railwatch.{view} where invoice_id = $1", order.id)
        return dict(row)

    async def customer_state(self, order: Placed) -> str:
        """What the customer is shown."""
        return str((await self.row("orders", order))["customer_state"])

    async def becomes(self, order: Placed, customer_state: str) -> None:
        """Wait until the customer is shown that."""

        async def is_so() -> bool:
            return await self.customer_state(order) == customer_state

        await until(is_so)

    async def transitions(self, order: Placed, subject: str = "invoice") -> list[tuple[str, str]]:
        """(state, reason) of all that the feed says of the order."""
        return [(row["to_state"], row["reason"]) for row in await self.database.rows(FEED, order.id, subject)]

    async def open_exceptions(self, order: Placed) -> set[str]:
        return {row["kind"] for row in await self.database.rows(OPEN, order.id)}

    async def has_open(self, order: Placed, *kinds: str) -> None:
        """Wait until exactly those exceptions are open."""

        async def is_so() -> bool:
            return await self.open_exceptions(order) == set(kinds)

        await until(is_so)

    async def feed(self) -> list[Record]:
        return await self.database.rows("select seq, event_id from railwatch.transitions order by seq")


@dataclass(slots=True)
class ShopHarness:
    """All who take part. ``shopkeeper`` gets every event, from the feed's beginning."""

    stage: DaemonHarness
    service: Service
    shop: Shop
    shopkeeper: Receiver
    endpoint: dict[str, Any]
    parts: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def database(self) -> Database:
        """As its owner sees it, for what a story does behind the service's back."""
        return self.stage.database

    async def deliver(self) -> None:
        """Start the deliverer; it ends with the story."""
        await self.parts.enter_async_context(self.shop.delivering(self.endpoint))

    async def delivered(self, order: Placed) -> list[str]:
        """When nothing is owed any more: the types of the order's events, in the order of their first acceptance."""
        await until(self.shop.owes_nothing)
        first = {each.id: each.event["type"] for each in self.shopkeeper.accepted if each.invoice == str(order.id)}
        return [each for each in first.values() if not each.startswith("detection.")]

    async def fulfilled(self, order: Placed) -> tuple[int, int]:
        """What both reference consumers have done at the feed's end: fulfilments, and open reversals."""
        await drain_sql(self.database)
        await drain_python(self.database)
        row = await self.database.row(
            "select (select count(*) from shop.fulfilments where invoice_id = $1) as fulfilled, (select count(*) "
            "from shop.reversals where invoice_id = $1 and settled_again_seq is null) as reversed",
            order.id,
        )
        assert row
        return row["fulfilled"], row["reversed"]


@asynccontextmanager
async def opened(
    database: Database, chains: Sequence[FakeChain], *, confirmations: int = 2, endpoint: dict[str, Any] | None = None
) -> AsyncIterator[ShopHarness]:
    """The house with its daemon and its deliverer at work. Afterwards the tables are audited."""
    await open_shop(database)
    async with (
        DaemonHarness(database, chains, confirmations=confirmations) as stage,
        Database(f"{database.dsn}&role=railwatch_service", size=2) as own,
        receiver() as shopkeeper,
        AsyncExitStack() as parts,
    ):
        posted = webhook(shopkeeper, **(endpoint or {}))
        house = ShopHarness(stage, Service(own), Shop(database), shopkeeper, posted, parts)
        await house.deliver()
        yield house
        await stage.audit()

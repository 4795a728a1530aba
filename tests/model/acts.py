"""What services and people did in a story, and what an invoice had at a moment at which they did it."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID


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

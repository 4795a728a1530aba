"""A feed with everything in it that a shop may get wrong, and what a shop must have done in the end."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from railwatch.store.database import Database
from tests.webhooks.shop import Shop

PAID, HELD, REFUNDED = ("paid", "confirmed"), ("flagged", "held"), ("refunded", "refunded")
REVERSED, OPENS, RESOLVED = ("created", "reversed"), ("open", "reversed"), ("resolved", "reversed")
"""What the invoice itself says of its reversal, and what its exception says."""

LIVES: dict[str, list[tuple[str, str]]] = {
    "waits": [("detected", "seen")],
    "paid": [("confirming", "included"), ("paid", "confirmed")],
    "paid more": [("paid", "confirmed"), ("overpaid", "confirmed")],
    "surplus reversed": [("paid", "confirmed"), ("overpaid", "confirmed"), ("paid", "reversed")],
    "paid late instead": [("paid", "confirmed"), ("late_paid", "reversed")],
    "reversed": [PAID, REVERSED, OPENS],
    "reversed and paid again": [
        *(PAID, REVERSED, OPENS, ("confirming", "included"), PAID, RESOLVED),
        *(("overpaid", "confirmed"), ("confirming", "reversed"), OPENS),
    ],
    "reversed and back at once": [PAID, REVERSED, ("confirming", "included"), PAID],
    "reversed while held": [PAID, HELD, OPENS, ("created", "released")],
    "reversed while held, paid later": [PAID, HELD, OPENS, ("created", "released"), PAID, RESOLVED],
    "reversed and back while held": [PAID, HELD, OPENS, RESOLVED],
    "reversed and back while held, released": [PAID, HELD, OPENS, RESOLVED, ("paid", "released")],
    "reversed, held, released": [PAID, REVERSED, OPENS, HELD, ("created", "released")],
    "reversed, resolved by a person": [PAID, REVERSED, OPENS, RESOLVED],
    "reversed, the rest refunded": [PAID, REVERSED, OPENS, ("underpaid", "confirmed"), REFUNDED, RESOLVED],
    "a refund's money gone and back": [PAID, OPENS, RESOLVED],
    "a refund's money gone, then all of it": [PAID, OPENS, REVERSED],
    "late and reversed": [("late_paid", "confirmed"), REVERSED, OPENS],
    "late, reversed, paid": [("late_paid", "confirmed"), REVERSED, OPENS, PAID, RESOLVED],
}

NOISE = """
with place as (update railwatch.feed_position set last_seq = last_seq + $2 returning last_seq)
insert into railwatch.transitions (seq, event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause)
select last_seq - $2 + n, gen_random_uuid(), (array['detection', 'exception'])[1 + n % 2], $1, $1, 'created',
       (array['paid', 'open'])[1 + n % 2], (array['reversed', 'double_spend'])[1 + n % 2], 'chain'
from place, generate_series(1, $2) n
"""


@dataclass(frozen=True, slots=True)
class History:
    """The invoices by the name of their life."""

    database: Database
    invoices: dict[str, UUID]

    def named(self, invoice: UUID) -> str:
        return next(name for name, each in self.invoices.items() if each == invoice)

    async def effects(self) -> dict[str, Any]:
        """What the shop has done: who was fulfilled, and whose reversals are open or were made good."""
        fulfilled = await self.database.rows("select invoice_id from shop.fulfilments")
        reversed_ = await self.database.rows("select invoice_id, settled_again_seq from shop.reversals order by seq")
        return {
            "fulfilled": sorted(self.named(each["invoice_id"]) for each in fulfilled),
            "reversed": [
                (self.named(each["invoice_id"]), each["settled_again_seq"] is not None)
                for each in sorted(reversed_, key=lambda each: self.named(each["invoice_id"]))
            ],
        }


NEVER_FULFILLED = ("waits", "late and reversed")

DONE = {
    "fulfilled": sorted(set(LIVES) - set(NEVER_FULFILLED)),
    "reversed": [
        ("a refund's money gone and back", True),
        ("a refund's money gone, then all of it", False),
        ("reversed", False),
        *(("reversed and back at once", True), ("reversed and back while held", False)),
        *(("reversed and back while held, released", True), ("reversed and paid again", True)),
        *(("reversed and paid again", False), ("reversed while held", False)),
        *(("reversed while held, paid later", True), ("reversed, held, released", False)),
        *(("reversed, resolved by a person", False), ("reversed, the rest refunded", False)),
    ],
}


async def lived(database: Database, noise: int = 60) -> History:
    """Emit the lives by turns, with transitions of other subjects among them: more than one page in all."""
    shop = Shop(database)
    invoices = {name: await shop.order() for name in LIVES}
    for step in range(max(map(len, LIVES.values()))):
        for name, life in LIVES.items():
            if step < len(life):
                subject = "exception" if life[step] in (OPENS, RESOLVED) else "invoice"
                await shop.emit(invoices[name], *life[step], subject=subject)
        await database.rows(NOISE, invoices["paid"], noise)
    return History(database, invoices)

"""A feed with everything in it that a shop may get wrong, and what a shop must have done in the end."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from indexer.store.database import Database
from tests.deliver.shop import Shop

LIVES: dict[str, list[tuple[str, str]]] = {
    "waits": [("detected", "seen")],
    "paid": [("confirming", "included"), ("paid", "confirmed")],
    "paid more": [("paid", "confirmed"), ("overpaid", "confirmed")],
    "surplus taken back": [("paid", "confirmed"), ("overpaid", "confirmed"), ("paid", "reversed")],
    "paid late instead": [("paid", "confirmed"), ("late_paid", "reversed")],
    "reversed": [("paid", "confirmed"), ("created", "reversed")],
    "reversed and paid again": [
        *(("paid", "confirmed"), ("created", "reversed"), ("confirming", "included"), ("paid", "confirmed")),
        *(("overpaid", "confirmed"), ("confirming", "reversed")),
    ],
    "late and reversed": [("late_paid", "confirmed"), ("created", "reversed")],
    "late, reversed, paid": [("late_paid", "confirmed"), ("created", "reversed"), ("paid", "confirmed")],
}

NOISE = """
with place as (update railwatch.feed_position set last_seq = last_seq + $2 returning last_seq)
insert into railwatch.transitions (seq, event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause)
select last_seq - $2 + n, gen_random_uuid(), (array['detection', 'exception'])[1 + n % 2], $1, $1, 'created',
       (array['paid', 'open'])[1 + n % 2], 'reversed', 'chain'
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
        """What the shop has done: who was fulfilled, and whose reversals stand or were made good."""
        fulfilled = await self.database.rows("select invoice_id from shop.fulfilments")
        reversed_ = await self.database.rows("select invoice_id, settled_again_seq from shop.reversals order by seq")
        return {
            "fulfilled": sorted(self.named(each["invoice_id"]) for each in fulfilled),
            "reversed": [
                (self.named(each["invoice_id"]), each["settled_again_seq"] is not None)
                for each in sorted(reversed_, key=lambda each: self.named(each["invoice_id"]))
            ],
        }


DONE = {
    "fulfilled": [
        *("late, reversed, paid", "paid", "paid late instead", "paid more", "reversed", "reversed and paid again"),
        "surplus taken back",
    ],
    "reversed": [("reversed", False), ("reversed and paid again", True), ("reversed and paid again", False)],
}


async def lived(database: Database, noise: int = 60) -> History:
    """Tell the lives line by line, by turns, with lines of other subjects among them: more than one page in all."""
    shop = Shop(database)
    invoices = {name: await shop.order() for name in LIVES}
    for step in range(max(map(len, LIVES.values()))):
        for name, life in LIVES.items():
            if step < len(life):
                await shop.tell(invoices[name], *life[step])
        await database.rows(NOISE, invoices["paid"], noise)
    return History(database, invoices)

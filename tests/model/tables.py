"""What the database says at one moment, by invoice: the left side of every comparison."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from railwatch.store.database import Database, Row

SETTLED = frozenset({"paid", "overpaid", "late_paid"})
STICKY = frozenset({"cancelled", "refunded"})
IN_BLOCK = frozenset({"included", "confirmed", "final"})
LIVE = IN_BLOCK | {"pending"}
DEEP = frozenset({"confirmed", "final"})

SLACK = timedelta(seconds=3)
"""Real time that may lie between a verb and what the daemon makes of it."""


@dataclass(slots=True)
class Tables:
    """What the database says, by invoice."""

    invoices: dict[UUID, Row]
    destinations: dict[UUID, list[Row]]
    detections: dict[UUID, list[Row]]
    lines: list[Row]
    told: dict[UUID, list[Row]]
    """The feed's lines by invoice."""
    standing: dict[UUID, list[Row]]
    """Exceptions that have not ended."""
    refunded: dict[tuple[UUID, str], int]
    shared: list[int]
    """Epochs of the lease under which more than one daemon has moved the cursor."""


async def read(database: Database) -> Tables:
    """Read all tables at one moment."""
    async with database.connection() as connection, connection.transaction(isolation="repeatable_read"):
        ask = connection.fetch
        invoices = await ask("select * from railwatch.invoices")
        destinations = await ask("select * from railwatch.destinations order by position")
        detections = await ask("select * from railwatch.detections")
        lines = await ask("select * from railwatch.transitions order by seq")
        standing = await ask(
            "select e.id, e.invoice_id, e.kind, coalesce(t.detection_id, e.detection_id) as detection_id, "
            "e.resolved_at is not null as resolved "
            "from railwatch.exceptions e left join railwatch.exception_transfers t "
            "on t.exception_id = e.id and t.left_at is null where e.ended_at is null"
        )
        refunds = await ask("select * from railwatch.refunds")
        shared = await ask("select epoch from model.steps group by rail, epoch having count(*) > 1")
    refunded: defaultdict[tuple[UUID, str], int] = defaultdict(int)
    for row in refunds:
        refunded[row["invoice_id"], row["asset"]] += int(row["amount"])
    return Tables(
        {row["id"]: row for row in invoices},
        _by_invoice(destinations),
        _by_invoice(detections),
        lines,
        _by_invoice(lines),
        _by_invoice(standing),
        refunded,
        [row["epoch"] for row in shared],
    )


def _by_invoice(rows: Iterable[Row]) -> dict[UUID, list[Row]]:
    grouped: defaultdict[UUID, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row["invoice_id"]].append(row)
    return grouped

"""The core's rules alone: what a step of 500 payments to 500 invoices costs the processor before anything is written.

`python -m tests.bench.rules` prints the milliseconds. To compare two versions, run it by turns in a checkout of each.
"""

import gc
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from railwatch.core.aggregate import InvoiceAggregate, StepContext
from railwatch.core.model import Coverage, Destination, Detection, Invoice
from railwatch.core.policy import Policy, Progress
from railwatch.core.states import DetectionState, InvoiceState, Kind
from railwatch.core.step import InvoiceUpdate, apply_step
from railwatch.rail.types import AssetId
from tests.bench.report import Row

PAYMENTS = 500
ROUNDS = 15
RAIL, TOKEN = "bench", AssetId("eip155:1/erc20:0xaa")
NOW, HOUR, HEIGHT = datetime(2026, 1, 1, tzinfo=UTC), timedelta(hours=1), 100


def _books() -> tuple[list[InvoiceAggregate], Mapping[UUID, InvoiceUpdate]]:
    """Invoices without payments, and a payment in a block for each."""
    aggregates, updates = [], {}
    for number in range(PAYMENTS):
        way = Destination(uuid4(), RAIL, TOKEN, 1, Policy(1))
        order = Invoice(uuid4(), InvoiceState.CREATED, NOW - HOUR, NOW - HOUR, NOW + HOUR, [way])
        where = (DetectionState.INCLUDED, NOW, HEIGHT, "0xblock", NOW)
        paid = Detection(uuid4(), way.id, RAIL, TOKEN, f"0x{number:064x}", "log:1", 1, Kind.PAYMENT, *where)
        aggregates.append(InvoiceAggregate(order, {}, []))
        updates[order.id] = InvoiceUpdate(observations=[paid])
    return aggregates, updates


def seconds() -> float:
    """Processor time of one step's rules: the least of some rounds, without the collector."""
    ctx = StepContext(
        rail=RAIL,
        progress=Progress(HEIGHT, HEIGHT - 60),
        cursor_time=NOW,
        coverage=Coverage({RAIL: NOW}),
        now=NOW,
        horizon=64,
        has_finality=True,
        tip_height=HEIGHT,
        block_times={HEIGHT: NOW},
    )
    spent = []
    for _ in range(ROUNDS):
        aggregates, updates = _books()
        gc.disable()
        started = time.process_time()
        apply_step(aggregates, updates, ctx)
        spent.append(time.process_time() - started)
        gc.enable()
    assert all(aggregate.invoice.state is InvoiceState.PAID for aggregate in aggregates)
    return min(spent)


def row() -> Row:
    """The row of `make bench`."""
    return Row(f"the core's rules for {PAYMENTS} payments in a block", f"{seconds() * 1e3:.1f} ms CPU", "-", "-", None)


if __name__ == "__main__":
    print(f"{seconds() * 1e3:.1f}")

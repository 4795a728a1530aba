"""What people and services do by hand, in the words of a story."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from railwatch.store.errors import Refused
from tests.scenarios.daemon_harness import DaemonHarness, Placed


async def hold(stage: DaemonHarness, invoice: Placed, reason: str = "looks odd") -> str:
    told = await stage.database.value(
        "select railwatch.hold_invoice($1, actor => 'ann', reason => $2, cause => 'operator')", invoice.id, reason
    )
    return str(told)


async def release(stage: DaemonHarness, invoice: Placed) -> str:
    told = await stage.database.value("select railwatch.release_invoice($1, actor => 'bob')", invoice.id)
    return str(told)


async def refund(stage: DaemonHarness, invoice: Placed, amount: int, tx: str = "back-1", **more: Any) -> UUID:
    names = "".join(f", {name} => ${place}" for place, name in enumerate(more, 4))
    made: UUID = await stage.database.value(
        f"select railwatch.record_refund($1, $2, $3, actor => 'ann'{names})",
        *(invoice.id, Decimal(amount), tx, *more.values()),
    )
    return made


async def last_line(stage: DaemonHarness, invoice: Placed, subject: str = "invoice") -> dict[str, Any]:
    row = await stage.database.row(
        "select * from railwatch.transitions where invoice_id = $1 and subject = $2 order by seq desc limit 1",
        invoice.id,
        subject,
    )
    assert row is not None
    return dict(row)


async def paid(stage: DaemonHarness, amount: int = 100, *, asked: int = 100) -> Placed:
    """An invoice whose payment counts."""
    invoice = await stage.invoice(asked)
    await stage.pay(invoice, amount)
    await stage.mine(2)
    return invoice


async def code_of(act: Any) -> str:
    with pytest.raises(Refused) as caught:
        await act
    return caught.value.code

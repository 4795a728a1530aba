"""A row that no function would write today, in any column: the daemon goes on with all other orders.

An older version, a restored backup or a hand in the database may have left one. Each number and each time of an
order's rows is poisoned in its turn, with an order of its own, and honest orders are paid next to it.
"""

from contextlib import suppress

import asyncpg
import pytest

from railwatch.store.database import Database
from tests.scenarios.daemon_harness import DaemonHarness, chain_named

COLUMNS = """
select c.table_name as table, c.column_name as column, c.data_type as type
from information_schema.columns c
where c.table_schema = 'railwatch' and c.data_type in ('timestamp with time zone', 'numeric', 'bigint', 'integer')
  and c.table_name in ('invoices', 'destinations', 'detections', 'exceptions')
  and c.column_name not in ('version', 'position', 'exceptions_checked_version')
order by 1, 2"""
POISON = {
    "timestamp with time zone": (
        "'infinity'",
        "'294276-12-31'",
        "'-infinity'",
        "'4713-01-01 00:00:00+00 BC'",
    ),
    "numeric": ("'NaN'", "'Infinity'", "10::numeric ^ 1000", "-1"),
    "bigint": ("9223372036854775807", "-9223372036854775808"),
    "integer": ("2147483647", "-2147483648"),
}
CHECKS = """
select format('alter table %s drop constraint %I', conrelid::regclass, conname) as statement
from pg_constraint where connamespace = 'railwatch'::regnamespace and contype = 'c'
  and conrelid::regclass::text in
      ('railwatch.invoices', 'railwatch.destinations', 'railwatch.detections', 'railwatch.exceptions')"""
DOMAINS = """
select format('alter domain %s drop constraint %I', contypid::regtype, conname) as statement
from pg_constraint where connamespace = 'railwatch'::regnamespace and contypid <> 0"""


@pytest.mark.long
@pytest.mark.parametrize("kind", POISON)
async def test_one_poisoned_row_stops_no_other_order(database: Database, kind: str) -> None:
    owner = await asyncpg.connect(database.dsn)
    try:
        for row in [*await owner.fetch(CHECKS), *await owner.fetch(DOMAINS)]:
            await owner.execute(row["statement"])
        columns = [(row["table"], row["column"]) for row in await owner.fetch(COLUMNS) if row["type"] == kind]
        assert columns
        poisoned = []
        async with DaemonHarness(database, [chain_named()]) as stage:
            for number, (table, column) in enumerate(columns):
                value = POISON[kind][number % len(POISON[kind])]
                odd, honest = await stage.invoice(100), await stage.invoice(100)
                await stage.pay(odd, 40)
                await stage.mine(3)
                with suppress(asyncpg.IntegrityConstraintViolationError, asyncpg.DataError, asyncpg.RaiseError):
                    of = "id" if table == "invoices" else "invoice_id"
                    await owner.execute(f"update railwatch.{table} set {column} = {value} where {of} = $1", odd.id)
                    poisoned.append(f"{table}.{column} = {value}")
                await stage.pay(odd, 60)
                await stage.pay(honest, 100)
                await stage.mine(3)
                await stage.wait_for_state(honest, "paid")
                assert (await stage.rail())["state"] == "live", poisoned
            await stage.stop()
            await stage.start()
            last = await stage.invoice(100)
            await stage.pay(last, 100)
            await stage.mine(3)
            await stage.wait_for_state(last, "paid")
            assert (await stage.rail())["state"] == "live", poisoned
        assert len(poisoned) >= len(columns) / 2
    finally:
        await owner.close()

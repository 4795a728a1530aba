"""The rows that a step exchanges with Postgres have one shape: in Python, in SQL, and in the queries that name them."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from railwatch.core.matching import Candidate, Known
from railwatch.store import affected_rows, step_rows, unallocated
from railwatch.store.database import Database

FIELDS = """
select array_agg(a.attname::text order by a.attnum) from pg_type t join pg_attribute a on a.attrelid = t.typrelid
where t.oid = to_regtype('railwatch.' || $1)
"""
WRITTEN: dict[str, Any] = {
    "detection_row": step_rows.DetectionRow,
    "observation_row": step_rows.ObservationRow,
    "invoice_row": step_rows.InvoiceRow,
    "destination_row": step_rows.DestinationRow,
    "exception_row": step_rows.ExceptionRow,
    "exception_change": step_rows.ExceptionChange,
    "exception_transfer_row": step_rows.ExceptionTransferRow,
    "transition_row": step_rows.TransitionRow,
    "checkpoint_row": step_rows.CheckpointRow,
    "unallocated_row": unallocated.UnallocatedRow,
}


@pytest.mark.parametrize("name", WRITTEN)
async def test_a_row_that_a_step_writes_has_the_fields_of_its_composite_type(database: Database, name: str) -> None:
    assert await database.value(FIELDS, name) == list(WRITTEN[name]._fields)


@pytest.mark.parametrize(
    ("name", "read", "keyed_by"),
    [
        ("candidate", affected_rows._candidate, ["address_key"]),
        ("known_transfer", affected_rows._known, []),
    ],
)
async def test_a_row_that_a_step_reads_has_the_fields_that_its_reader_takes(
    database: Database, name: str, read: Callable[..., Candidate | Known], keyed_by: list[str]
) -> None:
    assert await database.value(FIELDS, name) == [*keyed_by, *inspect.signature(read).parameters]


async def test_no_row_of_a_step_is_left_out(database: Database) -> None:
    """Each composite type of the schema is written or read by a step."""
    rows = await database.rows("""
        select t.typname::text as name from pg_type t join pg_class c on c.oid = t.typrelid
        where t.typnamespace = 'railwatch'::regnamespace and c.relkind = 'c'""")
    pairs = {"affected_detection", "displaced_detection", "rail_coverage"}
    assert {row["name"] for row in rows} == WRITTEN.keys() | pairs | {"candidate", "known_transfer"}

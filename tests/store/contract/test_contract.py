"""The tables and functions that other programs build on: acts, the feed, and their names."""

import asyncio
from uuid import UUID, uuid4

import pytest

from railwatch.core.states import INVOICE_MOVES, OPEN_STATES, InvoiceState
from railwatch.store.database import Database
from railwatch.store.errors import Refused
from railwatch.store.invoices import create_invoice
from tests.store.contract.requests import order, way

# Cancelling


@pytest.mark.parametrize("state", list(InvoiceState))
async def test_an_invoice_is_cancelled_where_the_table_allows_it(database: Database, state: InvoiceState) -> None:
    made = await create_invoice(database, order())
    await database.value("update railwatch.invoices set state = $2 where id = $1", made, state.value)
    lines = "select count(*) from railwatch.transitions where invoice_id = $1"
    if state is InvoiceState.CANCELLED or InvoiceState.CANCELLED in INVOICE_MOVES[state]:
        assert await database.value("select railwatch.cancel_invoice($1)", made) == "cancelled"
        assert await database.value("select railwatch.cancel_invoice($1)", made) == "cancelled"
        assert await database.value(lines, made) == (1 if state is InvoiceState.CANCELLED else 2)
        return
    with pytest.raises(Refused, match=state.value) as caught:
        await database.value("select railwatch.cancel_invoice($1)", made)
    assert caught.value.code == "RW010"
    assert await database.value(lines, made) == 1


async def test_a_cancellation_tells_who_and_why(database: Database) -> None:
    made = await create_invoice(database, order())
    await database.value("select railwatch.cancel_invoice($1, 'anna', 'sold out')", made)
    line = await database.row("select * from railwatch.transitions where invoice_id = $1 order by seq desc", made)
    assert line is not None
    assert (line["from_state"], line["to_state"], line["cause"]) == ("created", "cancelled", "service")
    assert line["evidence"] == {"actor": "anna", "note": "sold out", "login": "postgres"}


@pytest.mark.parametrize("nobody", [None, uuid4()])
async def test_an_unknown_invoice_cannot_be_cancelled(database: Database, nobody: UUID | None) -> None:
    with pytest.raises(Refused, match="there is no invoice") as caught:
        await database.value("select railwatch.cancel_invoice($1)", nobody)
    assert caught.value.code == "RW009"


async def test_cancelling_from_eight_connections_is_told_once(database: Database) -> None:
    made = await create_invoice(database, order())
    await asyncio.gather(*(database.value("select railwatch.cancel_invoice($1)", made) for _ in range(8)))
    lines = "select count(*) from railwatch.transitions where invoice_id = $1 and to_state = 'cancelled'"
    assert await database.value(lines, made) == 1


# Reading


async def test_a_consumers_position_never_goes_back(database: Database) -> None:
    for _ in range(3):
        await create_invoice(database, order())
    newest = await database.value("select max(seq) from railwatch.transitions")
    for given, kept in ((newest - 1, newest - 1), (newest - 2, newest - 1), (newest, newest), (0, newest)):
        assert await database.value("select railwatch.ack('finance', $1)", given) == kept
    assert await database.value("select position from railwatch.consumers where name = 'finance'") == newest


@pytest.mark.parametrize(
    ("name", "seq"),
    [("", 0), (None, 0), ("finance", None), ("finance", -1), ("finance", 10**9), ("x" * 201, 0), ("webhook:shop", 0)],
)
async def test_an_ack_of_nobody_or_of_what_is_not_there_is_refused(
    database: Database, name: str | None, seq: int | None
) -> None:
    with pytest.raises(Refused) as caught:
        await database.value("select railwatch.ack($1, $2)", name, seq)
    assert caught.value.code == "RW001"


@pytest.mark.parametrize(
    ("rail", "start", "end", "code"),
    [
        ("nowhere", 0, None, "RW002"),
        ("plain", -1, None, "RW001"),
        ("plain", 5, 4, "RW001"),
        ("plain", None, 4, "RW001"),
    ],
)
async def test_a_rescan_of_nothing_is_refused(
    database: Database, rail: str, start: int | None, end: int | None, code: str
) -> None:
    with pytest.raises(Refused) as caught:
        await database.value("select railwatch.request_rescan($1, $2, $3)", rail, start, end)
    assert caught.value.code == code


async def test_the_feed_has_no_holes_whatever_was_refused(database: Database) -> None:
    for request in (order(), order(destinations=[way(amount=0)]), order(), order(expires_in=-1), order()):
        try:
            await create_invoice(database, request)
        except Refused:
            continue
    row = await database.row("select min(seq), max(seq), count(*) from railwatch.transitions")
    assert row is not None
    first, last, lines = row
    assert (first, last) == (1, lines)


# The tables themselves


async def test_everything_has_a_comment(database: Database) -> None:
    tables = """
        select c.relname from pg_class c
        where c.relnamespace = 'railwatch'::regnamespace and c.relkind in ('r', 'v', 'm')
          and coalesce(obj_description(c.oid, 'pg_class'), '') = ''"""
    columns = """
        select c.relname || '.' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid
        where c.relnamespace = 'railwatch'::regnamespace and c.relkind in ('r', 'v', 'm') and a.attnum > 0
          and not a.attisdropped and coalesce(col_description(c.oid, a.attnum), '') = ''"""
    functions = """
        select p.proname from pg_proc p
        where p.pronamespace = 'railwatch'::regnamespace and coalesce(obj_description(p.oid, 'pg_proc'), '') = ''"""
    for query in (tables, columns, functions):
        assert [row[0] for row in await database.rows(query)] == []


async def test_the_table_of_moves_is_the_cores(database: Database) -> None:
    rows = await database.rows("select from_state, to_state from railwatch.allowed_transitions")
    ours = {(old.value, new.value) for old, news in INVOICE_MOVES.items() if old is not None for new in news}
    assert {tuple(row) for row in rows} == ours


async def test_what_is_open_is_the_cores(database: Database) -> None:
    ask = "select state from unnest($1::text[]) as state where railwatch.is_open(state)"
    assert {row["state"] for row in await database.rows(ask, list(InvoiceState))} == OPEN_STATES


CONTRACT = {
    "invoices": "id merchant_id order_id state state_since version created_at expires_at closes_at fiat_amount "
    "fiat_currency rate_locked_at policy time_basis held metadata",
    "destinations": "id invoice_id rail asset address reference derivation expected_amount watch_state watch_error "
    "covered_from seen_amount confirmed_amount late_amount",
    "detections": "id invoice_id destination_id rail asset tx_id tx_index amount state kind block_height block_hash "
    "block_time first_seen_at confirmed_at in_time replaced_by evidence",
    "transitions": "seq event_id subject subject_id invoice_id from_state to_state reason cause rail tx_id "
    "block_height block_hash confirmations seen_amount confirmed_amount chain_time recorded_at evidence",
    "exceptions": "id invoice_id detection_id kind severity opened_at resolved_at resolution owner notes",
    "rails": "name chain_id state reason cursor_height cursor_hash tip_height finalized_height updated_at",
    "assets": "id rail symbol contract decimals",
    "consumers": "name position updated_at",
}


@pytest.mark.parametrize("table", CONTRACT)
async def test_the_columns_that_others_read_are_there(database: Database, table: str) -> None:
    query = "select column_name from information_schema.columns where table_schema = 'railwatch' and table_name = $1"
    assert set(CONTRACT[table].split()) <= {row[0] for row in await database.rows(query, table)}


FUNCTIONS = [
    *("create_invoice", "cancel_invoice", "hold_invoice", "release_invoice", "record_refund", "record_settlement"),
    *("resolve_exception", "annotate_exception", "request_rescan", "ack", "find_orders"),
]


@pytest.mark.parametrize("name", FUNCTIONS)
async def test_the_functions_that_others_call_are_there(database: Database, name: str) -> None:
    query = "select count(*) from pg_proc where pronamespace = 'railwatch'::regnamespace and proname = $1"
    assert await database.value(query, name) == 1

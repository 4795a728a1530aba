"""The tables and functions that other programs build on: what they take, what they refuse, and in which words."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from railwatch.core.policy import Policy
from railwatch.core.states import END_STATES, INVOICE_MOVES, OPEN_STATES, InvoiceState
from railwatch.rail import AssetSpec, ChainId
from railwatch.store.config_sync import PolicyRow, RailMirror, sync_config
from railwatch.store.database import Database
from railwatch.store.errors import Refused
from railwatch.store.invoices import create_invoice
from railwatch_fake import Rules
from railwatch_fake.adapter import traits_of

PLAIN, FINAL = traits_of(Rules()), traits_of(Rules(finality=8))
ASSETS = (AssetSpec("COIN", None, 8), AssetSpec("GOLD", "gold", 6))

RAILS = [
    RailMirror(
        "plain",
        ChainId("fake:plain"),
        PLAIN,
        ASSETS,
        (
            PolicyRow(None, Decimal(100), Policy(1), "configuration"),
            PolicyRow(None, Decimal(5000), Policy(2), "configuration"),
            PolicyRow(None, None, Policy(3), "configuration"),
            PolicyRow("GOLD", Decimal(100), Policy(7), "configuration"),
            PolicyRow("GOLD", None, Policy(9), "configuration"),
            PolicyRow(None, None, Policy(60), "default"),
        ),
    ),
    RailMirror(
        "final",
        ChainId("fake:final"),
        FINAL,
        ASSETS,
        (
            PolicyRow(None, Decimal(10), Policy(1), "configuration"),
            PolicyRow(None, Decimal(100), Policy(12), "default"),
            PolicyRow(None, None, Policy(None, 5), "default"),
        ),
    ),
    RailMirror(
        "capped",
        ChainId("fake:capped"),
        replace(FINAL, max_confirmations=1, family="elsewhere"),
        ASSETS,
        (PolicyRow(None, None, Policy(None), "default"),),
    ),
]

_numbers = count(1)


@pytest.fixture(scope="module")
def place(server: str) -> str:
    """A database of this module's own, with three rails in it."""

    async def prepare() -> str:
        connection = await asyncpg.connect(server, database="postgres")
        try:
            await connection.execute("create database contract template railwatch")
        finally:
            await connection.close()
        dsn = server.replace("/railwatch?", "/contract?")
        async with Database(dsn, size=1) as database, database.connection() as connection:
            await sync_config(connection, RAILS, {"closes_in": 1000})
        return dsn

    return asyncio.run(prepare())


@pytest.fixture
async def database(place: str) -> AsyncIterator[Database]:
    async with Database(place, size=8) as database:
        yield database


def fresh() -> str:
    return f"fake:{next(_numbers):042x}"


def way(**more: Any) -> dict[str, Any]:
    return {"rail": "plain", "asset": "COIN", "address": fresh(), "amount": 100, **more}


def order(**more: Any) -> dict[str, Any]:
    return {
        "merchant_id": "shop",
        "order_id": f"order {next(_numbers)}",
        "expires_in": 3600,
        "destinations": [way()],
        **more,
    }


async def counts(database: Database) -> tuple[int, ...]:
    tables = ("invoices", "destinations", "transitions")
    return tuple([await database.value(f"select count(*) from railwatch.{table}") for table in tables])


async def refusal(database: Database, request: Any) -> Refused:
    """What `create_invoice` refuses ``request`` with; nothing of it may stay."""
    before = await counts(database)
    with pytest.raises(Refused) as caught:
        await create_invoice(database, request)
    assert await counts(database) == before
    return caught.value


# What is taken


async def test_an_order_is_registered_and_told_in_one_breath(database: Database) -> None:
    request = order(fiat_amount="49.90", fiat_currency="EUR", metadata={"cart": [1, 2]}, tolerance_bps=50)
    made = await create_invoice(database, request)
    row = await database.row("select * from railwatch.invoices where id = $1", made)
    assert row is not None
    assert (row["state"], row["version"], row["time_basis"], row["tolerance_bps"]) == ("created", 1, "first_seen", 50)
    assert (row["fiat_amount"], row["metadata"]) == (Decimal("49.90"), {"cart": [1, 2]})
    assert (row["expires_at"] - row["created_at"]).total_seconds() == 3600
    assert (row["closes_at"] - row["expires_at"]).total_seconds() == 1000
    [line] = await database.rows("select * from railwatch.transitions where invoice_id = $1", made)
    assert (line["from_state"], line["to_state"], line["cause"], line["subject"]) == (
        None,
        "created",
        "service",
        "invoice",
    )
    assert await database.value("select last_seq from railwatch.feed_position") == line["seq"]


@pytest.mark.parametrize("amount", [1, "1", "007", 2**256 - 1, str(2**256 - 1), 10**30])
async def test_amounts_are_exact_up_to_the_largest_that_a_chain_can_hold(database: Database, amount: int | str) -> None:
    # As text: Python's and Postgres' JSON agree on integers of any size, other clients send digits.
    text = json.dumps(order(destinations=[way(amount=amount)]))
    made = await database.value("select railwatch.create_invoice(($1::text)::jsonb)", text)
    kept = await database.value("select expected_amount from railwatch.destinations where invoice_id = $1", made)
    assert int(kept) == int(amount)


@pytest.mark.parametrize("asset", ["GOLD", "fake:plain/token:gold", "fake:plain/token:GOLD"])
async def test_an_asset_is_named_by_symbol_or_by_its_id(database: Database, asset: str) -> None:
    made = await create_invoice(database, order(destinations=[way(asset=asset)]))
    kept = await database.value("select asset from railwatch.destinations where invoice_id = $1", made)
    assert kept == "fake:plain/token:gold"


# What is refused

BAD_WAYS: list[tuple[dict[str, Any], str, str]] = [
    ({"rail": "mainnet"}, "RW002", "unknown rail"),
    ({"rail": None}, "RW002", "none given"),
    ({"asset": "DOGE"}, "RW003", "unknown asset"),
    ({"asset": "fake:final/token:gold"}, "RW003", "unknown asset"),
    ({"asset": None}, "RW003", "none given"),
    ({"amount": -5}, "RW004", "-5"),
    ({"amount": "-5"}, "RW004", "-5"),
    ({"amount": 0}, "RW004", "0"),
    ({"amount": 1.5}, "RW004", "1.5"),
    ({"amount": "1.5"}, "RW004", "1.5"),
    ({"amount": 1e-8}, "RW004", "amount"),
    ({"amount": "1e3"}, "RW004", "1e3"),
    ({"amount": " 1"}, "RW004", "amount"),
    ({"amount": ""}, "RW004", "amount"),
    ({"amount": "0x10"}, "RW004", "0x10"),
    ({"amount": True}, "RW004", "true"),
    ({"amount": None}, "RW004", "amount"),
    ({"amount": [1]}, "RW004", "amount"),
    ({"amount": str(2**256)}, "RW004", "2^256"),
    ({"amount": "9" * 5000}, "RW004", "amount"),
    ({"address": ""}, "RW001", "address"),
    ({"address": None}, "RW001", "address"),
    ({"address": "f" * 201}, "RW001", "address"),
    ({"adress": "typo"}, "RW001", '"adress"'),
]


@pytest.mark.parametrize(("wrong", "code", "says"), BAD_WAYS, ids=[f"{each[0]!s:.40}" for each in BAD_WAYS])
async def test_a_bad_destination_is_refused_with_its_place_and_reason(
    database: Database, wrong: dict[str, Any], code: str, says: str
) -> None:
    refused = await refusal(database, order(destinations=[way(), way(**wrong)]))
    assert refused.code == code
    assert "destinations[2]" in str(refused)
    assert says in str(refused)


BAD_ORDERS: list[tuple[dict[str, Any], str, str]] = [
    ({"merchant_id": None}, "RW001", "merchant_id"),
    ({"merchant_id": 5}, "RW001", "merchant_id"),
    ({"order_id": ""}, "RW001", "order_id"),
    ({"order_id": "x" * 201}, "RW001", "order_id"),
    ({"destinations": []}, "RW001", "destinations"),
    ({"destinations": {}}, "RW001", "destinations"),
    ({"destinations": [5]}, "RW001", "destinations[1]"),
    ({"destinations": [{}] * 21}, "RW001", "destinations"),
    ({"surprise": 1}, "RW001", '"surprise"'),
    ({"time_basis": "whenever"}, "RW001", "whenever"),
    ({"tolerance_bps": 10001}, "RW001", "tolerance_bps"),
    ({"tolerance_bps": 0.5}, "RW001", "tolerance_bps"),
    ({"fiat_amount": "much"}, "RW001", "fiat_amount"),
    ({"fiat_amount": "-1"}, "RW001", "fiat_amount"),
    ({"expires_in": 0}, "RW005", "expires_in"),
    ({"expires_in": -60}, "RW005", "expires_in"),
    ({"expires_in": 1.5}, "RW005", "expires_in"),
    ({"expires_in": "60"}, "RW005", "expires_in"),
    ({"expires_at": "2020-01-01T00:00:00Z", "expires_in": ...}, "RW005", "in the past"),
    ({"expires_at": "soon", "expires_in": ...}, "RW005", "soon"),
    ({"expires_at": "2030-02-31T00:00:00Z", "expires_in": ...}, "RW005", "2030-02-31"),
    ({"expires_at": 1893456000, "expires_in": ...}, "RW005", "not a time"),
    ({"expires_in": ...}, "RW005", "expires_at or expires_in"),
    ({"expires_at": "2030-01-01T00:00:00Z"}, "RW005", "expires_at or expires_in"),
    ({"closes_in": -1}, "RW005", "closes_in"),
    ({"rate_locked_at": "then"}, "RW005", "rate_locked_at"),
    ({"policy": {"confirmations": 0}}, "RW008", "policy"),
    ({"policy": {"confirmations": -1}}, "RW008", "policy"),
    ({"policy": {"confirmations": 1.5}}, "RW008", "policy"),
    ({"policy": {"confirmations": 2, "finalized": True}}, "RW008", "policy"),
    ({"policy": {"finalized": False}}, "RW008", "policy"),
    ({"policy": {"finalized": True}}, "RW008", "tells no finality"),
    ({"policy": {}}, "RW008", "policy"),
    ({"policy": "strict"}, "RW008", "policy"),
]


@pytest.mark.parametrize(("wrong", "code", "says"), BAD_ORDERS, ids=[f"{each[0]!s:.50}" for each in BAD_ORDERS])
async def test_a_bad_order_is_refused_with_the_field_and_reason(
    database: Database, wrong: dict[str, Any], code: str, says: str
) -> None:
    request = {key: value for key, value in order(**wrong).items() if value is not ...}
    refused = await refusal(database, request)
    assert refused.code == code
    assert says in str(refused)


@pytest.mark.parametrize("request_", [None, [], "order", 5])
async def test_what_is_no_object_is_refused(database: Database, request_: Any) -> None:
    assert (await refusal(database, request_)).code == "RW001"


@pytest.mark.parametrize("moment", ["infinity", "20000-01-01T00:00:00Z", "tomorrow"])
async def test_a_time_that_no_client_could_read_back_is_refused(database: Database, moment: str) -> None:
    request = {key: value for key, value in order(expires_at=moment).items() if key != "expires_in"}
    assert (await refusal(database, request)).code == "RW005"


# Once


async def test_the_same_order_again_is_the_same_invoice(database: Database) -> None:
    request = order()
    made = await create_invoice(database, request)
    before = await counts(database)
    assert await create_invoice(database, request) == made
    assert await create_invoice(database, {**request, "metadata": {"seen": "twice"}}) == made
    assert await counts(database) == before


async def test_the_same_order_is_the_same_invoice_also_after_it_ended(database: Database) -> None:
    request = order()
    made = await create_invoice(database, request)
    await database.value("select railwatch.cancel_invoice($1)", made)
    assert await create_invoice(database, request) == made


@pytest.mark.parametrize("other", [{"expires_in": 60}, {"destinations": [way(amount=101)]}, {"tolerance_bps": 1}])
async def test_the_same_order_with_other_terms_is_refused_and_names_the_first(
    database: Database, other: dict[str, Any]
) -> None:
    request = order()
    made = await create_invoice(database, request)
    refused = await refusal(database, {**request, **other})
    assert refused.code == "RW006"
    assert str(made) in str(refused)


async def test_one_order_from_eight_connections_is_one_invoice(database: Database) -> None:
    request = order()
    made = await asyncio.gather(*(create_invoice(database, request) for _ in range(8)))
    assert len(set(made)) == 1
    assert await database.value("select count(*) from railwatch.transitions where invoice_id = $1", made[0]) == 1


async def test_one_address_from_eight_connections_has_one_winner(database: Database) -> None:
    address = fresh()
    # In either case, because the rail folds it; on two rails, because they share an address space.
    ways = [way(address=text, rail=rail) for text in (address, address.upper()) for rail in ("plain", "final")] * 2
    made = await asyncio.gather(
        *(create_invoice(database, order(destinations=[each])) for each in ways), return_exceptions=True
    )
    assert len([each for each in made if isinstance(each, UUID)]) == 1
    assert [each.code for each in made if isinstance(each, Refused)] == ["RW007"] * 7


OPEN = sorted(set(InvoiceState) - END_STATES)


@pytest.mark.parametrize("state", OPEN)
async def test_the_address_of_an_open_invoice_is_refused(database: Database, state: InvoiceState) -> None:
    address = fresh()
    first = await create_invoice(database, order(destinations=[way(address=address)]))
    await database.value("update railwatch.invoices set state = $2 where id = $1", first, state.value)
    refused = await refusal(database, order(destinations=[way(address=address.upper())]))
    assert refused.code == "RW007"
    assert str(first) in str(refused)
    assert (await refusal(database, order(destinations=[way(address=address, rail="final")]))).code == "RW007"


@pytest.mark.parametrize("state", sorted(END_STATES))
async def test_the_address_of_an_ended_invoice_may_be_used_again(database: Database, state: InvoiceState) -> None:
    address = fresh()
    first = await create_invoice(database, order(destinations=[way(address=address)]))
    await database.value("update railwatch.invoices set state = $2 where id = $1", first, state.value)
    assert await create_invoice(database, order(destinations=[way(address=address)])) != first


async def test_an_address_is_told_apart_by_its_reference_and_by_its_family(database: Database) -> None:
    address = fresh()
    await create_invoice(database, order(destinations=[way(address=address, reference="a")]))
    await create_invoice(database, order(destinations=[way(address=address, reference="b")]))
    await create_invoice(database, order(destinations=[way(address=address, rail="capped")]))
    refused = await refusal(database, order(destinations=[way(address=address, reference="a")]))
    assert refused.code == "RW007"


async def test_one_invoice_may_ask_for_two_assets_at_one_address(database: Database) -> None:
    address = fresh()
    made = await create_invoice(
        database, order(destinations=[way(address=address), way(address=address, asset="GOLD")])
    )
    assert await database.value("select count(*) from railwatch.destinations where invoice_id = $1", made) == 2


async def test_one_invoice_asks_for_one_amount_of_an_asset_at_an_address(database: Database) -> None:
    """Of (100, 50) at one address nobody could say which of the two a payment of 50 is for."""
    address = fresh()
    for other in (address, address.upper()):
        twice = [way(address=address, amount="100"), way(address=other, amount="50")]
        with pytest.raises(Refused, match="there twice") as refused:
            await create_invoice(database, order(destinations=twice))
        assert refused.value.code == "RW001"
    made = "select count(*) from railwatch.destinations where lower(address) = lower($1)"
    assert await database.value(made, address) == 0


# Policies

CHOICES: list[tuple[str, str, str | None, dict[str, Any], str]] = [
    ("plain", "COIN", "100", {"confirmations": 1}, "configuration"),
    ("plain", "COIN", "100.01", {"confirmations": 2}, "configuration"),
    ("plain", "COIN", "5000", {"confirmations": 2}, "configuration"),
    ("plain", "COIN", "5001", {"confirmations": 3}, "configuration"),
    ("plain", "COIN", None, {"confirmations": 3}, "configuration"),
    ("plain", "GOLD", "100", {"confirmations": 7}, "configuration"),
    ("plain", "GOLD", "101", {"confirmations": 9}, "configuration"),
    ("plain", "GOLD", None, {"confirmations": 9}, "configuration"),
    ("final", "COIN", "10", {"confirmations": 1}, "configuration"),
    ("final", "COIN", "11", {"confirmations": 12}, "default"),
    ("final", "COIN", "101", {"finalized": True, "plus": 5}, "default"),
    ("final", "COIN", None, {"finalized": True, "plus": 5}, "default"),
]


@pytest.mark.parametrize(("rail", "asset", "fiat", "policy", "origin"), CHOICES)
async def test_the_policy_follows_from_rail_asset_and_tier(
    database: Database, rail: str, asset: str, fiat: str | None, policy: dict[str, Any], origin: str
) -> None:
    total = {} if fiat is None else {"fiat_amount": fiat, "fiat_currency": "EUR"}
    made = await create_invoice(database, order(destinations=[way(rail=rail, asset=asset)], **total))
    row = await database.row("select policy, policy_origin from railwatch.destinations where invoice_id = $1", made)
    assert row is not None
    assert (row["policy"], row["policy_origin"]) == (policy, origin)
    assert await database.value("select policy from railwatch.invoices where id = $1", made) == policy


async def test_an_invoices_own_policy_comes_before_all_others_and_must_be_possible(database: Database) -> None:
    made = await create_invoice(database, order(policy={"confirmations": 4}))
    row = await database.row("select policy, policy_origin from railwatch.destinations where invoice_id = $1", made)
    assert row is not None
    assert tuple(row) == ({"confirmations": 4}, "invoice")
    made = await create_invoice(database, order(policy={"finalized": True}, destinations=[way(rail="final")]))
    assert await database.value("select policy from railwatch.invoices where id = $1", made) == {
        "finalized": True,
        "plus": 0,
    }
    deep = order(policy={"confirmations": 2}, destinations=[way(rail="capped")])
    assert (await refusal(database, deep)).code == "RW008"


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
    first, last, lines = await database.row("select min(seq), max(seq), count(*) from railwatch.transitions") or ()
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


async def test_a_reference_is_refused_where_the_rail_knows_none(database: Database) -> None:
    """It would match no transfer, so that the payment would never be seen."""
    await database.value("update railwatch.rails set has_references = false")
    request = order()
    request["destinations"][0]["reference"] = "memo 7"
    assert (await refusal(database, request)).code == "RW011"


async def test_an_amount_is_the_same_terms_however_it_is_written(database: Database) -> None:
    request = order()
    request["destinations"][0]["amount"] = 100
    made = await create_invoice(database, request)
    request["destinations"][0]["amount"] = "100"
    assert await create_invoice(database, request) == made


async def test_many_invoices_are_registered_in_one_commit_all_or_none(database: Database) -> None:
    call = "select array(select railwatch.create_invoices($1))"
    orders = [order() for _ in range(20)]
    made = await database.value(call, orders)
    assert made == await database.value(call, orders), "in their order, and again the same"
    moments = "select count(distinct created_at) from railwatch.invoices where id = any ($1)"
    assert (len(set(made)), await database.value(moments, made)) == (20, 1)
    before = await counts(database)
    with pytest.raises(Refused) as caught:
        await database.value(call, [order(), {**order(), "expires_in": -1}])
    assert caught.value.code == "RW005"
    assert await counts(database) == before
    for wrong in ([], [order()] * 1001):
        with pytest.raises(Refused, match="1 to 1000"):
            await database.value(call, wrong)


async def test_bursts_in_opposite_orders_do_not_deadlock(database: Database) -> None:
    orders = [order() for _ in range(30)]
    call = "select array(select railwatch.create_invoices($1))"
    there, back = await asyncio.gather(database.value(call, orders), database.value(call, orders[::-1]))
    assert there == back[::-1]

"""Plans do not depend on when they were made: every query that reads goes by whole keys, on tables empty and full.

Plans are made once for each connection (`SESSION`): the one made on an empty table is what a catch-up has to live with.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from hashlib import md5
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from railwatch.store.database import SESSION, Database, prepare_connection
from railwatch.store.queries import _all, query
from railwatch.store.steps import FIRST_WINDOW
from railwatch.store.watches import Closing, WatchStore
from tests.webhooks.shop import furnish

MANY, FEWER = 200_000, 20_000
"""Rows of each table: where costs are compared, and where plans are only read."""

LARGE = frozenset({"invoices", "destinations", "detections", "transitions", "exceptions", "observations", "balances"})
WHOLE_KEYS = {
    "destinations_key": ("family", "address_key"),
    "destinations_keyed": ("family", "keyed_seq"),
    "exceptions_open_occurrence": ("kind", "invoice_id"),
}
"""Indexes of which the first column alone finds nothing in particular."""

SMALL = {"invoices_unchecked", "exceptions_open", "rescans_open", "detections_unconfirmed", "detections_spending"}
"""Indexes that hold only what somebody has to look at."""

READS_ALL = {
    "watched_keys": "the index of addresses, once at a start",
    "count_watched": "the same",
    "begin_sibling_lookback": "once, when a rail is followed for the first time: back from the end, past the "
    "last hour's",
    "open_invoices": "`status`",
    "open_exceptions": "an index of what is open",
    "list_invoices": "an index in its order, up to a limit",
    "list_exceptions": "people's",
    "find_exceptions": "people's: by the first digits of an id",
    "left_rails": "once at a start, and nothing while no rail was left",
    "assets_in_demand": "the same of assets",
    "audited_assets": "the same, once for an audit",
    "unchecked_invoices": "an index that holds nothing else",
    "recovered_invoices": "an index of what stands",
    "account_for_resolved": "an index of what stands",
    "quarantine_counts": "a table that is empty as a rule",
    "quarantined": "the same",
    "known_blocks": "people's: after a DeepReorg",
    "history_begins": "the same",
    "above_fork": "the same",
    "invoices_above_fork": "the same",
    "apply_acceptance": "once after such a decision",
    "dead_deliveries": "people's",
    "audited_claims": "people's: a range of blocks, and no step waits for it",
}
"""Queries that may go through a whole index, and why that is no harm."""

FILL = [
    """
    insert into railwatch.invoices (id, merchant_id, order_id, state, expires_at, closes_at, policy, time_basis, terms,
                                    state_since, created_at)
    select md5('i' || n)::uuid, 'shop', n::text, case when n % 2 = 0 then 'created' else 'confirming' end,
           now() - interval '2 days' + n * interval '1 ms', now() - interval '1 day' + n * interval '1 ms', '{}',
           'first_seen', '{}', now() - interval '3 days' + n * interval '1 ms',
           now() - interval '4 days' + n * interval '1 ms'
    from generate_series(1, $1::int) n""",
    """
    insert into railwatch.destinations
        (id, invoice_id, rail, asset, address, expected_amount, policy, policy_origin, family, address_folded, position,
         address_key, accepted_at, watch_state, covered_from)
    select md5('d' || n)::uuid, md5('i' || n)::uuid, 'story', a.id, 'a' || n, 1, '{}', 'default', r.family, 'a' || n, 1,
           decode(md5(n::text), 'hex'), now() - interval '1 day' + n * interval '1 ms', 'watching', 1
    from generate_series(1, $1::int) n, railwatch.assets a, railwatch.rails r""",
    """
    insert into railwatch.detections (id, invoice_id, destination_id, rail, asset, tx_id, tx_index, amount, state, kind,
                                      block_height, block_hash, first_seen_at, spends)
    select md5('x' || n)::uuid, md5('i' || n)::uuid, md5('d' || n)::uuid, 'story', a.id, 't' || n, '0', 1,
           case when n % 20 = 1 then 'included' else 'final' end, 'payment', n, 'b' || n, now(), array['s' || n]
    from generate_series(1, $1::int) n, railwatch.assets a""",
    """
    insert into railwatch.exceptions (id, invoice_id, kind, severity)
    select md5('e' || n)::uuid, md5('i' || n)::uuid, 'stuck_confirming', 'warning'
    from generate_series(1, $1::int, 2) n""",
]


async def fill(database: Database, rows: int) -> None:
    """Tables as they are after a catch-up that nobody has counted yet; the rail is halted for two days."""
    connection = await asyncpg.connect(database.dsn)
    try:
        for table in LARGE:
            await connection.execute(f"alter table railwatch.{table} set (autovacuum_enabled = off)")
        for sql in FILL:
            await connection.execute(sql, rows)
        await connection.execute("update railwatch.rails set covered_until = now() - interval '3 days'")
    finally:
        await connection.close()


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from nodes_of(each)


def faults(name: str, plan: dict[str, Any]) -> Iterator[str]:
    """What a plan reads of a large table that its question does not ask for."""
    for node in nodes_of(plan):
        table, kind = node.get("Relation Name"), node["Node Type"]
        index, cond = node.get("Index Name"), str(node.get("Index Cond", ""))
        if name in READS_ALL:
            return
        if table in LARGE and kind == "Seq Scan":
            yield f"{name} reads all of {table}"
        if index is None or (table not in LARGE and kind != "Bitmap Index Scan"):
            continue
        if not cond and index not in SMALL:
            yield f"{name} reads all of {index}"
        if lacking := [each for each in WHOLE_KEYS.get(index, ()) if each not in cond]:
            yield f"{name} goes by {index} without {', '.join(lacking)}: {cond}"


async def plans(dsn: str) -> list[str]:
    """Faults of every named query that reads, as a new connection would plan it."""
    connection = await asyncpg.connect(dsn, server_settings=SESSION)
    found: list[str] = []
    try:
        for name, sql in sorted(_all().items()):
            if re.search(r"\brailwatch\.(affected_rows|next_seq|create_invoice|find_orders)\(", sql):
                continue  # what a function reads is planned within it
            if name.startswith("ledger_") or name == "recordable_orders":
                continue  # a replay's whole ledger, of a database that holds nothing else; what a person asks for once
            try:
                [told] = [row[0] for row in await explain(connection, sql)]
            except (
                asyncpg.FeatureNotSupportedError,
                asyncpg.IndeterminateDatatypeError,
                asyncpg.AmbiguousFunctionError,
            ):
                continue
            found += faults(name, json.loads(told)[0]["Plan"])
    finally:
        await connection.close()
    return found


async def explain(connection: Any, sql: str) -> list[Any]:
    """By the server itself, which is given the text with its parameters' places and no values."""
    if await connection.fetchval("select current_setting('server_version_num')::int") < 160000:
        pytest.skip("Postgres 15 plans no query without its parameters")
    await connection.execute("create temporary table if not exists told (plan text); truncate told")
    await connection.execute(f"""
        do $told$ declare line text; begin
            execute $sql$explain (generic_plan, format json) {sql}$sql$ into line;
            insert into told values (line);
        end $told$""")
    return list(await connection.fetch("select plan from told"))


async def test_every_query_goes_by_whole_keys_on_tables_empty_unanalysed_and_full(database: Database) -> None:
    await furnish(database)
    assert "\n".join(await plans(database.dsn)) == "", "empty"
    await fill(database, FEWER)
    assert "\n".join(await plans(database.dsn)) == "", "unanalysed"
    connection = await asyncpg.connect(database.dsn)
    await connection.execute("analyze")
    await connection.close()
    assert "\n".join(await plans(database.dsn)) == "", "full"


INLINED = ("delayed_invoices", "recovered_invoices", "close_watches", "closed_windows", "left_rails")
"""Queries that name the rules `is_open` and `is_covered`."""


async def test_rules_in_functions_are_inlined_and_match_their_index(database: Database) -> None:
    await furnish(database)
    await fill(database, FEWER)
    connection = await asyncpg.connect(database.dsn, server_settings=SESSION)
    try:
        await connection.execute("analyze; drop index railwatch.invoices_recent")
        for name in INLINED:
            [[plan]] = await explain(connection, query(name))
            assert not re.search(r"is_open|is_covered|covers|margin\(", plan), name
            used = {each.get("Index Name") for each in nodes_of(json.loads(plan)[0]["Plan"])}
            assert name != "delayed_invoices" or "invoices_open" in used
    finally:
        await connection.close()


def request(order: str) -> dict[str, Any]:
    destination = {"rail": "story", "asset": "COIN", "address": f"of {order}", "amount": "1"}
    return {"merchant_id": "new", "order_id": order, "expires_in": 60, "destinations": [destination]}


CALLS: list[tuple[str, list[Any]]] = [
    ("select railwatch.create_invoice($1)", [request("one")]),
    ("select railwatch.create_invoices($1)", [[request("two"), request("three")]]),
    (
        "select * from railwatch.affected_rows('story', 5, 4, 3, $1, 'fake', $2, $3, '{}')",
        [["displaced"], [md5(str(n).encode()).digest() for n in range(1, 60)], ["t1", "t2"]],
    ),
]
"""What runs inside functions, on a connection that has made its plans on whatever there was."""


async def plans_within_functions(connection: Any) -> list[str]:
    """Faults of what the server says it ran, statement by statement, inside these calls too."""
    told: list[str] = []
    connection.add_log_listener(lambda _, message: told.append(str(message)))
    for setting in ("log_min_duration = 0", "log_nested_statements = on", "log_format = json"):
        await connection.execute(f"set auto_explain.{setting}")
    await connection.execute("set client_min_messages = log")
    transaction = connection.transaction()
    await transaction.start()
    try:
        for sql, arguments in CALLS:
            await connection.fetch(sql, *arguments)
    finally:
        await transaction.rollback()
        await connection.execute("set client_min_messages = notice")
        await connection.execute("set auto_explain.log_min_duration = -1")
    found: list[str] = []
    for each in told:
        if "plan:" in each:
            plan = json.loads(each.split("plan:", 1)[1])
            found += faults(" ".join(plan["Query Text"].split())[:60], plan["Plan"])
    assert len(told) > 20, told
    return found


@pytest.mark.parametrize("planned_on", ["empty tables", "a few rows"])
async def test_what_functions_read_goes_by_whole_keys(database: Database, planned_on: str) -> None:
    """The plan of a function's statement lasts as long as the connection: it was made before the tables were filled."""
    await furnish(database)
    connection = await asyncpg.connect(database.dsn, server_settings=SESSION)
    try:
        await prepare_connection(connection)
        await connection.execute("load 'auto_explain'")
        if planned_on == "a few rows":
            for sql in FILL:
                await connection.execute(sql, 40)
        assert "\n".join(await plans_within_functions(connection)) == ""
    finally:
        await connection.close()


@pytest.fixture
async def full(database: Database) -> AsyncIterator[Database]:
    """A pool whose plans were made on empty tables, over full ones that nobody has counted."""
    await furnish(database)
    async with Database(database.dsn, size=1) as pool:
        for name, arguments in QUESTIONS.items():
            await pool.rows(query(name), *arguments)
        await WatchStore(pool, "fake").accept([(uuid4(), b"x", "x")])
        await Closing(pool).turn()
        await fill(database, MANY)
        yield pool


QUESTIONS: dict[str, tuple[Any, ...]] = {
    "closed_windows": ("story", *FIRST_WINDOW, 500),
    "stuck_invoices": (*FIRST_WINDOW, 500),
    "load_spends": ("story",),
    "pending_of_rail": ("story",),
    "unread_balance_keys": ("story", ["fake:story/slip44:1"], 100, FIRST_WINDOW[0]),
    "sibling_keys": ("fake", "other", 500),
}
WITHIN = 0.15
"""Seconds, many times what they take: the old plans took a second to a minute."""


@pytest.mark.long
async def test_what_runs_every_second_costs_the_same_beside_200_000_that_wait(full: Database) -> None:
    slow = {}
    for name, arguments in QUESTIONS.items():
        best = 9.0
        for _ in range(5):
            began = time.perf_counter()
            await full.rows(query(name), *arguments)
            best = min(best, time.perf_counter() - began)
        if best > WITHIN:
            slow[name] = round(best, 3)
    assert slow == {}


@pytest.mark.long
async def test_500_addresses_are_taken_in_beside_200_000_that_nobody_has_counted(full: Database) -> None:
    """This ran into the timeout of 60 seconds, and the rail stood back."""
    made = [(UUID(int=n), f"new {n}".encode(), f"new {n}") for n in range(500)]
    await full.rows("""
        insert into railwatch.invoices
            (id, merchant_id, order_id, state, expires_at, closes_at, policy, time_basis, terms)
        select ('00000000-0000-0000-0000-' || lpad(to_hex(n), 12, '0'))::uuid, 'new', n::text, 'created',
               now() + interval '1 day', now() + interval '2 days', '{}', 'first_seen', '{}'
        from generate_series(0, 499) n""")
    await full.rows("""
        insert into railwatch.destinations
            (id, invoice_id, rail, asset, address, expected_amount, policy, policy_origin, family, address_folded,
             position)
        select i.id, i.id, 'story', a.id, i.order_id, 1, '{}', 'default', r.family, i.order_id, 1
        from railwatch.invoices i, railwatch.assets a, railwatch.rails r where i.merchant_id = 'new'""")
    async with asyncio.timeout(5):
        taken = await WatchStore(full, "fake").accept(made)
    assert len(taken) == 500

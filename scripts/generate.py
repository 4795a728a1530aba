"""Write the files that are derived from code and catalog: `make generated`. Tests compare each file with this text.

The SQL copy of the state tables comes from `railwatch.core.states`, and so does the diagram of the states. The diagram
of the tables comes from the catalog of a database that has the schema.
"""

import asyncio
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from textwrap import fill
from typing import Any

import asyncpg

from railwatch.core.states import DETECTION_MOVES, INVOICE_MOVES, OPEN_STATES, InvoiceState
from railwatch.store.embedded.server import EmbeddedPostgres
from railwatch.store.migrate import migrate

ROOT = Path(__file__).parents[1]
STATES = ROOT / "indexer/railwatch/store/sql/schema/25_states.sql"
STATES_PAGE = ROOT / "docs/contract/states.md"
TABLES_PAGE = ROOT / "docs/contract/tables.md"

CONTRACT_TABLES = (
    *("rails", "assets", "invoices", "destinations", "detections", "observations", "transitions"),
    *("exceptions", "exception_transfers", "balances", "refunds", "settlements", "consumers"),
)
"""The tables that the diagram shows."""

COLUMNS = """
select c.relname as table_name, a.attname as name, format_type(a.atttypid, null) as type,
       coalesce(bool_or(k.contype = 'p'), false) as is_primary, coalesce(bool_or(k.contype = 'f'), false) as is_foreign,
       coalesce(bool_or(k.contype = 'u'), false) as is_unique,
       coalesce(array_agg(distinct k.confrelid::regclass::text) filter (where k.contype = 'f'), '{}') as refers_to
from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_constraint k on k.conrelid = c.oid and a.attnum = any (k.conkey)
where c.relnamespace = 'railwatch'::regnamespace and c.relkind = 'r'
group by c.relname, a.attname, a.attnum, a.atttypid order by c.relname, a.attnum
"""
"""Columns of all tables, with the keys that they belong to."""


def quoted(states: Iterable[InvoiceState]) -> str:
    """Return states as a list of SQL literals, in the order of their enumeration."""
    chosen = set(states)
    return ", ".join(f"'{state}'" for state in InvoiceState if state in chosen)


def move_row(old: InvoiceState) -> str:
    """Return one row of values: a state, and the states that may follow it."""
    row = f"('{old}', array[{quoted(INVOICE_MOVES[old])}])"
    return fill(row, 118, initial_indent="    ", subsequent_indent=" " * 8)


def states_sql() -> str:
    """Return the SQL of the states: the table of allowed transitions, and the rule of what is open."""
    rows = ",\n".join(move_row(state) for state in InvoiceState)
    return f"""\
-- Generated from core/states.py by `make generated`. A test compares the two.

create table railwatch.allowed_transitions (
    from_state text not null,
    to_state text not null,
    primary key (from_state, to_state)
);
comment on table railwatch.allowed_transitions is 'Which state may follow which: the core''s table, for functions.';
comment on column railwatch.allowed_transitions.from_state is 'The state before.';
comment on column railwatch.allowed_transitions.to_state is 'A state that may follow it.';
insert into railwatch.allowed_transitions (from_state, to_state)
select from_state, unnest(to_states)
from (values
{rows}
) as moves (from_state, to_states);

create function railwatch.is_open(state text) returns boolean
language sql immutable
-- An index has this in its predicate: a migration that changes the list also reindexes invoices_open.
return state in ({quoted(OPEN_STATES)});
comment on function railwatch.is_open is 'Return whether an invoice in this state still expects money: OPEN_STATES.';
"""


def state_diagram(moves: Mapping[Any, Iterable[str]], held: str | None = None) -> str:
    """Return a state machine as mermaid. The arrows of ``held`` are left out: each state has one to it and one back."""
    if held is not None:
        everything = {state for state in moves if state is not None and state != held}
        assert set(moves[held]) == everything == {state for state in everything if held in moves[state]}
    arrows = [
        f"    {old or '[*]'} --> {new}"
        for old, following in moves.items()
        for new in sorted(following)
        if held is None or held not in (old, new)
    ]
    return "\n".join(["```mermaid", "stateDiagram-v2", *arrows, "```"])


def er_diagram(columns: Iterable[Mapping[str, Any]]) -> str:
    """Return the contract's tables as mermaid: key columns, foreign keys (solid), ids without a constraint (dotted)."""
    keys: dict[str, list[str]] = {table: [] for table in CONTRACT_TABLES}
    arrows: list[str] = []
    for column in columns:
        table, name = column["table_name"], column["name"]
        if table not in keys:
            continue
        marks = [mark for mark in ("primary", "foreign", "unique") if column[f"is_{mark}"]]
        targets, line = [each.removeprefix("railwatch.") for each in column["refers_to"]], "--"
        if not targets and (named := re.sub(r"_id$", "s", name)) in keys and named != name:
            targets, line = [named], ".."
        arrows += [f"    {target} ||{line}o{{ {table} : {name}" for target in targets if target in keys]
        if marks or targets:
            labels = ", ".join({"primary": "PK", "foreign": "FK", "unique": "UK"}[mark] for mark in marks)
            kind = re.sub(r"\W+", "_", column["type"])
            keys[table].append(f"        {kind} {name} {labels}".rstrip())
    tables = [line for table, rows in keys.items() for line in (f"    {table} {{", *rows, "    }")]
    return "\n".join(["```mermaid", "erDiagram", *sorted(arrows), *tables, "```"])


def with_generated(text: str, name: str, content: str) -> str:
    """Return a page with the content between the mark of that name and the next end mark."""
    begin, end = f"<!-- generated: {name} -->\n", "<!-- end -->"
    before, found, rest = text.partition(begin)
    assert found, f"no mark for {name}"
    return f"{before}{begin}\n{content}\n\n{end}{rest.partition(end)[2]}"


def states_page(text: str) -> str:
    """Return the page of states with its diagrams."""
    text = with_generated(text, "invoices", state_diagram(INVOICE_MOVES, InvoiceState.FLAGGED))
    return with_generated(text, "detections", state_diagram(DETECTION_MOVES))


async def catalog_columns(folder: Path) -> list[asyncpg.Record]:
    """Return the columns of a new database that has the schema. Its server runs in that folder."""
    async with EmbeddedPostgres(folder) as dsn:
        connection = await asyncpg.connect(dsn)
        try:
            await migrate(connection)
            return list(await connection.fetch(COLUMNS))
        finally:
            await connection.close()


def main() -> None:
    """Write each generated file."""
    STATES.write_text(states_sql())
    STATES_PAGE.write_text(states_page(STATES_PAGE.read_text()))
    with tempfile.TemporaryDirectory(prefix="railwatch-generate-") as name:
        Path(name).chmod(0o711)  # as root, the server runs as another user
        diagram = er_diagram(asyncio.run(catalog_columns(Path(name) / "data")))
    TABLES_PAGE.write_text(with_generated(TABLES_PAGE.read_text(), "tables", diagram))


if __name__ == "__main__":
    main()

"""Write the files that are derived from code and catalog: `make generated`. Tests compare each file with this text.

The SQL copy of the state tables comes from `railwatch.core.states`, and so does the diagram of the states. The diagram
of the tables comes from the catalog of a database that has the schema.
"""

from collections.abc import Iterable
from pathlib import Path
from textwrap import fill

from railwatch.core.states import INVOICE_MOVES, OPEN_STATES, InvoiceState

ROOT = Path(__file__).parents[1]
STATES = ROOT / "indexer/railwatch/store/sql/schema/25_states.sql"


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


def main() -> None:
    """Write each generated file."""
    STATES.write_text(states_sql())


if __name__ == "__main__":
    main()

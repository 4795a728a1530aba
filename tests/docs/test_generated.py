"""What is generated equals its source: run `make generated` after a change of the states or of the tables."""

import pytest

from railwatch.core.states import InvoiceState
from railwatch.store.database import Database
from scripts.generate import (
    COLUMNS,
    STATES,
    STATES_PAGE,
    TABLES_PAGE,
    er_diagram,
    state_diagram,
    states_page,
    states_sql,
    with_generated,
)


def test_the_states_in_sql_are_the_cores() -> None:
    assert STATES.read_text() == states_sql()


def test_the_diagrams_of_states_are_the_cores() -> None:
    text = STATES_PAGE.read_text()
    assert text == states_page(text)


async def test_the_diagram_of_tables_is_the_catalogs(database: Database) -> None:
    text = TABLES_PAGE.read_text()
    assert text == with_generated(text, "tables", er_diagram(await database.rows(COLUMNS)))


def test_a_diagram_has_an_arrow_for_each_move_except_holds() -> None:
    moves = {None: ["created"], "created": ["paid", "flagged"], "paid": ["flagged"], "flagged": ["created", "paid"]}
    arrows = state_diagram(moves, InvoiceState.FLAGGED).splitlines()[2:-1]
    assert [each.strip() for each in arrows] == ["[*] --> created", "created --> paid"]
    with pytest.raises(AssertionError):
        state_diagram({**moves, "paid": []}, InvoiceState.FLAGGED)

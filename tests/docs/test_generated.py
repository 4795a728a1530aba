"""What is generated equals its source: run `make generated` after a change of the states or of the tables."""

from scripts.generate import STATES, states_sql


def test_the_states_in_sql_are_the_cores() -> None:
    assert STATES.read_text() == states_sql()

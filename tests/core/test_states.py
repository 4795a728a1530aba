"""The two tables, cell by cell: what is written here a second time is what support and finance may rely on."""

from itertools import product

import pytest

from railwatch.core.states import (
    DETECTION_MOVES,
    INVOICE_MOVES,
    DetectionState,
    IllegalMove,
    InvoiceState,
    check_detection_move,
    check_invoice_move,
)

INVOICE_TABLE = """
-          created
created    detected confirming expired cancelled flagged
detected   created confirming flagged
confirming created detected paid overpaid underpaid late_paid flagged
paid       overpaid underpaid late_paid confirming detected created flagged refunded
overpaid   paid underpaid late_paid confirming detected created flagged refunded
late_paid  paid overpaid underpaid confirming detected created flagged refunded
underpaid  created detected confirming cancelled flagged refunded
expired    detected confirming cancelled flagged refunded
cancelled  flagged refunded
flagged    created detected confirming paid overpaid underpaid late_paid expired cancelled refunded
refunded   flagged
"""

DETECTION_TABLE = """
-         pending included final
pending   included replaced dropped
included  confirmed orphaned dropped
confirmed final orphaned dropped
final     orphaned
replaced  pending included
dropped   pending included replaced
orphaned  pending included replaced dropped
"""


def read(table: str) -> dict[str, set[str]]:
    rows = (line.split() for line in table.strip().splitlines())
    return {first: set(rest) for first, *rest in rows}


def cells(states):
    return [(old, new) for old, new in product([None, *states], states)]


@pytest.mark.parametrize(("old", "new"), cells(InvoiceState), ids=str)
def test_an_invoice_moves_only_where_the_table_has_a_cell(old, new):
    if new in read(INVOICE_TABLE)[old or "-"]:
        check_invoice_move(old, new)
    else:
        with pytest.raises(IllegalMove, match=f"invoice cannot go from {old or 'nothing'} to {new}"):
            check_invoice_move(old, new)


@pytest.mark.parametrize(("old", "new"), cells(DetectionState), ids=str)
def test_a_detection_moves_only_where_the_table_has_a_cell(old, new):
    if new in read(DETECTION_TABLE)[old or "-"]:
        check_detection_move(old, new)
    else:
        with pytest.raises(IllegalMove, match=f"detection cannot go from {old or 'nothing'} to {new}"):
            check_detection_move(old, new)


@pytest.mark.parametrize("moves", [INVOICE_MOVES, DETECTION_MOVES], ids=["invoice", "detection"])
def test_every_state_has_a_row_and_is_reached_from_nothing(moves):
    reached: set[object] = set()
    frontier: set[object] = {None}
    while frontier:
        frontier = {new for old in frontier for new in moves[old]} - reached
        reached |= frontier
    assert reached == set(moves) - {None}


def test_final_is_final_unless_a_person_accepts_another_chain():
    assert DETECTION_MOVES[DetectionState.FINAL] == {DetectionState.ORPHANED}


def test_nothing_is_paid_without_having_been_confirming_or_held():
    before = {old for old, news in INVOICE_MOVES.items() if InvoiceState.PAID in news}
    assert before == {
        InvoiceState.CONFIRMING,
        InvoiceState.OVERPAID,
        InvoiceState.LATE_PAID,
        InvoiceState.FLAGGED,
    }

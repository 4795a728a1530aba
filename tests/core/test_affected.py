"""The stored rows that a step affects: which detections it loads, and which of them it orphans."""

from uuid import UUID

from railwatch.core.affected import AffectedRows
from railwatch.core.matching import Known
from tests.core.builders import COIN

ONE, TWO = UUID(int=1), UUID(int=2)
DUE, GONE, RIVAL, KNOWN, MORE = (UUID(int=number) for number in range(11, 16))


def affected() -> AffectedRows:
    """Return rows of each kind, of two invoices."""
    known = Known(KNOWN, UUID(int=21), TWO, "tx", "vout:0", b"address", COIN, None, False)
    return AffectedRows(due={ONE: [DUE]}, orphaned={ONE: [GONE]}, rivals={"rival": [(TWO, RIVAL)]}, known=[known])


def test_a_step_loads_what_is_due_orphaned_displaced_and_known():
    assert affected().detections == {DUE, GONE, RIVAL, KNOWN}
    assert AffectedRows().detections == set()


def test_further_orphaned_detections_are_added_to_those_of_their_invoices():
    more = affected().and_orphaned([(ONE, MORE), (TWO, KNOWN)])
    assert more.orphaned == {ONE: [GONE, MORE], TWO: [KNOWN]}
    assert more.orphaned_detections == {GONE, MORE, KNOWN}
    assert affected().orphaned == {ONE: [GONE]}

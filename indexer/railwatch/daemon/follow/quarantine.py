"""Invoices that fail in their rail's own step: which of them are set aside.

A step that fails is done once more with its invoices kept apart. One that fails alone is put into quarantine, in the
same commit, with what the chain showed for it; the others go on. A failure that hits all of them is a defect of ours:
the rail then fails as a whole, and halts by name when that repeats.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from railwatch.core.aggregate import InvoiceAggregate
from railwatch.reasons import describe

IN_A_ROW_MAX = 5
"""Invoices that may fail one after another, without one between that does not, before the failure counts as ours."""


class InvoiceFailed(Exception):
    """So many invoices fail that it is no fault of theirs."""

    def __init__(self, failed: Mapping[UUID, Exception]) -> None:
        named = ", ".join(str(invoice) for invoice in list(failed)[:5])
        defect = next(iter(failed.values()))
        super().__init__(f"the daemon cannot process invoice {named}: {describe(defect)}; run `railwatch explain ID`")


@dataclass(slots=True)
class Failures:
    """Distinguishes failures of single invoices from one that hits all of them, over the steps of a rail."""

    in_a_row: int = 0

    def note_success(self, aggregates: Sequence[InvoiceAggregate]) -> None:
        """Remember that invoices were processed."""
        if aggregates:
            self.in_a_row = 0

    def judge(self, failed: Mapping[UUID, Exception], done: Sequence[InvoiceAggregate]) -> None:
        """Raise `InvoiceFailed` if all of several invoices failed, or too many in a row."""
        self.note_success(done)
        in_a_row = 0 if done else self.in_a_row + len(failed)
        if failed and not done and (len(failed) > 1 or in_a_row > IN_A_ROW_MAX):
            raise InvoiceFailed(failed)
        self.in_a_row = in_a_row

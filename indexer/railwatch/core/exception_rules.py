"""Which exceptions stand beside an invoice's state: a pure set, which `docket` compares with the rows that are there.

Several can stand at once, and none of them moves the state (HAZARDS I1). docs/exceptions.md says for each what it
means, who acts and what closes it.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Literal
from uuid import UUID

from railwatch.core.assessment import Received, is_refund_covered, is_settled
from railwatch.core.model import Coverage, Detection, Invoice
from railwatch.core.states import IN_BLOCK_STATES, SETTLED_STATES, DetectionState, InvoiceState, Kind
from railwatch.core.thresholds import delay_deadline, stuck_deadline

SEVERITY: Mapping[str, Literal["info", "warning", "critical"]] = {
    "underpaid": "warning",
    "overpaid": "warning",
    "late": "warning",
    "wrong_asset": "warning",
    "wrong_network": "warning",
    "unsupported_asset": "info",
    "unexpected_payment": "warning",
    "reversed": "critical",
    "double_spend": "critical",
    "content_mismatch": "critical",
    "processing_failed": "critical",
    "stuck_confirming": "warning",
    "mixed_destinations": "warning",
    "detection_delayed": "warning",
    "unattributed_balance": "warning",
    "unallocated_transfer": "warning",
}

UNSUPPORTED_MAX = 10
"""Transfers of tokens that are not configured, kept for one destination: anybody can mint one and send it anywhere."""

INVOICE_KINDS = ("underpaid", "overpaid", "reversed", "stuck_confirming", "mixed_destinations", "detection_delayed")
"""Exceptions that are about the invoice, and not about one of its transfers or balances."""

ExceptionKey = tuple[str, UUID | None]
"""What an exception that is about no group is about: its kind, and the transfer or the balance if it is about one."""

KIND_TO_EXCEPTION = {
    Kind.WRONG_ASSET: "wrong_asset",
    Kind.WRONG_NETWORK: "wrong_network",
    Kind.UNSUPPORTED_ASSET: "unsupported_asset",
    Kind.UNEXPECTED: "unexpected_payment",
}

FUNDS_KINDS = frozenset({*KIND_TO_EXCEPTION.values(), "late"})
"""About money that has come. What a person decided about it holds in whichever block it is."""

STATE_KINDS = frozenset({"underpaid", "overpaid", "stuck_confirming"})
"""Read from the invoice's state. A hold hides that state, so it makes none of them good. What is critical is read from
the money, which no hold hides."""


def expected_exceptions(
    invoice: Invoice, detections: Iterable[Detection], received: Received, coverage: Coverage, now: datetime
) -> set[ExceptionKey]:
    """Every exception that the facts call for now, of the invoice, and of single ones of ``detections``."""
    cases: set[ExceptionKey] = {
        ("content_mismatch", each.id) for each in detections if each.state in IN_BLOCK_STATES and each.is_contradicted
    }
    cases |= {(kind, None) for kind in _invoice_exceptions(invoice, received)}
    cases |= {(kind, None) for kind in _delay_exceptions(invoice, received, coverage, now)}
    return cases


def expected_groups(invoice: Invoice, detections: Iterable[Detection], received: Received) -> set[tuple[UUID, str]]:
    """Return (transfer, kind) for each exception about a transfer that the facts call for now.

    One row holds all of a destination, of one kind and asset: strangers can send as many transfers as they like.
    """
    detections = list(detections)
    cases = {(each.id, kind) for each in detections for kind in _detection_exceptions(each)}
    for each in detections:
        if each.state is DetectionState.REPLACED and _is_double_spend(invoice, each, detections, received):
            cases.add((each.id, "double_spend"))
    return cases


def balance_exceptions(surpluses: Iterable[UUID]) -> set[ExceptionKey]:
    """Money that is there and that no block has shown: for each balance by itself."""
    return {("unattributed_balance", each) for each in surpluses}


def _invoice_exceptions(invoice: Invoice, received: Received) -> Iterable[str]:
    if invoice.state in (InvoiceState.UNDERPAID, InvoiceState.OVERPAID):
        yield invoice.state.value
    if _is_reversed(invoice, received):
        yield "reversed"
    ways = received.payments
    if len(ways) > 1 and sum(1 for each in ways.values() if each.seen or each.late) > 1:
        yield "mixed_destinations"


def _is_reversed(invoice: Invoice, received: Received) -> bool:
    """Goods may have left, or a refund has, and the money is not there. To withdraw or hold the invoice is no cure."""
    if not is_refund_covered(invoice, received):
        return True
    sold = invoice.settled_at is not None and invoice.state_before_hold is not InvoiceState.REFUNDED
    return sold and not has_required_funds(invoice, received)


def has_required_funds(invoice: Invoice, received: Received) -> bool:
    """Return True if enough is confirmed, whatever a person or a service decided."""
    return invoice.state in SETTLED_STATES or is_settled(invoice, received)


def _delay_exceptions(invoice: Invoice, received: Received, coverage: Coverage, now: datetime) -> Iterable[str]:
    stuck, delayed = stuck_deadline(invoice, received), delay_deadline(invoice, coverage)
    if stuck is not None and now >= stuck:
        yield "stuck_confirming"
    if delayed is not None and now >= delayed:
        yield "detection_delayed"


def _is_double_spend(invoice: Invoice, detection: Detection, others: Collection[Detection], received: Received) -> bool:
    """Of a replaced one: a rival took the money elsewhere. A sender who raised the fee still pays, and is no alarm."""
    if has_required_funds(invoice, received):
        return False
    replacement_chain: set[str | None] = {detection.tx_id}
    rivals: set[str | None] = {detection.replaced_by}
    while rivals - replacement_chain:
        # A fee can be raised again and again: what counts is whether the last of the line still pays.
        replacement_chain |= rivals
        rivals = {other.replaced_by for other in others if other.tx_id in rivals and not other.live}
    return not any(other.tx_id in replacement_chain and other.live for other in others)


def _came_in_time(detection: Detection) -> bool:
    """Whether it was expected after all: its block came late, and the window had been told to be over meanwhile."""
    return detection.invoice_end_state is InvoiceState.EXPIRED and bool(detection.in_time)


def _detection_exceptions(detection: Detection) -> Iterable[str]:
    if detection.state not in IN_BLOCK_STATES:
        return
    if detection.kind is not Kind.PAYMENT:
        yield KIND_TO_EXCEPTION[detection.kind]
        return
    if detection.in_time is False:
        yield "late"
    if detection.invoice_end_state is not None and not _came_in_time(detection):
        yield "unexpected_payment"

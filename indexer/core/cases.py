"""Which exceptions stand beside an invoice's state: a pure set, compared with the one that is open.

Several can stand at once, and none of them moves the state (HAZARDS I1). What a person resolved stays resolved.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Literal
from uuid import UUID

from indexer.core.model import Detection, Invoice
from indexer.core.states import IN_BLOCK, SETTLED, DetectionState, InvoiceState, Kind

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
    "mixed_destinations": "warning",
}

CaseKey = tuple[str, UUID | None]
"""What an exception is about: its kind, and the transfer if it is about one."""

OWN_KIND = {
    Kind.WRONG_ASSET: "wrong_asset",
    Kind.WRONG_NETWORK: "wrong_network",
    Kind.UNSUPPORTED_ASSET: "unsupported_asset",
    Kind.UNEXPECTED: "unexpected_payment",
}


def standing_cases(invoice: Invoice, detections: Iterable[Detection]) -> set[CaseKey]:
    """Every exception that the facts call for now."""
    detections = list(detections)
    cases = {case for detection in detections for case in _of_detection(detection)}
    cases |= {("double_spend", each.id) for each in detections if _is_double_spend(invoice, each, detections)}
    if invoice.state in (InvoiceState.UNDERPAID, InvoiceState.OVERPAID):
        cases.add((invoice.state.value, None))
    if invoice.settled_at is not None and invoice.state not in SETTLED | {InvoiceState.REFUNDED, InvoiceState.FLAGGED}:
        cases.add(("reversed", None))
    paid_at = {each.destination_id for each in detections if each.kind is Kind.PAYMENT and each.live}
    if len(paid_at) > 1:
        cases.add(("mixed_destinations", None))
    return cases


def _is_double_spend(invoice: Invoice, detection: Detection, others: Collection[Detection]) -> bool:
    """A rival took the money elsewhere. A sender who only raised the fee still pays us, and is no alarm."""
    if detection.state is not DetectionState.REPLACED or invoice.state in SETTLED:
        return False
    heirs: set[str | None] = {detection.tx_id}
    rivals: set[str | None] = {detection.replaced_by}
    while rivals - heirs:
        # A fee can be raised again and again: what counts is whether the last of the line still pays.
        heirs |= rivals
        rivals = {other.replaced_by for other in others if other.tx_id in rivals and not other.live}
    return not any(other.tx_id in heirs and other.live for other in others)


def _of_detection(detection: Detection) -> Iterable[CaseKey]:
    if detection.state not in IN_BLOCK:
        return
    if detection.kind is not Kind.PAYMENT:
        yield OWN_KIND[detection.kind], detection.id
        return
    if detection.in_time is False:
        yield "late", detection.id
    if detection.invoice_ended is not None:
        yield "unexpected_payment", detection.id

"""The feed's lines: the only places where a state is assigned, and each assigns it by telling it."""

from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

from railwatch.core.aggregate import Book, Moment
from railwatch.core.evidence import of_invoice
from railwatch.core.ids import derived_id
from railwatch.core.model import Case, Destination, Detection, Transition
from railwatch.core.states import (
    IN_BLOCK,
    SETTLED,
    DetectionState,
    InvoiceState,
    check_detection_move,
    check_invoice_move,
)

Cause = Literal["chain", "clock", "operator", "service"]


def move_detection(
    book: Book,
    detection: Detection,
    to_state: DetectionState,
    reason: str,
    grounds: Mapping[str, Any],
    moment: Moment,
    cause: Cause = "chain",
) -> None:
    """The only place where a detection's state is told. ``grounds``: why, for the line's evidence."""
    check_detection_move(detection.told, to_state)
    detection.version += 1
    book.transitions.append(
        Transition(
            event_id=_event_id(detection.id, detection.version, to_state, detection.block_hash),
            subject="detection",
            subject_id=detection.id,
            invoice_id=book.invoice.id,
            from_state=detection.told,
            to_state=to_state,
            reason=reason,
            cause=cause,
            at=detection,
            block_height=detection.block_height,
            block_hash=detection.block_hash,
            confirmations=_depth(detection, moment) if to_state in IN_BLOCK else None,
            chain_time=detection.block_time,
            evidence=grounds,
        )
    )
    detection.state = detection.told = to_state
    book.changed.add(detection.id)


def move_invoice(
    book: Book, target: InvoiceState, reason: str, cause: Cause, through: Detection | None, moment: Moment
) -> None:
    """The only place where an invoice's state is assigned by the chain or the clock."""
    invoice = book.invoice
    check_invoice_move(invoice.state, target)
    invoice.version += 1
    block_hash = through.block_hash if through else None
    about = _nearest_to_paid(book)
    book.transitions.append(
        Transition(
            event_id=_event_id(invoice.id, invoice.version, target, block_hash),
            subject="invoice",
            subject_id=invoice.id,
            invoice_id=invoice.id,
            from_state=invoice.state,
            to_state=target,
            reason=reason,
            cause=cause,
            at=through,
            block_height=through.block_height if through else None,
            block_hash=block_hash,
            confirmations=_depth(through, moment) if through else None,
            seen_amount=about.seen if about else 0,
            confirmed_amount=about.confirmed if about else 0,
            chain_time=through.block_time if through else None,
            evidence=of_invoice(book, target, through, moment),
        )
    )
    invoice.held_from = invoice.state if target is InvoiceState.FLAGGED else None
    invoice.state, invoice.state_since = target, moment.now
    if target in SETTLED and invoice.settled_at is None:
        invoice.settled_at = moment.now


def _nearest_to_paid(book: Book) -> Destination | None:
    """The destination that a line's amounts are of: amounts of different assets are never summed."""
    destinations = book.invoice.destinations
    if len(destinations) == 1:
        return destinations[0]
    return max(
        destinations,
        key=lambda each: (each.confirmed / each.expected, (each.seen + each.late) / each.expected),
        default=None,
    )


def _depth(detection: Detection, moment: Moment) -> int | None:
    """Inclusive: the including block is 1. None while in no block, and for a rail that this step is not about."""
    if detection.state not in IN_BLOCK or detection.block_height is None or detection.rail != moment.rail:
        return None
    return max(1, moment.progress.cursor - detection.block_height + 1)


def tell_case(
    book: Book,
    case: Case,
    from_state: str | None,
    to_state: str,
    cause: Cause,
    grounds: Mapping[str, Any],
    through: Detection | None = None,
    mark: str = "",
) -> None:
    """Put the opening, the growth or the resolving of an exception into the feed; its kind is the reason.

    ``through``: the transfer by which that came, if not the one that opened it. ``mark`` tells one growth from another.
    """
    at = through or (book.detections.get(case.detection_id) if case.detection_id else None)
    book.transitions.append(
        Transition(
            event_id=_event_id(case.id, case.round, to_state, mark),
            subject="exception",
            subject_id=case.id,
            invoice_id=book.invoice.id,
            from_state=from_state,
            to_state=to_state,
            reason=case.kind,
            cause=cause,
            at=at,
            block_height=at.block_height if at else None,
            block_hash=at.block_hash if at else None,
            chain_time=at.block_time if at else None,
            evidence=grounds,
        )
    )


def _event_id(subject: UUID, version: int, to_state: str, block_hash: str | None) -> UUID:
    return derived_id(f"{subject}/{version}/{to_state}/{block_hash or ''}")

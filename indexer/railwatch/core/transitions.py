"""Transitions of the feed. States are assigned only here, each together with its transition."""

from collections.abc import Mapping
from typing import Any, Literal

from railwatch.core.aggregate import InvoiceAggregate, StepContext
from railwatch.core.evidence import invoice_evidence
from railwatch.core.ids import event_id
from railwatch.core.model import Destination, Detection, ExceptionRecord, Transition
from railwatch.core.states import (
    IN_BLOCK_STATES,
    SETTLED_STATES,
    DetectionState,
    InvoiceState,
    check_detection_move,
    check_invoice_move,
)

Cause = Literal["chain", "clock", "operator", "service"]


def transition_detection(
    aggregate: InvoiceAggregate,
    detection: Detection,
    to_state: DetectionState,
    reason: str,
    evidence: Mapping[str, Any],
    ctx: StepContext,
    cause: Cause = "chain",
) -> None:
    """Assign a detection's state and append its transition: the only place that does. ``evidence``: the reasons."""
    check_detection_move(detection.reported_state, to_state)
    detection.version += 1
    aggregate.transitions.append(
        Transition(
            event_id=event_id(detection.id, detection.version, to_state, detection.block_hash),
            subject="detection",
            subject_id=detection.id,
            invoice_id=aggregate.invoice.id,
            from_state=detection.reported_state,
            to_state=to_state,
            reason=reason,
            cause=cause,
            via_detection=detection,
            block_height=detection.block_height,
            block_hash=detection.block_hash,
            confirmations=_depth(detection, ctx) if to_state in IN_BLOCK_STATES else None,
            chain_time=detection.block_time,
            evidence=evidence,
        )
    )
    detection.state = detection.reported_state = to_state
    aggregate.changed_detections.add(detection.id)


def transition_invoice(
    aggregate: InvoiceAggregate,
    target: InvoiceState,
    reason: str,
    cause: Cause,
    via: Detection | None,
    ctx: StepContext,
) -> None:
    """Assign an invoice's state and append its transition: the only place that does for the chain and the clock."""
    invoice = aggregate.invoice
    check_invoice_move(invoice.state, target)
    invoice.version += 1
    block_hash = via.block_hash if via else None
    about = _best_funded_destination(aggregate)
    aggregate.transitions.append(
        Transition(
            event_id=event_id(invoice.id, invoice.version, target, block_hash),
            subject="invoice",
            subject_id=invoice.id,
            invoice_id=invoice.id,
            from_state=invoice.state,
            to_state=target,
            reason=reason,
            cause=cause,
            via_detection=via,
            block_height=via.block_height if via else None,
            block_hash=block_hash,
            confirmations=_depth(via, ctx) if via else None,
            seen_amount=about.seen if about else 0,
            confirmed_amount=about.confirmed if about else 0,
            chain_time=via.block_time if via else None,
            evidence=invoice_evidence(aggregate, target, via, ctx),
        )
    )
    invoice.held_from = invoice.state if target is InvoiceState.FLAGGED else None
    invoice.state, invoice.state_since = target, ctx.now
    if target in SETTLED_STATES and invoice.settled_at is None:
        invoice.settled_at = ctx.now


def _best_funded_destination(aggregate: InvoiceAggregate) -> Destination | None:
    """Return the destination whose amounts the transition has: amounts of different assets are never summed."""
    destinations = aggregate.invoice.destinations
    if len(destinations) == 1:
        return destinations[0]
    return max(
        destinations,
        key=lambda each: (each.confirmed / each.expected, (each.seen + each.late) / each.expected),
        default=None,
    )


def _depth(detection: Detection, ctx: StepContext) -> int | None:
    """Inclusive: the including block is 1. None while in no block, and for a rail that this step is not about."""
    if detection.state not in IN_BLOCK_STATES or detection.block_height is None or detection.rail != ctx.rail:
        return None
    return max(1, ctx.progress.cursor - detection.block_height + 1)


def transition_exception(
    aggregate: InvoiceAggregate,
    record: ExceptionRecord,
    from_state: str | None,
    to_state: str,
    cause: Cause,
    evidence: Mapping[str, Any],
    via: Detection | None = None,
    mark: str = "",
) -> None:
    """Put the opening, the growth or the resolving of an exception into the feed; its kind is the reason.

    ``via``: the transfer by which that came, if not the one that opened it. ``mark`` identifies one growth.
    """
    at = via or (aggregate.detections.get(record.detection_id) if record.detection_id else None)
    aggregate.transitions.append(
        Transition(
            event_id=event_id(record.id, record.occurrence, to_state, mark),
            subject="exception",
            subject_id=record.id,
            invoice_id=aggregate.invoice.id,
            from_state=from_state,
            to_state=to_state,
            reason=record.kind,
            cause=cause,
            via_detection=at,
            block_height=at.block_height if at else None,
            block_hash=at.block_hash if at else None,
            chain_time=at.block_time if at else None,
            evidence=evidence,
        )
    )

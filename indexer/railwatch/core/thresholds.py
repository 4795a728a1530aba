"""What a detection waits for, and at which height that comes; what an invoice waits for, and when that is too long."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from railwatch.core.assessment import Received
from railwatch.core.model import Coverage, Detection, Invoice
from railwatch.core.policy import Policy, Threshold, finality_threshold
from railwatch.core.states import OPEN_STATES, WAITING_STATES, DetectionState, Kind


def confirmation_threshold(detection: Detection, policies: Mapping[UUID, Policy]) -> Threshold:
    """When the detection's policy is met. Other than payments have none to meet: a block is enough."""
    policy = policies[detection.destination_id] if detection.kind is Kind.PAYMENT else Policy(1)
    return policy.threshold(detection.block_height or 0, detection.maturity)


def next_threshold(
    detection: Detection, policies: Mapping[UUID, Policy], horizon: int, has_finality: bool
) -> Threshold | None:
    """Return what the detection waits for next, as the index over due heights has it; None: for nothing."""
    if detection.is_contradicted:
        return None
    if detection.state is DetectionState.INCLUDED:
        return confirmation_threshold(detection, policies)
    if detection.state is DetectionState.CONFIRMED and detection.passed_second_look:
        return finality_threshold(
            confirmation_threshold(detection, policies), detection.block_height or 0, horizon, has_finality
        )
    return None


def second_look_threshold(
    detection: Detection, policies: Mapping[UUID, Policy], horizon: int, has_finality: bool
) -> Threshold | None:
    """When the detection has to be read a second time, as it is final then; None where it need not, or has been."""
    waits = detection.state in (DetectionState.INCLUDED, DetectionState.CONFIRMED)
    if not waits or detection.passed_second_look or detection.is_contradicted:
        return None
    return finality_threshold(
        confirmation_threshold(detection, policies), detection.block_height or 0, horizon, has_finality
    )


def stuck_deadline(invoice: Invoice, received: Received) -> datetime | None:
    """When the invoice has waited for too long for the money that was seen; None where it does not wait (HAZARDS I10).

    Among several rails that it waits on, the most patient one counts. The store's ``stuck_invoices`` says the same.
    """
    if invoice.state not in WAITING_STATES:
        return None
    waiting = (each.delay_limits.stuck_after for each in invoice.destinations if received.payments[each.id].waits)
    longest = max(waiting, default=None)
    return None if longest is None else invoice.state_since + longest


def delay_deadline(invoice: Invoice, coverage: Coverage) -> datetime | None:
    """From when on a payment could have been unseen for too long; None where none is expected.

    What counts is the sight that was lost while the invoice was there. The store's ``delayed_invoices`` says the same.
    """
    if invoice.state not in OPEN_STATES:
        return None
    ends = (
        max(coverage.until.get(each.rail, invoice.created_at), invoice.created_at) + each.delay_limits.blind_after
        for each in invoice.destinations
        if not each.closed
    )
    return min(ends, default=None)

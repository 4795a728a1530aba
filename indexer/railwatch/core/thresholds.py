"""What a detection waits for, and at which height that comes; what an invoice waits for, and when that is too long."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from railwatch.core.assessment import Received
from railwatch.core.model import Coverage, Detection, Invoice
from railwatch.core.policy import Due, Policy, final_at
from railwatch.core.states import OPEN, WAITING, DetectionState, Kind


def met_at(detection: Detection, policies: Mapping[UUID, Policy]) -> Due:
    """When the detection's policy is met. Other than payments have none to meet: a block is enough."""
    policy = policies[detection.destination_id] if detection.kind is Kind.PAYMENT else Policy(1)
    return policy.met_at(detection.block_height or 0, detection.maturity)


def next_due(detection: Detection, policies: Mapping[UUID, Policy], horizon: int, has_finality: bool) -> Due | None:
    """What the detection waits for next, as the index over due heights stores it; None where it waits for nothing."""
    if detection.is_contradicted:
        return None
    if detection.state is DetectionState.INCLUDED:
        return met_at(detection, policies)
    if detection.state is DetectionState.CONFIRMED and detection.is_looked_at:
        return final_at(met_at(detection, policies), detection.block_height or 0, horizon, has_finality)
    return None


def due_look(detection: Detection, policies: Mapping[UUID, Policy], horizon: int, has_finality: bool) -> Due | None:
    """When the detection has to be read a second time, as it is final then; None where it need not, or has been."""
    waits = detection.state in (DetectionState.INCLUDED, DetectionState.CONFIRMED)
    if not waits or detection.is_looked_at or detection.is_contradicted:
        return None
    return final_at(met_at(detection, policies), detection.block_height or 0, horizon, has_finality)


def stuck_at(invoice: Invoice, received: Received) -> datetime | None:
    """When the invoice has waited for too long for the money that was seen; None where it does not wait (HAZARDS I10).

    Among several rails that it waits on, the most patient one counts. The store's ``stuck_invoices`` says the same.
    """
    if invoice.state not in WAITING:
        return None
    waiting = (each.patience.stuck for each in invoice.destinations if received.payments[each.id].waits)
    longest = max(waiting, default=None)
    return None if longest is None else invoice.state_since + longest


def delayed_at(invoice: Invoice, coverage: Coverage) -> datetime | None:
    """From when on a payment could have been unseen for too long; None where none is expected.

    What counts is the sight that was lost while the invoice was there. The store's ``delayed_invoices`` says the same.
    """
    if invoice.state not in OPEN:
        return None
    ends = (
        max(coverage.until.get(each.rail, invoice.created_at), invoice.created_at) + each.patience.blind
        for each in invoice.destinations
        if not each.closed
    )
    return min(ends, default=None)

"""Where an invoice stands: a pure function of its terms, what was detected, what was covered, and the time."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from indexer.core.model import Coverage, Detection, Invoice
from indexer.core.states import IN_BLOCK, SETTLED, STICKY, InvoiceState, Kind
from indexer.rail.types import AssetId


@dataclass(slots=True)
class Sums:
    """What arrived at one destination: live and in time, of that confirmed, live and late, of that confirmed."""

    seen: int = 0
    confirmed: int = 0
    late: int = 0
    late_confirmed: int = 0
    in_block: bool = False


def assess(invoice: Invoice, detections: Iterable[Detection], coverage: Coverage, now: datetime) -> InvoiceState:
    """The state that follows from the facts. Says nothing about how it got there; `ledger` walks the table.

    One destination must be met; amounts are never summed across destinations. Sets no field.
    """
    judged = [replace(each, in_time=is_in_time(each, invoice, now)) for each in detections]
    return judge(invoice, add_up(invoice, judged), coverage, now)


def judge(invoice: Invoice, sums: Mapping[UUID, Sums], coverage: Coverage, now: datetime) -> InvoiceState:
    """`assess`, with the money already added up by destination."""
    if invoice.held is not None:
        return InvoiceState.FLAGGED
    if invoice.before_hold in STICKY:
        return invoice.before_hold
    return _from_sums(invoice, sums) or _without_payment(invoice, coverage, now)


def standing(invoice: Invoice, detections: Iterable[Detection]) -> InvoiceState:
    """The state, or while a hold hides it what it would be: by what was decided before, and by the money.

    That a window closes is told, and a hold tells nothing: only what had expired before the hold is expired here.
    """
    if invoice.held_from is None:
        return invoice.state
    if invoice.held_from in STICKY:
        return invoice.held_from
    idle = InvoiceState.EXPIRED if invoice.held_from is InvoiceState.EXPIRED else InvoiceState.CREATED
    return _from_sums(invoice, add_up(invoice, detections)) or idle


def is_settled(invoice: Invoice, detections: Iterable[Detection]) -> bool:
    """Whether enough money is confirmed, whatever a person or a service decided."""
    return _from_sums(invoice, add_up(invoice, detections)) in SETTLED


def is_refund_covered(invoice: Invoice, detections: Iterable[Detection]) -> bool:
    """Whether all that was given back is still in blocks, asset by asset. Anything that came can be given back."""
    arrived: defaultdict[tuple[str, AssetId], int] = defaultdict(int)
    for each in detections:
        arrived[each.rail, each.asset] += each.amount if each.state in IN_BLOCK else 0
    return all(arrived[asset] >= amount for asset, amount in invoice.refunded.items())


def _from_sums(invoice: Invoice, by_destination: Mapping[UUID, Sums]) -> InvoiceState | None:
    """The state that the money decides; None where there is none."""
    sums = [(each, by_destination[each.id]) for each in invoice.destinations]
    bounds = [(least_and_most(destination.expected, invoice.tolerance_bps), each) for destination, each in sums]
    met = [each.confirmed - most for (least, most), each in bounds if each.confirmed >= least]
    if met:
        return InvoiceState.OVERPAID if max(met) > 0 else InvoiceState.PAID
    if any(each.confirmed + each.late_confirmed >= least for (least, _), each in bounds):
        return InvoiceState.LATE_PAID
    if any(_awaits(least, each) for (least, _), each in bounds):
        return InvoiceState.CONFIRMING if any(each.in_block for _, each in bounds) else InvoiceState.DETECTED
    if any(each.confirmed for _, each in bounds):
        return InvoiceState.UNDERPAID
    return None


def _awaits(least: int, sums: Sums) -> bool:
    """Whether something unconfirmed can still change the answer: any in time, or late ones that would be enough."""
    return sums.seen > sums.confirmed or (sums.late > sums.late_confirmed and sums.seen + sums.late >= least)


def _without_payment(invoice: Invoice, coverage: Coverage, now: datetime) -> InvoiceState:
    """No money in time: the window is open, or closed once every rail was watched to its end (HAZARDS I12)."""
    over = now >= invoice.expires_at and coverage.reaches(invoice.expires_at, invoice.destinations)
    return InvoiceState.EXPIRED if over or invoice.before_hold is InvoiceState.EXPIRED else InvoiceState.CREATED


def least_and_most(expected: int, tolerance_bps: int) -> tuple[int, int]:
    """The amounts, both inclusive, that pay exactly; the tolerance is rounded down, and nothing never pays."""
    tolerance = expected * tolerance_bps // 10_000
    return max(1, expected - tolerance), expected + tolerance


def add_up(invoice: Invoice, detections: Iterable[Detection]) -> dict[UUID, Sums]:
    """Sum the payments by destination, as they were last judged to be in time or not.

    Orphaned, replaced and dropped transfers count nowhere.
    """
    sums = {destination.id: Sums() for destination in invoice.destinations}
    for detection in detections:
        if detection.kind is not Kind.PAYMENT or not detection.live:
            continue
        each = sums[detection.destination_id]
        counted = detection.amount if detection.counted else 0
        each.in_block = each.in_block or detection.state in IN_BLOCK
        if detection.in_time:
            each.seen += detection.amount
            each.confirmed += counted
        else:
            each.late += detection.amount
            each.late_confirmed += counted
    return sums


def is_in_time(detection: Detection, invoice: Invoice, now: datetime) -> bool:
    """Whether the moment that the invoice's time basis names lies within its window (HAZARDS I3).

    While that moment has not come yet (no block, not confirmed), the present stands for it.
    """
    if invoice.time_basis == "first_seen":
        moment = detection.first_seen_at
    elif invoice.time_basis == "block_time":
        moment = detection.block_time or now
    else:
        moment = detection.confirmed_at or now
    return moment <= invoice.expires_at

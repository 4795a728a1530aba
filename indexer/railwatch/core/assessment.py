"""The state of an invoice: a pure function of its terms, its detections, the coverage, and the time."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from typing import NamedTuple
from uuid import UUID

from railwatch.core.model import Coverage, Destination, Detection, Invoice
from railwatch.core.states import (
    CONFIRMED_STATES,
    IN_BLOCK_STATES,
    LIVE_STATES,
    MANUAL_END,
    SETTLED_STATES,
    InvoiceState,
    Kind,
)
from railwatch.core.tally import NOTHING, Tallies, TallyKey
from railwatch.rail.types import AssetId


@dataclass(slots=True)
class DestinationTotals:
    """What arrived at one destination: live and in time, of that confirmed, live and late, of that confirmed."""

    seen: int = 0
    confirmed: int = 0
    late: int = 0
    late_confirmed: int = 0
    in_block: bool = False

    @property
    def waits(self) -> bool:
        """Whether something that was seen is not confirmed."""
        return self.seen > self.confirmed or self.late > self.late_confirmed


AssetKey = tuple[str, AssetId]
"""A rail, and an asset on it. Amounts are never summed beyond one."""


class Received(NamedTuple):
    """What an invoice received: payments by destination, and transfers of every kind by rail and asset.

    ``counted`` sums what is confirmed, ``in_blocks`` what is in a block.
    """

    payments: Mapping[UUID, DestinationTotals]
    counted: Mapping[AssetKey, int]
    in_blocks: Mapping[AssetKey, int]


def assess(invoice: Invoice, detections: Iterable[Detection], coverage: Coverage, now: datetime) -> InvoiceState:
    """Return the state that follows from the facts; `core.lifecycle` finds the way to it.

    One destination must be met; amounts are never summed across destinations. Sets no field.
    """
    judged = [replace(each, in_time=is_in_time(each, invoice, now)) for each in detections]
    return assess_totals(invoice, sum_payments(invoice, judged), coverage, now)


def assess_totals(invoice: Invoice, received: Received, coverage: Coverage, now: datetime) -> InvoiceState:
    """`assess`, with the money already added up."""
    if invoice.held is not None:
        return InvoiceState.FLAGGED
    if invoice.state_before_hold in MANUAL_END:
        return invoice.state_before_hold
    return _state_from_totals(invoice, received) or _without_payment(invoice, coverage, now)


def state_without_hold(invoice: Invoice, received: Callable[[], Received]) -> InvoiceState:
    """Return the state, or during a hold the state without it: by earlier decisions, and by the money.

    ``received`` is called only where a hold hides the state. The end of a window is emitted, and a hold emits nothing:
    only what had expired before the hold is expired here.
    """
    if invoice.held_from is None:
        return invoice.state
    if invoice.held_from in MANUAL_END:
        return invoice.held_from
    idle = InvoiceState.EXPIRED if invoice.held_from is InvoiceState.EXPIRED else InvoiceState.CREATED
    return _state_from_totals(invoice, received()) or idle


def is_settled(invoice: Invoice, received: Received) -> bool:
    """Whether the merchant has enough, whatever a person or a service decided."""
    return _state_from_totals(invoice, received) in SETTLED_STATES


def is_refund_covered(invoice: Invoice, received: Received) -> bool:
    """Whether all that was given back is still in blocks, asset by asset. Anything that came can be given back."""
    return not invoice.refunded or all(
        received.in_blocks.get(asset, 0) >= refunded.amount for asset, refunded in invoice.refunded.items()
    )


def _state_from_totals(invoice: Invoice, received: Received) -> InvoiceState | None:
    """Return the state that the money decides; None where there is none."""
    sums = [(each, received.payments[each.id]) for each in invoice.destinations]
    met = [_excess(invoice, way, each) for way, each in sums if _is_met(invoice, way, each.confirmed, received)]
    if met:
        return InvoiceState.OVERPAID if max(met) > 0 else InvoiceState.PAID
    if any(_is_met(invoice, way, each.confirmed + each.late_confirmed, received) for way, each in sums):
        return InvoiceState.LATE_PAID
    if any(_can_still_change(accepted_range(way.expected, invoice.tolerance_bps)[0], each) for way, each in sums):
        return InvoiceState.CONFIRMING if any(each.in_block for _, each in sums) else InvoiceState.DETECTED
    if any(each.confirmed for _, each in sums):
        return InvoiceState.UNDERPAID
    return None


def _is_met(invoice: Invoice, way: Destination, arrived: int, received: Received) -> bool:
    """Whether ``arrived`` pays the destination, and the merchant still has that much (HAZARDS I14).

    What the merchant gave back of a settled order by choice (``waived``) is not asked for again.
    """
    least, _ = accepted_range(way.expected, invoice.tolerance_bps)
    refunded = invoice.refunded.get((way.rail, way.asset))
    if arrived < least or refunded is None:
        return arrived >= least
    return received.counted.get((way.rail, way.asset), 0) - refunded.amount >= least - refunded.waived


def _excess(invoice: Invoice, way: Destination, totals: DestinationTotals) -> int:
    """Return how much was confirmed above the accepted range; a refund before the settlement is owed anew."""
    _, most = accepted_range(way.expected, invoice.tolerance_bps)
    refunded = invoice.refunded.get((way.rail, way.asset))
    return totals.confirmed - most - (refunded.owed_again if refunded else 0)


def _can_still_change(least: int, totals: DestinationTotals) -> bool:
    """Whether something unconfirmed can still change the answer: any in time, or late ones that would be enough."""
    return totals.seen > totals.confirmed or (
        totals.late > totals.late_confirmed and totals.seen + totals.late >= least
    )


def _without_payment(invoice: Invoice, coverage: Coverage, now: datetime) -> InvoiceState:
    """No money in time: the window is open, or closed once every rail was watched to its end (HAZARDS I12)."""
    over = now >= invoice.expires_at and coverage.reaches(invoice.expires_at, invoice.destinations)
    return InvoiceState.EXPIRED if over or invoice.state_before_hold is InvoiceState.EXPIRED else InvoiceState.CREATED


def accepted_range(expected: int, tolerance_bps: int) -> tuple[int, int]:
    """Return the range of amounts, inclusive, that pays exactly. The tolerance is rounded down, and 0 never pays."""
    tolerance = expected * tolerance_bps // 10_000
    return max(1, expected - tolerance), expected + tolerance


def sum_payments(invoice: Invoice, detections: Iterable[Detection], others: Tallies = NOTHING) -> Received:
    """Sum what was received, as it was last judged to be in time or not. ``others``: what was not loaded.

    Orphaned, replaced and dropped transfers count nowhere.
    """
    some: Iterable[tuple[Detection | TallyKey, int]] = chain(
        ((each, each.amount) for each in detections), ((key, each.amount) for key, each in others.items())
    )
    payments = {destination.id: DestinationTotals() for destination in invoice.destinations}
    counted: defaultdict[AssetKey, int] = defaultdict(int)
    in_blocks: defaultdict[AssetKey, int] = defaultdict(int)
    for key, amount in some:
        if key.state not in LIVE_STATES:
            continue
        if key.state in IN_BLOCK_STATES:
            in_blocks[key.rail, key.asset] += amount
        if key.state in CONFIRMED_STATES:
            counted[key.rail, key.asset] += amount
        if key.kind is Kind.PAYMENT:
            _add(payments[key.destination_id], key, amount)
    return Received(payments, counted, in_blocks)


def _add(totals: DestinationTotals, key: Detection | TallyKey, amount: int) -> None:
    confirmed = amount if key.state in CONFIRMED_STATES else 0
    totals.in_block = totals.in_block or key.state in IN_BLOCK_STATES
    if key.in_time:
        totals.seen += amount
        totals.confirmed += confirmed
    else:
        totals.late += amount
        totals.late_confirmed += confirmed


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

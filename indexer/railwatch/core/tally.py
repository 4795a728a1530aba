"""Sums of what an invoice received, kept so that one more payment costs no more than the first (HAZARDS I16).

A step loads only the detections that it touches. Everything else that an invoice ever received enters its state as
tallies: amount and count by destination, rail, asset, kind, state and timeliness. The store keeps them with the
destination; the core replaces in them what a step changed.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from railwatch.core.model import Detection
from railwatch.core.states import DetectionState, Kind
from railwatch.rail.types import AssetId


class TallyKey(NamedTuple):
    """What the detections of one tally have in common."""

    destination_id: UUID
    rail: str
    asset: AssetId
    kind: Kind
    state: DetectionState
    in_time: bool | None


@dataclass(frozen=True, slots=True)
class Tally:
    """``amount`` in base units, over ``count`` detections."""

    amount: int
    count: int


Tallies = Mapping[TallyKey, Tally]

NOTHING: Tallies = {}


def key_of(detection: Detection) -> TallyKey:
    """Return the tally that ``detection`` belongs to as it is now."""
    return TallyKey(
        detection.destination_id,
        detection.rail,
        detection.asset,
        detection.kind,
        detection.state,
        detection.in_time,
    )


def totals(detections: Iterable[Detection], others: Tallies = NOTHING) -> list[tuple[TallyKey, Tally]]:
    """Return each detection as a tally of one, and then ``others``: those that were not loaded."""
    return [*((key_of(each), Tally(each.amount, 1)) for each in detections), *others.items()]


def added(some: Iterable[tuple[TallyKey, Tally]]) -> Tallies:
    """Return the sums by key. Empty tallies are left out."""
    some = list(some)
    if not some:
        return {}
    amounts: defaultdict[TallyKey, int] = defaultdict(int)
    counts: defaultdict[TallyKey, int] = defaultdict(int)
    for key, each in some:
        amounts[key] += each.amount
        counts[key] += each.count
    return {key: Tally(amount, counts[key]) for key, amount in amounts.items() if counts[key]}


def without(tallies: Tallies, detections: Iterable[Detection]) -> Tallies:
    """Return ``tallies`` less ``detections``, which they hold as they are now."""
    taken = ((key_of(each), Tally(-each.amount, -1)) for each in detections)
    return added([*tallies.items(), *taken])

"""What an address holds against what was seen to arrive there: the difference is money that no block has shown.

A pure decision over sums, for rails that cannot see every way in which an asset arrives (HAZARDS E2, E14). Two things
are never seen here: money that leaves, and money that came unseen. A balance shows only the difference of the two, so
that what left is a lower bound, and so is what came unseen: nothing is claimed that is not certain.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BalanceReading:
    """One look at a balance, in base units. ``spent``: what had left by then since the baseline, as far as is known."""

    balance: int
    spent: int


@dataclass(frozen=True, slots=True)
class DetectedTotals:
    """What the tables hold in blocks up to the look: above the baseline's, and of that above the last look's.

    ``small``: what arrived in transfers below the asset's least amount, at most, and whenever. They are only counted.
    """

    total: int
    fresh: int
    small: int = 0


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """``expected`` is what the address can hold at most by what is known, and ``unattributed`` what it holds beyond."""

    spent: int
    expected: int
    unattributed: int


def reconcile_balance(
    baseline: int, last: BalanceReading | None, detected: DetectedTotals, balance: int, least: int = 0
) -> Reconciliation:
    """Compare ``balance`` with what is known. ``baseline``: what was there before, or has been accounted for since.

    ``last`` is the look before, None where there was none or its block is gone: then only the baseline is believed. A
    balance that rose by less than what was detected since the last look has lost the rest: that was spent. What is
    detected late, of blocks that were looked at already, makes no such difference, and explains what was unattributed.
    What small transfers may explain is not unattributed, nor is less than ``least``: nobody acts on dust (HAZARDS I16).
    """
    before = BalanceReading(baseline, 0) if last is None else last
    arrived = detected.total if last is None else detected.fresh
    gone = before.spent + max(0, before.balance + arrived - balance)
    spent = max(gone, baseline + detected.total - balance)
    beyond = balance - (baseline + detected.total - spent) - detected.small
    unattributed = beyond if beyond >= max(1, least) else 0
    return Reconciliation(spent, balance - unattributed, unattributed)


def small_at_most(amount: int, count: int, least: int) -> int:
    """Return how much of one asset small transfers brought, at most. ``amount``, ``count``: theirs, over all assets."""
    return min(amount, count * max(0, least - 1))

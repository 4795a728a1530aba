"""What an address holds against what was seen to arrive there: the difference is money that no block has shown.

A pure decision over sums, for rails that cannot see every way in which an asset arrives (HAZARDS E2, E14). Two things
are never seen here: money that leaves, and money that came unseen. A balance shows only the difference of the two, so
that what left is a lower bound, and so is what came unseen: nothing is claimed that is not certain.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BalanceReading:
    """One balance, in base units. ``spent``: the known sum that left the address since the baseline."""

    balance: int
    spent: int


@dataclass(frozen=True, slots=True)
class DetectedTotals:
    """Sums in blocks up to the reading: ``total`` since the baseline, and of that ``fresh`` since the last reading.

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

    ``last`` is the previous reading. It is None without one, or if its block is gone: then only the baseline counts. If
    the balance rose by less than was detected since the last reading, the rest was spent. A late detection in a block
    below the last reading makes no such difference, and explains what was unattributed.
    What small transfers may explain is not unattributed, nor is less than ``least``: dust needs no act (HAZARDS I16).
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

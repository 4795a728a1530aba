"""Tales of what random ones come to only once in hundreds, each by the name of what it is told for.

The models hear them beside their random tales, so that their invariants are held there too, at the price of one tale
and not of a thousand.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from hypothesis import example

from railwatch.core.policy import Policy
from tests.core.tales import HORIZON, Event, Tale, Terms, Tx

Test = TypeVar("Test", bound=Callable[..., None])

TERMS = Terms(10_000, "first_seen", 0, (Policy(1), Policy(1)), has_finality=True)
PAID = Tx("paid", "one", 100, None, 1)
LOST: Event = ("reorg", (1, ((), ())))
"""The last block is replaced by two that hold nothing."""
ONE = 0
"""The invoice that an act is about."""


def _mine(*txs: Tx) -> Event:
    return "mine", txs


def _tale(*events: Event) -> Tale:
    return Tale(TERMS, events)


LEDGER = {
    "again reversed": _tale(_mine(PAID), LOST, _mine(PAID), LOST),
    "again stuck_confirming": _tale(("see", PAID), ("time", 30), ("drop", "paid"), ("see", PAID), ("time", 30)),
}
"""An exception that a person resolved, whose occurrence ended, and that came again."""

HELD = {
    "flagged: reversed open": _tale(_mine(PAID), ("hold", ONE), LOST),
    "flagged: reversed resolved": _tale(_mine(PAID), ("hold", ONE), LOST, _mine(PAID)),
    "flagged: unexpected_payment open": _tale(("cancel", ONE), ("hold", ONE), _mine(PAID)),
}
"""What the feed heard of an exception, and in which state of the invoice."""

REFUNDED = {"refunded: reversed resolved": _tale(_mine(PAID), ("refund", ONE), LOST, _mine(PAID))}

DEEP_AT_ONCE = Tale(replace(TERMS, has_finality=False), (_mine(PAID), *[_mine()] * (HORIZON - 1)))
"""In one span, a payment comes and is as deep as finality asks."""


def also(tales: Iterable[Tale]) -> Callable[[Test], Test]:
    """Let a test of random tales hear these as well."""

    def beside(test: Test) -> Test:
        for each in tales:
            test = example(tale=each)(test)
        return test

    return beside

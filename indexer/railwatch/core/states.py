"""States, and the one table that says which may follow which. An absent cell is an error, never a silence.

An invoice walks up as its payment is seen, included and confirmed, and back down when the chain reverses facts. The
table is the contract that support and finance read (docs/contract.md), and the database holds a copy of it, so that
manual acts obey it too.
"""

from collections.abc import Mapping
from enum import StrEnum


class InvoiceState(StrEnum):
    """The states of an invoice; docs/contract.md says the next safe action for each."""

    CREATED = "created"
    DETECTED = "detected"
    CONFIRMING = "confirming"
    PAID = "paid"
    OVERPAID = "overpaid"
    UNDERPAID = "underpaid"
    LATE_PAID = "late_paid"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    FLAGGED = "flagged"
    REFUNDED = "refunded"


class DetectionState(StrEnum):
    """The states of one transfer on its chain."""

    PENDING = "pending"
    INCLUDED = "included"
    CONFIRMED = "confirmed"
    FINAL = "final"
    REPLACED = "replaced"
    DROPPED = "dropped"
    ORPHANED = "orphaned"


class Kind(StrEnum):
    """What a transfer means for its invoice. Only payments count towards it."""

    PAYMENT = "payment"
    WRONG_ASSET = "wrong_asset"
    WRONG_NETWORK = "wrong_network"
    UNSUPPORTED_ASSET = "unsupported_asset"
    UNEXPECTED = "unexpected"


class IllegalMove(AssertionError):
    """A transition that the table does not hold: a defect of ours, and better a halted rail than a wrong `paid`."""


_I, _D = InvoiceState, DetectionState

SETTLED_STATES = frozenset({_I.PAID, _I.OVERPAID, _I.LATE_PAID})
"""Enough money is confirmed: goods may have left."""

END_STATES = SETTLED_STATES | {_I.EXPIRED, _I.CANCELLED, _I.REFUNDED}
"""Nothing more is expected. What still arrives is an unexpected payment."""

OPEN_STATES = frozenset({_I.CREATED, _I.DETECTED, _I.CONFIRMING, _I.UNDERPAID, _I.FLAGGED})
"""Money is still expected, or waited for."""

WAITING_STATES = frozenset({_I.DETECTED, _I.CONFIRMING})
"""Money was seen, and its policy is not met."""

MANUAL_END = frozenset({_I.CANCELLED, _I.REFUNDED})
"""A person's or a service's decision, which no chain fact undoes."""

LIVE_STATES = frozenset({_D.PENDING, _D.INCLUDED, _D.CONFIRMED, _D.FINAL})
"""The transfer exists, as far as the chain says."""

IN_BLOCK_STATES = frozenset({_D.INCLUDED, _D.CONFIRMED, _D.FINAL})
"""The transfer is in a block of the chain that we follow."""

REMOVED = frozenset({_D.REPLACED, _D.DROPPED})
"""The transfer is gone and no longer expected, though it may come back."""

CONFIRMED_STATES = frozenset({_D.CONFIRMED, _D.FINAL})
"""The invoice's policy is met: the money counts."""

INVOICE_MOVES: Mapping[InvoiceState | None, frozenset[InvoiceState]] = {
    None: frozenset({_I.CREATED}),
    _I.CREATED: frozenset({_I.DETECTED, _I.CONFIRMING, _I.EXPIRED, _I.CANCELLED, _I.FLAGGED}),
    _I.DETECTED: frozenset({_I.CREATED, _I.CONFIRMING, _I.FLAGGED}),
    _I.CONFIRMING: frozenset(
        {_I.CREATED, _I.DETECTED, _I.PAID, _I.OVERPAID, _I.UNDERPAID, _I.LATE_PAID, _I.FLAGGED},
    ),
    _I.PAID: frozenset(
        {_I.OVERPAID, _I.UNDERPAID, _I.LATE_PAID, _I.CONFIRMING, _I.DETECTED, _I.CREATED, _I.FLAGGED, _I.REFUNDED},
    ),
    _I.OVERPAID: frozenset(
        {_I.PAID, _I.UNDERPAID, _I.LATE_PAID, _I.CONFIRMING, _I.DETECTED, _I.CREATED, _I.FLAGGED, _I.REFUNDED},
    ),
    _I.LATE_PAID: frozenset(
        {_I.PAID, _I.OVERPAID, _I.UNDERPAID, _I.CONFIRMING, _I.DETECTED, _I.CREATED, _I.FLAGGED, _I.REFUNDED},
    ),
    _I.UNDERPAID: frozenset(
        {_I.CREATED, _I.DETECTED, _I.CONFIRMING, _I.CANCELLED, _I.FLAGGED, _I.REFUNDED},
    ),
    _I.EXPIRED: frozenset({_I.DETECTED, _I.CONFIRMING, _I.CANCELLED, _I.FLAGGED, _I.REFUNDED}),
    _I.CANCELLED: frozenset({_I.FLAGGED, _I.REFUNDED}),
    _I.FLAGGED: frozenset(set(_I) - {_I.FLAGGED}),
    _I.REFUNDED: frozenset({_I.FLAGGED}),
}

DETECTION_MOVES: Mapping[DetectionState | None, frozenset[DetectionState]] = {
    None: frozenset({_D.PENDING, _D.INCLUDED, _D.FINAL}),
    _D.PENDING: frozenset({_D.INCLUDED, _D.REPLACED, _D.DROPPED}),
    _D.INCLUDED: frozenset({_D.CONFIRMED, _D.ORPHANED, _D.DROPPED}),
    _D.CONFIRMED: frozenset({_D.FINAL, _D.ORPHANED, _D.DROPPED}),
    _D.FINAL: frozenset({_D.ORPHANED}),  # only where a person has accepted another chain
    _D.REPLACED: frozenset({_D.PENDING, _D.INCLUDED}),
    _D.DROPPED: frozenset({_D.PENDING, _D.INCLUDED, _D.REPLACED}),
    _D.ORPHANED: frozenset({_D.PENDING, _D.INCLUDED, _D.REPLACED, _D.DROPPED}),
}


def check_invoice_move(old: InvoiceState | None, new: InvoiceState) -> None:
    """Raise `IllegalMove` unless the table holds the cell."""
    if new not in INVOICE_MOVES[old]:
        raise IllegalMove(f"an invoice cannot go from {old or 'nothing'} to {new}")


def check_detection_move(old: DetectionState | None, new: DetectionState) -> None:
    """Raise `IllegalMove` unless the table holds the cell."""
    if new not in DETECTION_MOVES[old]:
        raise IllegalMove(f"a detection cannot go from {old or 'nothing'} to {new}")

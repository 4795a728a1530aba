"""The facts that decisions are made from. Amounts in base units, times in UTC, heights inclusive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

from railwatch.core.policy import Policy
from railwatch.core.states import CONFIRMED_STATES, LIVE_STATES, DetectionState, InvoiceState, Kind
from railwatch.rail.types import AssetId

SecondLook = Literal["verified", "unverified", "mismatch", "accepted", "rejected"]
"""What a second reading said; `accepted` and `rejected` are a person's verdict on a mismatch."""

SECOND_LOOK_PASSED = frozenset({"verified", "unverified", "accepted"})
"""Nothing stands against it: it may become final."""

TimeBasis = Literal["first_seen", "block_time", "confirmed"]


@dataclass(slots=True)
class Detection:
    """One transfer to one destination, whatever becomes of its inclusions.

    ``reported_state`` is the state that the feed last heard, and ``version`` how often it was told one.
    ``invoice_end_state`` is the
    state of the invoice at first sight if that was an end state, else None. ``evidence`` (decoded) and ``raw`` (as the
    node said it) hold what this step learned; what was known before stays in the store. ``seen_waiting``: it was first
    seen outside any block, so that its first sight is ours, and no block's timestamp tells it.
    """

    id: UUID
    destination_id: UUID
    rail: str
    asset: AssetId
    tx_id: str
    tx_index: str
    amount: int
    kind: Kind
    state: DetectionState
    first_seen_at: datetime
    block_height: int | None = None
    block_hash: str | None = None
    block_time: datetime | None = None
    confirmed_at: datetime | None = None
    in_time: bool | None = None
    replaced_by: str | None = None
    maturity: int = 1
    spends: tuple[str, ...] = ()
    invoice_end_state: InvoiceState | None = None
    reported_state: DetectionState | None = None
    version: int = 0
    evidence: Mapping[str, Any] = field(default_factory=dict)
    raw: Any = None
    second_look: SecondLook | None = None
    """What reading block ``looked_at_block`` once more said of it, or a person after that; None: not read yet."""
    looked_at_block: str | None = None
    seen_waiting: bool = False

    @property
    def passed_second_look(self) -> bool:
        """Whether it was read a second time in its block, and nothing contradicted it: only then it becomes final."""
        return self.looked_at_block == self.block_hash and self.second_look in SECOND_LOOK_PASSED

    @property
    def is_contradicted(self) -> bool:
        """Whether a second look found something else in its block."""
        return self.looked_at_block == self.block_hash and self.second_look == "mismatch"

    def is_rejected_in(self, block_hash: str | None) -> bool:
        """Whether a person has decided that this block does not hold what it was first read to hold."""
        return self.second_look == "rejected" and self.looked_at_block == block_hash

    @property
    def live(self) -> bool:
        """Whether the chain, as far as we know it, holds the transfer or offers it."""
        return self.state in LIVE_STATES

    @property
    def counted(self) -> bool:
        """Whether the invoice's policy is met."""
        return self.state in CONFIRMED_STATES


@dataclass(slots=True)
class Observation:
    """One look at a transfer, which nothing overwrites. ``version``: the detection's, of the line that tells of it.

    A step makes one for each transfer, and a frozen dataclass takes three times as long to make.
    """

    detection_id: UUID
    version: int
    state: DetectionState
    block_height: int | None
    block_hash: str | None
    block_time: datetime | None
    facts: Mapping[str, Any]
    raw: Any


@dataclass(frozen=True, slots=True)
class DelayLimits:
    """How long a rail may keep an invoice waiting: for a payment to be confirmed, and for anything to be seen.

    ``margin``: for how long after its window a payment that counts as within it may still arrive, as blocks come after
    the times that they are stamped with.
    """

    stuck_after: timedelta = timedelta(hours=2)
    blind_after: timedelta = timedelta(minutes=5)
    margin: timedelta = timedelta(0)


@dataclass(slots=True)
class Destination:
    """One way to pay an invoice, with the sums of what arrived there."""

    id: UUID
    rail: str
    asset: AssetId
    expected: int
    policy: Policy
    watching: bool = True
    """False while the destination is not watched yet; a rejected one is not among an invoice's destinations."""
    closed: bool = False
    """Its horizon has passed: nobody looks there any more."""
    delay_limits: DelayLimits = DelayLimits()
    suppressed_count: int = 0
    """Sightings of this step beyond the bound on tokens that are not configured."""
    small_count: int = 0
    small_amount: int = 0
    """Transfers of this step below the asset's least amount: they are counted, and move nothing."""
    seen: int = 0
    confirmed: int = 0
    late: int = 0


@dataclass(frozen=True, slots=True)
class Refunded:
    """What was given back of one asset, in base units.

    ``surplus`` of it was more than the order asked for, and ``waived`` was given back of a settled order by choice. The
    rest was given back before the order was settled, so that the order asks for it again.
    """

    amount: int
    surplus: int = 0
    waived: int = 0

    @property
    def owed_again(self) -> int:
        """What the order asks for once more."""
        return self.amount - self.surplus - self.waived


@dataclass(slots=True)
class Invoice:
    """An invoice and its terms.

    ``settled_at`` is when it was first told to be paid, and stays when that is reversed. ``held_from`` is the state
    that a hold took it from, None while it is not `flagged`. ``refunded`` is what was given back, by rail and asset.
    """

    id: UUID
    state: InvoiceState
    created_at: datetime
    state_since: datetime
    expires_at: datetime
    destinations: Sequence[Destination]
    version: int = 1
    time_basis: TimeBasis = "first_seen"
    tolerance_bps: int = 0
    held: str | None = None
    held_from: InvoiceState | None = None
    settled_at: datetime | None = None
    refunded: Mapping[tuple[str, AssetId], Refunded] = field(default_factory=dict)

    @property
    def state_before_hold(self) -> InvoiceState:
        """Its state, or the one that a hold took it from: what had been decided or told by then still holds."""
        return self.held_from or self.state


@dataclass(frozen=True, slots=True)
class Coverage:
    """Up to which time each rail has been watched without a hole (HAZARDS I12). A rail that is absent: never."""

    until: Mapping[str, datetime]

    def reaches(self, moment: datetime, destinations: Sequence[Destination]) -> bool:
        """Whether no payment before ``moment`` to any of ``destinations`` can still be unseen."""
        return all(
            destination.watching
            and destination.rail in self.until
            and self.until[destination.rail] >= moment + destination.delay_limits.margin
            for destination in destinations
        )


@dataclass(slots=True)
class Transition:
    """One line of the feed. ``via_detection`` is the detection that it happened through, if one did.

    Its rail and transaction are the line's; ``rail`` and ``tx_id`` are those of a line without a detection.

    Nothing changes it once it is made. A step makes four for each payment, and a frozen dataclass takes three times as
    long to make.
    """

    event_id: UUID
    subject: Literal["invoice", "detection", "exception", "unallocated_transfer"]
    subject_id: UUID
    invoice_id: UUID | None
    from_state: str | None
    to_state: str
    reason: str
    cause: Literal["chain", "clock", "operator", "service"]
    via_detection: Detection | None = None
    rail: str | None = None
    tx_id: str | None = None
    block_height: int | None = None
    block_hash: str | None = None
    confirmations: int | None = None
    seen_amount: int | None = None
    confirmed_amount: int | None = None
    chain_time: datetime | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UnattributedBalance:
    """The part of an address's balance of one asset that no detection explains.

    `core.balance_reconciliation.reconcile_balance` computes it, at a block.
    """

    id: UUID
    destination_id: UUID
    rail: str
    asset: AssetId
    amount: int
    balance: int
    block_height: int
    block_hash: str
    node: str
    second_look: str = "verified"
    """What reading it again said, once no reorg could undo its block; `unverified` where no node could tell."""
    second_node: str | None = None


class Group(NamedTuple):
    """Transfers that one exception is about: of one asset, on one rail, to one destination."""

    destination_id: UUID
    rail: str
    asset: AssetId


@dataclass(slots=True)
class ExceptionRecord:
    """A row of `exceptions`: something beside the state that a person or a policy has to look at.

    ``resolution`` is None while it is open, and a person may give one while the facts stand. ``ended``: what it is
    about is over, so that the same thing would be a new occurrence. ``occurrence`` counts the occurrences. It is about
    a group of transfers, one transfer, a balance, or the invoice. Of a group, ``detection_id`` is the transfer that
    opened it, ``transfers`` and ``amount`` say what it holds now, and ``reported_transfers`` and ``reported_amount``
    the most that the feed has heard of.
    """

    id: UUID
    kind: str
    severity: Literal["info", "warning", "critical"]
    detection_id: UUID | None
    occurrence: int = 1
    resolution: str | None = None
    ended: bool = False
    balance_id: UUID | None = None
    group: Group | None = None
    transfers: int = 0
    amount: int = 0
    reported_transfers: int = 0
    reported_amount: int = 0

    @property
    def subject_id(self) -> UUID | None:
        """The transfer or the balance; None: the invoice, or the group."""
        return None if self.group else self.detection_id or self.balance_id


@dataclass(slots=True)
class Member:
    """A transfer's part in the exception of a group: with which amount it is counted there."""

    record: ExceptionRecord
    amount: int

"""What one step works on: the position of its rail, and the working copy of one invoice."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from railwatch.core.assessment import Received, sum_payments
from railwatch.core.model import (
    Coverage,
    Destination,
    Detection,
    ExceptionRecord,
    Invoice,
    Member,
    Observation,
    Transition,
    UnattributedBalance,
)
from railwatch.core.policy import Policy, Progress
from railwatch.core.tally import Tallies, Tally, TallyKey, totals


@dataclass(frozen=True, slots=True)
class StepContext:
    """The position of a rail in one step, and what that rail can report.

    ``tip_height`` is the node's newest height; ``block_times`` gives the time of blocks of this step by height; ``now``
    is the
    database's clock. ``backfill``: the step's blocks were already final when they were read, so a new transfer gets
    one transition, to `final`. ``blind``: the rail cannot be believed now (stalled, or its finality is), so nothing
    that it shows is confirmed or finalized (HAZARDS, "Nodes").
    """

    rail: str
    progress: Progress
    cursor_time: datetime
    coverage: Coverage
    now: datetime
    horizon: int
    has_finality: bool
    tip_height: int
    block_times: Mapping[int, datetime] = field(default_factory=dict)
    backfill: bool = False
    blind: bool = False
    accepts_chain: bool = False
    """A person has decided to follow a chain that left ours below finality: only then are final detections reversed."""


@dataclass(slots=True)
class InvoiceAggregate:
    """The working copy of one invoice in one step: change it through the functions below, then write what changed."""

    invoice: Invoice
    detections: dict[UUID, Detection]
    exceptions: list[ExceptionRecord]
    unattributed: Mapping[UUID, UnattributedBalance] = field(default_factory=dict)
    """What its addresses hold that no transfer explains, by the last reading of their balances."""
    other_tallies: Tallies = field(default_factory=dict)
    """Detections that this step does not touch, and that were not loaded, as sums."""
    group_members: dict[tuple[UUID, str], Member] = field(default_factory=dict)
    """In which exception of its group a loaded transfer is counted, by transfer and kind."""
    transitions: list[Transition] = field(default_factory=list)
    changed_detections: set[UUID] = field(default_factory=set)
    new_detections: set[UUID] = field(default_factory=set)
    observations: list[Observation] = field(default_factory=list)
    opened_exceptions: list[ExceptionRecord] = field(default_factory=list)
    resolved_exceptions: list[ExceptionRecord] = field(default_factory=list)
    ended_exceptions: list[ExceptionRecord] = field(default_factory=list)
    """Cases that a person had resolved, and whose occurrence is over now."""
    recounted_groups: set[UUID] = field(default_factory=set)
    """Cases of groups that hold other transfers, or other amounts, than before."""
    group_changes: dict[tuple[UUID, UUID], int | None] = field(default_factory=dict)
    """By case and transfer: the amount that it is counted with, None where it has left the group."""
    policies: Mapping[UUID, Policy] = field(init=False)

    def __post_init__(self) -> None:
        self.policies = {destination.id: destination.policy for destination in self.invoice.destinations}

    def destination(self, identity: UUID) -> Destination:
        """Return that destination of the invoice."""
        return next(each for each in self.invoice.destinations if each.id == identity)

    def totals(self) -> list[tuple[TallyKey, Tally]]:
        """Return everything that the invoice ever received, as it is now."""
        return totals(self.detections.values(), self.other_tallies)

    def received(self) -> Received:
        """Return what of it counts."""
        return sum_payments(self.invoice, self.detections.values(), self.other_tallies)

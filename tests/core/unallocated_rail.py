"""One rail with a shared address, step by step: what each step changed is there for the next one."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from uuid import UUID

from railwatch.core.aggregate import StepContext
from railwatch.core.ids import derived_id, detection_id
from railwatch.core.matching import Candidate
from railwatch.core.model import Coverage, Detection, Transition
from railwatch.core.policy import Progress
from railwatch.core.states import DetectionState, Kind
from railwatch.core.unallocated import (
    SharedAddress,
    StoredUnallocated,
    UnallocatedRules,
    UnallocatedStep,
    UnallocatedTransfer,
)
from railwatch.rail.types import BlockRef, Transfer
from tests.core.builders import COIN, RAIL, TOKEN, minute
from tests.core.chains import chain

CHAIN, OTHER = chain(30), chain(0).fork(0, *range(1, 31))
KEY = b"shop"
PAID = Transfer("tx", "vout:0", KEY, COIN, 100, None)
OLDEST = Candidate(derived_id("oldest"), derived_id("order"), RAIL, COIN, "R1", True, minute(0), minute(-10))


class Rail:
    """One rail, step by step: what each step changed is there for the next one."""

    def __init__(self, *, least: int = 0, exception_from: int = 0, has_finality: bool = False) -> None:
        self.rules = UnallocatedRules(RAIL, {COIN: least, TOKEN: least}, {COIN: exception_from})
        self.has_finality = has_finality
        self.rows: dict[UUID, UnallocatedTransfer] = {}
        self.feed: list[Transition] = []
        self.shared = {KEY: SharedAddress("shop", OLDEST)}

    def step(
        self,
        *transfers: Transfer,
        cursor: int = 1,
        finalized: int = -1,
        orphaned: Sequence[UUID] = (),
        dropped: Sequence[UUID] = (),
        detections: Sequence[Detection] = (),
        asks_for: Callable[[Transfer], bool] = lambda _: False,
        **circumstances: object,
    ) -> UnallocatedStep:
        """Apply a step, and keep what it changed."""
        ctx = context(cursor, finalized, self.has_finality, **circumstances)
        step = UnallocatedStep(self.rules, ctx)
        rows = {identity: copy(row) for identity, row in self.rows.items()}
        step.apply(StoredUnallocated(rows, self.shared, orphaned, dropped), transfers, detections, asks_for)
        self.rows |= step.rows
        self.feed += step.transitions
        return step

    @property
    def row(self) -> UnallocatedTransfer:
        """The only row."""
        (row,) = self.rows.values()
        return row

    def lines(self) -> list[tuple[str, str]]:
        """Return (subject, state) of each line of the feed."""
        return [(line.subject, line.to_state) for line in self.feed]

    def states(self) -> list[str]:
        """Return the states of transfers in the feed."""
        return [line.to_state for line in self.feed if line.subject == "unallocated_transfer"]


def context(cursor: int, finalized: int, has_finality: bool, **more: object) -> StepContext:
    """Return the circumstances of a step; without finality a block is final six deep."""
    known = StepContext(
        rail=RAIL,
        progress=Progress(cursor, finalized),
        cursor_time=minute(cursor),
        coverage=Coverage({}),
        now=minute(40),
        horizon=6,
        has_finality=has_finality,
        tip_height=cursor,
    )
    return replace(known, **more)  # type: ignore[arg-type]


def included(height: int, transfer: Transfer = PAID, branch: object = CHAIN) -> Transfer:
    """Return a transfer as a block holds it."""
    block: BlockRef = branch.at(height)  # type: ignore[attr-defined]
    return replace(transfer, block=block)


def detected(transfer: Transfer, destination: UUID) -> Detection:
    """Return the detection that a transfer became."""
    identity = detection_id(RAIL, transfer.tx_id, transfer.tx_index)
    state = DetectionState.INCLUDED
    place = destination, RAIL, transfer.asset, transfer.tx_id, transfer.tx_index, transfer.amount
    return Detection(identity, *place, Kind.PAYMENT, state, minute(1))

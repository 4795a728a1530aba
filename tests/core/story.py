"""One rail and its invoices: each call is one step, written the way that the store would write it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from typing import Literal
from uuid import UUID

from railwatch.core.affected import AffectedRows
from railwatch.core.aggregate import InvoiceAggregate, StepContext
from railwatch.core.matching import Candidate, Known
from railwatch.core.model import Coverage, Detection, ExceptionRecord, Invoice, Member, Observation, Transition
from railwatch.core.policy import Progress
from railwatch.core.states import IN_BLOCK_STATES, MANUAL_END, SETTLED_STATES, DetectionState, InvoiceState
from railwatch.core.step import InvoiceUpdate, RailRules, apply_clock, apply_step, group_by_invoice, recheck_exceptions
from railwatch.core.tally import added, totals
from railwatch.core.thresholds import next_threshold, second_look_threshold
from railwatch.rail.types import AssetId, BlockRef, Transfer
from tests.core.builders import CONFIGURED, RAIL, minute
from tests.core.step_checks import counts_add_up, nothing_changes_in_silence, snapshot

EMPTY: Mapping[UUID, "InvoiceUpdate"] = {}

Act = Callable[[Sequence[InvoiceAggregate], StepContext], object]
"""What a step does with the aggregates that it has loaded."""


class Story:
    """One rail and its invoices. Each call is one step, written the way that the store would write it.

    ``lazy``: a step loads only the books that it brings news to or whose due height it reaches, as the store does.
    """

    def __init__(
        self,
        *invoices: Invoice,
        horizon: int = 100,
        has_finality: bool = False,
        rail: str = RAIL,
        lazy: bool = False,
        least: Mapping[AssetId, int] = CONFIGURED,
    ) -> None:
        self.configured = {**CONFIGURED, **least}
        self.rail, self.horizon, self.has_finality, self.lazy = rail, horizon, has_finality, lazy
        self.invoices = {each.id: each for each in invoices}
        self.detections: dict[UUID, dict[UUID, Detection]] = {each.id: {} for each in invoices}
        self.cases: dict[UUID, list[ExceptionRecord]] = {each.id: [] for each in invoices}
        self.members: dict[UUID, dict[tuple[UUID, str], Member]] = {each.id: {} for each in invoices}
        self.feed: list[Transition] = []
        self.now = minute(0)
        self.blocks = [BlockRef(0, "genesis", "", self.now)]
        self.content: dict[str, list[Transfer]] = {"genesis": []}
        self.finalized = -1
        self.covered: datetime | None = None
        self.observations: list[Observation] = []
        self.left_out = 0
        self.small: list[tuple[int, int]] = []
        """Count and amount of what was too small, step by step."""
        self.accept_before = timedelta(minutes=10)
        self.blind = False
        self.looks = True
        """A second look verifies what is about to be final."""
        self._names = count(1)

    # What happens ---------------------------------------------------------------------------------------------------

    def sees(self, *transfers: Transfer) -> None:
        """The mempool shows transfers that it did not show before."""
        self._write(self._gather(transfers), ())

    def drops(self, *txs: str) -> None:
        """The mempool no longer shows those transactions, and none replaced them."""
        self._lose(dict.fromkeys(txs))

    def hears_of_rival(self, tx: str, rival: str) -> None:
        """``rival`` spends what ``tx`` spends, and pays no invoice."""
        self._lose({tx: rival})

    def mine(self, *transfers: Transfer) -> BlockRef:
        """A block a minute, one step a block."""
        self.span([transfers])
        return self.blocks[-1]

    def quiet(self, blocks: int) -> None:
        """So many empty blocks, each its own step."""
        for _ in range(blocks):
            self.mine()

    def span(self, contents: Iterable[Sequence[Transfer]], *, history: bool = False) -> None:
        """Several blocks in one step."""
        new = self._extend(contents)
        self._write(self._gather(self._inside(new)), new, history=history)

    def reorg(self, depth: int, *contents: Sequence[Transfer]) -> None:
        """The last ``depth`` blocks are gone; the other branch (by default one longer, and empty) comes in one step."""
        self.rewind(depth, contents or [()] * (depth + 1))

    def rewind(self, depth: int, contents: Iterable[Sequence[Transfer]]) -> None:
        fork = self.blocks[-1 - depth]
        del self.blocks[len(self.blocks) - depth :]
        new = self._extend(contents)
        gone = {
            identity: [
                each.id
                for each in known.values()
                if (each.block_height or 0) > fork.height
                and each.state in (DetectionState.INCLUDED, DetectionState.CONFIRMED)
            ]
            for identity, known in self.detections.items()
        }
        updates = self._gather(self._inside(new), [each for some in gone.values() for each in some])
        for identity, some in gone.items():
            if some:
                updates.setdefault(identity, InvoiceUpdate()).orphaned.extend(some)
        self._write(updates, new)

    def take(self, blocks: Sequence[BlockRef], content: dict[str, list[Transfer]], *, history: bool = False) -> None:
        """Follow blocks that a stranger mined, in one step."""
        self.blocks += blocks
        self.content |= {block.hash: content[block.hash] for block in blocks}
        self._write(self._gather(self._inside(blocks)), blocks, history=history)

    def finalize(self, height: int) -> None:
        """The node calls ``height`` final; a step of its own."""
        self.finalized = height
        self._write({}, ())

    def passes(self, minutes: float) -> None:
        """Time goes by with nothing on the chain, and the clock checks every invoice."""
        self.now += timedelta(minutes=minutes)
        self.look_at_the_clock()

    def look_at_the_clock(self) -> None:
        self._save(self._books(self.invoices), apply_clock, ())

    def resolve(self, about: Invoice, kind: str | None = None) -> None:
        """An operator closes an exception, or all of them."""
        for record in self.cases[about.id]:
            if kind in (None, record.kind) and record.resolution is None:
                record.resolution = "refunded by hand"

    def looks_at_cases(self) -> None:
        """The clock compares every book's exceptions with the facts."""
        self._save(
            self._books(self.invoices), lambda books, moment: recheck_exceptions(books, moment.coverage, self.now), ()
        )

    # The feed --------------------------------------------------------------------------------------------------------

    def states(self, about: Invoice) -> list[str]:
        """Return the invoice's states in the feed, in order."""
        return [line.to_state for line in self.lines(about)]

    def lines(self, about: Invoice) -> list[Transition]:
        return [line for line in self.feed if line.subject == "invoice" and line.invoice_id == about.id]

    def tale(self, tx: str) -> list[str]:
        """Return the transitions of a transaction."""
        return [
            line.to_state
            for line in self.feed
            if line.subject == "detection" and line.via_detection and line.via_detection.tx_id == tx
        ]

    def open_cases(self, about: Invoice) -> list[str]:
        return sorted(record.kind for record in self.cases[about.id] if record.resolution is None)

    def told_cases(self, kind: str) -> list[str]:
        return [line.to_state for line in self.feed if line.subject == "exception" and line.reason == kind]

    def found(self, tx: str) -> Detection:
        return next(each for known in self.detections.values() for each in known.values() if each.tx_id == tx)

    # How it is written ----------------------------------------------------------------------------------------------

    def _extend(self, contents: Iterable[Sequence[Transfer]]) -> list[BlockRef]:
        new = []
        for transfers in contents:
            self.now += timedelta(minutes=1)
            last = self.blocks[-1]
            block = BlockRef(last.height + 1, f"block-{next(self._names)}", last.hash, self.now)
            self.content[block.hash] = list(transfers)
            self.blocks.append(block)
            new.append(block)
        return new

    def _inside(self, blocks: Iterable[BlockRef]) -> list[Transfer]:
        return [replace(each, block=block) for block in blocks for each in self.content[block.hash]]

    def _gather(self, transfers: Sequence[Transfer], orphaned: Iterable[UUID] = ()) -> dict[UUID, InvoiceUpdate]:
        candidates: dict[bytes, list[Candidate]] = {}
        for order, each in enumerate(sorted(self.invoices.values(), key=lambda one: str(one.id))):
            is_open = each.state not in SETTLED_STATES | MANUAL_END | {InvoiceState.EXPIRED}
            for way in each.destinations:
                taken_from = each.created_at - self.accept_before
                candidate = Candidate(way.id, each.id, way.rail, way.asset, None, is_open, minute(order), taken_from)
                candidates.setdefault(way.id.bytes, []).append(candidate)
        rivals: dict[str, list[tuple[UUID, UUID]]] = {}
        recorded: list[Known] = []
        for identity, known in self.detections.items():
            for found in known.values():
                rivals.setdefault(found.tx_id, []).append((identity, found.id))
                block = found.block_hash if found.state in IN_BLOCK_STATES else None
                known_transfer = Known(
                    detection_id=found.id,
                    destination_id=found.destination_id,
                    invoice_id=identity,
                    tx_id=found.tx_id,
                    tx_index=found.tx_index,
                    key=found.destination_id.bytes,
                    asset=found.asset,
                    block_hash=block,
                    final=found.state is DetectionState.FINAL,
                    rail=found.rail,
                    accepts_from=self.invoices[identity].created_at - self.accept_before,
                    amount=found.amount,
                )
                recorded.append(known_transfer)
        gone = {identity: sorted(known.keys() & set(orphaned)) for identity, known in self.detections.items()}
        affected = AffectedRows(orphaned=gone, rivals=rivals, known=recorded, candidates=candidates)
        rules = RailRules(self.rail, self.horizon, self.has_finality, self.configured)
        return group_by_invoice(transfers, affected, rules, self.now)

    def _lose(self, lost: dict[str, str | None]) -> None:
        updates = {}
        for identity, known in self.detections.items():
            about = {each.id: lost[each.tx_id] for each in known.values() if each.tx_id in lost}
            if about:
                updates[identity] = InvoiceUpdate(lost=about)
        self._write(updates, ())

    def moment(self, blocks: Sequence[BlockRef] = (), *, history: bool = False) -> StepContext:
        return StepContext(
            rail=self.rail,
            progress=Progress(self.blocks[-1].height, min(self.finalized, self.blocks[-1].height)),
            cursor_time=self.blocks[-1].time,
            coverage=self.coverage(),
            now=self.now,
            horizon=self.horizon,
            has_finality=self.has_finality,
            tip_height=self.blocks[-1].height,
            block_times={block.height: block.time for block in blocks},
            backfill=history,
            blind=self.blind,
        )

    def coverage(self) -> Coverage:
        """Every rail is watched up to now, but this one only as far as the story says."""
        others = {way.rail: self.now for each in self.invoices.values() for way in each.destinations}
        return Coverage({**others, self.rail: self.covered or self.now})

    def _write(self, updates: dict[UUID, InvoiceUpdate], blocks: Sequence[BlockRef], *, history: bool = False) -> None:
        if self.looks:
            self.look_again()
        touched = [each for each in self.invoices if not self.lazy or each in updates or self._due(each)]
        aggregates = self._books(touched, updates)
        self._save(aggregates, lambda loaded, moment: apply_step(loaded, updates, moment), blocks, history=history)

    def look_again(self, said: Literal["verified", "unverified", "mismatch"] = "verified") -> None:
        """Read a second time what this step makes final, as the daemon does before it commits a step."""
        progress = self.moment().progress
        for identity, known in self.detections.items():
            policies = {way.id: way.policy for way in self.invoices[identity].destinations}
            for each in known.values():
                due = second_look_threshold(each, policies, self.horizon, self.has_finality)
                if due is not None and each.rail == self.rail and progress.has_reached(due):
                    each.second_look, each.looked_at_block = said, each.block_hash

    def _due(self, identity: UUID) -> set[UUID]:
        policies = {way.id: way.policy for way in self.invoices[identity].destinations}
        progress = self.moment().progress
        dues = [
            (each.id, next_threshold(each, policies, self.horizon, self.has_finality))
            for each in self.detections[identity].values()
            if each.rail == self.rail
        ]
        return {about for about, due in dues if due is not None and progress.has_reached(due)}

    def _books(
        self, identities: Iterable[UUID], updates: Mapping[UUID, InvoiceUpdate] = EMPTY
    ) -> list[InvoiceAggregate]:
        return [self._book(each, updates.get(each, InvoiceUpdate())) for each in identities]

    def _book(self, identity: UUID, update: InvoiceUpdate) -> InvoiceAggregate:
        """All of it; or, as the store does, what the step touches, what was replaced, and the others as sums."""
        invoice, known, records = self.invoices[identity], self.detections[identity], self.cases[identity]
        if not self.lazy:
            return InvoiceAggregate(invoice, dict(known), list(records), group_members=dict(self.members[identity]))
        touched = {*update.orphaned, *update.lost, *(each.id for each in update.observations), *self._due(identity)}
        loaded = {
            each.id
            for each in known.values()
            if each.id in touched
            or each.state is DetectionState.REPLACED
            or (invoice.time_basis != "first_seen" and each.state is not DetectionState.FINAL)
        }
        heirs = {known[each].replaced_by for each in loaded}
        loaded |= {each.id for each in known.values() if each.tx_id in heirs}
        others = added(totals(each for each in known.values() if each.id not in loaded))
        mine = {each.id: each for each in known.values() if each.id in loaded}
        members = {key: each for key, each in self.members[identity].items() if key[0] in loaded}
        newest = {(each.kind, each.group): each for each in records if each.group}
        named = {id(each) for each in (*newest.values(), *(member.record for member in members.values()))}
        shown = [
            each
            for each in records
            if id(each) in named or (each.group is None and each.detection_id in {None, *loaded})
        ]
        return InvoiceAggregate(invoice, mine, shown, other_tallies=others, group_members=members)

    def _save(
        self, aggregates: Sequence[InvoiceAggregate], act: Act, blocks: Sequence[BlockRef], *, history: bool = False
    ) -> None:
        before = [snapshot(aggregate) for aggregate in aggregates]
        act(aggregates, self.moment(blocks, history=history))
        for old, aggregate in zip(before, aggregates, strict=True):
            nothing_changes_in_silence(old, aggregate)
            known = self.cases[aggregate.invoice.id]
            self.cases[aggregate.invoice.id] = [*known, *aggregate.opened_exceptions]
            loaded = {
                key: each for key, each in self.members[aggregate.invoice.id].items() if key[0] not in old.detections
            }
            self.members[aggregate.invoice.id] = {
                key: each for key, each in (loaded | aggregate.group_members).items() if not each.record.ended
            }
            counts_add_up(self.members[aggregate.invoice.id], self.cases[aggregate.invoice.id])
            self.detections[aggregate.invoice.id] |= aggregate.detections
            self.observations += aggregate.observations
            for way in aggregate.invoice.destinations:
                self.left_out, way.suppressed_count = self.left_out + way.suppressed_count, 0
                if way.small_count:
                    self.small.append((way.small_count, way.small_amount))
                way.small_count = way.small_amount = 0
            self.feed += [replace(line, via_detection=copy(line.via_detection)) for line in aggregate.transitions]

"""Ways in which a tale reaches the core: block by block, in spans, without the mempool, and after an absence."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from hypothesis import Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from railwatch.core.assessment import Received, sum_payments
from railwatch.core.exception_rules import FUNDS_KINDS, STATE_KINDS, expected_exceptions, expected_groups
from railwatch.core.model import Detection, ExceptionRecord, Invoice
from railwatch.core.states import WAITING_STATES, DetectionState, InvoiceState
from railwatch.rail.types import Transfer
from tests.core.builders import minute
from tests.core.model_settings import model_settings
from tests.core.story import Story
from tests.core.tales import HORIZON, Event, Tale, happen


class Telling(Story):
    """A story that also writes down, by itself, when each inclusion first was as deep as its policy asks.

    That moment stands for as long as the inclusion does, also when a reorg replaces the block that brought it. And it
    holds the exceptions against the facts after every step.
    """

    def __init__(self, *invoices: Invoice, has_finality: bool, lazy: bool = False) -> None:
        super().__init__(*invoices, horizon=HORIZON, has_finality=has_finality, lazy=lazy)
        self.deep_at: dict[tuple[str, str, str], datetime] = {}

    def remember(self) -> None:
        policies = {way.id: way.policy for each in self.invoices.values() for way in each.destinations}
        for block in self.blocks:
            for transfer in self.content[block.hash]:
                depth = policies[UUID(bytes=transfer.to)].confirmations
                due = block.height + max(depth or 0, transfer.maturity) - 1
                if depth is not None and due < len(self.blocks):
                    self.deep_at.setdefault((*name_of(transfer), block.hash), self.blocks[due].time)

    def check_cases(self) -> None:
        """What `docket` promises: one row for each thing that stands, and whoever resolved it, for no longer."""
        for identity, each in self.invoices.items():
            rows = [row for row in self.cases[identity] if row.group is None]
            standing = [(row.kind, row.detection_id) for row in rows if not row.ended]
            known = self.detections[identity].values()
            received = sum_payments(each, known)
            wanted = expected_exceptions(each, known, received, self.coverage(), self.now)
            decided = {(row.kind, row.detection_id) for row in rows if not row.ended and row.resolution is not None}
            assert len(set(standing)) == len(standing)
            assert wanted <= set(standing)
            hidden = STATE_KINDS if each.state is InvoiceState.FLAGGED else frozenset()
            if each.state in WAITING_STATES:
                hidden |= {"underpaid"} - {kind for kind, _ in decided}
            assert {kind for kind, _ in set(standing) - wanted} <= hidden
            for row in rows:
                same = [other for other in rows if (other.kind, other.detection_id) == (row.kind, row.detection_id)]
                assert [other.occurrence for other in same] == list(range(1, len(same) + 1))
                assert all(other.ended for other in same[:-1]), "a new occurrence before the old one was over"
            self.check_groups(identity, received)

    def check_groups(self, identity: UUID, received: Received) -> None:
        """Each transfer is in one row of its group, as long as the facts last, or a person's word about its money."""
        members, known = self.members[identity], self.detections[identity]
        wanted = expected_groups(self.invoices[identity], known.values(), received)
        assert wanted <= members.keys()
        for kind, member in ((kind, members[each, kind]) for each, kind in members.keys() - wanted):
            assert member.record.resolution is not None
            assert kind in FUNDS_KINDS
        for (each, kind), member in members.items():
            about = known[each]
            group = (about.destination_id, about.rail, about.asset)
            assert (member.record.kind, member.record.group, member.amount) == (kind, group, about.amount)
            assert not member.record.ended
        groups: dict[object, list[ExceptionRecord]] = {}
        for row in self.cases[identity]:
            if row.group:
                groups.setdefault((row.kind, row.group), []).append(row)
        for rows in groups.values():
            assert [row.occurrence for row in rows] == list(range(1, len(rows) + 1))
            assert sum(1 for row in rows if row.resolution is None) <= 1, "one open row for each group"


def name_of(transfer: Transfer | Detection) -> tuple[str, str]:
    return transfer.tx_id, transfer.tx_index


# Ways to tell it ----------------------------------------------------------------------------------------------------


def tell(
    tale: Tale, *, lazy: bool = False, backwards: bool = False, swapped: bool = False, diligent: bool = False
) -> Telling:
    """As it happened, a step for each event. The end is quiet: one more step, and one more check by the clock.

    ``diligent``: a person resolves every exception as soon as it is told.
    """
    invoices = tale.terms.invoices()
    story = Telling(*(invoices[::-1] if swapped else invoices), has_finality=tale.terms.has_finality, lazy=lazy)
    for what, about in tale.events:
        happen(story, tale.terms, what, about, backwards)
        story.remember()
        for each in story.invoices.values() if diligent else ():
            story.resolve(each)
        if not lazy:
            story.looks_at_cases()
            story.check_cases()
    # What the last step found for the first time is read a second time, and may then be final.
    story.finalize(story.finalized)
    story.covered = None
    story.look_at_the_clock()
    story.check_cases()
    return story


def in_spans(tale: Tale) -> Tale:
    """Blocks that follow one another without anything between come in one step."""
    events: list[Event] = []
    for what, about in tale.events:
        if what == "mine" and events and events[-1][0] == "span":
            events[-1][1].append(about)  # type: ignore[attr-defined]
        else:
            events.append(("span", [about]) if what == "mine" else (what, about))
    return replace(tale, events=tuple(events))


def branch_by_branch(tale: Tale) -> Tale:
    """Of a new branch only the first block comes with the reorg, and the others follow."""
    events: list[Event] = []
    for what, about in tale.events:
        if what == "reorg":
            depth, blocks = about  # type: ignore[misc]
            events += [("reorg", (depth, blocks[:1])), *(("mine", block) for block in blocks[1:])]
        else:
            events.append((what, about))
    return replace(tale, events=tuple(events))


def without_sight(tale: Tale, story: Story) -> Tale:
    """What is on the chain in the end was never seen in the mempool."""
    mined = {each.tx_id for block in story.blocks for each in story.content[block.hash]}

    def unseen(event: Event) -> bool:
        what, about = event
        return (what == "see" and about.name in mined) or (what == "drop" and about in mined)  # type: ignore[attr-defined]

    return replace(tale, events=tuple(event for event in tale.events if not unseen(event)))


def catch_up(tale: Tale, lived: Story) -> Story:
    """A daemon that was away all the time: what is final in one span of history, the rest block by block."""
    story = Story(*tale.terms.invoices(), horizon=HORIZON, has_finality=tale.terms.has_finality)
    story.now, story.covered = lived.now, minute(0)
    blocks = lived.blocks[1:]
    settled = [block for block in blocks if block.height <= len(lived.blocks) - HORIZON]
    if settled:
        story.finalized = settled[-1].height if tale.terms.has_finality else -1
        story.take(settled, lived.content, history=True)
    for block in blocks[len(settled) :]:
        story.take([block], lived.content)
    story.finalize(lived.finalized)
    waiting = {each.tx_id for each in detections(lived) if each.state is DetectionState.PENDING}
    for what, about in tale.events:
        if what == "see" and about.name in waiting:  # type: ignore[attr-defined]
            story.sees(*about.transfers(tale.terms))  # type: ignore[attr-defined]
        if what == "bump" and about[1].name in waiting:  # type: ignore[index]
            story.sees(*about[1].transfers(tale.terms))  # type: ignore[index]
    story.covered = None
    story.look_at_the_clock()
    return story


def detections(story: Story) -> Iterator[Detection]:
    return (each for known in story.detections.values() for each in known.values())


def occurrences(story: Story) -> set[tuple[str, UUID | None, int]]:
    return {(row.kind, row.detection_id, row.occurrence) for rows in story.cases.values() for row in rows}


def tell_until_none_is_missing(
    random: st.SearchStrategy[Tale], missing: set[Any], reached: Callable[[Tale], set[Any]]
) -> None:
    """Tell up to 2,000 of these tales, and fail with what none of them reached; a hundred or two are enough."""

    def is_done(tale: Tale) -> bool:
        missing.difference_update(reached(tale))
        return not missing

    enough = settings(model_settings(examples=2_000, whole=True), phases=[Phase.generate])
    with suppress(NoSuchExample):
        find(random, is_done, settings=enough)
    assert missing == set()

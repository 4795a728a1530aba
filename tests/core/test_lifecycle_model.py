"""Random payment histories over a random chain, told to the core in many ways that must all end in the same place.

A tale is a list of things that happen: blocks, transfers in the mempool, losses, reorgs, time. It is told block by
block, in spans, with each block's transfers in another order, without the mempool, to an index that loads only what
is due, and to a daemon that was away and catches up in history. The sums are then compared with an oracle that knows
nothing but the canonical chain and the mempool. Tales of holds, releases, cancellations and refunds are in
test_holds_model.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import Phase, assume, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from railwatch.core.assessment import Received, accepted_range, sum_payments
from railwatch.core.exception_rules import FUNDS_KINDS, SEVERITY, STATE_KINDS, expected_exceptions, expected_groups
from railwatch.core.model import Detection, ExceptionRecord, Invoice, Refunded
from railwatch.core.policy import Policy
from railwatch.core.states import (
    CONFIRMED_STATES,
    MANUAL_END,
    SETTLED_STATES,
    WAITING_STATES,
    DetectionState,
    InvoiceState,
)
from railwatch.rail.types import BlockRef, Transfer
from tests.core import directed
from tests.core.builders import Story, minute, model_settings
from tests.core.directed import also
from tests.core.tales import HORIZON, Event, Tale, Terms, all_terms, happen, quick_terms, tales


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
                    self.deep_at.setdefault((*_name(transfer), block.hash), self.blocks[due].time)

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


def _name(transfer: Transfer | Detection) -> tuple[str, str]:
    return transfer.tx_id, transfer.tx_index


# Ways to tell it ----------------------------------------------------------------------------------------------------


def tell(
    tale: Tale, *, lazy: bool = False, backwards: bool = False, swapped: bool = False, diligent: bool = False
) -> Telling:
    """As it happened, a step for each event. The end is quiet: everybody looks at the clock once more.

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


# What must come out -------------------------------------------------------------------------------------------------


def detections(story: Story) -> Iterator[Detection]:
    return (each for known in story.detections.values() for each in known.values())


def outcome(story: Story) -> dict[str, object]:
    """The ledger's end: states, sums, and where each live transfer is."""
    ends: dict[str, object] = {}
    for each in story.invoices.values():
        ends[f"invoice {each.id}"] = each.state.value
        for way in each.destinations:
            ends[f"destination {way.id}"] = (way.seen, way.confirmed, way.late)
    for each in detections(story):
        if each.live:
            ends[f"transfer {each.id}"] = (each.state.value, each.kind.value, each.block_height, each.amount)
    return ends


def oracle(
    story: Telling, terms: Terms, unexpected: Collection[tuple[str, str]] = ()
) -> dict[UUID, tuple[int, int, int]]:
    """Seen, confirmed and late, by destination, from the canonical chain and the mempool alone.

    ``unexpected``: transfers that came when nothing was expected any more.
    """
    cursor = story.blocks[-1].height
    sums = {way.id: [0, 0, 0] for each in story.invoices.values() for way in each.destinations}
    policies = {way.id: way.policy for each in story.invoices.values() for way in each.destinations}
    asset_of = {way.id: way.asset for each in story.invoices.values() for way in each.destinations}
    first_seen = {_name(each): each.first_seen_at for each in detections(story)}

    def add(transfer: Transfer, block: BlockRef | None) -> None:
        way = UUID(bytes=transfer.to)
        if transfer.asset != asset_of[way] or _name(transfer) in unexpected:
            return
        confirmed_at = None if block is None else _met(story, policies[way], block, transfer)
        moment = {
            "first_seen": first_seen[_name(transfer)],
            "block_time": block.time if block else story.now,
            "confirmed": confirmed_at or story.now,
        }[terms.basis]
        in_time = moment <= minute(terms.expires)
        sums[way][0 if in_time else 2] += transfer.amount
        sums[way][1] += transfer.amount if in_time and confirmed_at else 0

    for block in story.blocks:
        for transfer in story.content[block.hash]:
            add(transfer, block)
    for each in detections(story):
        if each.state is DetectionState.PENDING:
            to = each.destination_id.bytes
            add(Transfer(each.tx_id, each.tx_index, to, each.asset, each.amount, None), None)
    assert all(each.block_height <= cursor for each in detections(story) if each.state in CONFIRMED_STATES)
    return {way: (seen, confirmed, late) for way, (seen, confirmed, late) in sums.items()}


def _met(story: Telling, policy: Policy, block: BlockRef, transfer: Transfer) -> datetime | None:
    """When a transfer in ``block`` had met its policy; None where it has not. Finality has no time of its own."""
    if policy.confirmations is not None:
        return story.deep_at.get((*_name(transfer), block.hash))
    if story.finalized < block.height + max(policy.plus, transfer.maturity - 1):
        return None
    return next(each.confirmed_at for each in detections(story) if _name(each) == _name(transfer))


def check_feed(story: Story) -> None:
    """Connected, unique, and never `paid` for less than was asked."""
    told: dict[UUID, list[tuple[str | None, str]]] = {}
    for line in story.feed:
        told.setdefault(line.subject_id, []).append((line.from_state, line.to_state))
    for lines in told.values():
        assert all(before[1] == after[0] for before, after in pairwise(lines)), lines
    assert len({line.event_id for line in story.feed}) == len(story.feed)
    for each in detections(story):
        assert told[each.id][0][0] is None
        assert told[each.id][-1][1] == each.state
    for each in story.invoices.values():
        lines = told.get(each.id, [("", InvoiceState.CREATED)])
        assert lines[-1][1] == each.state
        for line in story.lines(each):
            least = min(accepted_range(way.expected, each.tolerance_bps)[0] for way in each.destinations)
            if line.to_state in (InvoiceState.PAID, InvoiceState.OVERPAID):
                assert line.confirmed_amount is not None
                assert line.confirmed_amount >= least
        check_paid(each)
        standing = [
            (record.kind, record.group or record.detection_id)
            for record in story.cases[each.id]
            if record.resolution is None
        ]
        assert len(set(standing)) == len(standing)


def check_paid(each: Invoice) -> None:
    bounds = [(way, accepted_range(way.expected, each.tolerance_bps)[0]) for way in each.destinations]
    if each.state in (InvoiceState.PAID, InvoiceState.OVERPAID):
        assert any(way.confirmed >= least for way, least in bounds)
    elif each.state not in SETTLED_STATES | MANUAL_END:
        for way, least in bounds:
            # What was given back is not there, unless it was given back by choice out of a settled order.
            back = each.refunded.get((way.rail, way.asset), Refunded(0))
            assert way.confirmed < least or way.confirmed - back.amount < least - back.waived


@model_settings(examples=200)
@also(directed.LEDGER.values())
@given(tale=tales())
def test_the_sums_are_those_of_the_canonical_chain_and_the_feed_is_connected(tale):
    story = tell(tale)
    for each in story.invoices.values():
        for way in each.destinations:
            assert (way.seen, way.confirmed, way.late) == oracle(story, tale.terms)[way.id]
    check_feed(story)


def same_end(story: Story, other: Story) -> None:
    check_feed(other)
    assert outcome(other) == outcome(story)


def comparable(terms: Terms) -> bool:
    """Finality has no time of its own: when it counts as `confirmed`, the cursor's time of that step stands for it."""
    return terms.basis != "confirmed" or all(policy.confirmations is not None for policy in terms.policies)


plain_terms = all_terms.filter(comparable)
without_mempool_times = plain_terms.filter(lambda terms: terms.basis != "first_seen" or terms.expires > 1_000)


@model_settings(examples=90)
@also(directed.LEDGER.values())
@given(tale=tales(plain_terms))
def test_the_end_does_not_depend_on_how_many_blocks_a_step_takes(tale):
    story = tell(tale)
    same_end(story, tell(in_spans(tale)))
    same_end(story, tell(branch_by_branch(tale)))


@model_settings(examples=90)
@also(directed.LEDGER.values())
@given(tale=tales())
def test_the_end_does_not_depend_on_the_order_within_a_block_or_among_invoices(tale):
    story = tell(tale)
    same_end(story, tell(tale, backwards=True))
    same_end(story, tell(tale, swapped=True))


@model_settings(examples=90)
@also(directed.LEDGER.values())
@given(tale=tales(without_mempool_times))
def test_the_end_does_not_depend_on_whether_the_mempool_was_seen_first(tale):
    story = tell(tale)
    same_end(story, tell(without_sight(tale, story)))


@model_settings(examples=90)
@also(directed.LEDGER.values())
@given(tale=tales(plain_terms))
def test_looking_only_at_what_is_due_finds_everything(tale):
    same_end(tell(tale), tell(tale, lazy=True))


@model_settings(examples=150)
@also(directed.LEDGER.values())
@given(tale=tales(without_mempool_times))
def test_a_daemon_that_was_away_ends_where_one_that_lived_through_it_does(tale):
    # A block that confirmed a payment and was then replaced is known only to those who were there.
    assume(tale.terms.basis != "confirmed" or all(what != "reorg" for what, _ in tale.events))
    lived = tell(tale)
    same_end(lived, catch_up(tale, lived))


@model_settings(examples=40)
@also(directed.LEDGER.values())
@given(tale=tales())
def test_a_replay_tells_the_same_lines_under_the_same_ids(tale):
    assert tell(tale).feed == tell(deepcopy(tale)).feed


def occurrences(story: Story) -> set[tuple[str, UUID | None, int]]:
    return {(row.kind, row.detection_id, row.occurrence) for rows in story.cases.values() for row in rows}


BY_HAND = {*FUNDS_KINDS, "double_spend", "underpaid"}
"""What a person resolved holds what it held then, and what comes after it opens a row of its own."""


@model_settings(examples=200)
@also(directed.LEDGER.values())
@given(tale=tales())
def test_whoever_resolves_everything_is_told_as_often_as_whoever_resolves_nothing(tale):
    silent, resolved = (
        {each for each in occurrences(tell(tale, diligent=diligent)) if each[0] not in BY_HAND}
        for diligent in (False, True)
    )
    assert silent == resolved


def reached_by(tale: Tale) -> set[str]:
    """Every state told, every kind of exception, and those that came again after a person had resolved one."""
    story = tell(tale)
    told = {f"{line.subject} {line.to_state}" for line in story.feed}
    kinds = {row.kind for known in story.cases.values() for row in known}
    return told | kinds | {f"again {kind}" for kind, _, nth in occurrences(tell(tale, diligent=True)) if nth > 1}


@pytest.mark.parametrize("name", directed.LEDGER)
def test_a_directed_tale_reaches_what_it_is_told_for(name):
    assert name in reached_by(directed.LEDGER[name])


def test_random_tales_reach_every_other_state_and_exception():
    """The models would prove nothing about what their tales never come to."""
    decided_by_people = {InvoiceState.CANCELLED, InvoiceState.REFUNDED, InvoiceState.FLAGGED}
    # Of one rail, of what its blocks show, and of nodes that tell the truth.
    other_tales = {"wrong_network", "unattributed_balance", "content_mismatch", "processing_failed"}
    missing = {f"invoice {state}" for state in set(InvoiceState) - decided_by_people}
    missing |= {f"detection {state}" for state in DetectionState}
    missing |= set(SEVERITY) - other_tales
    missing |= {f"again {kind}" for kind in ("reversed", "underpaid", "stuck_confirming", "mixed_destinations")}
    tell_until_none_is_missing(
        tales(all_terms | quick_terms, length=st.integers(1, 30)), missing - directed.LEDGER.keys(), reached_by
    )


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

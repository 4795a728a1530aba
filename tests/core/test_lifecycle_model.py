"""Random payment histories over a random chain, given to the core in many ways that must all end in the same place.

A tale is a list of things that happen: blocks, transfers in the mempool, losses, reorgs, time. It is given block by
block, in spans, with each block's transfers in another order, without the mempool, to an index that loads only what
is due, and to a daemon that was down and catches up in history. The sums are then compared with an oracle that knows
nothing but the canonical chain and the mempool. Tales of holds, releases, cancellations and refunds are in
test_holds_model.
"""

from copy import deepcopy

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from railwatch.core.exception_rules import FUNDS_KINDS, SEVERITY
from railwatch.core.states import DetectionState, InvoiceState
from tests.core import directed
from tests.core.directed import also
from tests.core.model_settings import model_settings
from tests.core.story import Story
from tests.core.tale_outcomes import check_feed, oracle, outcome
from tests.core.tales import Tale, Terms, all_terms, quick_terms, tales
from tests.core.tellings import (
    branch_by_branch,
    catch_up,
    in_spans,
    occurrences,
    replay,
    tell_until_none_is_missing,
    without_sight,
)


@model_settings(examples=200)
@also(directed.LEDGER.values())
@given(tale=tales())
def test_the_sums_are_those_of_the_canonical_chain_and_the_feed_is_connected(tale):
    story = replay(tale)
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
@also([*directed.LEDGER.values(), directed.DEEP_AT_ONCE])
@given(tale=tales(plain_terms))
def test_the_end_does_not_depend_on_how_many_blocks_a_step_reads(tale):
    story = replay(tale)
    same_end(story, replay(in_spans(tale)))
    same_end(story, replay(branch_by_branch(tale)))


@model_settings(examples=90)
@also(directed.LEDGER.values())
@given(tale=tales())
def test_the_end_does_not_depend_on_the_order_within_a_block_or_among_invoices(tale):
    story = replay(tale)
    same_end(story, replay(tale, backwards=True))
    same_end(story, replay(tale, swapped=True))


@model_settings(examples=90)
@also(directed.LEDGER.values())
@given(tale=tales(without_mempool_times))
def test_the_end_does_not_depend_on_whether_the_mempool_was_seen_first(tale):
    story = replay(tale)
    same_end(story, replay(without_sight(tale, story)))


@model_settings(examples=90)
@also(directed.LEDGER.values())
@given(tale=tales(plain_terms))
def test_checking_only_what_is_due_finds_everything(tale):
    same_end(replay(tale), replay(tale, lazy=True))


@model_settings(examples=150)
@also(directed.LEDGER.values())
@given(tale=tales(without_mempool_times))
def test_a_daemon_that_was_down_ends_where_one_that_lived_through_it_does(tale):
    # A block that confirmed a payment and was then replaced is known only to those who were there.
    assume(tale.terms.basis != "confirmed" or all(what != "reorg" for what, _ in tale.events))
    lived = replay(tale)
    same_end(lived, catch_up(tale, lived))


@model_settings(examples=40)
@also(directed.LEDGER.values())
@given(tale=tales())
def test_a_replay_emits_the_same_transitions_under_the_same_ids(tale):
    assert replay(tale).feed == replay(deepcopy(tale)).feed


BY_HAND = {*FUNDS_KINDS, "double_spend", "underpaid"}
"""What a person resolved holds what it held then, and what comes after it opens a row of its own."""


@model_settings(examples=200)
@also(directed.LEDGER.values())
@given(tale=tales())
def test_resolving_everything_opens_as_many_exceptions_as_resolving_nothing(tale):
    silent, resolved = (
        {each for each in occurrences(replay(tale, diligent=diligent)) if each[0] not in BY_HAND}
        for diligent in (False, True)
    )
    assert silent == resolved


def reached_by(tale: Tale) -> set[str]:
    """Every state emitted, every kind of exception, and those that came again after a person had resolved one."""
    story = replay(tale)
    states = {f"{line.subject} {line.to_state}" for line in story.feed}
    kinds = {row.kind for known in story.cases.values() for row in known}
    return states | kinds | {f"again {kind}" for kind, _, nth in occurrences(replay(tale, diligent=True)) if nth > 1}


@pytest.mark.parametrize("name", directed.LEDGER)
def test_a_directed_tale_reaches_its_purpose(name):
    assert name in reached_by(directed.LEDGER[name])


def test_random_tales_reach_every_other_state_and_exception():
    """The models would prove nothing about what their tales never come to."""
    decided_by_people = {InvoiceState.CANCELLED, InvoiceState.REFUNDED, InvoiceState.FLAGGED}
    # Of one rail, of what its blocks show, and of honest nodes.
    other_tales = {
        "wrong_network",
        "unattributed_balance",
        "content_mismatch",
        "processing_failed",
        "unallocated_transfer",
    }
    missing = {f"invoice {state}" for state in set(InvoiceState) - decided_by_people}
    missing |= {f"detection {state}" for state in DetectionState}
    missing |= set(SEVERITY) - other_tales
    missing |= {f"again {kind}" for kind in ("reversed", "underpaid", "stuck_confirming", "mixed_destinations")}
    tell_until_none_is_missing(
        tales(all_terms | quick_terms, length=st.integers(1, 30)), missing - directed.LEDGER.keys(), reached_by
    )

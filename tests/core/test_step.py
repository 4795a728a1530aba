"""One step from its input to its result: what it brings to whom, under which circumstances, and what comes of it."""

from dataclasses import replace
from uuid import uuid4

import pytest

from railwatch.core.affected import AffectedRows
from railwatch.core.model import Coverage
from railwatch.core.states import InvoiceState
from railwatch.core.step import BlockBatch, InvoiceUpdate, Position, RailRules, StepInput, StepResult, run
from railwatch.rail.types import Span
from tests.core.builders import CONFIGURED, RAIL, invoice, minute, pay
from tests.core.chains import chain
from tests.core.story import Story

RULES = RailRules(RAIL, 10, False, CONFIGURED)
CHAIN = chain(9)
NOTHING = AffectedRows()


def at(height: int, state: str = "live") -> Position:
    return Position(CHAIN.at(height), 9, None, None, state, None)


def given(**changes) -> StepInput:
    return replace(StepInput(BlockBatch.at(CHAIN.at(5)), at(5)), **changes)


def updates(step: StepInput, affected: AffectedRows = NOTHING):
    return step.updates(affected, RULES, minute(9))


def test_a_batch_that_leaves_the_cursor_has_no_heights_and_no_fork():
    batch = BlockBatch.at(CHAIN.at(5))
    assert (len(batch.span), batch.before, batch.fork, batch.blocks, batch.transfers) == (0, None, None, (), ())


def test_what_a_reorg_orphans_and_what_left_the_mempool_is_an_update_of_its_invoice():
    one, two, detection, gone = uuid4(), uuid4(), uuid4(), uuid4()
    found = updates(given(removed=[(two, gone), (one, gone)]), AffectedRows(orphaned={one: [detection]}))
    assert (found[one].orphaned, found[one].lost) == ([detection], {gone: None})
    assert (found[two].orphaned, found[two].lost) == ([], {gone: None})


def test_a_rival_is_not_overwritten_by_a_transfer_that_left_the_mempool():
    order, detection = uuid4(), uuid4()
    rival = pay(invoice("order"), 0, "rival", rivals=("tx",))
    affected = AffectedRows(rivals={"tx": [(order, detection)]})
    step = given(batch=BlockBatch.at(CHAIN.at(5), [rival]), removed=[(order, detection)])
    assert updates(step, affected)[order].lost == {detection: "rival"}


@pytest.mark.parametrize(("after", "counted"), [(4, 1), (5, 0)])
def test_what_is_small_is_counted_by_the_step_that_follows_its_block_only(after, counted, monkeypatch):
    order = uuid4()
    small = {order: InvoiceUpdate(small=[(uuid4(), 1)])}
    monkeypatch.setattr("railwatch.core.step.group_by_invoice", lambda *_: small)
    step = given(batch=BlockBatch(None, Span(CHAIN.at(after), CHAIN.at(5)), (), ()))
    assert len(updates(step)[order].small) == counted


def test_what_was_deferred_comes_in_the_place_of_what_the_batch_brings():
    order = uuid4()
    deferred = {order: InvoiceUpdate()}
    assert updates(given(replayed=deferred), AffectedRows(orphaned={uuid4(): [uuid4()]})) == deferred


def test_the_circumstances_are_those_of_the_position_and_of_the_rail():
    batch = BlockBatch(None, Span(CHAIN.at(3), CHAIN.at(5), finalized=True), CHAIN.these(4, 5), ())
    ctx = given(batch=batch, accepts_chain=True).context(RULES, minute(9), Coverage({}))
    assert (ctx.rail, ctx.horizon, ctx.has_finality) == (RAIL, 10, False)
    assert (ctx.progress.cursor, ctx.progress.finalized, ctx.tip_height) == (5, -1, 9)
    assert (ctx.cursor_time, ctx.now, ctx.block_times) == (minute(5), minute(9), {4: minute(4), 5: minute(5)})
    assert (ctx.backfill, ctx.blind, ctx.accepts_chain) == (True, False, True)
    assert replace(at(5), finalized=CHAIN.at(3)).progress.finalized == 3


@pytest.mark.parametrize("state", ["stalled", "halted"])
def test_a_rail_that_is_not_believed_or_not_verified_is_blind(state):
    assert given(position=at(5, state)).context(RULES, minute(9), Coverage({})).blind
    assert given(verified=False).context(RULES, minute(9), Coverage({})).blind


def test_a_result_has_the_changes_and_the_transitions_in_their_order():
    order = invoice("order")
    story = Story(order)
    step = given(batch=BlockBatch(None, Span(CHAIN.at(4), CHAIN.at(5)), CHAIN.these(5), ()))
    [aggregate] = story._books([order.id])
    ctx = step.context(RULES, minute(9), Coverage({}))
    result = run(step, story._gather([replace(pay(order, 100, "tx"), block=CHAIN.at(5))]), [aggregate], ctx)
    assert result.invoices == {order.id}
    assert result.found == 1
    assert result.transitions[0].subject == "detection"
    assert result.transitions == aggregate.transitions
    assert (StepResult(()).found, StepResult(()).transitions, StepResult(()).invoices) == (0, [], set())


def test_a_step_that_expires_closes_windows_that_are_over_and_covered():
    order = invoice("order", expires=6)
    story = Story(order)
    [aggregate] = story._books([order.id])
    step = given(expires=True)
    run(step, {}, [aggregate], step.context(RULES, minute(9), Coverage({RAIL: minute(9)})))
    assert aggregate.invoice.state is InvoiceState.EXPIRED


def test_a_step_for_single_invoices_does_not_follow_the_chain():
    """What no invoice asks for is loaded by the steps that follow the chain, and by no other."""
    step = given()
    assert step.follows_chain
    assert not replace(step, invoices=[uuid4()]).follows_chain
    assert not replace(step, expires=True).follows_chain
    assert not replace(step, replayed={}).follows_chain

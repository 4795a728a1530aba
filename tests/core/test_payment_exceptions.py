"""Exceptions: each opens and closes by rule, and a person's word is about one occurrence and no other."""

from dataclasses import replace
from datetime import timedelta

import pytest

from railwatch.core.model import DelayLimits
from railwatch.core.policy import Policy
from railwatch.core.states import DetectionState, InvoiceState
from tests.core.builders import TOKEN, UNKNOWN, Story, destination, invoice, minute, pay

TEN = DelayLimits(stuck_after=timedelta(minutes=10), blind_after=timedelta(minutes=5))


def impatient(name="order", policy=None, **more):
    return invoice(name, 100, destination(name, 100, policy or Policy(3), delay_limits=TEN, **more))


# What a person resolved


def test_a_second_reversal_is_told_though_the_first_was_resolved_by_a_person():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    story.reorg(1)
    story.resolve(order, "reversed")
    story.quiet(3)
    assert story.open_cases(order) == []
    story.mine(pay(order, 100, "again"))
    story.reorg(1)
    assert story.open_cases(order) == ["reversed"]
    first, second = story.cases[order.id]
    assert (first.resolution, first.ended, first.occurrence) == ("refunded by hand", True, 1)
    assert (second.resolution, second.ended, second.occurrence) == (None, False, 2)


def test_a_topped_up_invoice_that_falls_short_again_is_told_again():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 60, "tx"))
    story.resolve(order, "underpaid")
    story.mine(pay(order, 50, "more"))
    assert order.state is InvoiceState.OVERPAID
    story.reorg(1)
    assert order.state is InvoiceState.UNDERPAID
    assert "underpaid" in story.open_cases(order)


def test_what_a_person_decided_about_money_holds_in_whichever_block_it_is():
    order = invoice(expires=0)
    story = Story(order)
    late = pay(order, 100, "late")
    story.mine(late)
    assert story.open_cases(order) == ["late"]
    story.resolve(order, "late")
    story.reorg(1, [], [late])
    story.reorg(2)
    story.mine(late)
    assert "late" not in story.open_cases(order)
    assert story.told_cases("late") == ["open"]


def test_a_double_spend_of_money_that_had_come_back_is_told_again():
    order = invoice()
    story = Story(order)
    story.sees(pay(order, 100, "tx"))
    story.hears_of_rival("tx", "rival")
    story.resolve(order, "double_spend")
    story.sees(pay(order, 100, "tx"))
    assert story.open_cases(order) == []
    story.hears_of_rival("tx", "another")
    assert story.open_cases(order) == ["double_spend"]


# Reversed


def test_an_invoice_that_is_cancelled_with_its_money_there_was_never_reversed():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    order.state = InvoiceState.CANCELLED
    story.looks_at_cases()
    assert story.open_cases(order) == []
    story.reorg(1)
    assert story.open_cases(order) == ["reversed"]


# Stuck


def test_a_payment_that_waits_for_too_long_is_stuck_until_it_moves_on():
    order = impatient()
    story = Story(order)
    story.sees(pay(order, 100, "tx"))
    story.now += timedelta(minutes=9)
    story.looks_at_cases()
    assert story.open_cases(order) == []
    story.now += timedelta(minutes=1)
    story.looks_at_cases()
    assert story.open_cases(order) == ["stuck_confirming"]
    opened = story.feed[-1]
    assert (opened.subject, opened.cause) == ("exception", "clock")
    assert opened.evidence == {
        "state": "detected",
        "state_since": minute(0).isoformat(),
        "stuck_after": {"testnet": 600.0},
    }
    story.mine(pay(order, 100, "tx"))
    assert story.open_cases(order) == []
    assert story.told_cases("stuck_confirming") == ["open", "resolved"]
    story.quiet(2)
    assert order.state is InvoiceState.PAID


def test_each_wait_of_its_own_is_told_though_a_person_resolved_the_one_before():
    order = impatient()
    story = Story(order)
    story.sees(pay(order, 100, "tx"))
    story.now += timedelta(minutes=10)
    story.looks_at_cases()
    story.resolve(order, "stuck_confirming")
    story.now += timedelta(minutes=10)
    story.looks_at_cases()
    assert story.open_cases(order) == []
    story.mine(pay(order, 100, "tx"))
    story.now += timedelta(minutes=10)
    story.looks_at_cases()
    assert story.open_cases(order) == ["stuck_confirming"]


def test_of_several_rails_that_are_waited_on_the_most_patient_counts():
    slow = destination("order", 100, Policy(3), TOKEN, delay_limits=DelayLimits(stuck_after=timedelta(minutes=30)))
    order = invoice("order", 100, destination("order", 100, Policy(3), delay_limits=TEN), slow)
    story = Story(order)
    story.sees(pay(order, 60, "quick"), pay(slow, 60, "slow"))
    story.now += timedelta(minutes=20)
    story.looks_at_cases()
    assert "stuck_confirming" not in story.open_cases(order)
    story.now += timedelta(minutes=10)
    story.looks_at_cases()
    assert "stuck_confirming" in story.open_cases(order)


def test_a_hold_hides_what_was_stuck_and_makes_it_not_good():
    order = impatient()
    story = Story(order)
    story.sees(pay(order, 100, "tx"))
    story.now += timedelta(minutes=10)
    story.looks_at_cases()
    order.held = "review"
    story.mine()
    assert order.state is InvoiceState.FLAGGED
    assert story.open_cases(order) == ["stuck_confirming"]
    order.held = None
    story.mine()
    assert order.state is InvoiceState.DETECTED
    assert story.open_cases(order) == []


# Delayed


def blinded(story, minutes):
    """The rail sees nothing for so long."""
    story.covered = story.covered or story.now
    story.now += timedelta(minutes=minutes)
    story.looks_at_cases()


def test_detection_is_delayed_while_the_rail_is_blind_and_until_it_sees_again():
    order = impatient()
    story = Story(order)
    story.quiet(1)
    blinded(story, 4)
    assert story.open_cases(order) == []
    blinded(story, 1)
    assert story.open_cases(order) == ["detection_delayed"]
    assert story.feed[-1].evidence == {
        "covered_until": {"testnet": minute(1).isoformat()},
        "blind_after": {"testnet": 300.0},
    }
    story.covered = None
    story.looks_at_cases()
    assert story.open_cases(order) == []
    assert story.told_cases("detection_delayed") == ["open", "resolved"]


def test_sight_that_was_lost_before_an_invoice_was_there_is_not_its_delay():
    order = impatient()
    story = Story(order)
    story.covered, story.now = minute(-600), minute(4)
    story.looks_at_cases()
    assert story.open_cases(order) == []
    story.now = minute(5)
    story.looks_at_cases()
    assert story.open_cases(order) == ["detection_delayed"]


def test_a_rail_that_has_never_seen_anything_is_blind():
    order = impatient(rail="elsewhere")
    story = Story(order)
    story.coverage = lambda: type(story).coverage(story).__class__({})
    story.now = minute(5)
    story.looks_at_cases()
    assert story.open_cases(order) == ["detection_delayed"]
    assert story.feed[-1].evidence["covered_until"] == {"elsewhere": None}


@pytest.mark.parametrize("state", [InvoiceState.EXPIRED, InvoiceState.CANCELLED, InvoiceState.REFUNDED])
def test_where_nothing_is_expected_nothing_is_delayed(state):
    order = impatient()
    order.state = state
    story = Story(order)
    blinded(story, 60)
    assert story.open_cases(order) == []


def test_where_nobody_looks_any_more_nothing_is_delayed():
    order = impatient()
    order.destinations[0].closed = True
    story = Story(order)
    blinded(story, 60)
    assert story.open_cases(order) == []


def test_a_hold_does_not_keep_a_delay_open():
    order = impatient()
    story = Story(order)
    blinded(story, 5)
    order.held, story.covered = "review", None
    story.mine()
    assert order.state is InvoiceState.FLAGGED
    assert story.open_cases(order) == []


# Why


def test_an_exception_says_on_what_facts_it_opened():
    order = invoice("order", 100, destination(), destination(expected=500, asset=TOKEN), expires=0)
    story = Story(order)
    story.mine(pay(order, 130, "late"), pay(order.destinations[1], 1, "other"))
    grounds = {line.reason: line.evidence for line in story.feed if line.subject == "exception"}
    assert set(grounds) == {"late", "mixed_destinations"}
    assert grounds["late"] == {
        "amount": "1",
        "asset": TOKEN,
        "state": "confirming",
        "time_basis": "first_seen",
        "expires_at": minute(0).isoformat(),
        "transfers": 1,
        "sum": "1",
    }
    assert [each["late"] for each in grounds["mixed_destinations"]["destinations"]] == ["130", "1"]


def test_a_reversal_says_since_when_the_invoice_had_been_settled():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    story.reorg(1)
    [line] = [line for line in story.feed if line.reason == "reversed" and line.subject == "exception"]
    assert line.evidence["settled_at"] == minute(1).isoformat()


# One row for each destination, kind and asset


def test_dust_opens_one_exception_that_counts_and_sums_it():
    order = invoice()
    story = Story(order, lazy=True)
    order.state = InvoiceState.CANCELLED
    for n in range(1, 41):
        story.mine(pay(order, n, f"dust{n}"))
    [record] = story.cases[order.id]
    assert (record.kind, record.transfers, record.amount) == ("unexpected_payment", 40, sum(range(1, 41)))
    lines = [line for line in story.feed if line.subject == "exception"]
    assert len(lines) <= 12
    assert {(line.from_state, line.to_state) for line in lines[1:]} == {("open", "open")}
    assert len({line.event_id for line in lines}) == len(lines)
    assert lines[-1].evidence["transfers"] * 2 > 40
    assert story.open_cases(order) == ["unexpected_payment"]


def test_a_large_payment_after_dust_is_told():
    order = invoice()
    story = Story(order)
    order.state = InvoiceState.CANCELLED
    story.mine(pay(order, 1, "dust"))
    story.mine(pay(order, 1_000, "much"))
    told = [line for line in story.feed if line.subject == "exception"]
    assert [line.evidence["sum"] for line in told] == ["1", "1001"]
    assert told[-1].via_detection is not None
    assert told[-1].via_detection.tx_id == "much"
    story.mine(pay(order, 1, "more"))
    assert len([line for line in story.feed if line.subject == "exception"]) == 2


def test_each_asset_has_a_row_of_its_own():
    order = invoice()
    story = Story(order)
    story.mine(pay(order, 5, "a", asset=TOKEN), pay(order, 7, "b", asset=TOKEN), pay(order, 9, "c", asset=UNKNOWN))
    rows = {record.kind: (record.transfers, record.amount) for record in story.cases[order.id]}
    assert rows == {"wrong_asset": (2, 12), "unsupported_asset": (1, 9)}


def test_a_row_that_a_person_resolved_holds_what_it_held_and_the_next_transfer_opens_another():
    order = invoice(expires=0)
    story = Story(order)
    first = pay(order, 10, "first")
    story.mine(first)
    story.resolve(order, "late")
    story.reorg(1, [], [first])
    assert story.open_cases(order) == []
    story.mine(pay(order, 5, "second"))
    one, two = [record for record in story.cases[order.id] if record.kind == "late"]
    assert (one.transfers, one.amount, one.resolution, one.occurrence) == (1, 10, "refunded by hand", 1)
    assert (two.transfers, two.amount, two.resolution, two.occurrence) == (1, 5, None, 2)


def test_a_row_shrinks_with_a_reorg_and_ends_with_its_last_transfer():
    order = invoice(expires=0)
    story = Story(order)
    story.mine(pay(order, 10, "first"))
    story.mine(pay(order, 5, "second"))
    story.reorg(1)
    [record] = [record for record in story.cases[order.id] if record.kind == "late"]
    assert (record.transfers, record.amount) == (1, 10)
    story.reorg(3)
    assert (record.transfers, record.amount, record.resolution) == (0, 0, "made good")
    assert story.members[order.id] == {}


def test_another_amount_after_a_reorg_changes_the_sum():
    order = invoice(expires=0)
    story = Story(order)
    story.mine(pay(order, 10, "same"))
    story.resolve(order, "late")
    story.reorg(1, [pay(order, 4, "same")], [])
    [record] = [record for record in story.cases[order.id] if record.kind == "late"]
    assert (record.transfers, record.amount) == (1, 4)


def test_double_spends_that_were_not_loaded_end_with_the_others_once_the_invoice_has_its_money():
    order = invoice()
    story = Story(order)
    story.sees(pay(order, 100, "tx"))
    story.hears_of_rival("tx", "rival")
    [record] = story.cases[order.id]
    record.transfers, record.amount = 150, 15_000  # of which the store loads the newest hundred
    story.mine(pay(order, 100, "again"))
    assert (record.transfers, record.resolution) == (0, "made good")


def test_a_shortfall_stays_open_while_a_top_up_is_on_its_way():
    order = invoice("order", 100, policy=Policy(2))
    story = Story(order)
    story.mine(pay(order, 30, "first"))
    story.quiet(1)
    for n in range(5):
        story.mine(pay(order, 1, f"dust{n}"))
        assert order.state is InvoiceState.CONFIRMING
        story.quiet(1)
        assert order.state is InvoiceState.UNDERPAID
    assert story.told_cases("underpaid") == ["open"]
    story.mine(pay(order, 65, "rest"))
    story.quiet(1)
    assert story.told_cases("underpaid") == ["open", "resolved"]


def test_a_line_names_the_observation_that_it_comes_from():
    order = invoice()
    story = Story(order)
    waiting, mined = pay(order, 100, "tx", evidence={"node": "a"}), pay(order, 100, "tx", evidence={"node": "b"})
    story.sees(waiting)
    story.mine(mined)
    story.reorg(1, [mined], [])
    named = [line.evidence["observation"] for line in story.feed if "observation" in line.evidence]
    seen = [(each.version, each.state.value, each.facts) for each in story.observations]
    assert seen == [
        (1, "pending", {"node": "a"}),
        (2, "included", {"node": "b"}),
        (5, "included", {"node": "b"}),
    ]
    assert named == [version for version, _, _ in seen]


# A person's verdict on what a second look contradicted


@pytest.mark.parametrize("policy", [Policy(2), Policy(None)])
@pytest.mark.parametrize("verdict", ["accepted", "rejected"])
def test_a_verdict_makes_a_contradicted_payment_final_or_drops_it(policy, verdict):
    order = invoice("order", 100, policy=policy)
    story = Story(order, has_finality=True)
    story.looks = False
    block = story.mine(pay(order, 100, "tx"))
    story.quiet(3)
    story.finalized = block.height
    story.look_again("mismatch")
    story.quiet(1)
    assert "content_mismatch" in story.open_cases(order)
    found = story.found("tx")
    assert found.state is not DetectionState.FINAL
    story.resolve(order, "content_mismatch")
    found.second_look = verdict
    story.quiet(1)
    if verdict == "accepted":
        assert (found.state, order.state) == (DetectionState.FINAL, InvoiceState.PAID)
        assert story.open_cases(order) == []
        return
    assert (found.state, order.state) == (DetectionState.DROPPED, InvoiceState.CREATED)
    line = next(line for line in reversed(story.feed) if line.subject == "detection")
    assert (line.to_state, line.reason, line.cause) == ("dropped", "rejected", "operator")
    again = pay(order, 100, "tx")
    story._write(story._gather([replace(again, block=block)]), ())
    assert found.state is DetectionState.DROPPED
    story.mine(again)
    assert found.state is DetectionState.INCLUDED


def test_a_verdict_is_about_its_own_rail():
    order = invoice("order", 100, destination(), destination(rail="elsewhere"))
    story = Story(order)
    story.mine(pay(order, 100, "tx"))
    found = story.found("tx")
    found.second_look, found.looked_at_block = "rejected", found.block_hash
    story.rail = "elsewhere"
    story.quiet(1)
    assert found.state is not DetectionState.DROPPED

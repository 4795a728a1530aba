"""Transfers that no invoice asks for: they follow the chain, and open an exception until they are assigned."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from railwatch.core.affected import AffectedRows
from railwatch.core.ids import derived_id, detection_id
from railwatch.core.matching import Known
from railwatch.core.model import Coverage
from railwatch.core.states import IN_BLOCK_STATES, DetectionState, IllegalMove
from railwatch.core.step import BlockBatch, Position, RailRules, StepInput, StepResult, apply_unallocated
from railwatch.core.unallocated import (
    SharedAddress,
    StoredUnallocated,
    UnallocatedStep,
)
from railwatch.rail.types import AssetId, Transfer
from tests.core.builders import COIN, CONFIGURED, RAIL, TOKEN, UNKNOWN, minute
from tests.core.model_settings import model_settings
from tests.core.unallocated_rail import CHAIN, KEY, OLDEST, OTHER, PAID, Rail, context, detected, included


def test_what_is_in_a_block_is_a_row_and_an_exception():
    rail = Rail()
    step = rail.step(included(1, replace(PAID, reference="typo", references=("typo", "key"))))
    assert (rail.row.id, rail.row.state) == (detection_id(RAIL, "tx", "vout:0"), DetectionState.INCLUDED)
    assert (rail.row.references, rail.row.address, rail.row.first_seen_at) == (("typo", "key"), "shop", minute(1))
    assert rail.lines() == [("unallocated_transfer", "included"), ("exception", "open")]
    assert [each.id for each in step.opened] == [rail.row.exception]
    assert [line.invoice_id for line in rail.feed] == [None, None]
    assert rail.feed[0].confirmations == 1


def test_what_waits_in_the_mempool_is_a_row_without_an_exception():
    rail = Rail()
    rail.step(PAID)
    assert rail.lines() == [("unallocated_transfer", "pending")]
    assert (rail.row.first_seen_at, rail.feed[0].confirmations) == (minute(40), None)
    assert rail.step(PAID).rows == {}


@pytest.mark.parametrize(
    "transfer",
    [
        pytest.param(replace(PAID, to=b"own"), id="an address that is not shared"),
        pytest.param(replace(PAID, asset=UNKNOWN), id="an asset that is not configured"),
        pytest.param(replace(PAID, amount=9), id="dust"),
        pytest.param(replace(PAID, amount=0), id="nothing"),
    ],
)
def test_what_no_invoice_could_have_asked_for_is_no_row(transfer: Transfer):
    rail = Rail(least=10)
    assert rail.step(included(1, transfer)).rows == {}


def test_what_is_older_than_every_invoice_there_is_no_row():
    rail = Rail()
    rail.shared[KEY] = SharedAddress("shop", replace(OLDEST, accepts_from=minute(2)))
    assert rail.step(included(1)).rows == {}
    assert list(rail.step(included(2)).rows) == [rail.row.id]


def test_what_an_invoice_asks_for_is_no_row():
    assert Rail().step(included(1), asks_for=lambda _: True).rows == {}


def test_a_small_one_is_a_row_without_an_exception():
    rail = Rail(exception_from=101)
    rail.step(included(1))
    assert rail.lines() == [("unallocated_transfer", "included")]


def test_a_reorg_takes_it_back_and_ends_its_exception_and_its_return_opens_another():
    rail = Rail()
    rail.step(included(2))
    first = rail.row.exception
    step = rail.step(orphaned=[rail.row.id])
    assert (step.ended, rail.row.exception, rail.row.state) == ([first], None, DetectionState.ORPHANED)
    rail.step(included(3, branch=OTHER))
    assert (rail.row.block_hash, rail.row.exception_round) == (OTHER.at(3).hash, 2)
    assert rail.row.exception not in (None, first)
    assert rail.states() == ["included", "orphaned", "included"]
    assert rail.step(orphaned=[rail.row.id], cursor=3).rows[rail.row.id].state is DetectionState.ORPHANED
    assert rail.step(orphaned=[rail.row.id], cursor=3).rows == {}


def test_what_a_person_resolved_ends_without_a_line():
    rail = Rail()
    rail.step(included(2))
    rail.row.exception_resolved = True
    step = rail.step(orphaned=[rail.row.id])
    assert len(step.ended) == 1
    assert rail.lines()[2:] == [("unallocated_transfer", "orphaned")]


def test_in_another_block_it_is_orphaned_and_included_again():
    rail = Rail()
    rail.step(included(2))
    assert rail.step(included(2)).rows == {}
    assert rail.step(PAID).rows == {}
    rail.step(included(2, replace(PAID, amount=70), OTHER))
    assert rail.states() == ["included", "orphaned", "included"]
    assert rail.row.amount == 70


def test_a_rival_replaces_it_and_an_empty_mempool_drops_it():
    rail = Rail()
    rail.step(PAID)
    rail.step(replace(PAID, tx_id="rival", amount=0, rivals=("tx",)))
    assert (rail.row.state, rail.row.replaced_by) == (DetectionState.REPLACED, "rival")
    rail.step(PAID)
    assert (rail.row.state, rail.row.replaced_by) == (DetectionState.PENDING, None)
    rail.step(dropped=[rail.row.id])
    assert rail.step(dropped=[rail.row.id]).rows == {}
    assert rail.states() == ["pending", "replaced", "pending", "dropped"]


def test_what_is_in_a_block_is_not_removed_by_a_rival():
    rail = Rail()
    rail.step(included(1))
    assert rail.step(replace(PAID, tx_id="rival", amount=0, rivals=("tx",))).rows == {}


@pytest.mark.parametrize(("has_finality", "cursor", "finalized"), [(False, 7, -1), (True, 9, 2)])
def test_it_is_confirmed_and_final_at_once(has_finality: bool, cursor: int, finalized: int):
    rail = Rail(has_finality=has_finality)
    rail.step(included(2), cursor=2)
    before = rail.row.threshold(6, has_finality)
    assert before is not None
    assert rail.step(cursor=cursor - 1, finalized=finalized - 1).rows == {}
    assert rail.step(cursor=cursor, finalized=finalized, blind=True).rows == {}
    rail.step(cursor=cursor, finalized=finalized)
    assert rail.states() == ["included", "confirmed", "final"]
    assert rail.row.threshold(6, has_finality) is None
    assert rail.row.exception is not None
    assert rail.step(included(2)).rows == {}


def test_maturity_is_a_floor():
    rail = Rail()
    rail.step(included(2, replace(PAID, maturity=10)), cursor=10)
    assert rail.row.state is DetectionState.INCLUDED
    rail.step(cursor=11)
    assert rail.row.state is DetectionState.FINAL


def test_one_line_tells_all_of_what_was_final_when_it_was_read():
    rail = Rail()
    rail.step(included(2), cursor=7, backfill=True)
    assert rail.states() == ["final"]


def test_what_is_final_goes_only_where_a_person_has_accepted_another_chain():
    rail = Rail()
    rail.step(included(2), cursor=7)
    with pytest.raises(IllegalMove, match="no person has accepted another chain"):
        rail.step(orphaned=[rail.row.id])
    rail.step(orphaned=[rail.row.id], accepts_chain=True)
    assert rail.row.state is DetectionState.ORPHANED


def test_a_transaction_that_pays_something_else_ends_what_it_paid_before():
    """HAZARDS E25: what a transaction pays may depend on the block that it is in."""
    rail = Rail()
    rail.step(included(2))
    first = rail.row.id
    rail.step(included(3, replace(PAID, asset=TOKEN), OTHER), orphaned=[first])
    assert (rail.rows[first].state, rail.rows[first].replaced_by) == (DetectionState.REPLACED, "tx")
    (second,) = (row for row in rail.rows.values() if row.id != first)
    assert (second.asset, second.state, second.tx_index[:7]) == (TOKEN, DetectionState.INCLUDED, "vout:0@")
    assert rail.step(included(3, replace(PAID, asset=TOKEN), OTHER)).rows == {}


def test_two_payments_of_a_transaction_whose_names_shift_are_two_rows():
    """A client that shows one more call names the others anew; a payment that has its row is not another one."""
    rail = Rail()
    first, other = included(1), included(1, replace(PAID, amount=7))
    rail.step(first)
    rail.step(other, replace(first, tx_index="vout:1"), cursor=2)
    assert sorted(row.amount for row in rail.rows.values()) == [7, 100]
    assert rail.states() == ["included", "included"]


@pytest.mark.parametrize(("amount", "rows"), [(100, []), (7, [7])])
def test_a_payment_that_an_ended_order_has_is_no_row_under_another_name(amount: int, rows: list[int]):
    shifted = included(1, replace(PAID, tx_index="vout:1", amount=amount))
    changes = apply_to(shifted, recorded(PAID))
    assert [row.amount for row in changes.rows.values()] == rows


def test_what_a_transaction_pays_now_is_a_row_though_it_had_paid_an_order():
    """Included again with another content: the order's payment is gone, and the money is somewhere (HAZARDS E25)."""
    own = replace(recorded(PAID), key=b"own", block_hash=CHAIN.at(1).hash)
    (row,) = apply_to(included(1, PAID, OTHER), own).rows.values()
    assert row.id != own.detection_id
    assert apply_to(included(1), own).rows == {}
    assert apply_to(included(1, PAID, OTHER), replace(own, final=True)).rows == {}


def recorded(transfer: Transfer) -> Known:
    """Return a transfer as the detection of an order that no longer watches the address."""
    identity = detection_id(RAIL, transfer.tx_id, transfer.tx_index)
    place = identity, derived_id("own"), derived_id("order"), transfer.tx_id, transfer.tx_index
    return Known(*place, transfer.to, transfer.asset, None, final=False, rail=RAIL, amount=transfer.amount)


def apply_to(transfer: Transfer, known: Known) -> UnallocatedStep:
    """Apply a step with one transfer, of whose transaction a detection is known."""
    rules = RailRules(RAIL, 6, has_finality=False, configured=CONFIGURED)
    position = Position(CHAIN.at(1), 1, None, None, "live", None)
    step = StepInput(BlockBatch.at(CHAIN.at(1), [transfer]), position)
    stored = StoredUnallocated(shared={KEY: SharedAddress("shop", OLDEST)})
    ctx = context(1, -1, has_finality=False)
    return apply_unallocated(step, stored, AffectedRows(known=[known]), StepResult(()), rules, ctx)


def test_what_is_final_cannot_pay_something_else():
    rail = Rail()
    rail.step(included(2), cursor=7)
    assert rail.step(included(2, replace(PAID, asset=TOKEN))).rows == {}


def test_an_invoice_that_has_its_reference_later_ends_the_exception():
    rail = Rail()
    rail.step(included(2))
    destination = derived_id("later")
    step = rail.step(included(2), detections=[detected(PAID, destination)], asks_for=lambda _: True)
    assert (rail.row.assigned_by, rail.row.destination_id, rail.row.detected) == ("railwatch", destination, True)
    assert rail.row.detection_id == rail.row.id
    assert step.transitions[0].reason == "assigned"
    assert rail.lines()[2:] == [("unallocated_transfer", "included"), ("exception", "resolved")]
    assert rail.step(included(2), detections=[detected(PAID, destination)]).rows == {}


def test_a_detection_that_was_made_apart_is_noticed_with_the_next_step():
    rail = Rail()
    rail.step(included(2))
    rail.row.became_at = derived_id("later")
    rail.step(cursor=3)
    assert (rail.row.assigned_by, rail.row.detection_id) == ("railwatch", rail.row.id)


def test_what_its_transaction_pays_to_an_order_elsewhere_does_not_assign_it():
    """Included again with another content, it pays an order elsewhere: the row is replaced, and not assigned."""
    rail = Rail()
    rail.step(included(2))
    elsewhere = included(2, replace(PAID, to=b"own"), OTHER)
    paid = detected(elsewhere, derived_id("own"))
    rail.step(elsewhere, orphaned=[rail.row.id], detections=[paid], asks_for=lambda transfer: transfer.to == b"own")
    assert (rail.row.state, rail.row.assigned_by) == (DetectionState.REPLACED, None)


def test_what_a_person_assigned_is_noted_as_detected_once_it_is():
    rail = Rail()
    rail.step(included(2))
    rail.row.assigned_by, rail.row.destination_id, rail.row.owner = "ann", OLDEST.destination_id, OLDEST
    assert StoredUnallocated(rail.rows).assigned == [rail.row]
    rail.step(detections=[detected(PAID, OLDEST.destination_id)])
    assert (rail.row.detected, rail.row.assigned_by) == (True, "ann")
    assert rail.states() == ["included"]


def test_nothing_is_stored_of_nothing():
    assert not StoredUnallocated()
    assert StoredUnallocated(shared={KEY: SharedAddress("shop", OLDEST)})


def test_a_step_applies_to_them_after_the_invoices():
    position = Position(CHAIN.at(5), 9, None, None, "live", None)
    step = StepInput(BlockBatch.at(CHAIN.at(5), [included(5)]), position)
    rules = RailRules(RAIL, 6, False, CONFIGURED, unallocated_min={COIN: 200})
    stored, affected = StoredUnallocated(shared={KEY: SharedAddress("shop", OLDEST)}), AffectedRows()
    ctx = step.context(rules, minute(9), Coverage({}))
    changes = apply_unallocated(step, stored, affected, StepResult(()), rules, ctx)
    assert [row.state for row in changes.rows.values()] == [DetectionState.INCLUDED]
    assert changes.opened == []


AMOUNTS = {COIN: 100, TOKEN: 30}
ACTS = st.lists(
    st.tuples(
        st.sampled_from(["seen", "block", "reorg", "drop", "rival", "advance", "assign", "resolve"]),
        st.sampled_from([COIN, TOKEN]),
        st.integers(0, 20),
    ),
    max_size=25,
)


@given(ACTS)
@model_settings(300)
def test_an_exception_is_open_exactly_while_a_block_holds_what_is_not_assigned(acts: list[tuple[str, AssetId, int]]):
    rail, cursor = Rail(), 0
    for act, asset, number in acts:
        transfer = replace(PAID, asset=asset, amount=AMOUNTS[asset])
        by_state = {row.state: row.id for row in rail.rows.values()}
        if act == "seen":
            rail.step(transfer, cursor=cursor)
        elif act == "block":
            cursor += 1
            rail.step(included(cursor, transfer, CHAIN if number % 2 else OTHER), cursor=cursor)
        elif act == "reorg":
            rail.step(
                cursor=cursor, orphaned=[by_state[each] for each in [DetectionState.INCLUDED] if each in by_state]
            )
        elif act == "drop":
            rail.step(cursor=cursor, dropped=[by_state[each] for each in [DetectionState.PENDING] if each in by_state])
        elif act == "rival":
            rail.step(replace(PAID, tx_id="rival", amount=0, rivals=("tx",)), cursor=cursor)
        elif act == "advance":
            cursor = min(29, cursor + number)
            rail.step(cursor=cursor)
        else:
            for row in rail.rows.values():
                if act == "resolve" and row.exception is not None:
                    row.exception_resolved = True
                elif act == "assign" and row.state in IN_BLOCK_STATES and row.assigned_by is None:
                    row.assigned_by, row.destination_id, row.owner = "ann", OLDEST.destination_id, OLDEST
                    row.exception = None
        cursor = min(cursor, 29)
        check(rail)


def check(rail: Rail) -> None:
    """What must hold after each step, whatever came before."""
    live = [row for row in rail.rows.values() if row.state in IN_BLOCK_STATES]
    assert len(live) <= 1, "a transaction pays one content"
    for row in rail.rows.values():
        wanted = row.state in IN_BLOCK_STATES and row.assigned_by is None
        assert (row.exception is not None) == wanted
        lines = [line for line in rail.feed if line.subject_id == row.id]
        assert [line.from_state for line in lines] == [None, *(line.to_state for line in lines[:-1])]
        assert lines[-1].to_state == row.state
        assert row.version == len(lines)
    ids = [line.event_id for line in rail.feed]
    assert len(set(ids)) == len(ids)

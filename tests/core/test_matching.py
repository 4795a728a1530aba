"""Whose transfer it is, and what it means there."""

from dataclasses import replace
from uuid import uuid4

import pytest

from railwatch.core.affected import AffectedRows
from railwatch.core.ids import derived_id, detection_id
from railwatch.core.matching import Candidate, Known, base_index, match, to_detection
from railwatch.core.states import DetectionState, Kind
from railwatch.core.step import RailRules, group_by_invoice
from railwatch.core.unallocated import UnallocatedTransfer
from railwatch.rail.types import NO_RECIPIENT, BlockRef, Transfer
from tests.core.builders import COIN, CONFIGURED, RAIL, TOKEN, UNKNOWN, minute

TRANSFER = Transfer("tx", "vout:0", b"address", COIN, 100, None)


def asks(name, *, rail=RAIL, asset=COIN, reference=None, is_open=True, created=0, owner=None, before=10, tip=None):
    """A destination at the address; ``owner`` names its invoice, which accepts money ``before`` minutes earlier."""
    invoice_id = derived_id(owner or name)
    times = (minute(created), minute(created - before))
    return Candidate(derived_id(name), invoice_id, rail, asset, reference, is_open, *times, tip)


def belongs(transfer, *candidates, rail=RAIL, now=9):
    return match(transfer, rail, candidates, CONFIGURED, minute(now))


def test_no_invoice_expects_it():
    assert belongs(TRANSFER) is None


def test_the_asset_that_was_asked_for_is_a_payment():
    order = asks("order")
    assert belongs(TRANSFER, order) == (order, Kind.PAYMENT)


def test_an_open_invoice_comes_before_a_closed_one():
    old, new = asks("old", created=1), asks("new", created=2, is_open=False)
    assert belongs(TRANSFER, old, new) == (old, Kind.PAYMENT)


def test_a_newer_invoice_comes_before_an_older_one():
    old, new = asks("old", created=1, is_open=False), asks("new", created=2, is_open=False)
    assert belongs(TRANSFER, new, old) == (new, Kind.PAYMENT)


def test_within_an_invoice_the_same_rail_and_asset_is_nearest_then_the_same_rail_then_the_first():
    elsewhere = asks("elsewhere", rail="other", owner="order")
    token = asks("token", asset=TOKEN, owner="order")
    coin = asks("coin", owner="order")
    assert belongs(TRANSFER, elsewhere, token, coin) == (coin, Kind.PAYMENT)
    assert belongs(TRANSFER, elsewhere, token) == (token, Kind.WRONG_ASSET)
    assert belongs(TRANSFER, elsewhere) == (elsewhere, Kind.WRONG_NETWORK)


def test_a_nearer_destination_of_another_invoice_does_not_count():
    newer, nearer = asks("newer", asset=TOKEN, created=2), asks("nearer", created=1)
    assert belongs(TRANSFER, newer, nearer) == (newer, Kind.WRONG_ASSET)


def test_a_token_that_is_not_configured_is_unsupported_wherever_it_arrives():
    foreign = replace(TRANSFER, asset=UNKNOWN)
    assert belongs(foreign, asks("order"))[1] is Kind.UNSUPPORTED_ASSET
    assert belongs(foreign, asks("order", rail="other"))[1] is Kind.UNSUPPORTED_ASSET


def test_where_references_distinguish_invoices_only_the_right_one_matches():
    one, two = asks("one", reference="1"), asks("two", reference="2", created=5)
    assert belongs(replace(TRANSFER, reference="1"), one, two) == (one, Kind.PAYMENT)
    assert belongs(replace(TRANSFER, reference="3"), one, two) is None
    assert belongs(TRANSFER, one, two) is None


def test_a_destination_without_a_reference_accepts_what_no_other_claims():
    plain = asks("plain")
    assert belongs(replace(TRANSFER, reference="9"), plain, asks("one", reference="1", created=5)) == (
        plain,
        Kind.PAYMENT,
    )


def test_any_of_many_marks_is_accepted_as_the_reference():
    """A rail that cannot know which of a transaction's keys was meant as one gives all of them (HAZARDS S12)."""
    one, two = asks("one", reference="1"), asks("two", reference="2", created=5)
    assert belongs(replace(TRANSFER, references=("8", "1", "9")), one, two) == (one, Kind.PAYMENT)
    assert belongs(replace(TRANSFER, references=("1", "2")), one, two) == (two, Kind.PAYMENT)
    assert belongs(replace(TRANSFER, references=("8", "9")), one, two) is None


def test_whose_reference_it_carries_comes_before_who_asks_for_none():
    plain, mine = asks("plain", created=5), asks("mine", reference="1")
    for transfer in (replace(TRANSFER, reference="1"), replace(TRANSFER, references=("1",))):
        assert belongs(transfer, plain, mine) == (mine, Kind.PAYMENT)
    assert belongs(replace(TRANSFER, reference="1"), plain, replace(mine, open=False)) == (plain, Kind.PAYMENT)


# Sightings


def sighted(transfer, now):
    identity = detection_id(RAIL, transfer.tx_id, transfer.tx_index)
    return to_detection(identity, transfer, RAIL, asks("order").destination_id, Kind.PAYMENT, minute(now))


def block(height=7, at=5):
    return BlockRef(height, f"block-{height}", f"block-{height - 1}", minute(at))


def test_first_sight_in_a_block_counts_as_the_blocks_time():
    found = sighted(replace(TRANSFER, block=block(at=5)), 90)
    assert (found.state, found.first_seen_at, found.block_time) == (DetectionState.INCLUDED, minute(5), minute(5))
    assert (found.block_height, found.block_hash) == (7, "block-7")


def test_a_block_time_that_lies_ahead_does_not_make_first_sight_later_than_now():
    found = sighted(replace(TRANSFER, block=block(at=95)), 90)
    assert found.first_seen_at == minute(90)


def test_first_sight_outside_a_block_is_now():
    found = sighted(TRANSFER, 90)
    assert (found.state, found.first_seen_at, found.block_hash) == (DetectionState.PENDING, minute(90), None)


def test_an_identity_does_not_depend_on_the_block():
    here = sighted(replace(TRANSFER, block=block(7)), 90)
    there = sighted(replace(TRANSFER, block=block(8)), 91)
    assert here.id == there.id == detection_id(RAIL, "tx", "vout:0")


@pytest.mark.parametrize("other", [("else", "tx", "vout:0"), (RAIL, "tx2", "vout:0"), (RAIL, "tx", "vout:1")])
def test_rail_transaction_and_index_make_an_identity(other):
    assert detection_id(*other) != detection_id(RAIL, "tx", "vout:0")


# What a step's transfers mean, by invoice


def gathered(*transfers, candidates=(), known=(), rivals=None, orphaned=(), configured=CONFIGURED, elsewhere=()):
    affected = AffectedRows(
        orphaned={uuid4(): orphaned},
        rivals=rivals or {},
        known=known,
        candidates={b"address": candidates, b"elsewhere": elsewhere},
    )
    return group_by_invoice(transfers, affected, RailRules(RAIL, 10, False, configured), minute(9))


def recorded_as(candidate, *, index="vout:0", key=b"address", asset=COIN, block=None, final=False):
    """What the store knows of the transaction ``tx``: that ``candidate`` was paid by it."""
    identity = detection_id(RAIL, "tx", index)
    return Known(identity, candidate.destination_id, candidate.invoice_id, "tx", index, key, asset, block, final)


def test_a_transfer_that_was_recorded_stays_where_it_is_when_the_address_changes_hands():
    old, new = asks("old", is_open=False), asks("new", created=5)
    news = gathered(TRANSFER, candidates=[old, new], known=[recorded_as(old)])
    assert list(news) == [old.invoice_id]


# Money belongs to its invoice's time (HAZARDS I13)


def test_money_from_before_the_invoices_time_is_unexpected():
    order = asks("order", created=20, before=10)
    assert belongs(replace(TRANSFER, block=block(at=9)), order, now=30) == (order, Kind.UNEXPECTED)
    assert belongs(replace(TRANSFER, block=block(at=10)), order, now=30) == (order, Kind.PAYMENT)


def test_waiting_money_is_as_old_as_its_first_sight():
    order = asks("order", created=20, before=10)
    assert belongs(TRANSFER, order, now=9) == (order, Kind.UNEXPECTED)
    assert belongs(TRANSFER, order, now=10) == (order, Kind.PAYMENT)


def test_a_block_above_the_tip_of_the_registration_is_newer_whatever_its_timestamp_says():
    order = asks("order", created=20, before=10, tip=4)
    assert belongs(replace(TRANSFER, block=BlockRef(5, "b", "a", minute(1))), order) == (order, Kind.PAYMENT)
    assert belongs(replace(TRANSFER, block=BlockRef(4, "b", "a", minute(1))), order) == (order, Kind.UNEXPECTED)
    elsewhere = asks("order", created=20, before=10, tip=4, rail="other")
    assert belongs(replace(TRANSFER, block=BlockRef(5, "b", "a", minute(1))), elsewhere)[1] is Kind.WRONG_NETWORK


def test_old_money_of_another_kind_stays_of_that_kind():
    order = asks("order", created=20, asset=TOKEN)
    assert belongs(replace(TRANSFER, block=block(at=1)), order) == (order, Kind.WRONG_ASSET)


def test_money_that_is_too_old_for_an_open_invoice_belongs_to_the_one_before_it():
    old, new = asks("old", created=0, is_open=False), asks("new", created=20, before=0)
    assert belongs(replace(TRANSFER, block=block(at=19)), old, new) == (old, Kind.PAYMENT)
    assert belongs(replace(TRANSFER, block=block(at=20)), old, new) == (new, Kind.PAYMENT)


# Content follows the chain (HAZARDS E25)


def test_the_same_transaction_with_another_recipient_now_is_a_payment_there_and_is_lost_here():
    here, there = asks("here"), asks("there")
    moved = replace(TRANSFER, to=b"elsewhere", block=block(8))
    news = gathered(moved, candidates=[here], elsewhere=[there], known=[recorded_as(here)])
    assert news[here.invoice_id].lost == {detection_id(RAIL, "tx", "vout:0"): "tx"}
    [found] = news[there.invoice_id].observations
    assert found.destination_id == there.destination_id
    assert found.tx_index != "vout:0"
    assert base_index(found.tx_index) == "vout:0"
    assert found.id == detection_id(RAIL, "tx", found.tx_index)


def test_content_that_comes_back_is_the_detection_that_it_was():
    here, there = asks("here"), asks("there")
    moved = replace(TRANSFER, to=b"elsewhere", block=block(8))
    [found] = gathered(moved, elsewhere=[there], known=[recorded_as(here)])[there.invoice_id].observations
    variant = recorded_as(there, index=found.tx_index, key=b"elsewhere")
    back = gathered(replace(TRANSFER, block=block(9)), candidates=[here], known=[recorded_as(here), variant])
    assert [each.id for each in back[here.invoice_id].observations] == [detection_id(RAIL, "tx", "vout:0")]
    assert back[there.invoice_id].lost == {found.id: "tx"}
    again = gathered(moved, elsewhere=[there], known=[recorded_as(here), variant])
    assert [each.id for each in again[there.invoice_id].observations] == [found.id]


def test_another_asset_is_another_content():
    here = asks("here")
    news = gathered(replace(TRANSFER, asset=TOKEN, block=block(8)), candidates=[here], known=[recorded_as(here)])
    [found] = news[here.invoice_id].observations
    assert (found.kind, found.asset) == (Kind.WRONG_ASSET, TOKEN)
    assert list(news[here.invoice_id].lost) == [detection_id(RAIL, "tx", "vout:0")]


@pytest.mark.parametrize(
    ("seen_in", "known_in", "final"),
    [(None, 8, False), (8, 8, False), (8, 7, True)],
    ids=["it waits, though a block holds it", "one block cannot hold both", "the other is final"],
)
def test_a_transaction_in_a_block_cannot_pay_otherwise(seen_in, known_in, final):
    here, there = asks("here"), asks("there")
    known = [recorded_as(here, block=f"block-{known_in}", final=final)]
    seen = replace(TRANSFER, to=b"elsewhere", block=block(seen_in) if seen_in else None)
    assert gathered(seen, elsewhere=[there], known=known) == {}


def test_an_inclusion_that_another_block_of_the_chain_contradicts_is_orphaned_first():
    here, there = asks("here"), asks("there")
    moved = replace(TRANSFER, to=b"elsewhere", block=block(8))
    known = [recorded_as(here, block="block-7")]
    news = gathered(moved, elsewhere=[there], known=known)
    assert news[here.invoice_id].orphaned == [known[0].detection_id]
    updates = gathered(moved, elsewhere=[there], known=known, orphaned=[known[0].detection_id])
    assert updates[here.invoice_id].orphaned == []  # the reorg says it already


# One payment may have another name (HAZARDS E28)


def stored(candidate, index, amount, **more):
    return replace(recorded_as(candidate, index=index, block="block-7", **more), amount=amount)


def credit(index, amount, **more):
    return replace(TRANSFER, tx_index=index, amount=amount, block=block(7), **more)


def ids(news, candidate):
    return [each.id for each in news[candidate.invoice_id].observations]


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("name", ["call:0.2", "tx", "call:0@0badcafe"])
def test_what_is_recorded_under_another_name_is_not_another_payment(name, final):
    """An earlier version numbered other calls, or another client showed none of them."""
    order = asks("order")
    news = gathered(credit("call:0", 100), candidates=[order], known=[stored(order, name, 100, final=final)])
    assert ids(news, order) == [detection_id(RAIL, "tx", name)]
    assert not news[order.invoice_id].orphaned
    assert not news[order.invoice_id].lost


def test_names_that_moved_up_are_not_confused():
    """call:1 and call:3 are call:0 and call:1 by now, and the second has the first one's old name."""
    order = asks("order")
    known = [stored(order, "call:1", 5), stored(order, "call:3", 7)]
    news = gathered(credit("call:0", 5), credit("call:1", 7), candidates=[order], known=known)
    assert ids(news, order) == [each.detection_id for each in known]
    same = [replace(each, amount=5) for each in known]
    news = gathered(credit("call:0", 5), credit("call:1", 5), candidates=[order], known=same)
    assert sorted(ids(news, order)) == sorted(each.detection_id for each in known)


def test_a_second_payment_of_the_same_amount_is_another_one():
    order = asks("order")
    known = [stored(order, "tx", 5)]
    news = gathered(credit("tx", 5), credit("call:0", 5), candidates=[order], known=known)
    assert ids(news, order) == [detection_id(RAIL, "tx", "tx"), detection_id(RAIL, "tx", "call:0")]


def test_a_name_that_another_payment_keeps_is_given_to_none():
    """Included again, the contract pays the same and, before it, something else."""
    order = asks("order")
    known = [stored(order, "call:0", 5)]
    first, second = credit("call:0", 7), credit("call:1", 5)
    news = gathered(first, second, candidates=[order], known=known)
    new, old = news[order.invoice_id].observations
    assert (old.id, old.amount) == (known[0].detection_id, 5)
    assert (base_index(new.tx_index), new.amount) == ("call:0", 7)
    assert new.tx_index != "call:0"
    again = gathered(first, second, candidates=[order], known=[*known, stored(order, new.tx_index, 7)])
    assert ids(again, order) == [new.id, old.id]


def test_another_amount_under_the_same_name_is_the_same_payment():
    order = asks("order")
    known = [stored(order, "call:0", 5)]
    news = gathered(credit("call:0", 7), candidates=[order], known=known)
    assert [(each.id, each.amount) for each in news[order.invoice_id].observations] == [(known[0].detection_id, 7)]


# Dust (HAZARDS I16)


def test_what_is_below_the_least_amount_is_counted_once_it_is_in_a_block():
    order, least = asks("order"), {**CONFIGURED, COIN: 101}
    news = gathered(replace(TRANSFER, block=block(8)), candidates=[order], configured=least)
    assert (news[order.invoice_id].small, news[order.invoice_id].observations) == ([(order.destination_id, 100)], [])
    waiting = gathered(TRANSFER, candidates=[order], configured=least)
    assert not waiting[order.invoice_id].small


def test_a_transfer_that_was_recorded_stays_when_the_least_amount_is_raised():
    order, least = asks("order"), {**CONFIGURED, COIN: 101}
    news = gathered(replace(TRANSFER, block=block(8)), known=[recorded_as(order)], configured=least)
    assert len(news[order.invoice_id].observations) == 1


def test_one_transaction_that_pays_many_brings_news_to_each():
    one, two = asks("one", reference="1"), asks("two", reference="2")
    news = gathered(
        replace(TRANSFER, reference="1"), replace(TRANSFER, reference="2", tx_index="vout:1"), candidates=[one, two]
    )
    assert {each: [found.tx_index for found in about.observations] for each, about in news.items()} == {
        one.invoice_id: ["vout:0"],
        two.invoice_id: ["vout:1"],
    }


def test_a_rival_that_pays_no_invoice_still_removes_the_money():
    invoice_id, lost = derived_id("order"), derived_id("lost")
    rival = Transfer("rival", "", NO_RECIPIENT, COIN, 0, None, rivals=("tx", "unknown"))
    news = gathered(rival, rivals={"tx": [(invoice_id, lost)]})
    assert {each: about.lost for each, about in news.items()} == {invoice_id: {lost: "rival"}}
    assert not news[invoice_id].observations


def test_a_transfer_of_nothing_is_no_news():
    assert gathered(replace(TRANSFER, amount=0), candidates=[asks("order")]) == {}


def test_a_transfer_that_no_invoice_expects_is_no_news():
    assert gathered(TRANSFER) == {}


def unallocated(owner: Candidate | None) -> UnallocatedTransfer:
    """Return the transfer's row, as a person assigned it to ``owner``."""
    identity, state = detection_id(RAIL, "tx", "vout:0"), DetectionState.INCLUDED
    place = identity, RAIL, COIN, 100, "shop", b"address", "tx", "vout:0"
    return UnallocatedTransfer(*place, (), state, minute(1), assigned_by="ann", owner=owner)


def test_what_a_person_assigned_belongs_to_that_destination_whatever_its_reference():
    order, other = asks("order", reference="R1"), asks("other", reference="R2", asset=TOKEN)
    affected = AffectedRows(candidates={b"address": [order]}, assigned=[unallocated(None), unallocated(other)])
    carried = replace(TRANSFER, reference="R1")
    rules = RailRules(RAIL, 10, False, CONFIGURED)
    news = group_by_invoice([carried, replace(carried, tx_id="next")], affected, rules, minute(9))
    (found,) = news[other.invoice_id].observations
    assert (found.id, found.destination_id, found.kind) == (
        detection_id(RAIL, "tx", "vout:0"),
        other.destination_id,
        Kind.WRONG_ASSET,
    )
    assert [each.tx_id for each in news[order.invoice_id].observations] == ["next"]


def test_an_invoice_asks_for_its_reference_and_for_what_it_was_recorded_to_have():
    order = asks("order", reference="R1")
    affected = AffectedRows(candidates={b"address": [order]}, known=[recorded_as(order)])
    assert affected.asks_for(replace(TRANSFER, tx_id="next", reference="R1"))
    assert affected.asks_for(TRANSFER)
    assert not affected.asks_for(replace(TRANSFER, tx_id="next"))

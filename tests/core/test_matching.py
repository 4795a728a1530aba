"""Whose transfer it is, and what it means there."""

from dataclasses import replace
from uuid import uuid5

import pytest

from indexer.core.matching import Candidate, detection_id, match, sighting
from indexer.core.states import DetectionState, Kind
from indexer.core.step import gather, identify
from indexer.core.telling import EVENTS
from indexer.rail.types import NOBODY, BlockRef, Transfer

from .stories import COIN, CONFIGURED, RAIL, TOKEN, UNKNOWN, minute

TRANSFER = Transfer("tx", "vout:0", b"address", COIN, 100, None)


def asks(name, *, rail=RAIL, asset=COIN, reference=None, is_open=True, created=0, owner=None):
    """A destination at the address; ``owner`` names its invoice."""
    invoice_id = uuid5(EVENTS, owner or name)
    return Candidate(uuid5(EVENTS, name), invoice_id, rail, asset, reference, is_open, minute(created))


def belongs(transfer, *candidates, rail=RAIL):
    return match(transfer, rail, candidates, CONFIGURED)


def test_nobody_asked_for_it():
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


def test_where_references_tell_invoices_apart_only_the_right_one_matches():
    one, two = asks("one", reference="1"), asks("two", reference="2", created=5)
    assert belongs(replace(TRANSFER, reference="1"), one, two) == (one, Kind.PAYMENT)
    assert belongs(replace(TRANSFER, reference="3"), one, two) is None
    assert belongs(TRANSFER, one, two) is None


def test_a_destination_without_a_reference_takes_what_no_other_claims():
    plain = asks("plain")
    assert belongs(replace(TRANSFER, reference="9"), plain, asks("one", reference="1", created=5)) == (
        plain,
        Kind.PAYMENT,
    )


def test_any_of_many_marks_is_taken_as_the_reference():
    """A rail that cannot tell which of a transaction's keys was meant as one gives all of them (HAZARDS S12)."""
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
    [(identity, transfer)] = identify([transfer], RAIL)
    return sighting(identity, transfer, RAIL, asks("order"), Kind.PAYMENT, minute(now))


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


def gathered(*transfers, candidates=(), known=None, rivals=None):
    at_address = {b"address": candidates}
    return gather(identify(transfers, RAIL), RAIL, at_address, known or {}, rivals or {}, CONFIGURED, minute(9))


def test_a_transfer_that_was_recorded_stays_where_it_is_whoever_holds_the_address_now():
    old, new = asks("old", is_open=False), asks("new", created=5)
    news = gathered(TRANSFER, candidates=[old, new], known={detection_id(RAIL, "tx", "vout:0"): old})
    assert list(news) == [old.invoice_id]


def test_one_transaction_that_pays_many_brings_news_to_each():
    one, two = asks("one", reference="1"), asks("two", reference="2")
    news = gathered(
        replace(TRANSFER, reference="1"), replace(TRANSFER, reference="2", tx_index="vout:1"), candidates=[one, two]
    )
    assert {each: [found.tx_index for found in about.sightings] for each, about in news.items()} == {
        one.invoice_id: ["vout:0"],
        two.invoice_id: ["vout:1"],
    }


def test_a_rival_that_pays_nobody_here_still_takes_the_money_away():
    invoice_id, lost = uuid5(EVENTS, "order"), uuid5(EVENTS, "lost")
    rival = Transfer("rival", "", NOBODY, COIN, 0, None, rivals=("tx", "unknown"))
    news = gathered(rival, rivals={"tx": [(invoice_id, lost)]})
    assert {each: about.lost for each, about in news.items()} == {invoice_id: {lost: "rival"}}
    assert not news[invoice_id].sightings


def test_a_transfer_of_nothing_is_no_news():
    assert gathered(replace(TRANSFER, amount=0), candidates=[asks("order")]) == {}


def test_a_transfer_that_nobody_asked_for_is_no_news():
    assert gathered(TRANSFER) == {}

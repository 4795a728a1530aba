"""What live detections consume, with everyone who claims it."""

from railwatch.daemon.watch.spend_index import SpendIndex
from railwatch.rail import AssetId, Transfer


def spending(tx_id: str, *resources: str) -> Transfer:
    return Transfer(tx_id, "vout:0", b"", AssetId("coin"), 1, None, spends=resources)


def test_payments_that_descend_from_one_transaction_both_claim_what_it_consumes() -> None:
    claims = SpendIndex()
    claims.add_transfers([spending("first", "parent:0", "coin:0"), spending("second", "parent:1", "coin:0")])
    assert set(claims["coin:0"]) == {"first", "second"}
    assert set(claims["parent:0"]) == {"first"}


def test_forgetting_one_claimant_leaves_the_other() -> None:
    claims = SpendIndex([("coin:0", "first"), ("coin:0", "second")])
    claims.discard([("coin:0", "first"), ("coin:9", "stranger")])
    assert claims.pairs() == {("coin:0", "second")}
    claims.discard(claims.pairs())
    assert not claims


def test_changes_show_whether_anything_is_new() -> None:
    claims = SpendIndex([("coin:0", "first")])
    before = claims.changes
    claims.add("coin:0", "first")
    assert claims.changes == before
    claims.add("coin:0", "second")
    assert claims.changes > before

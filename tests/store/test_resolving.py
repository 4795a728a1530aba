"""Exceptions under people's hands: owners, notes, and a word that closes them."""

from typing import Any

from tests.scenarios.daemon_harness import DaemonHarness, Placed
from tests.store.manual_ops import code_of, last_line, paid


async def case_of(stage: DaemonHarness, invoice: Placed, kind: str) -> dict[str, Any]:
    row = await stage.database.row(
        "select * from railwatch.exceptions where invoice_id = $1 and kind = $2", invoice.id, kind
    )
    assert row is not None
    return dict(row)


async def test_an_exception_is_resolved_with_a_word_and_a_line(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    tx = await stage.pay(invoice, 7, stage.sim.assets[1])
    await stage.mine(2)
    case = await case_of(stage, invoice, "wrong_asset")
    annotate = "select railwatch.annotate_exception($1, actor => 'ann', note => $2, owner => $3)"
    await stage.database.value(annotate, case["id"], "customer called", "ann")
    await stage.database.value(annotate, case["id"], "asked finance", None)
    resolve = "select railwatch.resolve_exception($1, actor => $2, resolution => $3, note => 'ticket 4711')"
    assert await stage.database.value(resolve, case["id"], "ann", "refunded") == "refunded"
    assert await stage.database.value(resolve, case["id"], "bob", "ignored") == "refunded"
    now = await case_of(stage, invoice, "wrong_asset")
    assert (now["resolution"], now["owner"], now["resolved_at"] is None) == ("refunded", "ann", False)
    notes = [line.split(" ann: ")[1] for line in now["notes"].splitlines()]
    assert notes == ["owner: nobody -> ann", "customer called", "asked finance", "ticket 4711"]
    line = await last_line(stage, invoice, "exception")
    assert (line["from_state"], line["to_state"], line["reason"], line["tx_id"]) == (
        *("open", "resolved", "wrong_asset", tx),
    )
    told = {"actor": "ann", "resolution": "refunded", "note": "ticket 4711", "transfers": 1, "sum": "7"}
    assert line["evidence"] == {**told, "login": "postgres"}
    assert await stage.path(invoice, "exception") == [("open", "wrong_asset"), ("resolved", "wrong_asset")]
    await stage.mine(2)
    assert await stage.open_cases(invoice) == set()


async def test_what_the_chain_says_of_an_exception_is_not_a_persons_word(stage: DaemonHarness) -> None:
    invoice = await paid(stage, 60)
    case = await case_of(stage, invoice, "underpaid")
    resolve = "select railwatch.resolve_exception($1, actor => 'ann', resolution => $2)"
    assert await code_of(stage.database.value(resolve, case["id"], "made good")) == "RW001"
    assert await code_of(stage.database.value(resolve, case["id"], "")) == "RW001"
    await stage.pay(invoice, 40)
    await stage.mine(2)
    assert await stage.database.value(resolve, case["id"], "accepted") == "made good"

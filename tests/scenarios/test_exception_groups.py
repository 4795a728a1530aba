"""One row for each destination, kind and asset."""

from tests.scenarios.daemon_harness import DaemonHarness
from tests.scenarios.exception_checks import cases


async def test_dust_opens_one_exception_with_a_count_and_a_sum(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.database.value("select railwatch.cancel_invoice($1)", invoice.id)
    for _ in range(3):
        for _ in range(40):
            await stage.pay(invoice, 2)
        await stage.mine()
    row = await stage.database.row("select * from railwatch.exceptions where invoice_id = $1", invoice.id)
    assert row is not None
    assert (row["kind"], row["transfers"], row["amount"], row["round"]) == ("unexpected_payment", 120, 240, 1)
    assert await stage.database.value("select count(*) from railwatch.exceptions") == 1
    assert await stage.database.value("select count(*) from railwatch.transitions where subject = 'exception'") <= 9
    shown = await stage.database.row("select transfers, amount, rail, asset from railwatch.open_exceptions")
    assert shown is not None
    assert tuple(shown) == (120, 240, "story", row["asset"])
    covered = """
        select count(*) from railwatch.exception_transfers t join railwatch.detections x on x.id = t.detection_id
        where t.exception_id = $1 and t.left_at is null and x.kind = 'unexpected'"""
    assert await stage.database.value(covered, row["id"]) == 120


async def test_what_comes_after_a_persons_word_opens_a_row_of_its_own(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    await stage.database.value("select railwatch.cancel_invoice($1)", invoice.id)
    await stage.pay(invoice, 2)
    await stage.pay(invoice, 3)
    await stage.mine()
    known = await stage.database.value("select id from railwatch.exceptions")
    await stage.database.value(
        "select railwatch.resolve_exception($1, actor => 'ann', resolution => 'sent back')", known
    )
    evidence = await stage.database.value("select evidence from railwatch.transitions order by seq desc limit 1")
    assert (evidence["transfers"], evidence["sum"]) == (2, "5")
    await stage.pay(invoice, 4)
    await stage.mine()
    rows = await stage.database.rows(
        "select transfers, amount, round, resolution from railwatch.exceptions order by round"
    )
    assert [tuple(row) for row in rows] == [(2, 5, 1, "sent back"), (1, 4, 2, None)]
    await stage.sim.reorg(2)
    await stage.follows()
    await stage.mine(2)
    rows = await stage.database.rows(
        "select transfers, amount, round, resolution from railwatch.exceptions order by round"
    )
    assert rows[0]["resolution"] == "sent back"
    assert rows[0]["transfers"] == 2
    assert [row["transfers"] for row in rows if row["resolution"] is None] == [1]


async def test_dust_to_an_order_that_falls_short_tells_of_the_shortfall_once(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    for _ in range(6):
        await stage.pay(invoice, 3)
        await stage.mine(2)
        await stage.wait_for_state(invoice, "underpaid")
    assert await cases(stage, invoice) == [("underpaid", 1, None)]
    await stage.pay(invoice, 90)
    await stage.mine(2)
    assert ("underpaid", 1, "made good") in await cases(stage, invoice)

"""One row for each destination, kind and asset: it counts and sums the transfers that it holds."""

from railwatch.core.policy import Policy
from railwatch.core.states import InvoiceState
from tests.core.builders import TOKEN, UNKNOWN, invoice, pay
from tests.core.story import Story


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

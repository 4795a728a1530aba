"""What is owed arrives: signed, in the order of each invoice, again after a failure, and after a restart."""

import asyncio
import json
from collections import defaultdict
from uuid import UUID

import pytest
from aiohttp import web

from railwatch.store.errors import Refused
from railwatch.store.webhooks import FailedAttempt, record_attempts
from tests.webhooks.receiver import OLD_SECRET, SECRET, Got, Receiver, accept, receiver
from tests.webhooks.shop import Shop, until, webhook

NEW_SECRET = "whsec_" + "bmV3bmV3" * 4


async def test_an_event_arrives_signed_with_what_a_shop_needs(shop: Shop) -> None:
    invoice = await shop.order()
    async with receiver() as shopkeeper, shop.delivering(webhook(shopkeeper)):
        await until(shop.owes_nothing)
        [got] = shopkeeper.got
    data = got.event["data"]
    assert list(got.event) == ["type", "timestamp", "data"]
    assert got.event["type"] == "invoice.created"
    assert got.id == data["event_id"]
    assert (data["subject"], data["subject_id"], data["to_state"]) == ("invoice", str(invoice), "created")
    assert (data["seen_amount"], data["confirmed_amount"]) == ("0", "0")
    assert (data["invoice"]["id"], data["invoice"]["merchant_id"], data["invoice"]["order_id"]) == (
        str(invoice),
        "shop",
        "0",
    )
    assert (data["invoice"]["fiat_amount"], data["invoice"]["fiat_currency"]) == ("49.90000000", "EUR")
    [destination] = data["invoice"]["destinations"]
    assert destination["expected_amount"] == str(2**200)
    assert (destination["symbol"], destination["decimals"]) == ("COIN", 8)


async def test_each_invoices_events_come_in_order_and_one_after_another(shop: Shop) -> None:
    orders = [await shop.order() for _ in range(6)]
    for _ in range(10):
        for order in orders:
            await shop.emit(order)
    on_their_way: defaultdict[str, int] = defaultdict(int)
    most_of_one, most_of_all = 0, 0

    async def slowly(got: Got) -> int:
        nonlocal most_of_one, most_of_all
        on_their_way[got.invoice] += 1
        most_of_one = max(most_of_one, on_their_way[got.invoice])
        most_of_all = max(most_of_all, sum(on_their_way.values()))
        await asyncio.sleep(0.002)
        on_their_way[got.invoice] -= 1
        return 200

    async with receiver(behave=slowly) as shopkeeper, shop.delivering(webhook(shopkeeper)):
        await until(shop.owes_nothing)
    assert len(shopkeeper.got) == 66
    assert (most_of_one, most_of_all > 2) == (1, True)
    assert in_order(shopkeeper)


def in_order(shopkeeper: Receiver) -> bool:
    """Whether each invoice's events were first accepted in the feed's order, repeats aside."""
    seqs: defaultdict[str, dict[int, None]] = defaultdict(dict)
    for each in shopkeeper.accepted:
        seqs[each.invoice].setdefault(each.seq)
    return all(list(each) == sorted(each) for each in seqs.values())


async def test_what_failed_is_tried_again_in_the_same_words_and_the_next_of_its_invoice_waits(shop: Shop) -> None:
    failing, other = await shop.order(), await shop.order()
    await shop.emit(failing)
    await shop.emit(other)
    tries = 0

    async def twice_in_vain(got: Got) -> int:
        nonlocal tries
        if got.seq != 1:
            return 200
        tries += 1
        return [503, 404, 200][tries - 1]

    async with receiver(behave=twice_in_vain) as shopkeeper, shop.delivering(webhook(shopkeeper)):
        await until(shop.owes_nothing)
    first = [each for each in shopkeeper.got if each.seq == 1]
    assert (len(first), len({each.id for each in first}), len({each.body for each in first})) == (3, 1, 1)
    of_failing = [each.seq for each in shopkeeper.got if each.invoice == str(failing)]
    assert of_failing == [1, 1, 1, 3]
    assert {each.seq for each in shopkeeper.accepted} == {1, 2, 3, 4}


async def test_other_invoices_go_on_while_one_waits_for_its_next_attempt(shop: Shop) -> None:
    failing, other = await shop.order(), await shop.order()

    async def never_the_first(got: Got) -> int:
        return 500 if got.invoice == str(failing) else 200

    async with receiver(behave=never_the_first) as shopkeeper, shop.delivering(webhook(shopkeeper, first_pause=3600)):
        for _ in range(5):
            await shop.emit(failing)
            await shop.emit(other)
        await until(lambda: len(shopkeeper.accepted) == 6)
        assert len([each for each in shopkeeper.got if each.invoice == str(failing)]) == 1
    endpoint = (await shop.endpoints())["shop"]
    assert (endpoint["lag"], endpoint["pending"], endpoint["delivered"]) == (0, 6, 6)
    assert endpoint["last_failure"] == "HTTP 500"


async def test_the_next_attempt_is_made_when_its_pause_ends_not_at_the_next_poll(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("worker", "deliverer"):
        monkeypatch.setattr(f"railwatch.webhooks.{place}.POLL_SECONDS", 3600.0)
    for _ in range(3):
        await shop.order()

    async def only_the_third_time(got: Got) -> int:
        return 200 if len([each for each in shopkeeper.got if each.id == got.id]) >= 3 else 500

    async with receiver(behave=only_the_third_time) as shopkeeper, shop.delivering(webhook(shopkeeper)):
        await until(shop.owes_nothing)
    assert len(shopkeeper.got) == 9


async def test_only_2xx_counts_and_redirects_are_not_followed(shop: Shop) -> None:
    order = await shop.order()
    async with receiver() as elsewhere:
        target = elsewhere.url

        async def redirect(got: Got) -> web.StreamResponse:
            return web.Response(status=307, headers={"Location": target})

        async with receiver(behave=redirect) as shopkeeper:
            left = await shop.once(webhook(shopkeeper, attempts=1))
        assert (len(shopkeeper.got), elsewhere.got) == (1, [])
    assert left["shop"]["dead"] == 1
    assert left["shop"]["last_failure"] == "HTTP 307 (redirects are not followed)"
    assert order


async def test_a_slow_endpoint_holds_up_no_other(shop: Shop) -> None:
    orders = [await shop.order() for _ in range(30)]
    for order in orders:
        await shop.emit(order)
    release = asyncio.Event()

    async def stuck(got: Got) -> int:
        await release.wait()
        return 200

    async with receiver(behave=stuck) as slow, receiver() as quick:
        endpoints = (webhook(slow, "slow", concurrency=2), webhook(quick, "quick"))
        async with shop.delivering(*endpoints):
            await until(lambda: shop.owes_nothing("quick"))
            assert len(quick.accepted) == 60
            assert (len(slow.got), slow.accepted) == (2, [])
            release.set()
            await until(lambda: shop.owes_nothing("slow"))
    assert len(slow.accepted) == 60
    assert in_order(slow)


async def test_an_endpoint_gets_the_events_that_it_wants_and_no_others(shop: Shop) -> None:
    order = await shop.order()
    life = [("late_paid", "confirmed"), ("paid", "confirmed"), ("created", "reversed"), ("detected", "seen")]
    for to_state, reason in life:
        await shop.emit(order, to_state, reason)
    wishes = {
        "paid": ["invoice.paid", "invoice.reversed"],
        "all-paid": ["invoice.*paid"],
        "new": ["invoice.created"],
        "transfers": ["detection.*", "exception.open.*"],
    }
    async with receiver() as shopkeeper:
        left = await shop.once(*(webhook(shopkeeper, name, events=events) for name, events in wishes.items()))
    assert sorted(each.event["type"] for each in shopkeeper.got) == sorted(
        ["invoice.paid", "invoice.reversed", "invoice.late_paid", "invoice.paid", "invoice.created"]
    )
    assert {each["lag"] for each in left.values()} == {0}


async def test_a_new_endpoint_begins_now_unless_it_wants_the_whole_feed(shop: Shop) -> None:
    order = await shop.order()
    async with receiver() as fresh, receiver() as whole:
        endpoints = (webhook(fresh, "fresh", begin="now"), webhook(whole, "whole", begin="start"))
        await shop.once(*endpoints)
        await shop.emit(order)
        await shop.once(*endpoints)
    assert ([each.seq for each in fresh.got], [each.seq for each in whole.got]) == ([2], [1, 2])


async def test_while_secrets_change_both_are_good(shop: Shop) -> None:
    await shop.order()
    async with receiver(OLD_SECRET) as yesterday, receiver(NEW_SECRET) as tomorrow:
        rotating = {"secret": NEW_SECRET, "old_secret": OLD_SECRET}
        left = await shop.once(webhook(yesterday, "yesterday", **rotating), webhook(tomorrow, "tomorrow", **rotating))
        assert {each["pending"] for each in left.values()} == {0}
        assert len(yesterday.accepted) == len(tomorrow.accepted) == 1
        [got] = yesterday.got
        assert got.headers["webhook-signature"].count("v1,") == 2
        await shop.order()
        left = await shop.once(webhook(yesterday, "yesterday", secret=NEW_SECRET, attempts=1))
    assert left["yesterday"]["dead"] == 1, "the old secret is no longer signed with"


async def test_a_restart_goes_on_where_it_was(shop: Shop) -> None:
    first, second = await shop.order(), await shop.order()
    async with receiver() as shopkeeper:
        async with shop.delivering(webhook(shopkeeper)):
            await until(shop.owes_nothing)
        await shop.emit(first)
        async with shop.delivering(webhook(shopkeeper)):
            await until(shop.owes_nothing)
            await shop.emit(second)
            await until(shop.owes_nothing)
    assert [each.seq for each in shopkeeper.got] == [1, 2, 3, 4]


async def test_more_than_may_be_owed_waits_in_the_feed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("railwatch.webhooks.worker.PENDING_MAX", 1000)
    order = await shop.order()
    many = """
    with place as (update railwatch.feed_position set last_seq = last_seq + 3000 returning last_seq)
    insert into railwatch.transitions
        (seq, event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause)
    select last_seq - 3000 + n, gen_random_uuid(), 'invoice', $1, $1, 'created', 'detected', 'seen', 'chain'
    from place, generate_series(1, 3000) n
    """
    await shop.database.rows(many, order)

    async def refuse(_: Got) -> int:
        return 500

    async with receiver(behave=refuse) as shopkeeper:
        left = (await shop.once(webhook(shopkeeper, first_pause=3600)))["shop"]
        assert (left["pending"], left["lag"]) == (1000, 2001)
        await shop.database.rows("update railwatch.webhook_deliveries set lane = gen_random_uuid(), due_at = now()")
        shopkeeper.behave = accept
        left = (await shop.once(webhook(shopkeeper, concurrency=32)))["shop"]
    assert (left["pending"], left["lag"], left["delivered"]) == (0, 0, 3001)


FAIL_A_TYPE = """
with place as materialized (select railwatch.next_seq($1) as first)
insert into railwatch.transitions (seq, event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause)
select first + n - 1, gen_random_uuid(), 'invoice', gen_random_uuid(), gen_random_uuid(), 'created', 'detected', 'seen',
       'chain'
from place, generate_series(1, $1) n
"""


async def test_a_type_of_event_that_always_fails_does_not_stop_the_others(shop: Shop) -> None:
    """Three thousand events wait for their next attempt; a payment still goes out at once."""
    order = await shop.order()
    await shop.database.rows(FAIL_A_TYPE, 3000)

    async def refuse(got: Got) -> int:
        return 500 if got.event["type"] == "invoice.detected" else 200

    async def has_failed() -> bool:
        row = (await shop.endpoints()).get("shop", {"pending": 0})
        return bool(
            row["pending"] >= 3000
            and not await shop.database.value("select count(*) from railwatch.webhook_deliveries where attempts = 0")
        )

    async with receiver(behave=refuse) as shopkeeper, shop.delivering(webhook(shopkeeper, first_pause=3600)):
        await until(has_failed, 60)
        await shop.emit(order, "paid", "confirmed")
        await until(
            lambda: [each.event["type"] for each in shopkeeper.accepted] == ["invoice.created", "invoice.paid"], 5
        )


async def test_attempts_that_fail_slowly_leave_a_slot_for_what_is_new(shop: Shop) -> None:
    release = asyncio.Event()
    orders = [await shop.order() for _ in range(8)]

    async def hang(got: Got) -> int:
        if got.event["type"] == "invoice.created":
            return 200
        if got.event["type"] == "invoice.detected" and len([e for e in shopkeeper.got if e.id == got.id]) > 1:
            await release.wait()
        return 500 if got.event["type"] == "invoice.detected" else 200

    async with receiver(behave=hang) as shopkeeper, shop.delivering(webhook(shopkeeper, concurrency=4)):
        for each in orders[1:]:
            await shop.emit(each, "detected", "seen")
        await until(lambda: len(shopkeeper.got) >= 8 + 7 + 2)  # second attempts hang
        await asyncio.sleep(0.2)
        await shop.emit(orders[0], "paid", "confirmed")
        await until(lambda: "invoice.paid" in {each.event["type"] for each in shopkeeper.accepted}, 5)
        release.set()


async def test_an_answer_for_a_line_that_the_feed_has_lost_is_not_confused_with_another(shop: Shop) -> None:
    """Posted before a failover, emitted after it: on this side another event has the seq."""
    await shop.order()
    await shop.once(webhook("http://127.0.0.1:9/nobody", first_pause=3600))
    ours = await shop.database.value("select event_id from railwatch.webhook_deliveries where seq = 1")
    lost = UUID(int=1)
    await record_attempts(shop.database, "shop", [(1, lost)], [FailedAttempt(1, lost, 5, None, "x")])
    row = await shop.database.row("select event_id, state, attempts from railwatch.webhook_deliveries")
    assert tuple(row or ()) == (ours, "pending", 1)
    await record_attempts(shop.database, "shop", [(1, ours)], [])
    assert await shop.database.value("select count(*) from railwatch.webhook_deliveries") == 0


async def test_no_service_moves_the_deliverers_position(shop: Shop) -> None:
    await shop.order()
    with pytest.raises(Refused, match="webhook:"):
        await shop.database.value("select railwatch.ack('webhook:shop', 1)")
    async with receiver() as shopkeeper:
        await shop.once(webhook(shopkeeper))
        assert len(shopkeeper.accepted) == 1
    rows = await shop.database.rows("select name, position from railwatch.consumer_lag")
    assert [tuple(row) for row in rows] == [("webhook:shop", 1)]


async def test_the_end_of_a_deliverer_waits_for_what_is_on_its_way(shop: Shop) -> None:
    await shop.order()
    release = asyncio.Event()

    async def hold(_: Got) -> int:
        await release.wait()
        return 200

    async with receiver(behave=hold) as shopkeeper:
        async with shop.delivering(webhook(shopkeeper)) as running:
            await until(lambda: len(shopkeeper.got) == 1)
            running.end.set()
            asyncio.get_running_loop().call_later(0.2, release.set)
        assert await shop.owes_nothing()
        await shop.once(webhook(shopkeeper))
    assert len(shopkeeper.got) == 1


async def test_an_event_that_belongs_to_no_invoice_goes_out_too(shop: Shop) -> None:
    await shop.database.rows("alter table railwatch.transitions alter invoice_id drop not null")
    lonely = """
    with place as (update railwatch.feed_position set last_seq = last_seq + 1 returning last_seq)
    insert into railwatch.transitions (seq, event_id, subject, subject_id, to_state, reason, cause)
    select last_seq, gen_random_uuid(), 'exception', $1, 'open', 'unattributed_balance', 'chain' from place
    """
    await shop.database.rows(lonely, UUID(int=7))
    async with receiver() as shopkeeper:
        await shop.once(webhook(shopkeeper))
    [got] = shopkeeper.got
    assert got.event["data"]["invoice"] is None
    assert json.loads(got.body)["data"]["subject_id"] == str(UUID(int=7))
    assert SECRET.encode() not in got.body

"""What is owed arrives: signed, in the order of each invoice, again after a failure, and after a restart."""

import asyncio
import json
from collections import defaultdict

from aiohttp import web
from standardwebhooks import Webhook

from tests.deliver.receiver import OLD_SECRET, SECRET, Got, Receiver, accept, never, receiver
from tests.deliver.shop import Shop, until, webhook


async def test_an_event_arrives_signed_with_what_a_shop_needs(shop: Shop) -> None:
    invoice = await shop.order()
    async with receiver() as shopkeeper, shop.delivering(webhook(shopkeeper)):
        await until(shop.owes_nothing)
        [got] = shopkeeper.got
    assert got.event["type"] == "invoice.created"
    assert got.id == got.event["data"]["event_id"]
    assert got.event["data"]["invoice"]["order_id"] == "0"
    assert got.invoice == str(invoice)
    [destination] = got.event["data"]["invoice"]["destinations"]
    assert destination["expected_amount"] == str(2**200)


async def test_a_restart_goes_on_where_it_was(shop: Shop) -> None:
    first, second = await shop.order(), await shop.order()
    async with receiver() as shopkeeper:
        async with shop.delivering(webhook(shopkeeper)):
            await until(shop.owes_nothing)
        await shop.tell(first)
        async with shop.delivering(webhook(shopkeeper)):
            await until(shop.owes_nothing)
            await shop.tell(second)
            await until(shop.owes_nothing)
        assert [each.seq for each in shopkeeper.got] == [1, 2, 3, 4]

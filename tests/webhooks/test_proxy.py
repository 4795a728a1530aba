"""Events pass a proxy where one is configured; what is plainly inside is refused all the same."""

import time

import pytest
from aiohttp import web

from tests.nodes.proxies import http_proxy, socks5
from tests.webhooks.receiver import Got, receiver
from tests.webhooks.shop import Shop, webhook


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_events_are_posted_by_a_proxy(shop: Shop, kind: str) -> None:
    """It resolves the receiver's name: nothing else could reach an .onion address."""
    await shop.order()
    async with receiver() as shopkeeper, (http_proxy if kind == "http" else socks5)(shopkeeper.port) as proxy:
        await shop.once({**webhook(shopkeeper), "url": "http://shop.onion:80/hook"}, allow=(), proxy=proxy.url)
        assert len(shopkeeper.accepted) == 1
        assert all("shop.onion" in asked for asked in proxy.asked)
        proxy.refuses = True
        await shop.order()
        left = await shop.once({**webhook(shopkeeper), "url": "http://shop.onion:80/hook"}, allow=(), proxy=proxy.url)
        assert left["shop"]["pending"] == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "shop.example"])
async def test_a_proxy_is_no_way_to_the_inside_and_names_need_tls(shop: Shop, host: str) -> None:
    await shop.order()
    async with receiver() as shopkeeper, http_proxy(shopkeeper.port) as proxy:
        await shop.once(
            {**webhook(shopkeeper), "url": f"http://{host}:{shopkeeper.port}/hook"}, allow=(), proxy=proxy.url
        )
        assert (proxy.asked, shopkeeper.got) == ([], [])


async def test_a_receiver_may_name_the_date_until_which_to_wait(shop: Shop) -> None:
    await shop.order()

    async def later(_: Got) -> web.StreamResponse:
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 3600))
        return web.Response(status=503, headers={"Retry-After": date})

    async with receiver(behave=later) as shopkeeper:
        await shop.once(webhook(shopkeeper))
    wait = "select extract(epoch from due_at - now())::int from railwatch.webhook_deliveries"
    assert 3500 < await shop.database.value(wait) <= 3600

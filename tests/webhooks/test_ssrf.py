"""Nothing is posted to the inside of a network unless it is allowed: judged by the address that is connected to."""

import asyncio
import socket
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from aiohttp import web

from railwatch.webhooks.ssrf import AddressGuard, ForbiddenAddress, effective_address
from tests.webhooks.receiver import Got, receiver
from tests.webhooks.shop import Shop, webhook
from tests.webhooks.special_addresses import IPV4, IPV6

INSIDE = [
    *(
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.100.100.200",
    ),
    *("168.63.129.16", "224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1"),
    *("::1", "::", "fe80::1%lo", "fc00::1", "fd00:ec2::254", "ff02::1"),
    # IPv4 in the clothes of IPv6: mapped, compatible, 6to4, Teredo, NAT64.
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "2002:7f00:1::", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1"),
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
]
PUBLIC = ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:93.184.215.14", "64:ff9b::5db8:d70e"]


@pytest.mark.parametrize("address", INSIDE)
def test_the_inside_is_refused(address: str) -> None:
    with pytest.raises(ForbiddenAddress, match="is not a public address"):
        AddressGuard((), plain=False).check(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_the_outside_is_allowed_over_tls_only(address: str) -> None:
    AddressGuard((), plain=False).check(address)
    with pytest.raises(ForbiddenAddress, match="over https only"):
        AddressGuard((), plain=True).check(address)


def test_what_is_allowed_is_allowed_in_any_spelling_and_nothing_else() -> None:
    guard = AddressGuard((ip_network("10.1.0.0/16"),), plain=True)
    for address in ("10.1.2.3", "::ffff:10.1.2.3"):
        guard.check(address)
    for address in ("10.2.0.1", "::1", "127.0.0.1"):
        with pytest.raises(ForbiddenAddress):
            guard.check(address)


def test_an_address_means_what_packets_reach() -> None:
    assert str(effective_address("::ffff:127.0.0.1")) == "127.0.0.1"
    assert str(effective_address("64:ff9b::7f00:1")) == "127.0.0.1"


@pytest.mark.parametrize(
    "tunnel", ["2002:a01:203::1", "64:ff9b:1::a01:203", "2001:0:4136:e378:8000:63bf:f5fe:fdfc", "::10.1.2.3"]
)
def test_a_network_that_is_allowed_is_not_reached_through_a_tunnel(tunnel: str) -> None:
    guard = AddressGuard((ip_network("10.1.0.0/16"),), plain=True)
    guard.check("10.1.2.3")
    with pytest.raises(ForbiddenAddress):
        guard.check(tunnel)


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "0177.0.0.1"])
async def test_an_odd_notation_is_judged_by_what_it_resolves_to(host: str) -> None:
    """The configuration refuses them; the result of a lookup is checked all the same."""
    loop = asyncio.get_running_loop()
    for info in await loop.getaddrinfo(host, 443, type=socket.SOCK_STREAM):
        with pytest.raises(ForbiddenAddress, match="is not a public address"):
            AddressGuard((), plain=False).make_socket(info)


@pytest.mark.parametrize("row", [*IPV4, *IPV6])
def test_no_special_purpose_address_is_public(row: str) -> None:
    network = ip_network(row)
    for address in {network[0], network[network.num_addresses // 2], network[-1]}:
        with pytest.raises(ForbiddenAddress, match="is not a public address"):
            AddressGuard((), plain=False).check(str(address))


@pytest.mark.parametrize("row", IPV4)
@pytest.mark.parametrize("prefix", ["::ffff:0:0", "64:ff9b::", "64:ff9b:1::", "::"])
def test_nor_is_one_that_ipv6_carries(row: str, prefix: str) -> None:
    carried = ip_address(int(ip_address(prefix)) + int(ip_network(row)[0]))
    with pytest.raises(ForbiddenAddress):
        AddressGuard((), plain=False).check(str(carried))


@pytest.mark.parametrize(
    "address",
    [
        "192.0.0.192",
        "168.63.129.16",
        "fec0::1",
        "4000::1",
        "64:ff9b:1::808:808",
        "2002:808:808::1",
        "ff0e::1",
        "::8.8.8.8",
    ],
)
def test_what_no_registry_lists_and_no_shop_has_is_refused(address: str) -> None:
    with pytest.raises(ForbiddenAddress):
        AddressGuard((), plain=False).check(address)


NOT_PUBLIC = "is not a public address, and [deliver] allow does not name its network"
SPELLINGS = {
    **dict.fromkeys(("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"), NOT_PUBLIC),
}


@pytest.mark.parametrize("host", SPELLINGS)
async def test_a_receiver_on_loopback_gets_nothing_however_it_is_spelled(shop: Shop, host: str) -> None:
    await shop.order()
    async with receiver() as shopkeeper:
        url = shopkeeper.url.replace("127.0.0.1", host)
        left = (await shop.once(webhook(url, attempts=1), allow=["10.0.0.0/8"]))["shop"]
    assert shopkeeper.got == []
    assert left["dead"] == 1
    assert SPELLINGS[host] in left["last_failure"]


async def test_a_name_that_changes_its_address_between_two_lookups_changes_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resolver is the attacker's: whatever it says last is what counts."""
    asked: list[str] = []

    def rebinding(host: str, port: Any, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    await shop.order()
    async with receiver() as shopkeeper:
        url = shopkeeper.url.replace("127.0.0.1", "shop.example")
        left = (await shop.once(webhook(url, attempts=1), allow=[]))["shop"]
    assert asked == ["shop.example"]
    assert shopkeeper.got == []
    assert "127.0.0.1 is not a public address" in left["last_failure"]


async def test_an_allowed_receiver_is_reached_by_name(shop: Shop) -> None:
    await shop.order()
    async with receiver() as shopkeeper:
        await shop.once(webhook(shopkeeper.url.replace("127.0.0.1", "localhost")))
    assert len(shopkeeper.got) == 1


async def test_a_redirect_leads_nowhere(shop: Shop) -> None:
    await shop.order()

    async def to_metadata(_: Got) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "http://169.254.169.254/latest/meta-data"})

    async with receiver(behave=to_metadata) as shopkeeper:
        left = (await shop.once(webhook(shopkeeper, attempts=1)))["shop"]
    assert left["last_failure"] == "HTTP 302 (redirects are not followed)"

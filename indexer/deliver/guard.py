"""Where a post may go: nowhere inside, unless the configuration allows it (server-side request forgery).

The address is looked at when the socket for it is made, after every lookup and whatever the URL said. A name that
resolves differently the second time, a number in an odd notation, or an IPv4 address in the clothes of IPv6 changes
nothing about that.
"""

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

SERVICES_OF_CLOUDS = (ip_network("168.63.129.16/32"),)
"""Metadata that answers under a public address. The others are link-local, shared or unique-local, and not global."""

NAT64 = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
COMPATIBLE = ip_network("::/96")


class Forbidden(OSError):
    """The endpoint's address is one that nothing may be posted to."""


class Guard:
    """Which addresses one endpoint may have: public ones, and those in ``allowed``; without TLS only the latter."""

    def __init__(self, allowed: Sequence[Network], *, plain: bool) -> None:
        self._allowed = allowed
        self._plain = plain

    def check(self, text: str) -> None:
        """Raises `Forbidden` for an address that is not allowed."""
        address = meant(text)
        if any(address in network for network in self._allowed):
            return
        if not is_public(address):
            raise Forbidden(f"{address} is not a public address, and [deliver] allow does not name its network")
        if self._plain:
            raise Forbidden(f"{address} is public, and events go there over https only")

    def make_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for one result of a lookup, as aiohttp asks for it. Raises `Forbidden`."""
        family, kind, protocol, _, place = info
        self.check(place[0])
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made


def meant(text: str) -> Address:
    """The address that packets to ``text`` reach: the IPv4 one, where IPv6 only wraps it."""
    address = ip_address(text.partition("%")[0])
    return address if isinstance(address, IPv4Address) else _unwrapped(address)


def _unwrapped(address: IPv6Address) -> Address:
    wrapped = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
    if wrapped is not None:
        return wrapped
    if any(address in network for network in NAT64) or (address in COMPATIBLE and int(address) > 1):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Whether it belongs to nobody's inside."""
    inside = address.is_multicast or address.is_reserved or any(address in each for each in SERVICES_OF_CLOUDS)
    return address.is_global and not inside

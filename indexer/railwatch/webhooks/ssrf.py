"""Where a post may go: nowhere inside, unless the configuration allows it (server-side request forgery).

The address is looked at when the socket for it is made, after every lookup and whatever the URL said. A name that
resolves differently the second time, a number in an odd notation, or an IPv4 address in the clothes of IPv6 changes
nothing about that. What is public is said here, row by row, and not by the library: its lists change with its version.
"""

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

SERVICES_OF_CLOUDS = (IPv4Network("168.63.129.16/32"),)
"""Metadata that answers under a public address. The others are link-local, shared or unique-local, and not global."""

SPECIAL_4 = tuple(
    IPv4Network(each)
    for each in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    )
)
"""IANA's registry of special-purpose IPv4 addresses (RFC 6890), whole, and multicast: no shop has one of these."""

UNICAST_6 = IPv6Network("2000::/3")
"""All of IPv6 that is given to anybody (RFC 4291). Whatever lies outside is inside of something."""

SPECIAL_6 = tuple(
    IPv6Network(each) for each in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)
"""What IANA's registry of special-purpose IPv6 addresses has within `UNICAST_6`: Teredo, 6to4 and documentation."""

TRANSLATED = IPv6Network("64:ff9b::/96")
"""How a network that has IPv6 only reaches a public IPv4 address (RFC 6052)."""


class ForbiddenAddress(OSError):
    """The endpoint's address is one that nothing may be posted to."""


class AddressGuard:
    """Which addresses one endpoint may have: public ones, and those in ``allowed``; without TLS only the latter."""

    def __init__(self, allowed: Sequence[Network], *, plain: bool) -> None:
        self._allowed = allowed
        self._plain = plain

    def check(self, text: str) -> None:
        """Raises `ForbiddenAddress` for an address that is not allowed."""
        address = effective_address(text)
        if any(address in network for network in self._allowed):
            return
        if not is_public(address):
            raise ForbiddenAddress(f"{address} is not a public address, and [deliver] allow does not name its network")
        if self._plain:
            raise ForbiddenAddress(f"{address} is public, and events go there over https only")

    def make_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for one result of a lookup, as aiohttp asks for it. Raises `ForbiddenAddress`."""
        family, kind, protocol, _, place = info
        self.check(place[0])
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made


def effective_address(text: str) -> Address:
    """Return the address that packets to ``text`` reach: the IPv4 one that is mapped, or that NAT64 translates to.

    What other tunnels lead to depends on somebody's router, so they stay what they are, and are no public addresses.
    """
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in TRANSLATED:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Return whether it belongs to nobody's inside."""
    if isinstance(address, IPv4Address):
        return not any(address in each for each in (*SPECIAL_4, *SERVICES_OF_CLOUDS))
    return address in UNICAST_6 and not any(address in each for each in SPECIAL_6)

"""The allowed addresses of endpoints: no internal ones, unless the configuration allows them (SSRF).

The guard checks the address when it creates the socket, after every lookup and independent of the URL. So it also
catches a name that resolves differently the second time, an unusual notation, and an IPv4 address mapped into IPv6.
The list of public networks is written out here: a library's list changes with its version.
"""

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

SERVICES_OF_CLOUDS = (IPv4Network("168.63.129.16/32"),)
"""Cloud metadata services with a public address. The others are link-local, shared or unique-local."""

SPECIAL_4 = tuple(
    IPv4Network(each)
    for each in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    )
)
"""IANA's whole registry of special-purpose IPv4 addresses (RFC 6890), and multicast."""

UNICAST_6 = IPv6Network("2000::/3")
"""The global unicast range of IPv6 (RFC 4291). No address outside of it is public."""

SPECIAL_6 = tuple(
    IPv6Network(each) for each in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)
"""IANA's special-purpose IPv6 addresses within `UNICAST_6`: Teredo, 6to4 and documentation."""

TRANSLATED = IPv6Network("64:ff9b::/96")
"""The prefix by which an IPv6-only network reaches a public IPv4 address (RFC 6052)."""


class ForbiddenAddress(OSError):
    """An address to which no event may be sent."""


class AddressGuard:
    """The allowed addresses of one endpoint: public ones and those in ``allowed``; without TLS only the latter."""

    def __init__(self, allowed: Sequence[Network], *, plain: bool) -> None:
        self._allowed = allowed
        self._plain = plain

    def check(self, text: str) -> None:
        """Raise `ForbiddenAddress` for an address that is not allowed."""
        address = effective_address(text)
        if any(address in network for network in self._allowed):
            return
        if not is_public(address):
            raise ForbiddenAddress(f"{address} is not a public address, and [deliver] allow does not name its network")
        if self._plain:
            raise ForbiddenAddress(
                f"{address} is public, and events go to public addresses over https only; use an https:// url"
            )

    def make_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Return a socket for one result of a lookup. Raises `ForbiddenAddress`."""
        family, kind, protocol, _, place = info
        self.check(place[0])
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made


def effective_address(text: str) -> Address:
    """Return the address that packets to ``text`` reach: a mapped IPv4 address, or the one that NAT64 translates to.

    The target of other tunnels depends on routers, so their addresses stay unchanged, and are not public.
    """
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in TRANSLATED:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Return True if the address is globally reachable and not internal to a network."""
    if isinstance(address, IPv4Address):
        return not any(address in each for each in (*SPECIAL_4, *SERVICES_OF_CLOUDS))
    return address in UNICAST_6 and not any(address in each for each in SPECIAL_6)

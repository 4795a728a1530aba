"""One node's table of the configuration, checked once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Self
from urllib.parse import urlsplit

from railwatch.rail import ChainId, RailUnavailable
from railwatch.rail.decoding import read_quantity
from railwatch.rail.options import (
    HTTP_KEYS,
    HttpOptions,
    public_name,
    read_http,
    read_url,
    reject_unknown_keys,
    require_url,
)

KEYS = ("http", "ws", "metered", *HTTP_KEYS)

OWN_NAMES = (".local", ".localhost", ".internal", ".lan", ".home", ".home.arpa", ".intranet", ".test", ".onion")


@dataclass(frozen=True, slots=True)
class EvmOptions:
    """Where a node answers. ``name`` is what logs and evidence say: no credentials, no path, no query."""

    http: str
    ws: str | None
    timeout: float
    name: str
    metered: bool = False
    """The endpoint counts what it is asked, as hosted plans do: it is asked seldom, and for several blocks at once."""
    options: HttpOptions = field(default_factory=HttpOptions)
    """Headers with an API key, a proxy, a private authority."""

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Self:
        """Read ``{http, ws?, metered?, timeout?, headers?, proxy?, ca?}``.

        Raises ValueError that names the wrong key and never repeats its value.
        """
        reject_unknown_keys(table, KEYS)
        http = require_url(table, "http", "JSON-RPC", "http", "https")
        options = read_http(table)
        metered = table.get("metered", is_public(http))
        if not isinstance(metered, bool):
            raise ValueError("node: metered must be true or false; without it a node at a public address is metered")  # noqa: TRY004
        return cls(http, read_url(table, "ws", "ws", "wss"), options.timeout, public_name(http), metered, options)


def is_public(url: str) -> bool:
    """Whether a URL leads out of one's own networks, as far as its text says."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith(OWN_NAMES)


def check_chain(name: str, answer: str, expected: ChainId) -> None:
    """Compare eth_chainId's hex with the configured chain. Raises `RailUnavailable`, saying both."""
    actual = f"eip155:{read_quantity(answer, f'{name} eth_chainId')}"
    if actual != expected:
        raise RailUnavailable(f"{name} is chain {actual}, expected {expected}")

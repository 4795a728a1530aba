"""One node's table of the configuration, checked once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from indexer.rail import ChainId, RailUnavailable
from indexer.rail.decoding import read_quantity
from indexer.rail.tables import HTTP_KEYS, HttpOptions, check_keys, need_url, public_name, read_http, read_url

KEYS = ("http", "ws", *HTTP_KEYS)


@dataclass(frozen=True, slots=True)
class EvmNode:
    """Where a node answers. ``name`` is what logs and evidence say: no credentials, no path, no query."""

    http: str
    ws: str | None
    timeout: float
    name: str
    options: HttpOptions = field(default_factory=HttpOptions)
    """Headers with an API key, a proxy, a private authority."""

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Self:
        """Read ``{http, ws?, timeout?, headers?, proxy?, ca?}``.

        Raises ValueError that names the wrong key and never repeats its value.
        """
        check_keys(table, KEYS)
        http = need_url(table, "http", "JSON-RPC", "http", "https")
        options = read_http(table)
        return cls(http, read_url(table, "ws", "ws", "wss"), options.timeout, public_name(http), options)


def check_chain(name: str, answer: str, expected: ChainId) -> None:
    """Compare eth_chainId's hex with the configured chain. Raises `RailUnavailable`, saying both."""
    actual = f"eip155:{read_quantity(answer, f'{name} eth_chainId')}"
    if actual != expected:
        raise RailUnavailable(f"{name} is chain {actual}, expected {expected}")

"""One node's table of the configuration, checked once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from indexer.rail import ChainId, RailUnavailable
from indexer.rail.decoding import read_quantity
from indexer.rail.tables import check_keys, need_url, public_name, read_timeout, read_url

KEYS = ("http", "ws", "timeout")


@dataclass(frozen=True, slots=True)
class EvmNode:
    """Where a node answers. ``name`` is what logs and evidence say: no credentials, no path, no query."""

    http: str
    ws: str | None
    timeout: float
    name: str

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Self:
        """Read ``{http, ws?, timeout?}``. Raises ValueError that names the wrong key and never repeats its value."""
        check_keys(table, KEYS)
        http = need_url(table, "http", "JSON-RPC", "http", "https")
        return cls(http, read_url(table, "ws", "ws", "wss"), read_timeout(table), public_name(http))


def check_chain(name: str, answer: str, expected: ChainId) -> None:
    """Compare eth_chainId's hex with the configured chain. Raises `RailUnavailable`, saying both."""
    actual = f"eip155:{read_quantity(answer, f'{name} eth_chainId')}"
    if actual != expected:
        raise RailUnavailable(f"{name} is chain {actual}, expected {expected}")

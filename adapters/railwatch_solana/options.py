"""One node's table of the configuration, checked once, and what names a chain."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from railwatch.rail import ChainId, RailUnavailable
from railwatch.rail.options import (
    HTTP_KEYS,
    HttpOptions,
    public_name,
    read_http,
    read_url,
    reject_unknown_keys,
    require_url,
)

KEYS = ("http", "ws", *HTTP_KEYS)
NAMESPACE = "solana:"
REFERENCE_LENGTH = 32
"""Characters of the genesis hash that name a chain (CAIP-2, namespace ``solana``)."""


@dataclass(frozen=True, slots=True)
class SolanaOptions:
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
        reject_unknown_keys(table, KEYS)
        http = require_url(table, "http", "JSON-RPC", "http", "https")
        options = read_http(table)
        return cls(http, read_url(table, "ws", "ws", "wss"), options.timeout, public_name(http), options)


def chain_of(genesis: str) -> ChainId:
    """Return the chain that begins with this genesis hash."""
    return ChainId(NAMESPACE + genesis[:REFERENCE_LENGTH])


def check_chain(name: str, genesis: str, expected: ChainId) -> None:
    """Compare the node's genesis hash with the configured chain. Raises `RailUnavailable`, saying both (E23)."""
    if (actual := chain_of(genesis)) != expected:
        raise RailUnavailable(f"{name} is chain {actual}, expected {expected}")

"""One node's table of the configuration, checked once, and what names a chain."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from indexer.rail import ChainId, RailUnavailable

KEYS = ("http", "ws", "timeout")
TIMEOUT_SECONDS = 10.0
NAMESPACE = "solana:"
REFERENCE_LENGTH = 32
"""Characters of the genesis hash that name a chain (CAIP-2, namespace ``solana``)."""


@dataclass(frozen=True, slots=True)
class SolanaNode:
    """Where a node answers. ``name`` is what logs and evidence say: no credentials, no path, no query."""

    http: str
    ws: str | None
    timeout: float
    name: str

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Self:
        """Read ``{http, ws?, timeout?}``. Raises ValueError that names the wrong key and never repeats its value."""
        if unknown := sorted(set(table) - set(KEYS)):
            raise ValueError(f"node: unknown key {unknown[0]!r}; known are {', '.join(KEYS)}")
        if "http" not in table:
            raise ValueError("node: http is missing: the URL that JSON-RPC is served at")
        http = _url("http", table["http"], ("http", "https"))
        ws = table.get("ws")
        ws = None if ws is None else _url("ws", ws, ("ws", "wss"))
        return cls(http, ws, _timeout(table.get("timeout", TIMEOUT_SECONDS)), _name(http))


def chain_of(genesis: str) -> ChainId:
    """The chain that begins with this genesis hash."""
    return ChainId(NAMESPACE + genesis[:REFERENCE_LENGTH])


def check_chain(name: str, genesis: str, expected: ChainId) -> None:
    """Compare the node's genesis hash with the configured chain. Raises `RailUnavailable`, saying both (E23)."""
    if (actual := chain_of(genesis)) != expected:
        raise RailUnavailable(f"{name} is chain {actual}, expected {expected}")


def _url(key: str, value: object, schemes: tuple[str, str]) -> str:
    """The URL itself if it is one. An API key may be part of it, so no message may hold it."""
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        good = parts is not None and parts.scheme in schemes and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ValueError(f"node: {key} must be a URL that starts with {schemes[0]}:// or {schemes[1]}://")
    return str(value)


def _timeout(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 600:
        raise ValueError("node: timeout must be a number of seconds, more than 0 and at most 600")
    return float(value)


def _name(url: str) -> str:
    """Scheme, host and port only: credentials and API keys live in the rest."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")

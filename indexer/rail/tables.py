"""What every adapter reads of the configuration: the node's table, and the rail's options in heights.

Each function raises ValueError that names the wrong key and never repeats its value, which may be a secret.
"""

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from indexer.rail.types import RailSettings

TIMEOUT_SECONDS = 10.0
TIMEOUT_MOST = 600.0
HEIGHTS = ("lookback", "span_max", "horizon")
"""Options of a rail that are heights, each as in `Traits`."""


def check_keys(table: Mapping[str, Any], known: Collection[str]) -> None:
    """A typo must not pass for a default."""
    if unknown := sorted(set(table) - set(known)):
        raise ValueError(f"node: unknown key {unknown[0]!r}; known are {', '.join(known)}")


def read_url(table: Mapping[str, Any], key: str, *schemes: str) -> str | None:
    """The URL at ``key``, of one of ``schemes``; None where there is none."""
    value = table.get(key)
    if value is None:
        return None
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        good = parts is not None and parts.scheme in schemes and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        wanted = " or ".join(f"{scheme}://" for scheme in schemes)
        raise ValueError(f"node: {key} must be a URL that starts with {wanted}")
    return str(value)


def need_url(table: Mapping[str, Any], key: str, what: str, *schemes: str) -> str:
    """The URL at ``key``, which must be there; ``what`` says what it is for."""
    url = read_url(table, key, *schemes)
    if url is None:
        raise ValueError(f"node: {key} is missing: the URL that {what} is served at")
    return url


def read_timeout(table: Mapping[str, Any]) -> float:
    """How long one answer may take, in seconds."""
    value = table.get("timeout", TIMEOUT_SECONDS)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= TIMEOUT_MOST:
        raise ValueError(f"node: timeout must be a number of seconds, more than 0 and at most {TIMEOUT_MOST:g}")
    return float(value)


def public_name(url: str) -> str:
    """What logs and evidence call a node: scheme, host and port. Credentials and API keys live in the rest."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def read_heights(rail: RailSettings) -> dict[str, Any]:
    """The options that change a trait."""
    heights = {key: rail.options[key] for key in HEIGHTS if key in rail.options}
    for key, value in heights.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"rail {rail.name}: option {key} must be a whole number of blocks, at least 1")
    return heights

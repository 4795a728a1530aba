"""What every adapter reads of the configuration: the node's table, and the rail's options in heights.

Each function raises ValueError that names the wrong key and never repeats its value, which may be a secret.
"""

import re
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from railwatch.rail.printable import is_visible, quoted
from railwatch.rail.types import RailSettings

__all__ = [
    "HTTP_KEYS",
    "HttpOptions",
    "height_options",
    "public_name",
    "read_http",
    "read_proxy",
    "read_url",
    "reject_unknown_keys",
    "require_url",
]

TIMEOUT_SECONDS = 10.0
TIMEOUT_MAX = 600.0
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
"""A token of RFC 9110."""
OWN_HEADERS = ("accept-encoding", "connection", "content-length", "content-type", "host", "transfer-encoding")
"""What a request needs to be one is not the configuration's to say."""
HEIGHTS = ("lookback", "span_max", "horizon")
"""Options of a rail that are heights, each as in `Traits`."""


def reject_unknown_keys(table: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise ValueError for an unknown key: a typo must not pass for a default."""
    if unknown := sorted(set(table) - set(known)):
        raise ValueError(f"node: unknown key {quoted(unknown[0])}; known are {', '.join(known)}")


def read_url(table: Mapping[str, Any], key: str, *schemes: str) -> str | None:
    """Return the URL at ``key``, of one of ``schemes``, or None if the key is absent."""
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


def require_url(table: Mapping[str, Any], key: str, what: str, *schemes: str) -> str:
    """Return the URL at ``key``, which must be present; ``what`` says what it is for."""
    url = read_url(table, key, *schemes)
    if url is None:
        raise ValueError(f"node: {key} is missing: the URL that {what} is served at")
    return url


def read_timeout(table: Mapping[str, Any]) -> float:
    """Return how long one answer may last, in seconds."""
    value = table.get("timeout", TIMEOUT_SECONDS)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= TIMEOUT_MAX:
        raise ValueError(f"node: timeout must be a number of seconds, more than 0 and at most {TIMEOUT_MAX:g}")
    return float(value)


def read_headers(table: Mapping[str, Any]) -> dict[str, str]:
    """Return the ``headers`` of every request to the node: many hosted endpoints expect an API key there.

    Each value may come by reference (``"api-key_file"``, ``_env``, ``_credential``), as any secret of a node.
    """
    headers = table.get("headers", {})
    if not isinstance(headers, Mapping):
        raise ValueError(  # noqa: TRY004 (what a table gets wrong is always a ValueError)
            'node: headers must be a table, such as { "api-key_file" = "node.key" }'
        )
    for name, value in headers.items():
        if not HEADER_NAME.fullmatch(name) or name.lower() in OWN_HEADERS:
            raise ValueError(f"node: headers: {name[:40]!r} is no header that may be set")
        if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value:
            raise ValueError(f"node: headers: the value of {name} must be a plain text that is not empty")
    return dict(headers)


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How a node is reached: what every adapter that speaks HTTP or websockets has in its node's table.

    ``proxy`` is a URL of http, socks5 or socks4, by which names are resolved as well (Tor). ``ca`` holds certificates
    in PEM, which are trusted in place of the system's. Both, and ``headers``, may hold secrets.
    """

    timeout: float = TIMEOUT_SECONDS
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxy: str | None = field(default=None, repr=False)
    ca: str | None = field(default=None, repr=False)


HTTP_KEYS = ("timeout", "headers", "proxy", "ca")
PROXY_SCHEMES = ("http", "socks5", "socks5h", "socks4")


def read_http(table: Mapping[str, Any]) -> HttpOptions:
    """``{timeout?, headers?, proxy?, ca?}``; ``ca_file`` names the file that ``ca`` is read from."""
    return HttpOptions(read_timeout(table), read_headers(table), read_proxy(table.get("proxy")), _ca(table.get("ca")))


def read_proxy(value: object) -> str | None:
    """Return the URL of a proxy, with host and port, or None if the key is absent."""
    if value is None:
        return None
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        good = parts is not None and parts.scheme in PROXY_SCHEMES and parts.hostname and parts.port
        good = good and all(map(is_visible, str(value)))
    except ValueError:
        good = False
    if not good:
        wanted = ", ".join(f"{scheme}://" for scheme in PROXY_SCHEMES)
        raise ValueError(f"node: proxy must be a URL with host and port that starts with one of {wanted}")
    return str(value)


def _ca(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or "-----BEGIN CERTIFICATE-----" not in value:
        raise ValueError("node: ca must hold certificates in PEM form; ca_file names a file with them")
    try:
        ssl.create_default_context(cadata=value)
    except ssl.SSLError as error:
        raise ValueError(f"node: ca holds certificates that cannot be read: {error.reason}") from None
    return value


def public_name(url: str) -> str:
    """Return what logs and evidence call a node: scheme, host and port, without credentials and API keys."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def height_options(rail: RailSettings, *own: str) -> dict[str, Any]:
    """Return the options that change a trait. ``own``: the adapter's further options. Other keys raise ValueError."""
    if unknown := sorted(set(rail.options) - {*HEIGHTS, *own}):
        known = ", ".join((*own, *HEIGHTS))
        raise ValueError(f"rail {rail.name}: unknown option {quoted(unknown[0])}; known are {known}")
    heights = {key: rail.options[key] for key in HEIGHTS if key in rail.options}
    for key, value in heights.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"rail {rail.name}: option {key} must be a whole number of blocks, at least 1")
    return heights

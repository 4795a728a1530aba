"""One node's table of the configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from railwatch.rail.options import HTTP_KEYS, HttpOptions, public_name, read_http, reject_unknown_keys, require_url


@dataclass(frozen=True, slots=True)
class TinyOptions:
    """The URL of a node, its public name, and how to reach it."""

    http: str
    name: str
    options: HttpOptions

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Self:
        """Read ``{http, timeout?, headers?, proxy?, ca?}``. Raises ValueError that names the wrong key."""
        reject_unknown_keys(table, ("http", *HTTP_KEYS))
        url = require_url(table, "http", "JSON-RPC", "http", "https")
        return cls(url, public_name(url), read_http(table))

"""Which node a URL belongs to: recordings name nodes by their place in the configuration, and never by a URL."""

from collections.abc import Iterable, Mapping
from typing import Any

from railwatch.replay.cleaning import node_name, urls_of


class NodeNames:
    """The names of a rail's nodes, found by the URLs of their tables."""

    def __init__(self, tables: Iterable[Mapping[str, Any]]) -> None:
        numbered = enumerate(tables, 1)
        named = [(url.rstrip("/"), node_name(number)) for number, table in numbered for url in urls_of(table)]
        self._named = sorted(named, key=lambda pair: -len(pair[0]))

    def split(self, url: str) -> tuple[str, str]:
        """Return the name of the node that ``url`` leads to, and the rest of its path. Unknown URLs are `node-?`."""
        for base, name in self._named:
            if url.startswith(base):
                return name, url[len(base) :]
        return "node-?", ""

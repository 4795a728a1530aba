"""What must not get into a recording: URLs, credentials, keys, cookies, and whatever a node repeats of them."""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import msgspec

from railwatch.config import NodeConfig
from railwatch.config.nodes import NODE_SCHEMES

REMOVED = "REMOVED"
SHORTEST = 6
"""Characters of a secret that is removed wherever it occurs. Removing every "1" would remove the chain with it."""
SHORTEST_PATH = 8
"""Characters from which a part of a URL's path may be a key."""
KEPT_HEADERS = ("content-type", "retry-after")
"""Headers of answers that an adapter may read. No other is recorded."""
WORDS = frozenset({"jsonrpc", "ethereum", "bitcoin", "litecoin", "dogecoin", "polygon", "arbitrum", "optimism"})
"""Parts of paths that are no keys: removing them would damage every answer."""
HOME = ("localhost", "127.0.0.1", "::1")
_URL = re.compile(r"^[a-z][a-z0-9+.-]*://")


def node_name(number: int) -> str:
    """Return what a recording calls the rail's ``number``-th node, from 1."""
    return f"node-{number}"


def clean_node(node: NodeConfig, number: int) -> dict[str, Any]:
    """Return a node's table with URLs that lead nowhere, its numbers and switches, and nothing else."""
    kept: dict[str, Any] = {}
    for key, value in node.reveal().items():
        if key in NODE_SCHEMES:
            kept[key] = _clean_url(value, key, number)
        elif isinstance(value, bool | int | float):
            kept[key] = value
    return kept


def _clean_url(value: Any, key: str, number: int) -> Any:
    if isinstance(value, list):
        return [_clean_url(each, key, number) for each in value]
    scheme = NODE_SCHEMES[key][0]
    return f"{scheme}://{node_name(number)}.invalid:{list(NODE_SCHEMES).index(key) + 1}"


def urls_of(node: Mapping[str, Any]) -> list[str]:
    """Return the URLs of a node's table."""
    values = [each for value in node.values() for each in (value if isinstance(value, list) else [value])]
    return [each for each in values if isinstance(each, str) and _URL.match(each)]


class Cleaner:
    """Removes the secrets of some nodes from whatever is to be written."""

    def __init__(self, nodes: Iterable[NodeConfig]) -> None:
        tables = [node.reveal() for node in nodes]
        self._secrets = sorted(_spellings(each for table in tables for each in _secrets_of(table)), key=len)[::-1]
        self._cookies = [Path(table["cookie_path"]) for table in tables if isinstance(table.get("cookie_path"), str)]

    def clean(self, body: bytes) -> bytes:
        """Return ``body`` with every secret replaced by `REMOVED`."""
        for secret in (*self._secrets, *_spellings(self._cookie_secrets())):
            if secret in body:
                body = body.replace(secret, REMOVED.encode())
        return body

    def clean_json(self, value: Any) -> Any:
        """Return a JSON value after `clean`."""
        return msgspec.json.decode(self.clean(msgspec.json.encode(value)))

    def _cookie_secrets(self) -> Iterator[str]:
        """Return the secrets of all cookies. Each call reads the files, because a node's start changes its cookie."""
        for path in self._cookies:
            try:
                yield from _of_credentials(*path.read_text("utf-8").strip().partition(":")[::2])
            except (OSError, UnicodeDecodeError):
                continue


def _secrets_of(table: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(table.get("password"), str):
        yield from _of_credentials(str(table.get("user", "")), table["password"])
    for key, value in table.items():
        if key in NODE_SCHEMES:
            for url in value if isinstance(value, list) else [value]:
                yield from _of_url(str(url))
        elif isinstance(value, dict):
            for each in value.values():
                yield str(each)
                # "Bearer KEY": the key alone is as secret.
                yield from str(each).split()
        elif isinstance(value, str):
            yield from (_of_url(value) if _URL.match(value) else [value])


def _of_credentials(user: str, password: str) -> Iterator[str]:
    yield password
    yield base64.b64encode(f"{user}:{password}".encode()).decode()


def _of_url(url: str) -> Iterator[str]:
    parts = urlsplit(url)
    if parts.password is not None:
        yield from _of_credentials(unquote(parts.username or ""), unquote(parts.password))
    if parts.username is not None:
        yield parts.username
    if parts.hostname and parts.hostname not in HOME:
        yield parts.hostname
    for part in parts.path.split("/"):
        if len(part) >= SHORTEST_PATH and part.lower() not in WORDS:
            yield part
    yield from (value for _, value in parse_qsl(parts.query))
    yield parts.fragment


def _spellings(secrets: Iterable[str]) -> set[bytes]:
    """Return each secret as it may occur in a body: as it is, in JSON, in a URL."""
    found: set[bytes] = set()
    for secret in secrets:
        if len(secret) >= SHORTEST:
            for spelling in (secret, unquote(secret), quote(secret, safe="")):
                found |= {spelling.encode(), msgspec.json.encode(spelling)[1:-1]}
    return found

"""One node's table of the configuration, checked once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from railwatch.rail.options import HTTP_KEYS, HttpOptions, public_name, read_http, reject_unknown_keys, require_url

KEYS = ("rpc", "user", "password", "cookie_path", "zmq", "rest", *HTTP_KEYS)


@dataclass(frozen=True, slots=True)
class BitcoinOptions:
    """Where a node answers, and how it knows us. ``name`` is what logs and evidence say: scheme, host and port.

    ``rest``: whether blocks may be fetched over REST; None: where the node serves it.
    """

    rpc: str
    user: str | None
    password: str | None
    cookie_path: Path | None
    zmq: tuple[str, ...]
    rest: bool | None
    timeout: float
    name: str
    options: HttpOptions = field(default_factory=HttpOptions)
    """Headers with an API key, a proxy, a private authority."""

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Self:
        """Read ``{rpc, user?, password?, cookie_path?, zmq?, rest?, timeout?, headers?, proxy?, ca?}``.

        ``zmq`` is one endpoint, or a list of them where the node publishes its topics at several. Raises ValueError
        that names the wrong key and never repeats its value.
        """
        reject_unknown_keys(table, KEYS)
        rpc = _rpc(table)
        user, password = _text(table, "user"), _text(table, "password")
        cookie = _text(table, "cookie_path")
        if (user is None) != (password is None):
            raise ValueError(f"node: {'password' if password is None else 'user'} is missing; set both, or neither")
        if cookie is not None and user is not None:
            raise ValueError("node: cookie_path and user exclude each other; set one of them")
        rest = table.get("rest")
        if rest is not None and not isinstance(rest, bool):
            raise ValueError("node: rest must be true or false; without it REST is used where the node serves it")
        path = None if cookie is None else Path(cookie)
        zmq, options = _zmq(table.get("zmq")), read_http(table)
        if zmq and options.proxy is not None and not options.proxy.startswith("socks5"):
            raise ValueError("node: zmq passes a socks5:// proxy only; leave zmq out, and the daemon polls")
        return cls(rpc, user, password, path, zmq, rest, options.timeout, public_name(rpc), options)

    def credentials(self) -> str | None:
        """``user:password``, read anew from the cookie where there is one: it changes with each start of the node.

        Raises OSError if the cookie cannot be read, as while the node is not running.
        """
        if self.cookie_path is not None:
            return self.cookie_path.read_text("utf-8").strip()
        return None if self.user is None else f"{self.user}:{self.password}"


def _text(table: Mapping[str, Any], key: str) -> str | None:
    value = table.get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise ValueError(f"node: {key} must be a text that is not empty")
    return value


def _rpc(table: Mapping[str, Any]) -> str:
    """Return the URL, if it holds no credentials: logs may quote a URL."""
    url = require_url(table, "rpc", "JSON-RPC", "http", "https")
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ValueError("node: rpc must hold no credentials; they have keys of their own, user and password")
    return url.rstrip("/")


def _zmq(value: object) -> tuple[str, ...]:
    """Return the endpoints that the node publishes at. They hold no secret; ZMQ has no credentials."""
    endpoints = [] if value is None else [value] if isinstance(value, str) else value
    if (
        not isinstance(endpoints, list)
        or len(endpoints) > 8
        or not all(isinstance(each, str) and _is_endpoint(each) for each in endpoints)
    ):
        raise ValueError("node: zmq must be tcp://host:port or ipc://path, or a list of at most 8 of them")
    return tuple(endpoints)


def _is_endpoint(text: str) -> bool:
    if text.startswith("ipc://"):
        return len(text) > len("ipc://")
    try:
        parts = urlsplit(text)
        return parts.scheme == "tcp" and bool(parts.hostname) and bool(parts.port)
    except ValueError:
        return False

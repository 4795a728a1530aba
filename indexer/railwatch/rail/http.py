"""A session over HTTP as the node's table wants it: headers, a proxy, a private authority, and no environment.

SOCKS comes from aiohttp-socks, loaded only where it is configured; a proxy for HTTP is aiohttp's own. Names are
resolved by the proxy, so that a node's .onion name works and none of its names shows outside.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from railwatch.rail._connector import AskedOnly, TcpConnector
from railwatch.rail.options import HttpOptions

__all__ = ["NETWORK_ERRORS", "http_session", "ssl_context"]

NETWORK_ERRORS: tuple[type[Exception], ...] = (aiohttp.ClientError, OSError, asyncio.IncompleteReadError, ssl.SSLError)
"""What a network can do to a request, but for its time being up. `SocksFailed` is one of them."""


CONNECTION_SECONDS = 30.0
"""Seconds after which a request is the last one of its connection. A balancer may choose a node for each connection,
and the connection of a node that is polled every second would never end, even if the node is stuck (HAZARDS E19)."""


class SocksFailed(OSError):
    """The SOCKS proxy refused, disconnected or is unreachable. The message holds no credentials."""


def http_session(
    options: HttpOptions, *, headers: Mapping[str, str] | None = None, limit: int = 100, turns: int = 0
) -> Callable[[], aiohttp.ClientSession]:
    """Return what makes a session (`railwatch.rail.transport.open_session`), without I/O and without cookies.

    It never inflates by itself (`railwatch.rail.decoding.read_body`). ``turns``: as `railwatch.rail._connector` has it.
    """
    return lambda: _make(options, headers or {}, {"limit": limit, "turns": turns})


def _make(options: HttpOptions, headers: Mapping[str, str], bounds: Mapping[str, int]) -> aiohttp.ClientSession:
    context = ssl_context(options)
    socks = options.proxy is not None and options.proxy.startswith("socks")
    return aiohttp.ClientSession(
        connector=_socks(options, context, bounds) if socks else TcpConnector(**bounds, ssl=context or True),
        proxy=None if socks else options.proxy,
        headers={**options.headers, **headers},
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[_renewal()],
        auto_decompress=False,
        trust_env=False,
    )


def _renewal() -> aiohttp.TraceConfig:
    """Return what asks now and then for a connection to be closed after the answer (RFC 9112, section 9.6)."""
    renewed_at = time.monotonic()

    async def on_request(_session: object, _context: object, request: aiohttp.TraceRequestStartParams) -> None:
        nonlocal renewed_at
        if time.monotonic() - renewed_at >= CONNECTION_SECONDS:
            renewed_at = time.monotonic()
            request.headers["Connection"] = "close"

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(on_request)
    return trace


def ssl_context(options: HttpOptions) -> ssl.SSLContext | None:
    """Return what trusts the configured authority and no other; None: the system's ones."""
    return None if options.ca is None else ssl.create_default_context(cadata=options.ca)


def socks_url(proxy: str) -> str:
    """Return the URL in the spelling that python-socks knows; socks5h and socks5 are one here."""
    parts = urlsplit(proxy)
    return urlunsplit(parts._replace(scheme=parts.scheme.removesuffix("h")))


def _socks(options: HttpOptions, context: ssl.SSLContext | None, bounds: Mapping[str, int]) -> aiohttp.BaseConnector:
    from aiohttp_socks import ProxyConnectionError, ProxyConnector, ProxyTimeoutError
    from aiohttp_socks import ProxyError as Refused

    class Connector(AskedOnly, ProxyConnector):
        """The library's, whose refusals are errors of a network like any other."""

        async def _wrap_create_connection(self, *args: object, **more: object) -> object:  # type: ignore[override]
            try:
                return await super()._wrap_create_connection(*args, **more)  # type: ignore[arg-type]
            except Refused as refused:
                raise SocksFailed("the SOCKS proxy refused: check proxy and its credentials") from refused
            except (ProxyConnectionError, ProxyTimeoutError) as away:
                raise SocksFailed("the SOCKS proxy does not answer: check proxy") from away

    return Connector.from_url(socks_url(options.proxy or ""), rdns=True, **bounds, ssl=context or True)

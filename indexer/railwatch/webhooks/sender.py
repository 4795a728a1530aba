"""One delivery attempt of one event, with a timeout and a size limit. Only 2xx counts as accepted."""

from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import aiohttp

from railwatch.config import DeliverConfig, WebhookConfig
from railwatch.rail._connector import TURNS, SpokeUnasked, TcpConnector
from railwatch.rail.http import http_session
from railwatch.rail.options import HttpOptions
from railwatch.rail.pacing import retry_after
from railwatch.store.webhooks import PendingDelivery
from railwatch.webhooks.dns import Lookup
from railwatch.webhooks.events import body_of
from railwatch.webhooks.signing import Signer
from railwatch.webhooks.ssrf import AddressGuard, ForbiddenAddress

BODY_MAX = 16_384
"""Bytes of an answer to read, so that its connection can be reused. The content is neither stored nor logged."""

HEADERS = {"Content-Type": "application/json", "User-Agent": "railwatch", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Attempt:
    """The end of an attempt. ``failure``: the cause, in a text without secrets; None: accepted."""

    failure: str | None = None
    retry_after: float | None = None
    """Seconds to wait, as the receiver requested (Retry-After)."""


class Sender:
    """The HTTP client of one endpoint, with its own connections: a slow receiver delays only itself. Enter it first."""

    def __init__(self, webhook: WebhookConfig, deliver: DeliverConfig) -> None:
        self._url = webhook.url.get_secret_value()
        self._guard = AddressGuard(deliver.allow, plain=not self._url.lower().startswith("https:"))
        self._signer = Signer(webhook.secrets)
        self._limit = webhook.concurrency
        self._timeout = aiohttp.ClientTimeout(total=webhook.timeout)
        self._lookup = Lookup()
        self._proxy = deliver.proxy.get_secret_value() if deliver.proxy else None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        if self._proxy is not None:
            # The proxy resolves names and decides which targets it allows; `_check_literal` checks addresses.
            self._session = http_session(
                HttpOptions(proxy=self._proxy), headers=HEADERS, limit=self._limit, turns=TURNS
            )()
            return self
        connector = TcpConnector(
            limit=self._limit, turns=TURNS, resolver=self._lookup, socket_factory=self._guard.make_socket
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            await self._lookup.close()

    async def post(self, delivery: PendingDelivery) -> Attempt:
        """Try once and return the attempt. Raises only a cancellation."""
        assert self._session is not None, "enter the sender before use"
        body = body_of(delivery.facts)
        headers = self._signer.headers(delivery.event_id, body)
        try:
            self._check_literal()
            async with self._session.post(
                self._url, data=body, headers=headers, allow_redirects=False, timeout=self._timeout
            ) as response:
                attempt = _outcome(response)
                await _drain(response)
                return attempt
        except TimeoutError:
            return Attempt(f"no answer within {self._timeout.total:g} s")
        except aiohttp.ClientError as error:
            return Attempt(_error_text(error))
        except ForbiddenAddress as error:
            return Attempt(str(error))
        except OSError as error:
            # Only the connection to a proxy raises this: aiohttp wraps the errors of others.
            return Attempt(f"cannot connect by the proxy: {error.strerror or error}; check [deliver] proxy")

    def _check_literal(self) -> None:
        """Behind a proxy, check an address in the URL like the guard does. Raises `ForbiddenAddress`."""
        host = urlsplit(self._url).hostname or ""
        if self._proxy is None:
            return
        if host == "localhost" or _is_address(host):
            self._guard.check("127.0.0.1" if host == "localhost" else host)
        elif not self._url.lower().startswith("https:") and not host.endswith(".onion"):
            raise ForbiddenAddress(
                f"{host} is a name, and a proxy carries events to names over https only; use an https:// url"
            )


def _outcome(response: aiohttp.ClientResponse) -> Attempt:
    if 200 <= response.status < 300:
        return Attempt()
    note = " (redirects are not followed)" if 300 <= response.status < 400 else ""
    return Attempt(f"HTTP {response.status}{note}", retry_after(response.headers.get("Retry-After")))


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read the start of the body. The status has decided already, so a truncated body changes nothing."""
    remaining = BODY_MAX
    try:
        while remaining > 0 and (chunk := await response.content.read(remaining)):
            remaining -= len(chunk)
    except (TimeoutError, aiohttp.ClientError):
        response.close()


def _error_text(error: aiohttp.ClientError) -> str:
    """Return the cause without the URL, which may be secret."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not valid"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name cannot be resolved"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.os_error.strerror or error.os_error}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection without an answer"
    if isinstance(error, SpokeUnasked):
        return "it sent an answer before it was asked"
    return f"no usable answer ({type(error).__name__})"

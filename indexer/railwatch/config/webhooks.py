"""Webhooks in the configuration: endpoints with their secrets, and settings of the deliverer."""

import base64
import binascii
from difflib import get_close_matches
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator

from railwatch.config.base import NAME, Table
from railwatch.config.parsing import check_host, check_url, host_and_port, place_of_url
from railwatch.core.exception_rules import SEVERITY
from railwatch.core.states import DetectionState, InvoiceState
from railwatch.rail.options import read_proxy
from railwatch.rail.printable import quoted

PREFIX = "whsec_"
SECRET_BYTES = range(24, 65)
"""The allowed bytes of a secret, by the Standard Webhooks convention."""

EVENT_TYPES = (
    *(f"invoice.{each.value}" for each in InvoiceState),
    "invoice.reversed",
    *(f"detection.{each.value}" for each in DetectionState),
    *(f"exception.{move}.{kind}" for kind in SEVERITY for move in ("open", "resolved")),
    "refund.recorded",
    "settlement.recorded",
)
"""Every type that the SQL function `event_type` returns; a pattern must match at least one."""


def _secret(value: SecretStr) -> SecretStr:
    """Return a valid secret. Raises ValueError, whose text never shows it."""
    text = value.get_secret_value()
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith(PREFIX) or len(key) not in SECRET_BYTES:
        raise ValueError(
            "is no webhook secret (whsec_ and base64 of 24 to 64 bytes); create one with: railwatch webhook secret FILE"
        )
    return value


Secret = Annotated[SecretStr, AfterValidator(_secret)]


class WebhookConfig(Table):
    """One endpoint: its url, its events, and its retries."""

    name: str = Field(description="a name of letters, digits, dots, hyphens and underscores")
    url: SecretStr = Field(description="a URL that starts with https://, or http:// within [deliver] allow")
    events: tuple[str, ...] = Field(
        min_length=1, description='types of events, such as ["invoice.paid", "exception.*"]'
    )
    secret: Secret = Field(description="secret_file, secret_env or secret_credential")
    old_secret: Secret | None = Field(
        default=None, description="the previous secret, until every receiver has the new one"
    )
    begin: Literal["now", "start"] = Field(
        default="now", description='"now", or "start" to send a new endpoint the feed from its beginning'
    )
    timeout: float = Field(default=10.0, ge=0.1, le=60, description="seconds for an attempt, from 0.1 to 60")
    concurrency: int = Field(default=8, ge=1, le=64, description="maximum requests at once, 1 to 64")
    attempts: int = Field(default=12, ge=1, le=100, description="attempts before an event is given up, 1 to 100")
    first_pause: float = Field(
        default=5.0, ge=0.01, le=3600, description="seconds before the second attempt, from 0.01 to 3600"
    )

    @property
    def place(self) -> str:
        """Scheme, host and port, without secrets."""
        return place_of_url(self.url.get_secret_value()) or "nowhere"

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every currently valid secret, newest first."""
        return tuple(each.get_secret_value() for each in (self.secret, self.old_secret) if each is not None)

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError("is no name")
        return value

    @field_validator("url")
    @classmethod
    def _url(cls, value: SecretStr) -> SecretStr:
        check_url(value.get_secret_value(), ("https", "http"))
        check_host(value.get_secret_value())
        return value

    @field_validator("events")
    @classmethod
    def _events(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if not any(fnmatchcase(each, pattern.replace("[", "[[]").replace("?", "[?]")) for each in EVENT_TYPES):
                close = get_close_matches(pattern, EVENT_TYPES, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise ValueError(f"match no event: {quoted(pattern)}{hint}")
        return value


class DeliverConfig(Table):
    """Settings of `railwatch deliver`. It sends nothing into private networks except those in ``allow``."""

    allow: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(), description='networks that are yours, such as ["10.1.0.0/16", "127.0.0.1/32"]'
    )
    listen: str | None = Field(default=None, description='HOST:PORT of metrics and health, such as "127.0.0.1:9465"')
    proxy: SecretStr | None = Field(
        default=None, description="the URL of an http:// or socks5:// proxy for all requests"
    )

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port, or None."""
        return None if self.listen is None else host_and_port(self.listen)

    @field_validator("listen")
    @classmethod
    def _listen(cls, value: str | None) -> str | None:
        if value is not None:
            host_and_port(value)
        return value

    @field_validator("proxy")
    @classmethod
    def _proxy(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                read_proxy(value.get_secret_value())
            except ValueError:
                raise ValueError("is no URL of a proxy with host and port") from None
        return value

    @field_validator("allow", mode="before")
    @classmethod
    def _allow(cls, value: object) -> object:
        if isinstance(value, list | tuple):
            for each in value:
                try:
                    ip_network(each if isinstance(each, str) else "")
                except ValueError:
                    raise ValueError(f"holds {quoted(each)}, which is not a network") from None
        return value

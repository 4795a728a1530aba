"""Parsers of configuration values: durations, listen addresses, URLs."""

import re
from base64 import b64encode
from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from railwatch.dsn import read_dsn
from railwatch.rail.printable import is_visible

KEY_LEAST = 8
"""Minimum length of a key in a URL's path or query: ``/v3`` is none."""

URL_MOST = 4_000
"""Maximum characters of a URL: more than servers accept."""

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
DIGITS_MOST = 12
"""Maximum digits of a duration in seconds."""
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")


def seconds_of(value: object) -> int:
    """Return ``"30d"``, ``"12h"``, ``"15m"``, ``"90s"`` or a number of seconds in seconds. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    text = value if isinstance(value, str) else ""
    if text.isascii() and text.isdecimal() and len(text) <= DIGITS_MOST:
        return int(text)
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("is no duration")
    return int(match[1]) * SECONDS[match[2]]


def host_and_port(text: str) -> tuple[str, int]:
    """Return host and port of ``127.0.0.1:9464`` or ``[::1]:9464``. Raises ValueError."""
    parts = _split(f"tcp://{text}")
    if len(text) > HOST_MOST + 8 or not all(map(is_visible, text)):
        raise ValueError("is not HOST:PORT")
    if not parts.hostname or parts.port is None or parts.path or parts.query or "@" in text:
        raise ValueError("is not HOST:PORT")
    return parts.hostname, parts.port


def require_visible(text: str) -> None:
    """Raise ValueError if ``text`` has invisible characters or outer blanks: two such texts appear equal."""
    if text != text.strip() or not all(map(is_visible, text)):
        raise ValueError("contains invisible characters, or blanks around it")


def check_url(text: str, schemes: tuple[str, ...]) -> None:
    """Raise ValueError unless ``text`` is a URL of one of ``schemes``. The message never shows it, because of keys."""
    try:
        parts = _split(text)
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    if len(text) > URL_MOST or not all(map(is_visible, text)):
        raise ValueError(f"is a URL of more than {URL_MOST:,} characters, or contains invisible ones")
    if parts.scheme not in schemes or not (parts.hostname or parts.path):
        raise ValueError(f"is no URL that starts with {' or '.join(f'{each}://' for each in schemes)}")


def check_host(url: str) -> None:
    """Raise ValueError unless ``url`` has a host in the usual notation: a name or an address.

    ``https://2130706433/`` and ``https://0x7f.1/`` are 127.0.0.1 to some libraries, and nothing to others.
    """
    parts = _split(url)
    host = parts.hostname or ""
    if not host or "@" in parts.netloc:
        raise ValueError("must have a host, and no user or password")
    if not (url.isprintable() and len(host) <= HOST_MOST and _PLACE.fullmatch(parts.netloc) and parts.port != 0):
        raise ValueError("has no valid host name, or no valid port")
    if not parts.netloc.startswith("["):
        labels = _ascii(host).removesuffix(".").split(".")
        if not all(_LABEL.fullmatch(each) for each in labels):
            raise ValueError("has no valid host name")
        if _NUMBER.fullmatch(labels[-1]) and not _is_address(host):
            raise ValueError("has an address in an unusual notation; give four decimal numbers, or a name")
    elif not _is_address(host):
        raise ValueError("has no IPv6 address between its brackets")


def _ascii(host: str) -> str:
    try:
        # Encode and decode, so that an invalid xn-- form is found too.
        return (host.encode() if host.isascii() else host.encode("idna")).decode("idna").encode("idna").decode()
    except UnicodeError:
        raise ValueError("has no valid host name") from None


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


HOST_MOST = 253
"""Maximum characters of a host name (RFC 1035, as text)."""

_PLACE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(:[0-9]+)?")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")


def check_dsn(text: str) -> None:
    """Raise ValueError unless ``text`` is the URI of a Postgres server. The message never shows it."""
    if len(text) > URL_MOST or not all(map(is_visible, text)):
        raise ValueError(f"is a URL of more than {URL_MOST:,} characters, or contains invisible ones")
    if "://" not in text or not read_dsn(text).is_clear:
        raise ValueError("is no URL that starts with postgresql:// or postgres://")


def url_secrets(text: str) -> Iterator[str]:
    """Return the possible secrets of a URL: user and password, query values, and a path with a key.

    Hosted endpoints put keys anywhere except into the host: ``/v3/KEY``, ``?apikey=KEY``, ``KEY@host``.
    """
    try:
        parts = _split(text)
    except ValueError:
        yield text
        return
    userinfo = parts.netloc.rpartition("@")[0]
    if not (userinfo or parts.query or parts.fragment or parts.path.strip("/")):
        return
    yield text
    user, _, password = userinfo.partition(":")
    yield from filter(None, (userinfo, password or user, b64encode(unquote(userinfo).encode()).decode()))
    yield from (value for _, value in parse_qsl(parts.query) if len(value) >= KEY_LEAST)
    yield from filter(None, (parts.query, parts.fragment))
    yield from (each for each in parts.path.split("/") if len(each) >= KEY_LEAST)
    if parts.path.strip("/"):
        # A short path such as /hook is hidden with its slash, so that the plain word stays visible.
        rest = text.partition("://")[2].partition("/")[2]
        yield rest if len(rest) >= KEY_LEAST else f"/{rest}"


def place_of_url(text: str) -> str | None:
    """Return scheme, host and port of a URL, without secrets; None if ``text`` is not a URL."""
    try:
        parts = _split(text)
    except ValueError:
        return None
    if not parts.scheme or not parts.hostname:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def _split(text: str) -> SplitResult:
    parts = urlsplit(text)
    _ = parts.port  # urlsplit checks the port only at this access.
    return parts

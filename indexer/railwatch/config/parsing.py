"""Texts of the configuration that stand for something else: durations, places to listen, URLs."""

import re
from base64 import b64encode
from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from railwatch.dsn import read_dsn
from railwatch.rail.printable import is_visible

KEY_LEAST = 8
"""Characters from which on a part of a URL's path or query may be a key: ``/v3`` is none."""

URL_MOST = 4_000
"""Characters of a URL: what servers take, with room."""

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
DIGITS_MOST = 12
"""Digits of a duration in seconds: more than any of them may have."""
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")


def seconds_of(value: object) -> int:
    """``"30d"``, ``"12h"``, ``"15m"``, ``"90s"`` or a whole number of seconds, in seconds. Raises ValueError."""
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
    """From ``127.0.0.1:9464`` or ``[::1]:9464``. Raises ValueError."""
    parts = _split(f"tcp://{text}")
    if len(text) > HOST_MOST + 8 or not all(map(is_visible, text)):
        raise ValueError("is not HOST:PORT")
    if not parts.hostname or parts.port is None or parts.path or parts.query or "@" in text:
        raise ValueError("is not HOST:PORT")
    return parts.hostname, parts.port


def require_visible(text: str) -> None:
    """Raise ValueError if ``text`` holds what nobody sees, or is surrounded by blanks: two such look alike."""
    if text != text.strip() or not all(map(is_visible, text)):
        raise ValueError("holds characters that are not seen, or blanks around it")


def check_url(text: str, schemes: tuple[str, ...]) -> None:
    """Raise ValueError unless ``text`` is a URL of one of ``schemes``. The message never holds it: keys live there."""
    try:
        parts = _split(text)
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    if len(text) > URL_MOST or not all(map(is_visible, text)):
        raise ValueError(f"is a URL of more than {URL_MOST:,} characters, or holds some that are not seen")
    if parts.scheme not in schemes or not (parts.hostname or parts.path):
        raise ValueError(f"is no URL that starts with {' or '.join(f'{each}://' for each in schemes)}")


def check_host(url: str) -> None:
    """Raise ValueError unless ``url`` names a host as people write one: a name, or an address in its usual notation.

    ``https://2130706433/`` and ``https://0x7f.1/`` are 127.0.0.1 to some libraries, and nothing to others.
    """
    parts = _split(url)
    host = parts.hostname or ""
    if not host or "@" in parts.netloc:
        raise ValueError("must hold a host, and no user or password")
    if not (url.isprintable() and len(host) <= HOST_MOST and _PLACE.fullmatch(parts.netloc) and parts.port != 0):
        raise ValueError("holds no host that a name server could know, or no port")
    if not parts.netloc.startswith("["):
        labels = _ascii(host).removesuffix(".").split(".")
        if not all(_LABEL.fullmatch(each) for each in labels):
            raise ValueError("holds no host that a name server could know")
        if _NUMBER.fullmatch(labels[-1]) and not _is_address(host):
            raise ValueError("writes an address in an odd notation; give four decimal numbers, or a name")
    elif not _is_address(host):
        raise ValueError("holds no IPv6 address between its brackets")


def _ascii(host: str) -> str:
    try:
        # There and back, so that an xn-- form that stands for no name is found too.
        return (host.encode() if host.isascii() else host.encode("idna")).decode("idna").encode("idna").decode()
    except UnicodeError:
        raise ValueError("holds no host that a name server could know") from None


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


HOST_MOST = 253
"""Characters of a host's name (RFC 1035, in text)."""

_PLACE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(:[0-9]+)?")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")


def check_dsn(text: str) -> None:
    """Raise ValueError unless ``text`` is the URI of a Postgres server. The message never holds it."""
    if len(text) > URL_MOST or not all(map(is_visible, text)):
        raise ValueError(f"is a URL of more than {URL_MOST:,} characters, or holds some that are not seen")
    if "://" not in text or not read_dsn(text).is_clear:
        raise ValueError("is no URL that starts with postgresql:// or postgres://")


def url_secrets(text: str) -> Iterator[str]:
    """Return what of a URL may let somebody in: user and password, the values of its query, a path that holds a key.

    Hosted endpoints put keys anywhere but into the host: ``/v3/KEY``, ``?apikey=KEY``, ``KEY@host``.
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
        # A short path such as /hook is hidden as one, and not wherever its letters stand.
        rest = text.partition("://")[2].partition("/")[2]
        yield rest if len(rest) >= KEY_LEAST else f"/{rest}"


def place_of_url(text: str) -> str | None:
    """Scheme, host and port of a URL, which may be shown; None if it is none."""
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
    _ = parts.port  # Only asking for it tells that it is no number.
    return parts

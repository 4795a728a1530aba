"""Texts of the configuration that stand for something else: durations, places to listen, URLs."""

import re
from urllib.parse import SplitResult, urlsplit

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")


def seconds_of(value: object) -> int:
    """``"30d"``, ``"12h"``, ``"15m"``, ``"90s"`` or a whole number of seconds, in seconds. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    text = value if isinstance(value, str) else ""
    if text.isdecimal():
        return int(text)
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("is no duration")
    return int(match[1]) * SECONDS[match[2]]


def host_and_port(text: str) -> tuple[str, int]:
    """From ``127.0.0.1:9464`` or ``[::1]:9464``. Raises ValueError."""
    parts = _split(f"tcp://{text}")
    if not parts.hostname or parts.port is None or parts.path or parts.query or "@" in text:
        raise ValueError("is not HOST:PORT")
    return parts.hostname, parts.port


def check_url(text: str, schemes: tuple[str, ...]) -> None:
    """Raise ValueError unless ``text`` is a URL of one of ``schemes``. The message never holds it: keys live there."""
    try:
        parts = _split(text)
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    if parts.scheme not in schemes or not (parts.hostname or parts.path):
        raise ValueError(f"is no URL that starts with {' or '.join(f'{each}://' for each in schemes)}")


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

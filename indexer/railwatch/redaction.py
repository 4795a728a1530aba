"""Secrets of this process, and texts without them. What is configured is hidden wherever a text leaves the process.

The list is the process's own, as its environment is: code that words an error need not know the configuration.
"""

import re
from collections.abc import Iterable
from urllib.parse import quote, unquote

HIDDEN = "**********"
SHORTEST_SECRET = 4
"""Characters. Hiding every "1" would hide the news with the secret."""

_secrets: set[str] = set()
_pattern: re.Pattern[str] | None = None


def hide(secrets: Iterable[str]) -> None:
    """Add to what `hidden` hides from now on, each also as URLs spell it. What is too short to be one is left out."""
    global _pattern  # noqa: PLW0603 - one list of a process
    for each in secrets:
        _secrets.update(spelling for spelling in spellings(each) if len(spelling) >= SHORTEST_SECRET)
    # The longest first, so that no end of one stays behind where another was found within it.
    _pattern = re.compile("|".join(map(re.escape, sorted(_secrets, key=len, reverse=True)))) if _secrets else None


def spellings(secret: str) -> set[str]:
    """Return a secret as it is, percent-encoded, decoded, and as Python quotes it."""
    return {secret, quote(secret), quote(secret, safe=""), unquote(secret), repr(secret)[1:-1]}


def hidden(text: str) -> str:
    """Return ``text`` with every known secret replaced."""
    return _pattern.sub(HIDDEN, text) if _pattern is not None else text


def forget() -> None:
    """Empty the list; for tests, which run many configurations in one process."""
    global _pattern  # noqa: PLW0603 - one list of a process
    _secrets.clear()
    _pattern = None

"""The calls of verbs from which episodes are made."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Call = tuple[str, Mapping[str, Any]]
Episode = Callable[[int], Iterator[Call]]

FOLLOWED: Call = ("is_followed", {"within": 1000})
SEEN: Call = ("is_seen", {})
WATCHED: Call = ("is_watched", {})


def breathes(milliseconds: int) -> Call:
    return "breathes", {"milliseconds": milliseconds}


def mines(blocks: int, change: int = 0, rail: int = 0) -> Call:
    return "mines", {"blocks": blocks, "change": change, "rail": rail}


def pays(amount: int = 100, maturity: int = 1, rail: int = 0) -> Call:
    return "pays", {"order": 0, "amount": amount, "maturity": maturity, "rail": rail}


def registers(**more: Any) -> Iterator[Call]:
    yield "registers", {"amount": 100, **more}
    yield WATCHED


def nobody_answers() -> Iterator[Call]:
    for node in range(3):
        yield "troubles", {"node": node, "kind": "down"}


def is_paid(blocks: int = 3) -> Iterator[Call]:
    yield from registers()
    yield pays()
    yield mines(blocks)
    yield FOLLOWED

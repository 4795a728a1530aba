"""How an endpoint chooses among the two nodes behind it: the one that is well, and the other one."""

import random
import time
from collections.abc import Callable
from itertools import count
from typing import Any
from zlib import crc32

from aiohttp import web

STICKY_SECONDS = 1.5
"""How long one node answers all requests of an endpoint that holds on to it."""

Choice = Callable[[str, object], bool]
"""Whether the other node answers a request, by its first method and its connection."""


def in_turn(phase: int) -> Choice:
    """Give a request to each node in turn. ``phase`` 1: the other one begins."""
    numbers = count(phase)
    return lambda _method, _peer: next(numbers) % 2 == 1


def at_random(seed: int) -> Choice:
    """As dice fall; the same seed falls alike."""
    dice = random.Random(seed)
    return lambda _method, _peer: dice.random() < 0.5


def by_connection() -> Choice:
    """Each connection has its node, in turn; the other one has the first."""
    numbers: dict[object, int] = {}
    return lambda _method, peer: numbers.setdefault(peer, len(numbers)) % 2 == 0


def by_method() -> Choice:
    """Each method has its node."""
    return lambda method, _peer: crc32(method.encode()) % 2 == 1


def sticky() -> Choice:
    """One after the other, each for a while."""
    return lambda _method, _peer: int(time.monotonic() / STICKY_SECONDS) % 2 == 1


WAYS: dict[str, Callable[[], Choice]] = {
    "in turn": lambda: in_turn(0),
    "in turn, the other one first": lambda: in_turn(1),
    "at random": lambda: at_random(1),
    "by connection": by_connection,
    "sticky": sticky,
    "by method": by_method,
}


def peer_of(request: web.Request) -> Any:
    """Return what distinguishes connections."""
    return request.transport.get_extra_info("peername") if request.transport else None

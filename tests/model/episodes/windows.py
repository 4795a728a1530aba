"""The end of a window, and of watching, while blocks and payments are unread or under way."""

from collections.abc import Iterator

from tests.model.episodes.calls import (
    FOLLOWED,
    SEEN,
    Call,
    breathes,
    mines,
    nobody_answers,
    pays,
    registers,
)


def comes_late_and_old(n: int) -> Iterator[Call]:
    """Blocks that a daemon could not read have grown old by the time that it can."""
    yield from registers()
    yield from nobody_answers()
    yield pays()
    yield mines(3 + n)
    yield "time_passes", {"seconds": 5000}
    yield "heals", {"node": None}
    yield "has_read", {}


def is_paid_unseen(n: int) -> Iterator[Call]:
    """A payment in time is in a block that nobody could read before the window closed."""
    yield from registers(expires=60, basis="block_time" if n % 2 else "first_seen")
    yield from nobody_answers()
    yield pays()
    yield mines(1)
    yield "time_passes", {"seconds": 500}
    yield breathes(60)
    yield "heals", {"node": None}
    yield breathes(60)


def is_paid_before_it_is_watched(n: int) -> Iterator[Call]:
    """A payment in time came before the address was in the watch, and the window closes meanwhile."""
    yield "pays_first", {"amount": 100}
    yield mines(1)
    yield FOLLOWED
    yield "troubles", {"node": 0, "kind": "slow", "size": 4}
    yield "registers", {"amount": 100, "known": -1, "expires": 60, "basis": "block_time" if n % 2 else "first_seen"}
    yield breathes(n)
    yield "time_passes", {"seconds": 500}
    yield breathes(60)


def is_paid_by_a_late_block(n: int) -> Iterator[Call]:
    """A payment in time is in a block that comes after the window closed, with a timestamp before that."""
    yield from registers(expires=60, basis="block_time" if n % 2 else "first_seen")
    yield FOLLOWED
    yield "is_paid_by_a_late_block", {"order": 0}
    yield FOLLOWED


def closes_unseen(n: int) -> Iterator[Call]:
    """Watching would end, by the clock, while blocks of its time are unread."""
    yield from registers(expires=60, closes=60)
    yield from nobody_answers()
    yield pays()
    yield mines(1 + n % 3)
    yield "time_passes", {"seconds": 500}
    yield breathes(120)
    yield "heals", {"node": None}


def comes_back_behind(n: int) -> Iterator[Call]:
    """Every node comes back with the tip at which it stopped, and has the blocks of the outage only later."""
    yield from registers(expires=60, basis=("first_seen", "block_time")[n % 2])
    yield from nobody_answers()
    yield breathes(150)
    yield pays()
    yield mines(1 + n % 3)
    yield "time_passes", {"seconds": 500}
    yield "heals", {"node": None}
    for node in range(3):
        yield "troubles", {"node": node, "kind": "lag", "size": 1 + n % 3}
    yield breathes(150)
    yield "heals", {"node": None}


def closes_over_a_payment(n: int) -> Iterator[Call]:
    """Watching would end while a payment waits, or can still be undone."""
    yield from registers(expires=60, closes=60)
    if n % 4 > 1:
        yield "pays", {"order": 0, "amount": 100, "gold": True}
    else:
        yield pays()
    if n % 2:
        yield mines(1)
    yield SEEN
    yield FOLLOWED
    yield "time_passes", {"seconds": 500}
    yield FOLLOWED
    yield breathes(150)
    # What is closed is no longer in the index of a daemon that starts.
    yield "restarts", {"with_gold": True}
    yield FOLLOWED
    if n % 2:
        yield "reorgs", {"depth": 1, "fate": "kept"}
    yield mines(2)
    yield FOLLOWED

"""A daemon that takes over, goes on without its lease, or stands still while another one follows; and a failover."""

from collections.abc import Iterator

from tests.model.episodes.calls import (
    FOLLOWED,
    SEEN,
    WATCHED,
    Call,
    breathes,
    is_paid,
    mines,
    pays,
    registers,
)


def is_taken_over(n: int) -> Iterator[Call]:
    """A daemon that stood by, and was there before a registration, follows from now on."""
    yield "gets_a_standby", {}
    yield FOLLOWED
    yield breathes(60)
    yield from registers()
    if n % 2:
        yield "lets_leases_run_out", {}
        yield breathes(60)
    else:
        yield "loses_a_daemon", {"which": 0}
    yield pays()
    yield mines(1 + n % 3)
    yield FOLLOWED


def goes_on_without_its_lease(n: int) -> Iterator[Call]:
    """A daemon that was taken for dead goes on, beside the one that follows now."""
    yield "gets_a_standby", {}
    yield FOLLOWED
    yield from registers()
    yield pays()
    yield "lets_leases_run_out", {}
    for _ in range(10):
        yield breathes(3 + n)
        yield mines(1)
    yield FOLLOWED


def loses_the_newest(n: int) -> Iterator[Call]:
    """A replica takes over that has not got the last lines, and a consumer had read them."""
    yield from registers()
    yield "is_copied", {}
    yield FOLLOWED
    yield pays()
    yield mines(1 + n % 3)
    yield FOLLOWED
    yield "is_read", {}
    yield "fails_over", {}
    yield FOLLOWED
    if n % 2:
        yield "is_read", {}
    yield from registers()
    yield pays(60)
    yield mines(1)
    yield FOLLOWED
    yield "is_read", {}


def _stands_still(n: int, which: int = 0) -> Call:
    """Let it stop anywhere, or within a transaction, which has some ten steps."""
    after, within = ((0, True), (2, False), (1, True), (3, True), (25, False), (4, True), (6, True), (60, False))[n % 8]
    return "stands_still", {"after": after, "within": within, "which": which}


def _is_stopped_in(n: int, *work: Call) -> Iterator[Call]:
    """The daemon that follows the rail stands still in the middle of ``work``, and another one takes over."""
    yield "gets_a_standby", {}
    yield FOLLOWED
    yield _stands_still(n)
    yield from work
    yield "stood_still", {}
    yield "goes_on", {}


def stands_still_in_a_step(n: int) -> Iterator[Call]:
    """It stood still with a block half recorded; meanwhile the chain has left that block, and more was registered."""
    yield from registers()
    yield pays()
    yield SEEN
    yield from _is_stopped_in(n, mines(1 + n % 2))
    yield "reorgs", {"depth": 1 + n % 2, "fate": ("lost", "changed", "back", "kept")[n % 4], "change": n}
    yield from registers()
    yield pays(60)
    yield mines(1)
    yield "goes_on", {}
    yield "goes_on_from_there", {}
    yield breathes(20)
    yield mines(1)
    yield FOLLOWED


def stands_still_in_a_look_back(n: int) -> Iterator[Call]:
    """It stood still while it looked back for an address; it takes over again, and what came meanwhile is watched."""
    yield "pays_first", {"amount": 100}
    yield mines(1 + n % 2)
    yield FOLLOWED
    yield from _is_stopped_in(n, ("registers", {"amount": 100, "known": -1}))
    yield WATCHED
    if n % 3:
        yield "reorgs", {"depth": 1, "fate": ("lost", "kept")[n % 2]}
    yield from registers()
    yield FOLLOWED
    yield "goes_on_from_there", {}
    yield breathes(30)
    # The one that stood still takes over.
    yield "loses_a_daemon", {"which": 1}
    yield pays()
    yield mines(2)
    yield FOLLOWED


def stands_still_in_a_rescan(n: int) -> Iterator[Call]:
    """It stood still while it looked through blocks again, of which the chain has left some since."""
    yield from is_paid(1 + n % 3)
    yield from _is_stopped_in(n, ("rescans", {"start": 0}), breathes(10))
    yield "reorgs", {"depth": 1 + n % 3, "fate": ("lost", "half", "changed")[n % 3], "change": n}
    yield "goes_on", {}
    yield "goes_on_from_there", {}
    yield breathes(20)
    yield FOLLOWED


def stands_still_over_the_mempool(n: int) -> Iterator[Call]:
    """It stood still with what waits for a block in its hands, of which another daemon knows more by now."""
    yield "gets_a_standby", {}
    yield from registers()
    yield from registers()
    yield "stands_still", {"after": 3 + 4 * n}
    yield "pays", {"order": 1, "amount": 100}
    yield "stood_still", {}
    yield "goes_on", {}
    yield SEEN
    yield pays()
    yield SEEN
    yield "goes_on_from_there", {}
    yield breathes(40)
    yield mines(1 + n % 2)
    yield FOLLOWED


def both_believe_to_follow(n: int) -> Iterator[Call]:
    """Again and again the daemon that follows is taken for dead at any point, and both go on; customers pay."""
    yield "gets_a_standby", {}
    yield FOLLOWED
    for turn in range(3):
        yield _stands_still(n + 3 * turn, turn)
        yield "registers", {"amount": 100}
        yield pays()
        yield mines(1)
        yield "stood_still", {}
        yield breathes(3 * n)
        yield "goes_on_from_there", {}
        yield breathes(n)
        if (n + turn) % 3 == 0:
            yield "reorgs", {"depth": 1, "fate": ("back", "kept")[n % 2]}
    yield "is_read", {}
    yield FOLLOWED

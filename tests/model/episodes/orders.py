"""What people do with an order while money comes and goes: refunds, cancellations, late registrations."""

from collections.abc import Iterator

from tests.model.episodes.calls import (
    FOLLOWED,
    WATCHED,
    Call,
    is_paid,
    mines,
    pays,
    registers,
)


def is_given_back_by_choice(n: int) -> Iterator[Call]:
    """Part of a settled order is given back, as a discount."""
    yield from is_paid()
    yield "refunds", {"order": 0, "amount": 10 + 10 * n}
    if n % 2:
        yield pays(60)
        yield mines(3)
    yield FOLLOWED


def is_given_back_before_the_rest(n: int) -> Iterator[Call]:
    """A part payment is given back, and then the rest comes."""
    yield from registers()
    yield pays(60)
    yield mines(3)
    yield FOLLOWED
    yield "refunds", {"order": 0, "amount": 60 if n % 2 else 10}
    yield pays(40 if n % 3 else 100)
    yield mines(3)
    yield FOLLOWED


def is_undone(n: int) -> Iterator[Call]:
    """A reorg takes a payment away after the order was settled."""
    yield from is_paid(2 + n % 2)
    if n % 3 == 2:
        yield "holds", {"order": 0}
    yield "reorgs", {"depth": 4, "fate": ("lost", "back", "half")[n % 3]}
    yield FOLLOWED


def is_cancelled_first(n: int) -> Iterator[Call]:
    """Money comes for an order that was cancelled."""
    yield from registers()
    yield "cancels", {"order": 0}
    yield pays()
    yield mines(1 + n % 3)
    yield FOLLOWED


def registers_what_was_paid(n: int) -> Iterator[Call]:
    """An address is paid, and registered some blocks, or some minutes, later."""
    yield "pays_first", {"amount": 100}
    yield mines(1 + n % 4)
    yield FOLLOWED
    if n % 2:
        yield "time_passes", {"seconds": 500}
        yield FOLLOWED
    yield from registers(known=-1, accept=(600, 0, 60)[n % 3])


def is_looked_back_for_over_a_reorg(n: int) -> Iterator[Call]:
    """A look-back has read a block that the daemon rewinds before the look-back commits what it found."""
    yield "pays_first", {"amount": 100}
    yield mines(1)
    yield FOLLOWED
    yield "is_held_up", {"after": 7 + n, "task": "lookback"}
    yield "registers", {"amount": 100, "known": -1}
    yield "was_held_up", {}
    yield "reorgs", {"depth": 1, "fate": "lost"}
    yield FOLLOWED
    yield "goes_on_after_a_reorg", {}
    yield WATCHED
    yield FOLLOWED

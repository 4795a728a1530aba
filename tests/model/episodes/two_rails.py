"""Orders that may be paid on one of two rails, or that get their money on the other one."""

from collections.abc import Iterator

from tests.model.episodes.calls import (
    FOLLOWED,
    WATCHED,
    Call,
    breathes,
    mines,
    pays,
    registers,
)


def is_paid_on_either_rail(n: int) -> Iterator[Call]:
    """An order that asks for money on one of two rails gets it on the second, on both, or half of it on each."""
    first, second = ((0, 100), (100, 100), (60, 40), (60, 100), (0, 160), (100, 60), (0, 60), (160, 40))[n]
    yield from registers(other=True)
    if first:
        yield pays(first)
        yield mines(1 + n % 2)
    yield pays(second, rail=1)
    yield "is_seen", {"rail": 1}
    yield mines(3 + n % 2, rail=1)
    yield FOLLOWED


def is_paid_on_the_wrong_rail(n: int) -> Iterator[Call]:
    """Money comes on a rail on which the order does not ask for any, before the registration or after it."""
    if n % 2:
        yield "pays_first", {"amount": 100, "rail": 1}
        yield mines(1 + n % 3, rail=1)
        yield FOLLOWED
        yield "registers", {"amount": 100, "known": -1}
        yield WATCHED
    else:
        yield from registers()
        yield FOLLOWED
        yield pays(rail=1)
        yield mines(1 + n % 3, rail=1)
    yield FOLLOWED
    if n % 4 > 1:
        yield "reorgs", {"depth": 1 + n % 3, "fate": ("lost", "kept", "back")[n % 3], "rail": 1}
    if n > 3:
        yield pays()
        yield mines(3)
    yield FOLLOWED


def is_blind_on_one_rail(n: int) -> Iterator[Call]:
    """A window closes on a rail that is followed while nobody can read the other, on which the order may be paid."""
    yield from registers(other=True, expires=60, basis="block_time" if n % 2 else "first_seen")
    yield FOLLOWED
    away = n // 2 % 2
    for node in range(3):
        yield "troubles", {"node": node, "kind": "down", "rail": away}
    if n > 3:
        yield pays(rail=away)
        yield mines(1, rail=away)
    if n % 3 == 1:
        yield pays(rail=1 - away)
        yield mines(1, rail=1 - away)
        yield breathes(60)
    yield "time_passes", {"seconds": 500}
    if n % 3 == 1:
        yield "reorgs", {"depth": 1, "fate": "lost", "rail": 1 - away}
    yield mines(2, rail=1 - away)
    yield breathes(150)
    if n % 3 == 2:
        yield pays(rail=1 - away)
        yield mines(3, rail=1 - away)
        yield breathes(100)
    yield "heals", {"node": None}
    yield FOLLOWED


def is_undone_on_one_rail(n: int) -> Iterator[Call]:
    """An order that was paid on both rails loses one of the payments, and then maybe the other."""
    yield from registers(other=True)
    for rail in (0, 1):
        yield pays(rail=rail)
        yield mines(3, rail=rail)
        yield FOLLOWED
    yield "reorgs", {"depth": 4, "fate": ("lost", "half")[n % 2], "rail": n // 2 % 2}
    yield FOLLOWED
    if n > 3:
        yield "reorgs", {"depth": 4, "fate": ("lost", "back")[n % 2], "rail": 1 - n // 2 % 2}
        yield FOLLOWED


def is_given_back_on_one_rail(n: int) -> Iterator[Call]:
    """Part of what came on one rail is given back, there or on the other one, before or after the order is paid."""
    yield from registers(other=True)
    yield pays((60, 100, 160)[n % 3])
    yield mines(3)
    yield FOLLOWED
    if n % 2:
        yield "refunds", {"order": 0, "amount": 60, "rail": 0}
    yield pays(rail=1)
    yield mines(4, rail=1)
    yield FOLLOWED
    yield "refunds", {"order": 0, "amount": (40, 100)[n // 2 % 2], "rail": 1}
    if n > 3:
        yield "reorgs", {"depth": 4, "fate": "lost", "rail": n % 2}
    yield FOLLOWED

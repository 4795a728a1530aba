"""What a transfer pays, and where: it changes, ripens, is replaced, is small, or is contradicted."""

from collections.abc import Iterator

from tests.model.episodes.calls import (
    FOLLOWED,
    SEEN,
    Call,
    breathes,
    is_paid,
    mines,
    pays,
    registers,
)


def changes_in_its_block(n: int) -> Iterator[Call]:
    """What waits, and is known, is mined with another content."""
    yield from registers()
    yield from registers()
    yield pays()
    yield SEEN
    yield mines(1, change=1 + n % 5)
    yield FOLLOWED


def changes_in_a_reorg(n: int) -> Iterator[Call]:
    """What a block has paid pays something else in the block that takes its place."""
    yield from registers()
    yield from is_paid(1)
    yield "reorgs", {"depth": 1, "fate": "changed", "change": 2 * n}
    yield FOLLOWED


def ripens(n: int) -> Iterator[Call]:
    """A payment that cannot be spent before some depth is followed from block to block."""
    yield from registers()
    yield pays(maturity=3)
    for _ in range(4 + n):
        yield mines(1)
        yield FOLLOWED


def flaps(n: int) -> Iterator[Call]:
    """The chain shows another branch for a moment, while a person looks back."""
    yield from registers()
    yield mines(3)
    yield FOLLOWED
    yield "rescans", {"start": 0}
    yield "flaps", {"order": 0, "depth": 2 + n % 2, "times": 2, "milliseconds": 4 + 2 * n}
    yield FOLLOWED


def is_lied_to(n: int) -> Iterator[Call]:
    """One node of several makes up a payment, deep below blocks of its own."""
    yield from registers()
    yield "lies", {"node": n % 3, "order": 0, "back": n % 2, "blocks": (3, 12)[n % 2], "early": n % 4 > 1}
    yield breathes(150)


def is_mined_while_asked(n: int) -> Iterator[Call]:
    """A block takes what waits between two answers of a slow node."""
    yield from registers()
    yield "troubles", {"node": 0, "kind": "slow", "size": 4}
    for turn in range(3):
        yield pays(40)
        yield SEEN
        yield breathes(3 * n + 7 * turn)
        yield mines(1)
        yield breathes(60)


def is_displaced(n: int) -> Iterator[Call]:
    """A rival takes the coins of what waits."""
    yield from registers()
    yield pays()
    yield SEEN
    yield "replaces", {"which": -1}
    yield breathes(40) if n % 2 else mines(1)
    yield FOLLOWED


def loses_an_asset(n: int) -> Iterator[Call]:
    """An asset leaves the configuration while an order asks for it, or while none does.

    With n above 3 a replica takes over that is older than the new configuration.
    """
    yield from registers(gold=n < 4)
    if n > 3:
        yield "is_copied", {}
    yield "restarts", {"with_gold": False}
    yield FOLLOWED
    if n > 3:
        yield "fails_over", {}
        yield FOLLOWED
    yield "pays", {"order": 0, "amount": 100, "gold": True}
    yield mines(1 + n % 3)
    yield FOLLOWED


def is_sent_dust(n: int) -> Iterator[Call]:
    """Transfers below the least amount come before, beside and after a payment."""
    yield from registers()
    yield FOLLOWED
    for amount in range(1, 4 + n % 2):
        yield "pays_dust", {"order": 0, "amount": amount}
    yield mines(1)
    yield pays(96 if n % 3 else 100)
    yield "pays_dust", {"order": 0, "amount": 4}
    yield mines(1 + n % 3)
    yield FOLLOWED


def is_set_aside(n: int) -> Iterator[Call]:
    """One invoice cannot be loaded while it is paid beside another one, and is mended later."""
    yield from registers()
    yield from registers()
    yield FOLLOWED
    yield "is_poisoned", {"order": 1}
    if n % 2:
        yield "pays_many", {"orders": [0, 1], "amount": 100}
    else:
        yield pays()
        yield "pays", {"order": 1, "amount": 100}
    yield mines(1)
    yield "goes_on", {}
    if n % 4 > 1:
        yield "reorgs", {"depth": 1, "fate": ("kept", "lost", "back")[n % 3]}
    yield mines(1 + n % 3)
    yield "goes_on", {}
    yield "is_mended", {}


def is_told_otherwise(n: int) -> Iterator[Call]:
    """Other nodes tell a block otherwise before its payment is final, and a person decides, or nobody does."""
    yield from is_paid(1 + n % 2)
    yield "others_retell", {}
    yield mines(13)
    yield FOLLOWED
    yield "judges", {"verdict": ("accepted", "rejected", None)[n % 3]}
    yield "heals", {"node": None}
    yield mines(1)
    yield FOLLOWED

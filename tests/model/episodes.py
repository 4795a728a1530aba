"""Short courses of events in which two mechanisms meet, and which chance alone would bring once in a thousand stories.

Each is a list of verbs of `World`, which stories begin with and weave between others. ``n``, from 0 to 7, varies it.
Orders are numbered from the newest.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Call = tuple[str, Mapping[str, Any]]
Episode = Callable[[int], Iterator[Call]]

FOLLOWED: Call = ("is_followed", {"within": 1000})
SEEN: Call = ("is_seen", {})
WATCHED: Call = ("is_watched", {})


def _breathes(milliseconds: int) -> Call:
    return "breathes", {"milliseconds": milliseconds}


def _mines(blocks: int, change: int = 0, rail: int = 0) -> Call:
    return "mines", {"blocks": blocks, "change": change, "rail": rail}


def _pays(amount: int = 100, maturity: int = 1, rail: int = 0) -> Call:
    return "pays", {"order": 0, "amount": amount, "maturity": maturity, "rail": rail}


def _registers(**more: Any) -> Iterator[Call]:
    yield "registers", {"amount": 100, **more}
    yield WATCHED


def _nobody_answers() -> Iterator[Call]:
    for node in range(3):
        yield "troubles", {"node": node, "kind": "down"}


def _is_paid(blocks: int = 3) -> Iterator[Call]:
    yield from _registers()
    yield _pays()
    yield _mines(blocks)
    yield FOLLOWED


def changes_in_its_block(n: int) -> Iterator[Call]:
    """What waits, and is known, is mined with another content."""
    yield from _registers()
    yield from _registers()
    yield _pays()
    yield SEEN
    yield _mines(1, change=1 + n % 5)
    yield FOLLOWED


def changes_in_a_reorg(n: int) -> Iterator[Call]:
    """What a block has paid pays something else in the block that takes its place."""
    yield from _registers()
    yield from _is_paid(1)
    yield "reorgs", {"depth": 1, "fate": "changed", "change": 2 * n}
    yield FOLLOWED


def ripens(n: int) -> Iterator[Call]:
    """A payment that cannot be spent before some depth is followed from block to block."""
    yield from _registers()
    yield _pays(maturity=3)
    for _ in range(4 + n):
        yield _mines(1)
        yield FOLLOWED


def comes_late_and_old(n: int) -> Iterator[Call]:
    """Blocks that a daemon could not read have grown old by the time that it can."""
    yield from _registers()
    yield from _nobody_answers()
    yield _pays()
    yield _mines(3 + n)
    yield "time_passes", {"seconds": 5000}
    yield "heals", {"node": None}
    yield "has_read", {}


def is_paid_unseen(n: int) -> Iterator[Call]:
    """A payment in time is in a block that nobody could read before the window closed."""
    yield from _registers(expires=60, basis="block_time" if n % 2 else "first_seen")
    yield from _nobody_answers()
    yield _pays()
    yield _mines(1)
    yield "time_passes", {"seconds": 500}
    yield _breathes(60)
    yield "heals", {"node": None}
    yield _breathes(60)


def is_paid_before_it_is_watched(n: int) -> Iterator[Call]:
    """A payment in time came before the address was in the watch, and the window closes meanwhile."""
    yield "pays_first", {"amount": 100}
    yield _mines(1)
    yield FOLLOWED
    yield "troubles", {"node": 0, "kind": "slow", "size": 4}
    yield "registers", {"amount": 100, "known": -1, "expires": 60, "basis": "block_time" if n % 2 else "first_seen"}
    yield _breathes(n)
    yield "time_passes", {"seconds": 500}
    yield _breathes(60)


def is_paid_by_a_late_block(n: int) -> Iterator[Call]:
    """A payment in time is in a block that comes after the window closed, with a timestamp before that."""
    yield from _registers(expires=60, basis="block_time" if n % 2 else "first_seen")
    yield FOLLOWED
    yield "is_paid_by_a_late_block", {"order": 0}
    yield FOLLOWED


def closes_unseen(n: int) -> Iterator[Call]:
    """Watching would end, by the clock, while blocks of its time are unread."""
    yield from _registers(expires=60, closes=60)
    yield from _nobody_answers()
    yield _pays()
    yield _mines(1 + n % 3)
    yield "time_passes", {"seconds": 500}
    yield _breathes(120)
    yield "heals", {"node": None}


def comes_back_behind(n: int) -> Iterator[Call]:
    """Every node comes back with the tip at which it stopped, and has the blocks of the outage only later."""
    yield from _registers(expires=60, basis=("first_seen", "block_time")[n % 2])
    yield from _nobody_answers()
    yield _breathes(150)
    yield _pays()
    yield _mines(1 + n % 3)
    yield "time_passes", {"seconds": 500}
    yield "heals", {"node": None}
    for node in range(3):
        yield "troubles", {"node": node, "kind": "lag", "size": 1 + n % 3}
    yield _breathes(150)
    yield "heals", {"node": None}


def closes_over_a_payment(n: int) -> Iterator[Call]:
    """Watching would end while a payment waits, or can still be undone."""
    yield from _registers(expires=60, closes=60)
    if n % 4 > 1:
        yield "pays", {"order": 0, "amount": 100, "gold": True}
    else:
        yield _pays()
    if n % 2:
        yield _mines(1)
    yield SEEN
    yield FOLLOWED
    yield "time_passes", {"seconds": 500}
    yield FOLLOWED
    yield _breathes(150)
    # What is closed is no longer in the index of a daemon that starts.
    yield "restarts", {"with_gold": True}
    yield FOLLOWED
    if n % 2:
        yield "reorgs", {"depth": 1, "fate": "kept"}
    yield _mines(2)
    yield FOLLOWED


def is_given_back_by_choice(n: int) -> Iterator[Call]:
    """Part of a settled order is given back, as a discount."""
    yield from _is_paid()
    yield "refunds", {"order": 0, "amount": 10 + 10 * n}
    if n % 2:
        yield _pays(60)
        yield _mines(3)
    yield FOLLOWED


def is_given_back_before_the_rest(n: int) -> Iterator[Call]:
    """A part payment is given back, and then the rest comes."""
    yield from _registers()
    yield _pays(60)
    yield _mines(3)
    yield FOLLOWED
    yield "refunds", {"order": 0, "amount": 60 if n % 2 else 10}
    yield _pays(40 if n % 3 else 100)
    yield _mines(3)
    yield FOLLOWED


def is_undone(n: int) -> Iterator[Call]:
    """A reorg takes a payment away after the order was settled."""
    yield from _is_paid(2 + n % 2)
    if n % 3 == 2:
        yield "holds", {"order": 0}
    yield "reorgs", {"depth": 4, "fate": ("lost", "back", "half")[n % 3]}
    yield FOLLOWED


def is_cancelled_first(n: int) -> Iterator[Call]:
    """Money comes for an order that was cancelled."""
    yield from _registers()
    yield "cancels", {"order": 0}
    yield _pays()
    yield _mines(1 + n % 3)
    yield FOLLOWED


def registers_what_was_paid(n: int) -> Iterator[Call]:
    """An address is paid, and registered some blocks, or some minutes, later."""
    yield "pays_first", {"amount": 100}
    yield _mines(1 + n % 4)
    yield FOLLOWED
    if n % 2:
        yield "time_passes", {"seconds": 500}
        yield FOLLOWED
    yield from _registers(known=-1, accept=(600, 0, 60)[n % 3])


def is_taken_over(n: int) -> Iterator[Call]:
    """A daemon that stood by, and was there before a registration, follows from now on."""
    yield "gets_a_standby", {}
    yield FOLLOWED
    yield _breathes(60)
    yield from _registers()
    if n % 2:
        yield "lets_leases_run_out", {}
        yield _breathes(60)
    else:
        yield "loses_a_daemon", {"which": 0}
    yield _pays()
    yield _mines(1 + n % 3)
    yield FOLLOWED


def goes_on_without_its_lease(n: int) -> Iterator[Call]:
    """A daemon that was taken for dead goes on, beside the one that follows now."""
    yield "gets_a_standby", {}
    yield FOLLOWED
    yield from _registers()
    yield _pays()
    yield "lets_leases_run_out", {}
    for _ in range(10):
        yield _breathes(3 + n)
        yield _mines(1)
    yield FOLLOWED


def loses_the_newest(n: int) -> Iterator[Call]:
    """A replica takes over that has not got the last lines, and a consumer had read them."""
    yield from _registers()
    yield "is_copied", {}
    yield FOLLOWED
    yield _pays()
    yield _mines(1 + n % 3)
    yield FOLLOWED
    yield "is_read", {}
    yield "fails_over", {}
    yield FOLLOWED
    if n % 2:
        yield "is_read", {}
    yield from _registers()
    yield _pays(60)
    yield _mines(1)
    yield FOLLOWED
    yield "is_read", {}


def flaps(n: int) -> Iterator[Call]:
    """The chain shows another branch for a moment, while a person looks back."""
    yield from _registers()
    yield _mines(3)
    yield FOLLOWED
    yield "rescans", {"start": 0}
    yield "flaps", {"order": 0, "depth": 2 + n % 2, "times": 2, "milliseconds": 4 + 2 * n}
    yield FOLLOWED


def is_lied_to(n: int) -> Iterator[Call]:
    """One node of several makes up a payment, deep below blocks of its own."""
    yield from _registers()
    yield "lies", {"node": n % 3, "order": 0, "back": n % 2, "blocks": (3, 12)[n % 2], "early": n % 4 > 1}
    yield _breathes(150)


def is_mined_while_asked(n: int) -> Iterator[Call]:
    """A block takes what waits between two answers of a slow node."""
    yield from _registers()
    yield "troubles", {"node": 0, "kind": "slow", "size": 4}
    for turn in range(3):
        yield _pays(40)
        yield SEEN
        yield _breathes(3 * n + 7 * turn)
        yield _mines(1)
        yield _breathes(60)


def is_displaced(n: int) -> Iterator[Call]:
    """A rival takes the coins of what waits."""
    yield from _registers()
    yield _pays()
    yield SEEN
    yield "replaces", {"which": -1}
    yield _breathes(40) if n % 2 else _mines(1)
    yield FOLLOWED


def loses_an_asset(n: int) -> Iterator[Call]:
    """An asset leaves the configuration while an order asks for it."""
    yield from _registers(gold=True)
    yield "restarts", {"with_gold": False}
    yield FOLLOWED
    yield "pays", {"order": 0, "amount": 100, "gold": True}
    yield _mines(1 + n % 3)
    yield FOLLOWED


def is_sent_dust(n: int) -> Iterator[Call]:
    """Transfers below the least amount come before, beside and after a payment."""
    yield from _registers()
    yield FOLLOWED
    for amount in range(1, 4 + n % 2):
        yield "pays_dust", {"order": 0, "amount": amount}
    yield _mines(1)
    yield _pays(96 if n % 3 else 100)
    yield "pays_dust", {"order": 0, "amount": 4}
    yield _mines(1 + n % 3)
    yield FOLLOWED


def is_set_aside(n: int) -> Iterator[Call]:
    """One invoice cannot be loaded while it is paid beside another one, and is mended later."""
    yield from _registers()
    yield from _registers()
    yield FOLLOWED
    yield "is_poisoned", {"order": 1}
    if n % 2:
        yield "pays_many", {"orders": [0, 1], "amount": 100}
    else:
        yield _pays()
        yield "pays", {"order": 1, "amount": 100}
    yield _mines(1)
    yield "goes_on", {}
    if n % 4 > 1:
        yield "reorgs", {"depth": 1, "fate": ("kept", "lost", "back")[n % 3]}
    yield _mines(1 + n % 3)
    yield "goes_on", {}
    yield "is_mended", {}


def is_told_otherwise(n: int) -> Iterator[Call]:
    """Other nodes tell a block otherwise before its payment is final, and a person decides, or nobody does."""
    yield from _is_paid(1 + n % 2)
    yield "others_retell", {}
    yield _mines(13)
    yield FOLLOWED
    yield "judges", {"verdict": ("accepted", "rejected", None)[n % 3]}
    yield "heals", {"node": None}
    yield _mines(1)
    yield FOLLOWED


# Two daemons


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
    yield from _registers()
    yield _pays()
    yield SEEN
    yield from _is_stopped_in(n, _mines(1 + n % 2))
    yield "reorgs", {"depth": 1 + n % 2, "fate": ("lost", "changed", "back", "kept")[n % 4], "change": n}
    yield from _registers()
    yield _pays(60)
    yield _mines(1)
    yield "goes_on", {}
    yield "goes_on_from_there", {}
    yield _breathes(20)
    yield _mines(1)
    yield FOLLOWED


def stands_still_in_a_look_back(n: int) -> Iterator[Call]:
    """It stood still while it looked back for an address; it takes over again, and what came meanwhile is watched."""
    yield "pays_first", {"amount": 100}
    yield _mines(1 + n % 2)
    yield FOLLOWED
    yield from _is_stopped_in(n, ("registers", {"amount": 100, "known": -1}))
    yield WATCHED
    if n % 3:
        yield "reorgs", {"depth": 1, "fate": ("lost", "kept")[n % 2]}
    yield from _registers()
    yield FOLLOWED
    yield "goes_on_from_there", {}
    yield _breathes(30)
    # The one that stood still takes over.
    yield "loses_a_daemon", {"which": 1}
    yield _pays()
    yield _mines(2)
    yield FOLLOWED


def stands_still_in_a_rescan(n: int) -> Iterator[Call]:
    """It stood still while it looked through blocks again, of which the chain has left some since."""
    yield from _is_paid(1 + n % 3)
    yield from _is_stopped_in(n, ("rescans", {"start": 0}), _breathes(10))
    yield "reorgs", {"depth": 1 + n % 3, "fate": ("lost", "half", "changed")[n % 3], "change": n}
    yield "goes_on", {}
    yield "goes_on_from_there", {}
    yield _breathes(20)
    yield FOLLOWED


def stands_still_over_the_mempool(n: int) -> Iterator[Call]:
    """It stood still with what waits for a block in its hands, of which another daemon knows more by now."""
    yield "gets_a_standby", {}
    yield from _registers()
    yield from _registers()
    yield "stands_still", {"after": 3 + 4 * n}
    yield "pays", {"order": 1, "amount": 100}
    yield "stood_still", {}
    yield "goes_on", {}
    yield SEEN
    yield _pays()
    yield SEEN
    yield "goes_on_from_there", {}
    yield _breathes(40)
    yield _mines(1 + n % 2)
    yield FOLLOWED


def both_believe_to_follow(n: int) -> Iterator[Call]:
    """Again and again the daemon that follows is taken for dead at any point, and both go on; customers pay."""
    yield "gets_a_standby", {}
    yield FOLLOWED
    for turn in range(3):
        yield _stands_still(n + 3 * turn, turn)
        yield "registers", {"amount": 100}
        yield _pays()
        yield _mines(1)
        yield "stood_still", {}
        yield _breathes(3 * n)
        yield "goes_on_from_there", {}
        yield _breathes(n)
        if (n + turn) % 3 == 0:
            yield "reorgs", {"depth": 1, "fate": ("back", "kept")[n % 2]}
    yield "is_read", {}
    yield FOLLOWED


# On two rails


def is_paid_on_either_rail(n: int) -> Iterator[Call]:
    """An order that asks for money on one of two rails gets it on the second, on both, or half of it on each."""
    first, second = ((0, 100), (100, 100), (60, 40), (60, 100), (0, 160), (100, 60), (0, 60), (160, 40))[n]
    yield from _registers(other=True)
    if first:
        yield _pays(first)
        yield _mines(1 + n % 2)
    yield _pays(second, rail=1)
    yield "is_seen", {"rail": 1}
    yield _mines(3 + n % 2, rail=1)
    yield FOLLOWED


def is_paid_on_the_wrong_rail(n: int) -> Iterator[Call]:
    """Money comes on a rail on which the order does not ask for any, before the registration or after it."""
    if n % 2:
        yield "pays_first", {"amount": 100, "rail": 1}
        yield _mines(1 + n % 3, rail=1)
        yield FOLLOWED
        yield "registers", {"amount": 100, "known": -1}
        yield WATCHED
    else:
        yield from _registers()
        yield FOLLOWED
        yield _pays(rail=1)
        yield _mines(1 + n % 3, rail=1)
    yield FOLLOWED
    if n % 4 > 1:
        yield "reorgs", {"depth": 1 + n % 3, "fate": ("lost", "kept", "back")[n % 3], "rail": 1}
    if n > 3:
        yield _pays()
        yield _mines(3)
    yield FOLLOWED


def is_blind_on_one_rail(n: int) -> Iterator[Call]:
    """A window closes on a rail that is followed while nobody can read the other, on which the order may be paid."""
    yield from _registers(other=True, expires=60, basis="block_time" if n % 2 else "first_seen")
    yield FOLLOWED
    away = n // 2 % 2
    for node in range(3):
        yield "troubles", {"node": node, "kind": "down", "rail": away}
    if n > 3:
        yield _pays(rail=away)
        yield _mines(1, rail=away)
    if n % 3 == 1:
        yield _pays(rail=1 - away)
        yield _mines(1, rail=1 - away)
        yield _breathes(60)
    yield "time_passes", {"seconds": 500}
    if n % 3 == 1:
        yield "reorgs", {"depth": 1, "fate": "lost", "rail": 1 - away}
    yield _mines(2, rail=1 - away)
    yield _breathes(150)
    if n % 3 == 2:
        yield _pays(rail=1 - away)
        yield _mines(3, rail=1 - away)
        yield _breathes(100)
    yield "heals", {"node": None}
    yield FOLLOWED


def is_undone_on_one_rail(n: int) -> Iterator[Call]:
    """An order that was paid on both rails loses one of the payments, and then maybe the other."""
    yield from _registers(other=True)
    for rail in (0, 1):
        yield _pays(rail=rail)
        yield _mines(3, rail=rail)
        yield FOLLOWED
    yield "reorgs", {"depth": 4, "fate": ("lost", "half")[n % 2], "rail": n // 2 % 2}
    yield FOLLOWED
    if n > 3:
        yield "reorgs", {"depth": 4, "fate": ("lost", "back")[n % 2], "rail": 1 - n // 2 % 2}
        yield FOLLOWED


def is_given_back_on_one_rail(n: int) -> Iterator[Call]:
    """Part of what came on one rail is given back, there or on the other one, before or after the order is paid."""
    yield from _registers(other=True)
    yield _pays((60, 100, 160)[n % 3])
    yield _mines(3)
    yield FOLLOWED
    if n % 2:
        yield "refunds", {"order": 0, "amount": 60, "rail": 0}
    yield _pays(rail=1)
    yield _mines(4, rail=1)
    yield FOLLOWED
    yield "refunds", {"order": 0, "amount": (40, 100)[n // 2 % 2], "rail": 1}
    if n > 3:
        yield "reorgs", {"depth": 4, "fate": "lost", "rail": n % 2}
    yield FOLLOWED


ON_TWO_RAILS: Mapping[str, Episode] = {
    each.__name__: each
    for each in (
        is_paid_on_either_rail, is_paid_on_the_wrong_rail, is_blind_on_one_rail, is_undone_on_one_rail,
        is_given_back_on_one_rail,
    )
}  # fmt: skip
"""Episodes that need a second rail. Where there is none, the first one takes its part."""

EPISODES: Mapping[str, Episode] = {
    each.__name__: each
    for each in (
        changes_in_its_block, changes_in_a_reorg, ripens, comes_late_and_old, is_paid_unseen,
        is_paid_before_it_is_watched, is_paid_by_a_late_block, closes_unseen, comes_back_behind, closes_over_a_payment,
        is_given_back_by_choice, is_given_back_before_the_rest, is_undone, is_cancelled_first,
        registers_what_was_paid, is_taken_over, goes_on_without_its_lease, loses_the_newest, flaps, is_lied_to,
        is_mined_while_asked, is_displaced, loses_an_asset, is_sent_dust, is_set_aside,
        is_told_otherwise, stands_still_in_a_step, stands_still_in_a_look_back, stands_still_in_a_rescan,
        stands_still_over_the_mempool, both_believe_to_follow,
    )
} | ON_TWO_RAILS  # fmt: skip

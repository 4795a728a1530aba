"""Repeats a request to an endpoint whose answer contradicts what it reported before (HAZARDS E19, S15).

Several nodes may answer behind one address, and the next request reaches another of them. Where they take turns, a step
of the daemon that asks an even number of questions would put the same one to the node that lags for ever; so it is
the single request that is asked again, and not the step. Only questions whose right answer is pinned belong here: by a
block's hash, or by a height that the same endpoint has reported.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from railwatch.rail.errors import BlockGone, NotYet

__all__ = ["OTHERS", "ask_again"]

Answer = TypeVar("Answer")

OTHERS = 5
"""How often a question is asked again. Of two nodes that answer at random, all six answers come from the wrong one in
two of a hundred times, and then the daemon plans anew."""


async def ask_again(question: Callable[[], Awaitable[Answer]]) -> Answer:
    """Return the first answer of ``question`` that does not say that the block, or its content, is missing.

    Raises what the last one raises: `BlockGone` or `NotYet`. Any other error is raised at once.
    """
    for _ in range(OTHERS):
        try:
            return await question()
        except (BlockGone, NotYet):
            continue
    return await question()

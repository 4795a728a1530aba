"""Harm kept where it belongs: of many things that fail together, the one that is at fault is found and set aside."""

import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog

from railwatch.rail import BlockGone, RailUnavailable
from railwatch.reasons import describe
from railwatch.store.errors import StoreError

log: structlog.stdlib.BoundLogger = structlog.get_logger()

Item = TypeVar("Item", bound=Hashable)

ASIDE_MIN_SECONDS, ASIDE_MAX_SECONDS = 10.0, 600.0
"""Seconds before one thing that failed is tried again: at first, and at most."""

ASIDE_MOST = 10_000
"""Things that one list of those set aside remembers. Of more, the ones that failed longest ago are tried anew."""

OUTSIDE = (RailUnavailable, BlockGone, StoreError)
"""No fault of the thing at hand: the node or the database is unreachable, or the chain moved."""


async def by_halves(
    items: Sequence[Item],
    act: Callable[[Sequence[Item]], Awaitable[None]],
    set_aside: Callable[[Item, Exception], Awaitable[None]],
) -> None:
    """Do ``act`` for all items; if that fails, for half of them and then the other half, until the bad one is alone.

    A bad one is given to ``set_aside``. ``act`` does all of its items or none. Raises what is no item's fault:
    `OUTSIDE`.
    """
    try:
        await act(items)
    except OUTSIDE:
        raise
    except Exception as defect:
        if len(items) == 1:
            await set_aside(items[0], defect)
            return
        # The caller logs one that fails alone; this logs what only several of them do together.
        log.warning("batch.halved", items=len(items), reason=describe(defect), exc_info=defect)
        middle = len(items) // 2
        await by_halves(items[:middle], act, set_aside)
        await by_halves(items[middle:], act, set_aside)


@dataclass(slots=True)
class Aside(Generic[Item]):
    """At most `ASIDE_MOST` things that failed, and when each is tried again: later and later.

    ``count``: failures in all. ``first`` and ``longest``: seconds before that, at first and at most.
    """

    count: int = 0
    first: float = ASIDE_MIN_SECONDS
    longest: float = ASIDE_MAX_SECONDS
    _until: dict[Item, float] = field(default_factory=dict)
    _pause: dict[Item, float] = field(default_factory=dict)

    def put(self, item: Item) -> float:
        """Leave it alone for a while; returns for how many seconds."""
        pause = self._pause.pop(item, self.first)
        self._until[item] = time.monotonic() + pause
        self._pause[item] = min(self.longest, pause * 2)
        self.count += 1
        if len(self._pause) > ASIDE_MOST:
            self.forget([next(iter(self._pause))])
        return pause

    def forget(self, items: Iterable[Item]) -> None:
        """Forget those that succeeded."""
        if self._pause:
            for item in items:
                self._until.pop(item, None)
                self._pause.pop(item, None)

    @property
    def waiting(self) -> set[Item]:
        """What is left alone now."""
        now = time.monotonic()
        return {item for item, until in self._until.items() if until > now} if self._until else set()

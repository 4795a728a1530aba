"""One configured node: entered when it is needed, left when it fails, and given time to come back.

Whatever a node's answer makes an adapter raise is that node's fault. Only the seam's three errors leave `Node.ask`, so
that a defect which one node's answer uncovers never ends a rail that has others, and heals when the answer does.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from railwatch.daemon.follow.steadiness import Setbacks
from railwatch.rail import (
    AdapterDefect,
    BlockGone,
    Heads,
    NotKept,
    PendingUnknown,
    RailAdapter,
    RailError,
    RailFault,
    RailUnavailable,
)
from railwatch.rail.printable import printable
from railwatch.redaction import hidden

BACKOFF_MIN_SECONDS, BACKOFF_MAX_SECONDS = 0.2, 10.0
"""Seconds that a failing node rests, at first and at most; jittered, so that many daemons do not return as one."""

HEADS_ASKED_TWICE_BELOW = 16
"""Questions for heads that tell no higher one, after which the next one is put twice."""

AWAY_AFTER = 5.0
"""Seconds of failing after which a node has no vote: two or three tries in a row. A busy node (a large block, a pause
of its runtime) answers again within that; one that is away for longer must not stop its rail."""

TEXT_MAX = 500
"""Characters of an error that are kept: a node may put anything into its answer."""

Answer = TypeVar("Answer")


@dataclass(slots=True)
class Node:
    """One configured node and how it has fared. ``adapter`` is entered; None while it is not."""

    name: str
    open: Callable[[], RailAdapter]
    failures: int = 0
    backoff_until: float = 0.0
    adapter: RailAdapter | None = None
    disagrees: bool = False
    connect_task: asyncio.Task[None] | None = None
    """Its being entered as a witness, beside everything else; the last such attempt when that is done."""
    connecting: asyncio.Lock = field(default_factory=asyncio.Lock)
    reported: Heads | None = None
    """The heads that it told last."""
    votes: bool = False
    """It is counted. It is not before it has answered, nor once it has been away for `AWAY_AFTER`."""
    behind_since: float | None = None
    """Since when it is below a height that was believed before."""
    setbacks: Setbacks = field(default_factory=Setbacks)
    _highest: int = -1
    """The height that it has told at most."""
    _quiet: int = 0
    """How many times in a row it has told no higher head."""
    _failing_since: float | None = None
    _fault: str = ""

    async def connect(self) -> RailAdapter:
        """The entered adapter. Raises `RailUnavailable` or `RailFault`, and then the node rests."""
        async with self.connecting:
            if self.adapter is None:
                adapter = await self._guarded(self._open_adapter)
                self.adapter = adapter
            return self.adapter

    async def _open_adapter(self) -> RailAdapter:
        adapter = self.open()
        try:
            await adapter.__aenter__()
        except Exception:
            with suppress(RailError):
                await self._guarded(lambda: adapter.__aexit__(None, None, None))
            self.record_failure()
            raise
        return adapter

    async def ask(self, question: Callable[[RailAdapter], Awaitable[Answer]]) -> Answer:
        """Put a question to the entered adapter. Raises the seam's three errors and nothing else."""
        adapter = self.adapter
        if adapter is None:
            raise RailUnavailable(f"{self.name} was left meanwhile")
        return await self._guarded(lambda: question(adapter))

    async def heads(self) -> Heads:
        """Ask for its heads; once more now and then, while they stand still.

        Behind one address several nodes may take turns (HAZARDS E19). If a round of the daemon asks an even number of
        questions, the node that stands still answers all questions for heads, and nobody hears of the tip: the one
        question more breaks that rhythm, and the next node answers it. Raises as `ask`.
        """
        heads = await self.ask(lambda adapter: adapter.heads())
        if heads.latest.height <= self._highest:
            self._quiet += 1
            if self._quiet % HEADS_ASKED_TWICE_BELOW == 0:
                with suppress(RailUnavailable, BlockGone, RailFault):
                    again = await self.ask(lambda adapter: adapter.heads())
                    heads = again if again.latest.height > heads.latest.height else heads
        if heads.latest.height > self._highest:
            self._highest, self._quiet = heads.latest.height, 0
        return heads

    async def _guarded(self, act: Callable[[], Awaitable[Answer]]) -> Answer:
        try:
            return await act()
        except (RailUnavailable, BlockGone, RailFault) as told:
            if isinstance(told, AdapterDefect):
                self._log_once(str(told))
            text = printable(hidden(str(told)), TEXT_MAX)
            if text == str(told):
                raise
            raise _with_text(told, text) from told
        except Exception as defect:
            text = f"{type(defect).__name__}: {printable(hidden(str(defect)), TEXT_MAX)}"
            self._log_once(text)
            raise RailUnavailable(f"{self.name} gave an answer that could not be read: {text}") from defect

    def _log_once(self, text: str) -> None:
        """Log the trace of a defect, but not again while the node repeats it."""
        if text != self._fault:
            self._fault = text
            structlog.get_logger().exception("node.fault", node=self.name, reason=text)

    async def try_connect(self) -> None:
        """Enter it, if it can be entered: a witness that is away is no trouble of anybody's."""
        with suppress(RailError):
            await self.connect()

    async def disconnect(self) -> None:
        """Let go of it, if it is entered."""
        adapter, self.adapter = self.adapter, None
        if adapter is not None:
            with suppress(RailError):
                await self._guarded(lambda: adapter.__aexit__(None, None, None))

    def answered(self, heads: Heads) -> None:
        """Note what it told, and that it is there."""
        self.reported, self.failures, self._failing_since, self._fault = heads, 0, None, ""
        self.setbacks.note(heads)

    def missed(self) -> None:
        """Note that it did not answer this time, also where it is still being entered."""
        self._failing_since = self._failing_since or time.monotonic()

    def record_failure(self) -> None:
        """Let it rest, longer each time in a row."""
        self.missed()
        self.failures += 1
        rest = min(BACKOFF_MAX_SECONDS, BACKOFF_MIN_SECONDS * 2 ** min(self.failures - 1, 10))
        self.backoff_until = time.monotonic() + rest * random.uniform(0.5, 1.0)

    @property
    def in_backoff(self) -> bool:
        """Whether it failed so recently that it is better left alone."""
        return self.backoff_until > time.monotonic()

    @property
    def is_away(self) -> bool:
        """Whether it has failed for so long that it is not counted."""
        return self._failing_since is not None and time.monotonic() - self._failing_since >= AWAY_AFTER


def _with_text(told: RailError, text: str) -> RailError:
    """Return the same error with other words."""
    if isinstance(told, NotKept):
        return NotKept(text, told.first)
    kinds: tuple[type[RailError], ...] = (BlockGone, RailFault, PendingUnknown, RailUnavailable)
    return next(kind for kind in kinds if isinstance(told, kind))(text)

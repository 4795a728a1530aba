"""One configured node: connected on demand, disconnected when it fails, and retried after a backoff.

An exception that a node's answer causes in an adapter is that node's fault. Only the seam's three errors leave
`Node.ask`. So such a defect never stops a rail that has other nodes, and it ends when the answer changes.
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
"""Seconds of backoff after a failure, at first and at most. Jitter keeps many daemons from returning at once."""

HEADS_ASKED_TWICE_BELOW = 16
"""Queries for heads without a higher one, after which `Node.heads` asks a second time."""

AWAY_AFTER = 5.0
"""Seconds of failure after which a node has no vote: two or three attempts. A busy node (a large block, a pause of its
runtime) answers again within that time. A node that is unavailable for longer must not stop its rail."""

TEXT_MAX = 500
"""Characters of an error to keep: a node may send any text."""

Answer = TypeVar("Answer")


@dataclass(slots=True)
class Node:
    """One configured node and its health. ``adapter`` is connected; None while the node is not."""

    name: str
    open: Callable[[], RailAdapter]
    failures: int = 0
    backoff_until: float = 0.0
    adapter: RailAdapter | None = None
    disagrees: bool = False
    connect_task: asyncio.Task[None] | None = None
    """The latest attempt to connect it as a secondary node, running or done."""
    connecting: asyncio.Lock = field(default_factory=asyncio.Lock)
    reported: Heads | None = None
    """The heads that it reported last."""
    votes: bool = False
    """True once it has answered; False again once it has been unavailable for `AWAY_AFTER`."""
    behind_since: float | None = None
    """The monotonic time since which it is below a height that was agreed on."""
    setbacks: Setbacks = field(default_factory=Setbacks)
    _highest: int = -1
    """The greatest height that it has reported."""
    _quiet: int = 0
    """The number of reports in a row without a higher head."""
    _failing_since: float | None = None
    _fault: str = ""

    async def connect(self) -> RailAdapter:
        """Return the connected adapter. Raises `RailUnavailable` or `RailFault`; the node backs off then."""
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
        """Query the connected adapter. Raises the seam's three errors and nothing else."""
        adapter = self.adapter
        if adapter is None:
            raise RailUnavailable(f"{self.name} is not connected; the daemon connects it, or another node, again")
        return await self._guarded(lambda: question(adapter))

    async def heads(self) -> Heads:
        """Return the node's heads; while they do not move, ask a second time now and then.

        Several nodes may take turns behind one url (HAZARDS E19). If a round of the daemon sends an even number of
        queries, the same node answers every query for heads, and that may be the one which is stuck. The additional
        query shifts that rhythm, so that the next node answers. Raises as `ask`.
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
        except (RailUnavailable, BlockGone, RailFault) as error:
            if isinstance(error, AdapterDefect):
                self._log_once(str(error))
            text = printable(hidden(str(error)), TEXT_MAX)
            if text == str(error):
                raise
            raise _with_text(error, text) from error
        except Exception as defect:
            text = f"{type(defect).__name__}: {printable(hidden(str(defect)), TEXT_MAX)}"
            self._log_once(text)
            raise RailUnavailable(
                f"{self.name} sent an unreadable answer: {text}; see the log event node.fault"
            ) from defect

    def _log_once(self, text: str) -> None:
        """Log a defect with its trace, once for as long as the node repeats it."""
        if text != self._fault:
            self._fault = text
            structlog.get_logger().exception("node.fault", node=self.name, reason=text)

    async def try_connect(self) -> None:
        """Connect if possible. An unreachable secondary node is not an error."""
        with suppress(RailError):
            await self.connect()

    async def disconnect(self) -> None:
        """Disconnect the adapter, if it is connected."""
        adapter, self.adapter = self.adapter, None
        if adapter is not None:
            with suppress(RailError):
                await self._guarded(lambda: adapter.__aexit__(None, None, None))

    def answered(self, heads: Heads) -> None:
        """Note the reported heads, and that the node is available."""
        self.reported, self.failures, self._failing_since, self._fault = heads, 0, None, ""
        self.setbacks.note(heads)

    def missed(self) -> None:
        """Note that it did not answer this time, or that it is still connecting."""
        self._failing_since = self._failing_since or time.monotonic()

    def record_failure(self) -> None:
        """Start a backoff, longer after each failure in a row."""
        self.missed()
        self.failures += 1
        rest = min(BACKOFF_MAX_SECONDS, BACKOFF_MIN_SECONDS * 2 ** min(self.failures - 1, 10))
        self.backoff_until = time.monotonic() + rest * random.uniform(0.5, 1.0)

    @property
    def in_backoff(self) -> bool:
        """True while the daemon prefers other nodes because of a recent failure."""
        return self.backoff_until > time.monotonic()

    @property
    def is_away(self) -> bool:
        """True once it has failed for so long that it has no vote."""
        return self._failing_since is not None and time.monotonic() - self._failing_since >= AWAY_AFTER


def _with_text(error: RailError, text: str) -> RailError:
    """Return the same kind of error with another text."""
    if isinstance(error, NotKept):
        return NotKept(text, error.first)
    kinds: tuple[type[RailError], ...] = (BlockGone, RailFault, PendingUnknown, RailUnavailable)
    return next(kind for kind in kinds if isinstance(error, kind))(text)

"""The failures that halt a rail, and the reason that its operator reads."""

from dataclasses import dataclass

from railwatch.core.chain_sync import DeepReorg
from railwatch.core.states import IllegalMove
from railwatch.rail import RailFault
from railwatch.reasons import describe, one_line
from railwatch.store.rails import ResumePoint

FATAL = (RailFault, DeepReorg, IllegalMove)
"""Errors that halt their rail at once."""

FAILURES_MAX = 5
"""Unknown failures in a row, without a committed step in between, after which a rail is halted."""


@dataclass(slots=True)
class FailureCount:
    """The number of unknown failures of a rail since it committed a step."""

    count: int = 0
    _progress: tuple[object, ...] = ()

    def add(self, at: ResumePoint | None) -> int:
        """Count a failure at ``at`` (None if the database could not return it), and return the new count."""
        cursor = at.cursor if at else None
        progress = (cursor.hash if cursor else None, at.rewinds if at else None)
        self.count = self.count + 1 if progress == self._progress else 1
        self._progress = progress
        return self.count


def halt_reason(fault: BaseException, rail: str) -> str:
    """Return the text of `rails.reason` for a rail that ``fault`` halts: the cause, and the command to run."""
    resume = f"railwatch rail resume {rail}"
    if isinstance(fault, DeepReorg):
        return (
            f"{one_line(str(fault))}; decide by docs/runbooks/rail-halted.md, then run: {resume} (tries again) or "
            f"{resume} --accept-chain (first shows what that chain reverses)"
        )
    known = isinstance(fault, FATAL)
    cause = f"{type(fault).__name__}: {one_line(str(fault))}" if known else f"repeated failure: {describe(fault)}"
    return f"{cause}; fix the cause by docs/runbooks/rail-halted.md, then run: {resume}"

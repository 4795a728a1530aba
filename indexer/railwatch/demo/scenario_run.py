"""One story while it runs: the expected transitions, those that were read, and whether they agree."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

from railwatch.rail.demo import Scenario
from railwatch.store.read_models import Dossier, Record

USUAL_REASON: Mapping[str, str] = {
    "created": "created",
    "detected": "seen",
    "confirming": "included",
    "paid": "confirmed",
    "overpaid": "confirmed",
    "underpaid": "confirmed",
    "late_paid": "confirmed",
    "expired": "expired",
}
"""The reason with which a state is usually reached, and which therefore goes without saying."""

SETTLED = frozenset({"paid", "overpaid", "late_paid"})


class Phase(Enum):
    """How far a story is."""

    WAITING = "waiting"
    RUNNING = "playing"
    DONE = "told"


@dataclass(frozen=True, slots=True)
class Timing:
    """How long `paid` took, in seconds, up to the moment at which a reader of the feed had the transition in hand.

    ``since_block``: from when the payment's block was asked for. ``since_enough``: from when the block was asked for
    with which the payment was deep enough; the rest of ``since_block`` is the policy's, not ours.
    """

    since_block: float
    since_enough: float | None


@dataclass(slots=True)
class ScenarioRun:
    """A rail's story, and what has come of it so far."""

    rail: str
    scenario: Scenario
    phase: Phase = Phase.WAITING
    invoice: UUID | None = None
    address: str = ""
    path: tuple[str, ...] = ()
    exceptions: frozenset[str] = frozenset()
    timing: Timing | None = None
    problem: str | None = None

    @property
    def agrees(self) -> bool:
        """Return True if everything that was expected was read, and nothing else."""
        return self.problem is None and (self.path, self.exceptions) == (self.scenario.path, self.scenario.exceptions)

    @property
    def diverged(self) -> bool:
        """Return True if the feed, which only grows, can never become what was expected."""
        return self.path != self.scenario.path[: len(self.path)]

    def learn(self, dossier: Dossier) -> None:
        """Read all that the tables hold about the invoice."""
        self.path = path_of(dossier.transitions)
        self.exceptions = frozenset(exception_words(each) for each in dossier.exceptions)


def path_of(transitions: Iterable[Record]) -> tuple[str, ...]:
    """Return the invoice's own transitions, in the words of a story."""
    return tuple(state_words(each["to_state"], each["reason"]) for each in transitions if each["subject"] == "invoice")


def state_words(state: str, reason: str) -> str:
    """``paid``, or ``created (reversed)`` where the reason is not the usual one."""
    return state if reason == USUAL_REASON.get(state) else f"{state} ({reason})"


def exception_words(row: Record) -> str:
    """``overpaid``, ``underpaid (resolved)``, ``reversed (critical)`` or ``reversed (critical, resolved)``."""
    remarks = []
    if row["severity"] == "critical":
        remarks.append("critical")
    if row["resolved_at"] is not None:
        remarks.append("resolved")
    return f"{row['kind']} ({', '.join(remarks)})" if remarks else str(row["kind"])

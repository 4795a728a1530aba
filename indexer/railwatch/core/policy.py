"""When a transfer counts: confirmation depth, or finality and a margin beyond it (HAZARDS, default policy).

Depths are inclusive: the including block is 1. A policy is turned into the height at which it will be met, so that a
block need not read what it does not touch: an index over that height finds what is due.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple


class Threshold(NamedTuple):
    """The policy is met once the cursor (``depth``) or finality (``finalized``) has reached ``height``, inclusive."""

    basis: Literal["depth", "finalized"]
    height: int


@dataclass(frozen=True, slots=True)
class Policy:
    """``confirmations`` blocks deep, or ``plus`` blocks below the finalized head (``confirmations`` None)."""

    confirmations: int | None
    plus: int = 0

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Policy":
        """Read ``{"confirmations": n}`` or ``{"finalized": true, "plus": n}``. Zero confirmations never pay."""
        if data.get("finalized"):
            return cls(None, int(data.get("plus", 0)))
        return cls(max(1, int(data["confirmations"])))

    def to_json(self) -> dict[str, Any]:
        """Write it the way `from_json` reads it."""
        if self.confirmations is None:
            return {"finalized": True, "plus": self.plus}
        return {"confirmations": self.confirmations}

    def threshold(self, height: int, maturity: int = 1) -> Threshold:
        """When a transfer included at ``height`` meets the policy; ``maturity`` is a floor for any (HAZARDS B7)."""
        if self.confirmations is None:
            return Threshold("finalized", height + max(self.plus, maturity - 1))
        return Threshold("depth", height + max(self.confirmations, maturity) - 1)


def finality_threshold(met: Threshold, height: int, horizon: int, has_finality: bool) -> Threshold:
    """Return when a confirmed transfer at ``height`` is final: past finality if the rail has it, else ``horizon`` deep.

    Asked only once the policy is met, because `final` comes after `confirmed`.
    """
    if has_finality:
        return met if met.basis == "finalized" else Threshold("finalized", height)
    return Threshold("depth", max(height + horizon - 1, met.height))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rail has come: the committed cursor's height, and finality's, never above the cursor."""

    cursor: int
    finalized: int

    def has_reached(self, due: Threshold) -> bool:
        """Whether ``due`` is met."""
        return due.height <= (self.cursor if due.basis == "depth" else self.finalized)

"""Which blocks were read by their transactions' own values alone, in words for an operator (HAZARDS E2, E26)."""

from __future__ import annotations

from dataclasses import dataclass

UNSEEN = (
    "ether that contracts sent there (exchange batches, smart wallets) is not seen, "
    "and shows only when balances are reconciled"
)


@dataclass(slots=True)
class Gap:
    """The blocks that could not be traced, as a range with a count, and why the newest could not."""

    first: int = 0
    last: int = 0
    count: int = 0
    why: str = ""

    def add(self, low: int, high: int, why: str) -> None:
        """Note that the blocks ``low`` to ``high`` could not be traced."""
        if self.count and self.first <= low and high <= self.last:
            # Most likely the same blocks once more: a look-back goes over what was read before.
            return
        self.first = low if not self.count else min(self.first, low)
        self.last = max(self.last, high)
        self.count = min(self.count + high - low + 1, self.last - self.first + 1)
        self.why = why

    def __str__(self) -> str:
        """Return a sentence, or an empty text if there is no gap."""
        if not self.count:
            return ""
        if self.count == 1:
            return f"block {self.last} could not be traced ({self.why}), so {UNSEEN}"
        where = f"blocks {self.first} to {self.last}"
        if self.count <= self.last - self.first:
            where = f"{self.count} of the {where}"
        return f"{where} could not be traced ({self.why}), so {UNSEEN}"

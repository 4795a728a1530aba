"""What the chain really was at each moment: the oracle's only source beside the acts."""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from railwatch_fake import FakeChain, Output
from railwatch_fake.chain import Block, Tx

LEAST = 5
"""Base units below which a transfer is counted and moves nothing (`min_amount` of each asset)."""


@dataclass(frozen=True, slots=True)
class Credit:
    """One output of a transaction that is on a rail's chain, or that waits (``block`` None)."""

    rail: str
    tx: Tx
    place: int
    out: Output
    block: Block | None

    @property
    def key(self) -> tuple[str, str]:
        """The transaction's id, and which credit of it, as the fake rail says it."""
        return self.tx.id, f"out:{self.place}"


class Truth:
    """Listens to a chain. ``reached``: when each block that was ever canonical came to each depth, from 1."""

    def __init__(self, chain: FakeChain) -> None:
        self.chain = chain
        self.reached: defaultdict[str, list[datetime]] = defaultdict(list)
        self.contents: dict[str, Block] = {}
        self.tips: list[tuple[datetime, datetime]] = []
        """(when, the tip's time) of every change of the tip."""
        self.sent_at: dict[str, datetime] = {}
        """When each transaction was first heard of, by its id."""
        self.absent_at: dict[str, datetime] = {}
        """When it first was neither in a block nor waiting, or paid somebody else, or another asset."""
        self.small: Counter[bytes] = Counter()
        """How often a transfer below the least amount came into a canonical block, by the key of its address."""
        self._line: set[str] = set()
        self._absences: defaultdict[str, list[list[datetime]]] = defaultdict(list)
        """From when to when each block that had been canonical was not: [from] while it still is not."""
        self._first_paid: dict[str, set[tuple[int, bytes, str]]] = {}
        chain.listeners.append(self._changed)
        self._changed()

    def credits(self) -> Iterator[Credit]:
        """Every output that the chain pays now, oldest first, and then what waits."""
        for block in self.chain.line:
            for tx in block.txs:
                yield from _credits(self.chain.name, tx, block)
        if self.chain.rules.mempool:
            for tx in self.chain.waiting.values():
                yield from _credits(self.chain.name, tx, None)

    def by_address(self) -> dict[bytes, list[Credit]]:
        """The same, by the key of the address."""
        found: defaultdict[bytes, list[Credit]] = defaultdict(list)
        for credit in self.credits():
            found[credit.out.to].append(credit)
        return found

    def depth(self, block: str, moment: datetime) -> int:
        """Return how deep a block ever was up to ``moment``; 0: it was not there."""
        return bisect_right(self.reached.get(block, []), moment)

    def was_absent(self, block: str, since: datetime, until: datetime) -> bool:
        """Return True if a block that had been canonical was not, at any moment from ``since`` to ``until``."""
        return any(spell[0] <= until and (len(spell) == 1 or spell[1] >= since) for spell in self._absences[block])

    def age_of_tip(self, moment: datetime) -> float:
        """Return how many seconds old the newest block was at ``moment``."""
        known = [tip for when, tip in self.tips if when <= moment]
        return (moment - known[-1]).total_seconds() if known else 0.0

    def _changed(self) -> None:
        chain = self.chain
        tip = chain.tip
        now = chain._clock() if chain._clock else tip.time
        for block in reversed(chain.line):
            deep, reached = tip.height - block.height + 1, self.reached[block.hash]
            if len(reached) >= deep:
                break
            reached += [now] * (deep - len(reached))
            self.contents[block.hash] = block
        line = {block.hash for block in chain.line}
        for left in self._line - line:
            self._absences[left].append([now])
        for back in line - self._line:
            if self._absences[back]:
                self._absences[back][-1].append(now)
        for entered in (block for block in chain.line if block.hash not in self._line):
            outputs = [each.out for tx in entered.txs for each in _credits(self.chain.name, tx, entered)]
            self.small.update(out.to for out in outputs if out.amount < LEAST)
        self._line = line
        if not self.tips or self.tips[-1][1] != tip.time:
            self.tips.append((now, tip.time))
        for tx in chain.waiting.values():
            self.sent_at.setdefault(tx.id, now)
        present = {
            tx.id: _paid(tx) for tx in (*(tx for block in chain.line for tx in block.txs), *chain.waiting.values())
        }
        for tx_id, paid in present.items():
            self._first_paid.setdefault(tx_id, paid)
        for known in self.sent_at:
            if self._first_paid[known] - present.get(known, set()):
                self.absent_at.setdefault(known, now)


def _paid(tx: Tx) -> set[tuple[int, bytes, str]]:
    """Whom the transaction pays in which asset, whatever the amount."""
    return {(place, out.to, out.token) for place, out in enumerate(tx.outputs)}


def _credits(rail: str, tx: Tx, block: Block | None) -> Iterator[Credit]:
    if not tx.failed:
        for place, out in enumerate(tx.outputs):
            if out.amount:
                yield Credit(rail, tx, place, out, block)

"""What live detections consume: by it the adapters recognise what displaces them (HAZARDS B1, B5)."""

from collections.abc import Collection, Iterable, Iterator, Mapping

from railwatch.rail.types import Transfer


class SpendIndex(Mapping[str, Collection[str]]):
    """Resources (outpoints, an account's nonce), each with the transactions that claim it.

    Several may claim one: payments that descend from the same unconfirmed transaction fall together when it does.
    ``changes`` counts what was added and forgotten, and only grows.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._spenders: dict[str, tuple[str, ...]] = {}
        self.changes = 0
        for resource, tx_id in pairs:
            self.add(resource, tx_id)

    def __getitem__(self, resource: str) -> Collection[str]:
        return self._spenders[resource]

    def __contains__(self, resource: object) -> bool:
        """Asked for every coin of every block: without it, each miss would cost an exception."""
        return resource in self._spenders

    def __iter__(self) -> Iterator[str]:
        return iter(self._spenders)

    def __len__(self) -> int:
        return len(self._spenders)

    def add(self, resource: str, tx_id: str) -> None:
        """``tx_id`` consumes ``resource``. Adding twice is harmless."""
        known = self._spenders.get(resource, ())
        if tx_id not in known:
            self._spenders[resource] = (*known, tx_id)
            self.changes += 1

    def add_transfers(self, transfers: Iterable[Transfer]) -> None:
        """Everything that ``transfers`` say they consume."""
        for transfer in transfers:
            for resource in transfer.spends:
                self.add(resource, transfer.tx_id)

    def pairs(self) -> set[tuple[str, str]]:
        """Every resource with every transaction that claims it."""
        return {(resource, tx_id) for resource, claimants in self._spenders.items() for tx_id in claimants}

    def discard(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Remove these. Absent pairs are ignored."""
        for resource, tx_id in pairs:
            left = tuple(each for each in self._spenders.get(resource, ()) if each != tx_id)
            if left:
                self._spenders[resource] = left
            else:
                self._spenders.pop(resource, None)
            self.changes += 1

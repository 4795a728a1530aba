"""A watch list for tests: two mappings and a set, exact where the daemon's compact one may guess."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice

from railwatch.rail import AssetId, Simulator, Transfer

DECOY_TAIL = 8


@dataclass(frozen=True, slots=True)
class WatchSet:
    """`railwatch.rail.Watches` over a plain set of address keys."""

    keys: frozenset[bytes] = frozenset()
    assets: Mapping[str, AssetId] = field(default_factory=dict)
    spends: Mapping[str, Collection[str]] = field(default_factory=dict)
    version: int = 0
    """It never changes, and need not: neither does the set."""

    def __len__(self) -> int:
        """How many addresses are watched."""
        return len(self.keys)

    def hits(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of ``keys`` that are watched."""
        return {key for key in keys if key in self.keys}

    def keys_up_to(self, limit: int) -> Sequence[bytes] | None:
        """All keys if there are at most ``limit``, in a fixed order, else None."""
        return sorted(self.keys) if len(self.keys) <= limit else None


def assets_of(simulator: Simulator, fold_case: bool) -> dict[str, AssetId]:
    """Return the simulator's assets as a configuration of all of them maps them, the native under ""."""
    found = {"": simulator.native}
    for asset in simulator.assets[1:]:
        contract = asset.rpartition(":")[2]
        found[contract.lower() if fold_case else contract] = asset
    return found


def spends_of(transfers: Iterable[Transfer]) -> dict[str, set[str]]:
    """Return what these transactions consume, as the daemon passes it in ``Watches.spends``."""
    claims: dict[str, set[str]] = {}
    for transfer in transfers:
        for coin in transfer.spends:
            claims.setdefault(coin, set()).add(transfer.tx_id)
    return claims


def decoys(key: bytes, count: int) -> frozenset[bytes]:
    """Return ``count`` unused keys that resemble ``key``: they keep its head, which may name the kind."""
    return frozenset(islice(_tails(key[:-DECOY_TAIL]), count))


def _tails(head: bytes) -> Iterator[bytes]:
    number = 0
    while True:
        yield head + sha256(number.to_bytes(8)).digest()[:DECOY_TAIL]
        number += 1

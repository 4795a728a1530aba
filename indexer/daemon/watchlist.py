"""What the rails of one family look for, held in memory and caught up by query."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from indexer.daemon.index import AddressIndex
from indexer.rail.types import AssetId


@dataclass(slots=True)
class RailWatches:
    """`indexer.rail.Watches` of one rail: the family's addresses, the rail's own assets and what it has seen spent."""

    index: AddressIndex
    assets: Mapping[str, AssetId]
    spends: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)

    def hits(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of ``keys`` that are watched."""
        return self.index.hits(keys)

    def few(self, limit: int) -> Sequence[bytes] | None:
        """Nothing, if nothing is watched; else None, because the index keeps no keys."""
        return () if not len(self.index) else None


@dataclass(slots=True)
class FewWatches:
    """`indexer.rail.Watches` of a look-back: a handful of keys, which a node's own index can search for."""

    keys: frozenset[bytes]
    assets: Mapping[str, AssetId]
    spends: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    def hits(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of ``keys`` that are watched."""
        return set(self.keys.intersection(keys))

    def few(self, limit: int) -> Sequence[bytes] | None:
        """The keys, if they are no more than ``limit``."""
        return sorted(self.keys) if len(self.keys) <= limit else None

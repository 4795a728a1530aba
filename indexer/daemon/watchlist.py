"""What the rails of one family look for, held in memory and caught up by query."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from indexer.daemon.claims import Claims
from indexer.daemon.index import AddressIndex
from indexer.rail.types import AssetId
from indexer.store.watches import WatchStore

LOAD_WORTH_TELLING = 100_000
"""Addresses from which on reading them takes long enough to be told about."""


@dataclass(slots=True)
class RailWatches:
    """`indexer.rail.Watches` of one rail: the family's addresses, the rail's own assets and what it has seen spent."""

    index: AddressIndex
    assets: Mapping[str, AssetId]
    spends: Claims = field(default_factory=Claims)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def version(self) -> int:
        """Both only grow, so their sum stands still only while both do."""
        return len(self.index) + self.spends.changes

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
    spends: Mapping[str, Collection[str]] = field(default_factory=dict)
    version: int = 0

    def __len__(self) -> int:
        return len(self.keys)

    def hits(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of ``keys`` that are watched."""
        return set(self.keys.intersection(keys))

    def few(self, limit: int) -> Sequence[bytes] | None:
        """The keys, if they are no more than ``limit``."""
        return sorted(self.keys) if len(self.keys) <= limit else None


class Family:
    """All watched addresses of one address space, shared by its rails in this process.

    A payment on the wrong one of its chains is found because each of them looks for every address (HAZARDS E17).
    """

    def __init__(self, name: str, store: WatchStore) -> None:
        self.name = name
        self.store = store
        self.index = AddressIndex()

    async def load(self) -> None:
        """Read every watched address, once. Raises `StoreUnavailable`."""
        log = structlog.get_logger().bind(family=self.name)
        expected = await self.store.count()
        self.index = AddressIndex(expected)
        async for keys in self.store.keys():
            for key in keys:
                self.index.add(key)
            if expected >= LOAD_WORTH_TELLING:
                log.info("watch.loading", addresses=len(self.index), expected=expected)
        log.info("watch.loaded", addresses=len(self.index), bytes=self.index.size_in_bytes)

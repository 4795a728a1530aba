"""What the rails of one family search for, held in memory and caught up by query."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from railwatch.daemon.watch.address_index import AddressIndex
from railwatch.daemon.watch.spend_index import SpendIndex
from railwatch.rail.types import AssetId
from railwatch.store.watches import WatchStore

LOAD_LOGGED_FROM = 100_000
"""Addresses from which on reading them is slow enough for a log line."""


@dataclass(slots=True)
class IndexedWatches:
    """The `Watches` of one rail: the family's addresses, the rail's assets, and the spends that it has seen."""

    index: AddressIndex
    assets: Mapping[str, AssetId]
    spends: SpendIndex = field(default_factory=SpendIndex)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def version(self) -> int:
        """Return a version. Both parts only grow, so their sum is constant only while both are."""
        return len(self.index) + self.spends.changes

    def hits(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of ``keys`` that are watched."""
        return self.index.hits(keys)

    def keys_up_to(self, limit: int) -> Sequence[bytes] | None:
        """Nothing, if nothing is watched; else None, because the index keeps no keys."""
        return () if not len(self.index) else None


@dataclass(slots=True)
class ExplicitWatches:
    """`railwatch.rail.Watches` of a look-back: a handful of keys, which a node's own index can search for."""

    keys: frozenset[bytes]
    assets: Mapping[str, AssetId]
    spends: Mapping[str, Collection[str]] = field(default_factory=dict)
    version: int = 0

    def __len__(self) -> int:
        return len(self.keys)

    def hits(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of ``keys`` that are watched."""
        return set(self.keys.intersection(keys))

    def keys_up_to(self, limit: int) -> Sequence[bytes] | None:
        """Return the keys, or None if there are more than ``limit``."""
        return sorted(self.keys) if len(self.keys) <= limit else None


class Family:
    """All watched addresses of one address space, shared by its rails in this process.

    A payment on the wrong one of its chains is found because each of them searches for every address (HAZARDS E17).
    Only `caught_up` gives the index, so that no rail is followed with an index older than its lease.
    """

    def __init__(self, name: str, store: WatchStore) -> None:
        self.name = name
        self.store = store
        self._index = AddressIndex()
        self._position: int | None = None
        """The newest addition that the index holds, and with it all earlier ones; None: it was never read."""
        self._reading = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._index)

    async def caught_up(self, alive: Callable[[], None] = lambda: None) -> AddressIndex:
        """Return the index with every address that was added to the watch before this call, by any daemon.

        ``alive`` is called between two chunks. Raises `StoreUnavailable`; what was read until then is kept.
        """
        async with self._reading:
            if self._position is None:
                await self._load(alive)
            assert self._position is not None
            while True:
                keys, self._position = await self.store.accepted_after(self._position)
                if not keys:
                    return self._index
                for key in keys:
                    self._index.add(key)
                alive()

    async def _load(self, alive: Callable[[], None]) -> None:
        """Read every watched address. The position is read first, so that what is added meanwhile is read again."""
        log = structlog.get_logger().bind(family=self.name)
        position, expected = await self.store.position(), await self.store.count()
        index = AddressIndex(expected)
        async for keys in self.store.keys():
            for key in keys:
                index.add(key)
            alive()
            if expected >= LOAD_LOGGED_FROM:
                log.info("watch.loading", addresses=len(index), expected=expected)
        self._index, self._position = index, position
        log.info("watch.loaded", addresses=len(index), bytes=index.size_in_bytes)

"""Which addresses are watched, as compactly as Python allows: 8-byte fingerprints in open-addressed arrays.

A hit is confirmed by the store, which holds the addresses themselves, so a false one (two keys with the same 64-bit
hash) costs one lookup and nothing else. Python's hash of bytes is keyed anew in each process: no one can aim at it.

The array is kept in many shards, each of which grows by itself: to move ten million addresses at once would stop the
daemon's loop for ten seconds, and to move a thousandth of them does for ten milliseconds.
"""

from array import array
from collections.abc import Iterable, Sequence
from itertools import repeat

EMPTY_SLOT = 0
MAX_LOAD_FACTOR = 0.7
"""Beyond this share of used slots a lookup gets slow. With the growth below, an address costs at most 15.4 bytes."""
GROWTH_FACTOR = 1.35
MASK = (1 << 64) - 1
SHARD_BITS = 10
SHIFT = 64 - SHARD_BITS
SLOTS_MIN = 16
"""Slots of an empty shard."""


class AddressIndex:
    """A set of keys that only grows and answers membership. Adding twice is harmless; sizes are counted in keys."""

    def __init__(self, expected: int = 0) -> None:
        size = max(SLOTS_MIN, int((expected >> SHARD_BITS) / MAX_LOAD_FACTOR * GROWTH_FACTOR**0.5))
        self._shards = [array("Q", repeat(EMPTY_SLOT, size)) for _ in range(1 << SHARD_BITS)]
        self._counts = [0] * len(self._shards)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def size_in_bytes(self) -> int:
        """Memory of the slots."""
        return sum(len(slots) * slots.itemsize for slots in self._shards)

    def add(self, key: bytes) -> None:
        """Watch ``key``."""
        mark = hash(key) & MASK or 1
        number = mark >> SHIFT
        slots = self._shards[number]
        if self._counts[number] + 1 > len(slots) * MAX_LOAD_FACTOR:
            slots = self._shards[number] = _grown(slots, self._counts[number])
        place = _find(slots, mark)
        if slots[place] == EMPTY_SLOT:
            slots[place] = mark
            self._counts[number] += 1
            self._count += 1

    def hits(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of ``keys`` that are watched."""
        shards, found = self._shards, set()
        for key in keys:
            # `_find` by hand: this loop runs for every transfer of every block.
            mark = hash(key) & MASK or 1
            slots = shards[mark >> SHIFT]
            size = len(slots)
            place = mark % size
            while (slot := slots[place]) != EMPTY_SLOT:
                if slot == mark:
                    found.add(key)
                    break
                place += 1
                if place == size:
                    place = 0
        return found

    def few(self, limit: int) -> Sequence[bytes] | None:
        """None: the keys themselves are not kept here."""
        return None


def _find(slots: "array[int]", mark: int) -> int:
    """Where ``mark`` is, or the empty slot that ends its search."""
    size = len(slots)
    place = mark % size
    while slots[place] not in (EMPTY_SLOT, mark):
        place = (place + 1) % size
    return place


def _grown(old: "array[int]", count: int) -> "array[int]":
    """Return a larger array with the same marks."""
    slots = array("Q", repeat(EMPTY_SLOT, max(2 * SLOTS_MIN, int(count / MAX_LOAD_FACTOR * GROWTH_FACTOR) + 8)))
    for mark in old:
        if mark != EMPTY_SLOT:
            slots[_find(slots, mark)] = mark
    return slots

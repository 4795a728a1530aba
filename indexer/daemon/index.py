"""Which addresses are watched, as compactly as Python allows: 8-byte fingerprints in one open-addressed array.

A hit is confirmed by the store, which holds the addresses themselves, so a false one (two keys with the same 64-bit
hash) costs one lookup and nothing else. Python's hash of bytes is keyed anew in each process: nobody can aim at it.
"""

from array import array
from collections.abc import Iterable, Sequence
from itertools import repeat

EMPTY = 0
FULLEST = 0.7
"""Beyond this share of used slots a lookup gets slow. With the growth below, an address costs at most 15.4 bytes."""
GROWTH = 1.35
MASK = (1 << 64) - 1


class AddressIndex:
    """A set of keys that only grows and answers membership. Adding twice is harmless; sizes are counted in keys."""

    def __init__(self, expected: int = 1_000) -> None:
        self._slots = array("Q", repeat(EMPTY, int(expected / FULLEST) + 8))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def size_in_bytes(self) -> int:
        """Memory of the slots."""
        return len(self._slots) * self._slots.itemsize

    def add(self, key: bytes) -> None:
        """Watch ``key``."""
        if self._count + 1 > len(self._slots) * FULLEST:
            self._grow()
        mark = _mark(key)
        place = self._find(mark)
        if self._slots[place] == EMPTY:
            self._slots[place] = mark
            self._count += 1

    def hits(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of ``keys`` that are watched."""
        slots, size, found = self._slots, len(self._slots), set()
        for key in keys:
            # `_find` and `_mark` by hand: this loop runs for every transfer of every block.
            mark = hash(key) & MASK or 1
            place = mark % size
            while (slot := slots[place]) != EMPTY:
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

    def _find(self, mark: int) -> int:
        """Where ``mark`` is, or the empty slot that ends its search."""
        slots, size = self._slots, len(self._slots)
        place = mark % size
        while slots[place] not in (EMPTY, mark):
            place = (place + 1) % size
        return place

    def _grow(self) -> None:
        """Move to a larger array."""
        old = self._slots
        self._slots = array("Q", repeat(EMPTY, int(max(self._count, 1_000) / FULLEST * GROWTH) + 8))
        for mark in old:
            if mark != EMPTY:
                self._slots[self._find(mark)] = mark


def _mark(key: bytes) -> int:
    return hash(key) & MASK or 1

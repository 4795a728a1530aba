"""The logs bloom of a header (yellow paper 4.3.1): what a block's logs certainly do not hold, known without them."""

from collections.abc import Iterable
from functools import lru_cache

from eth_hash.auto import keccak


@lru_cache(maxsize=65_536)
def mask(item: bytes) -> int:
    """Return the three bits of a log's address (20 bytes) or topic (32 bytes), from its hash's first three pairs.

    Cached because contracts and the Transfer topic come back in every block; a miss costs 4 us.
    """
    digest = keccak(item)
    bits = 0
    for at in (0, 2, 4):
        bits |= 1 << (int.from_bytes(digest[at : at + 2], "big") & 2047)
    return bits


def bloom_of(items: Iterable[bytes]) -> int:
    """Return the bloom that logs with these addresses and topics would have."""
    bits = 0
    for item in items:
        bits |= mask(item)
    return bits


def may_hold(bloom: str, masks: Iterable[int]) -> bool:
    """Whether a header's ``bloom`` (hex) has all bits of at least one of ``masks``. No false negatives."""
    bits = int(bloom, 16)
    return any(bits & each == each for each in masks)

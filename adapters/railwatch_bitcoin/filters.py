"""BIP158's compact filters: does a block perhaps pay one of these scripts? Never a false no. Pure.

A filter is a Golomb-coded set: the scripts' hashes, sorted, and the gaps between them written in few bits. The keys of
the hash are the block's own, so what collides in one block does not in the next.
"""

from collections.abc import Iterator, Sequence

from railwatch_bitcoin.encoding import compact_size

P, M = 19, 784931
"""BIP158, basic filter: bits of a gap's remainder, and how many times the set's size the hashes are spread over."""
MASK = (1 << 64) - 1


def match_any(content: bytes, block_hash: str, scripts: Sequence[bytes]) -> bool:
    """Whether the basic filter ``content`` (as `getblockfilter` gives it) of a block matches any of ``scripts``.

    One time in 784,931 for each script it matches what is not there. Raises ValueError for a filter that cannot be
    read.
    """
    try:
        count, at = compact_size(content, 0)
        members = _members(content[at:], count)
    except IndexError:
        raise ValueError(f"the filter of block {block_hash} ends before its time") from None
    return not members.isdisjoint(_spread(block_hash, scripts, count * M))


def _members(content: bytes, count: int) -> set[int]:
    """Return the hashes in a filter. Raises IndexError when it has fewer than ``count``."""
    # As one string of digits, the ones of a quotient are counted by a search at C's speed.
    bits = bin(int.from_bytes(b"\1" + content, "big"))[3:]
    members, at, value = set(), 0, 0
    for _ in range(count):
        stop = bits.find("0", at)
        if stop < 0:
            raise IndexError
        value += ((stop - at) << P) + int(bits[stop : stop + 1 + P], 2)
        at = stop + 1 + P
        members.add(value)
    if at > len(bits):
        raise IndexError
    return members


def _spread(block_hash: str, scripts: Sequence[bytes], size: int) -> Iterator[int]:
    """Each script's hash, spread evenly over ``size``."""
    key = bytes.fromhex(block_hash)[::-1]
    first, second = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:16], "little")
    for script in scripts:
        yield siphash(first, second, script) * size >> 64


def siphash(first: int, second: int, content: bytes) -> int:
    """SipHash-2-4 with the key's two halves, as a number of 64 bits."""
    state = (
        first ^ 0x736F6D6570736575,
        second ^ 0x646F72616E646F6D,
        first ^ 0x6C7967656E657261,
        second ^ 0x7465646279746573,
    )
    padded = content + bytes(-(len(content) + 1) % 8) + bytes((len(content) & 0xFF,))
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        a, b, c, d = state
        a, b, c, d = _rounds(2, a, b, c, d ^ word)
        state = (a ^ word, b, c, d)
    a, b, c, d = state
    a, b, c, d = _rounds(4, a, b, c ^ 0xFF, d)
    return a ^ b ^ c ^ d


def _rounds(count: int, a: int, b: int, c: int, d: int) -> tuple[int, int, int, int]:
    for _ in range(count):
        a = a + b & MASK
        b = (b << 13 | b >> 51) & MASK ^ a
        a = (a << 32 | a >> 32) & MASK
        c = c + d & MASK
        d = (d << 16 | d >> 48) & MASK ^ c
        a = a + d & MASK
        d = (d << 21 | d >> 43) & MASK ^ a
        c = c + b & MASK
        b = (b << 17 | b >> 47) & MASK ^ c
        c = (c << 32 | c >> 32) & MASK
    return a, b, c, d

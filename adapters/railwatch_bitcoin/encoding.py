"""How Bitcoin writes lengths, hashes and outpoints. Pure."""

from hashlib import sha256

SINGLE_BYTE = 0xFC
"""The largest number that CompactSize writes in one byte."""


def compact_size(raw: bytes, at: int) -> tuple[int, int]:
    """Return the CompactSize at ``at``, and the index after it. Raises IndexError or ValueError."""
    value = raw[at]
    return long_size(raw, at + 1) if value > SINGLE_BYTE else (value, at + 1)


def long_size(raw: bytes, at: int) -> tuple[int, int]:
    """Return a CompactSize of more than one byte, whose first byte is before ``at``, and the index after it."""
    width = 1 << (raw[at - 1] - SINGLE_BYTE)
    value = int.from_bytes(raw[at : at + width], "little")
    if value <= SINGLE_BYTE or (width > 2 and not value >> (width * 4)):
        raise ValueError(f"a length of {value} is written in {width + 1} bytes, which is longer than it needs")
    return value, at + width


def outpoint(coin: bytes) -> str:
    """``txid:vout`` of 36 bytes."""
    return f"{coin[31::-1].hex()}:{int.from_bytes(coin[32:], 'little')}"


def display_hash(digest: bytes) -> str:
    """Return a hash as nodes and people write it."""
    return digest[::-1].hex()


def double_sha256(content: bytes) -> bytes:
    """Bitcoin's hash."""
    return sha256(sha256(content).digest()).digest()

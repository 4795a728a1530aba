"""CashAddr: Bitcoin Cash's addresses, a kind and a hash with a checksum that covers the prefix too. Pure.

Source: the CashAddr specification of bitcoincash.org, and CHIP-2022-02 for the kinds of wallets that know tokens.
"""

from collections.abc import Iterable
from enum import IntEnum

from railwatch_bitcoin.bech32 import CHARSET, VALUES, regroup, spread

GENERATOR = (0x98F2BC8E61, 0x79B76D99E2, 0xF33E5FB3C4, 0xAE2EABE2A8, 0x1E4F43E470)
CHECKSUM_SIZE = 8
SIZES = (20, 24, 28, 32, 40, 48, 56, 64)
"""Bytes of the hash, by the three lowest bits of the version byte."""
LONGEST = 140


class CashKind(IntEnum):
    """What the hash is of. The last two say in addition that the wallet understands tokens."""

    P2PKH = 0
    P2SH = 1
    TOKEN_P2PKH = 2
    TOKEN_P2SH = 3


def decode(text: str, prefix: str) -> tuple[CashKind, bytes]:
    """(kind, hash) of an address, with or without ``prefix`` before it. Raises ValueError saying what is wrong."""
    if len(text) > LONGEST:
        raise ValueError(f"it has {len(text)} characters, which is too long")
    if text not in (text.lower(), text.upper()):
        raise ValueError("it mixes upper and lower case, which hides mistypings: write it in one of them")
    said, colon, body = text.lower().rpartition(":")
    if colon and said != prefix:
        raise ValueError(f"its prefix is {said!r}, and not {prefix!r}")
    strange = next((char for char in body if char not in VALUES), None)
    if strange is not None:
        raise ValueError(f"{strange!r} is no character of CashAddr")
    data = [VALUES[char] for char in body]
    if len(data) <= CHECKSUM_SIZE or _polymod([*_expanded(prefix), *data]):
        raise ValueError(f"its checksum is wrong for the prefix {prefix!r}, so a character is mistyped or missing")
    return _payload(regroup(data[:-CHECKSUM_SIZE]))


def encode(prefix: str, kind: CashKind, content: bytes) -> str:
    """Return the address of a hash, in lower case, with its prefix."""
    data = spread(bytes((kind << 3 | SIZES.index(len(content)),)) + content)
    polymod = _polymod([*_expanded(prefix), *data, *[0] * CHECKSUM_SIZE])
    checksum = [polymod >> 5 * (CHECKSUM_SIZE - 1 - place) & 31 for place in range(CHECKSUM_SIZE)]
    return f"{prefix}:" + "".join(CHARSET[value] for value in [*data, *checksum])


def _payload(content: bytes) -> tuple[CashKind, bytes]:
    version, digest = content[0], content[1:]
    if version >> 3 not in CashKind.__members__.values():
        raise ValueError(f"its kind is not defined yet (version byte {version})")
    if len(digest) != SIZES[version & 7]:
        raise ValueError(f"its hash has {len(digest)} bytes, but it says {SIZES[version & 7]}")
    return CashKind(version >> 3), digest


def _expanded(prefix: str) -> list[int]:
    return [*(ord(char) & 31 for char in prefix), 0]


def _polymod(values: Iterable[int]) -> int:
    remainder = 1
    for value in values:
        top = remainder >> 35
        remainder = (remainder & 0x07FFFFFFFF) << 5 ^ value
        for place, factor in enumerate(GENERATOR):
            if top >> place & 1:
                remainder ^= factor
    return remainder ^ 1

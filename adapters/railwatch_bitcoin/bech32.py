"""Bech32 (BIP173) and Bech32m (BIP350): a witness version and program as people type them. Pure."""

from collections.abc import Iterable, Sequence

CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
VALUES = {char: value for value, char in enumerate(CHARSET)}
GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
BECH32, BECH32M = 1, 0x2BC830A3
"""What a correct checksum leaves, in the older and in the newer code."""
CHECKSUM_SIZE = 6
LONGEST = 90
NEWEST_VERSION = 16


def decode(text: str) -> tuple[str, int, bytes]:
    """(prefix, witness version, program). Raises ValueError saying what is wrong with ``text``."""
    prefix, data = _split(text)
    remainder = _polymod([*_expanded(prefix), *data])
    if remainder not in (BECH32, BECH32M):
        raise ValueError("its checksum is wrong, so a character is mistyped or missing")
    values = data[:-CHECKSUM_SIZE]
    if not values or values[0] > NEWEST_VERSION:
        raise ValueError("it names no witness version between 0 and 16")
    version, program = values[0], regroup(values[1:])
    if remainder != _code(version):
        wrong, right = ("Bech32m", "Bech32 (BIP173)") if version == 0 else ("Bech32", "Bech32m (BIP350)")
        raise ValueError(f"its checksum is of {wrong}, but witness version {version} has one of {right}")
    if not 2 <= len(program) <= 40 or (version == 0 and len(program) not in (20, 32)):
        raise ValueError(f"a program of {len(program)} bytes is none of witness version {version}")
    return prefix, version, program


def encode(prefix: str, version: int, program: bytes) -> str:
    """Return the address of a witness program, in lower case."""
    values = [version, *spread(program)]
    polymod = _polymod([*_expanded(prefix), *values, *[0] * CHECKSUM_SIZE]) ^ _code(version)
    checksum = [polymod >> 5 * (CHECKSUM_SIZE - 1 - place) & 31 for place in range(CHECKSUM_SIZE)]
    return f"{prefix}1" + "".join(CHARSET[value] for value in [*values, *checksum])


def regroup(values: Sequence[int]) -> bytes:
    """Return groups of five bits as bytes. Raises ValueError where the bits left over are no padding."""
    number = 0
    for value in values:
        number = number << 5 | value
    spare = len(values) * 5 % 8
    if spare > 4 or number & (1 << spare) - 1:
        raise ValueError("its length is wrong: there are bits left over")
    return (number >> spare).to_bytes(len(values) * 5 // 8, "big")


def spread(content: bytes) -> list[int]:
    """Bytes as groups of five bits, padded with zeros."""
    size = -(-len(content) * 8 // 5)
    number = int.from_bytes(content, "big") << size * 5 - len(content) * 8
    return [number >> 5 * (size - 1 - place) & 31 for place in range(size)]


def _split(text: str) -> tuple[str, list[int]]:
    """Return the prefix and the values after the last 1. Either case is fine, but not both (BIP173)."""
    if len(text) > LONGEST:
        raise ValueError(f"it has {len(text)} characters, and no address has more than {LONGEST}")
    if text not in (text.lower(), text.upper()):
        raise ValueError("it mixes upper and lower case, which hides mistypings: write it in one of them")
    prefix, _, body = text.lower().rpartition("1")
    strange = next((char for char in body if char not in VALUES), None)
    if strange is not None:
        raise ValueError(f"{strange!r} is no character of Bech32")
    if not prefix or len(body) < CHECKSUM_SIZE:
        raise ValueError(f"it is too short: a prefix, a 1 and at least {CHECKSUM_SIZE} characters make Bech32")
    if not all(33 <= ord(char) <= 126 for char in prefix):
        raise ValueError("its prefix holds characters that no prefix has")
    return prefix, [VALUES[char] for char in body]


def _code(version: int) -> int:
    return BECH32 if version == 0 else BECH32M


def _expanded(prefix: str) -> list[int]:
    return [*(ord(char) >> 5 for char in prefix), 0, *(ord(char) & 31 for char in prefix)]


def _polymod(values: Iterable[int]) -> int:
    remainder = 1
    for value in values:
        top = remainder >> 25
        remainder = (remainder & 0x1FFFFFF) << 5 ^ value
        for place, factor in enumerate(GENERATOR):
            if top >> place & 1:
                remainder ^= factor
    return remainder

"""Base58Check: a version byte and a hash as people type them, with four bytes of checksum. Pure."""

from railwatch_bitcoin.encoding import double_sha256

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
VALUES = {char: value for value, char in enumerate(ALPHABET)}
CHECKSUM_SIZE = 4
LONGEST = 52
"""More characters than any address has: the time of decoding grows with the square of the length."""


def decode(text: str) -> bytes:
    """Return the payload, version byte first. Raises ValueError saying what is wrong with ``text``."""
    if len(text) > LONGEST:
        raise ValueError(f"it has {len(text)} characters, which is too long")
    number = 0
    for char in text:
        if char not in VALUES:
            raise ValueError(f"{char!r} is no character of Base58")
        number = number * 58 + VALUES[char]
    zeros = len(text) - len(text.lstrip(ALPHABET[0]))
    content = bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
    if len(content) <= CHECKSUM_SIZE:
        raise ValueError("it is too short")
    payload, checksum = content[:-CHECKSUM_SIZE], content[-CHECKSUM_SIZE:]
    if double_sha256(payload)[:CHECKSUM_SIZE] != checksum:
        raise ValueError("its checksum is wrong, so a character is mistyped or missing")
    return payload


def encode(payload: bytes) -> str:
    """Return the text of ``payload``, whose first byte is the version."""
    content = payload + double_sha256(payload)[:CHECKSUM_SIZE]
    number, text = int.from_bytes(content, "big"), ""
    while number:
        number, value = divmod(number, 58)
        text = ALPHABET[value] + text
    return ALPHABET[0] * (len(content) - len(content.lstrip(b"\0"))) + text

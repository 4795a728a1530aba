"""Addresses of the fake rail: ``fake:`` + 40 hex digits of the key + 2 of checksum, so that a typo is a typo."""

from hashlib import sha256

from railwatch.rail import Address, BadAddress

PREFIX = "fake:"
KEY_BYTES = 20


def parse(text: str) -> Address:
    """Return the address that ``text`` names, in either case.

    Raises `BadAddress` with the first thing that is wrong.
    """
    folded = text.lower()
    if not folded.startswith(PREFIX):
        raise BadAddress(f"an address of this rail begins with {PREFIX!r}")
    body = folded.removeprefix(PREFIX)
    try:
        raw = bytes.fromhex(body)
    except ValueError:
        raise BadAddress(f"after {PREFIX!r} come only hexadecimal digits, in pairs") from None
    # fromhex forgives spaces between the pairs, so the length is compared in digits as well as decoded.
    if len(body) != 2 * (KEY_BYTES + 1):
        raise BadAddress(f"after {PREFIX!r} come {2 * (KEY_BYTES + 1)} digits, and this has {len(body)}")
    key, check = raw[:KEY_BYTES], raw[KEY_BYTES:]
    if check != checksum(key):
        raise BadAddress("the last two digits do not match the others: a digit is mistyped")
    return Address(key=key, text=render(key))


def render(key: bytes) -> str:
    """Return the canonical text of a key, the form that is shown to people."""
    return f"{PREFIX}{key.hex()}{checksum(key).hex()}"


def checksum(key: bytes) -> bytes:
    """One byte over the key."""
    return sha256(key).digest()[:1]

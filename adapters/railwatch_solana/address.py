"""Addresses as people write them: the base58 of 32 bytes, with no checksum and no prefix."""

import re

from solders.pubkey import Pubkey

from railwatch.rail import Address, BadAddress

KEY_BYTES = 32
ALPHABET = re.compile(r"[1-9A-HJ-NP-Za-km-z]+")
"""Base58 leaves out what is easily misread: zero, capital O, capital I and small l."""

_EVM = re.compile(r"0[xX][0-9a-fA-F]{40}")
_BITCOIN = re.compile(r"(bc1|tb1|bcrt1|ltc1)[02-9ac-hj-np-z]{6,87}|[13mn2][1-9A-HJ-NP-Za-km-z]{25,34}", re.IGNORECASE)


def parse_address(text: str) -> Address:
    """Return the 32 raw bytes, and their base58. Raises `BadAddress` with the reason.

    Without a checksum a mistyped character is mostly another good address, which cannot be detected here; and so is
    the address of a token account, which is not its owner's.
    """
    text = text.strip()
    return Address(key_of(text), text)


def key_of(text: str) -> bytes:
    """Return the 32 bytes that ``text`` spells; no two texts spell the same. Raises `BadAddress`."""
    try:
        return bytes(Pubkey.from_string(text))
    except ValueError:
        raise BadAddress(_reason(text)) from None


def text_of(key: bytes) -> str:
    """Return the base58 of 32 bytes."""
    return str(Pubkey.from_bytes(key))


def _reason(text: str) -> str:
    shown = f"{text[:80]!r} is no Solana address"
    if not text:
        return f"{shown}: it is empty"
    if _EVM.fullmatch(text):
        return f"{shown}: it has the form of an address of an EVM chain (Ethereum)"
    if _BITCOIN.fullmatch(text):
        return f"{shown}: it has the form of an address of Bitcoin or a chain like it"
    if not ALPHABET.fullmatch(text):
        strange = next(char for char in text if not ALPHABET.fullmatch(char))
        return f"{shown}: base58 knows no {strange!r}"
    return f"{shown}: {len(text)} characters of base58 are not {KEY_BYTES} bytes (43 or 44 characters as a rule)"

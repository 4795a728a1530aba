"""Base58 of 32 bytes, and what else a merchant may enter as an address."""

import pytest
from solders.keypair import Keypair

from railwatch.rail import BadAddress
from railwatch_solana.address import parse_address, text_of


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("11111111111111111111111111111111", bytes(32)),
        ("SysvarC1ock11111111111111111111111111111111", None),
        ("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA", None),
        ("JEKNVnkbo3jma5nREBBJCDoXFVeKkD56V3xKrvRmWxFG", bytes([255] * 32)),
    ],
)
def test_thirty_two_bytes(text: str, key: bytes | None) -> None:
    parsed = parse_address(f" {text}\n")
    assert parsed.text == text == text_of(parsed.key)
    assert len(parsed.key) == 32
    assert key is None or parsed.key == key


def test_any_key_and_no_two_spellings() -> None:
    for _ in range(200):
        key = bytes(Keypair().pubkey())
        assert parse_address(text_of(key)).key == key
        for other in ("1" + text_of(key), text_of(key).swapcase()):
            try:
                assert parse_address(other).key != key
            except BadAddress:
                continue


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "EVM chain"),
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "Bitcoin"),
        ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "Bitcoin"),
        ("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5D", "32 bytes"),
        ("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DAA", "32 bytes"),
        ("1" * 33, "no Solana address"),
        ("1" * 31, "no Solana address"),
        ("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5D0", "no '0'"),
        ("Tokenkeg QfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5D", "no ' '"),
        ("toly.sol", "no 'l'"),
        ("1" * 5000, "32 bytes"),
    ],
)
def test_what_is_no_address_says_why(text: str, reason: str) -> None:
    """In words for the merchant's engineer."""
    with pytest.raises(BadAddress, match=reason):
        parse_address(text)

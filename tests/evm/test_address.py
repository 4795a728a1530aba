"""EIP-55, with the EIP's own vectors."""

import pytest

from railwatch.rail import BadAddress
from railwatch_evm.address import parse_address

VECTORS = [
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0x27b1fdb04752bbc536007a920d24acb045561c26",
]


@pytest.mark.parametrize("text", VECTORS)
def test_the_eips_vectors(text: str) -> None:
    """One key and one display form, however it is written."""
    parsed = parse_address(text)
    assert (parsed.key, parsed.text) == (bytes.fromhex(text[2:]), text)
    assert parse_address(text.lower()) == parse_address("0x" + text[2:].upper()) == parsed
    assert parse_address(f" {text}\n") == parsed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must start with 0x"),
        ("5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "must start with 0x"),
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "must start with 0x"),
        ("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAe", "39 characters"),
        ("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed00", "42 characters"),
        ("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeg", "only 0-9 and a-f"),
        ("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1Be ed", "only 0-9 and a-f"),
        ("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD", "checksum"),
        ("0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "checksum"),
        ("vitalik.eth", "must start with 0x"),
    ],
)
def test_what_is_no_address_says_why(text: str, reason: str) -> None:
    """In words for the merchant's engineer."""
    with pytest.raises(BadAddress, match=reason):
        parse_address(text)

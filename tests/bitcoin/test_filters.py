"""BIP158: the BIP's own vectors, and filters that an independent writer makes here."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from railwatch_bitcoin.block import read_block
from railwatch_bitcoin.chains import BITCOIN_TESTNET3
from railwatch_bitcoin.filters import match_any, siphash
from tests.bitcoin.build import compact, p2pkh, p2wpkh

BLOCKS = json.loads((Path(__file__).parent / "data" / "known.json").read_text())["blocks"]
VECTORS = {
    0: ("019dfca8", []),
    2: ("0174a170", []),
    926485: (
        "09027acea61b6cc3fb33f5d52f7d088a6b2f75d234e89ca800",
        ["a914feb8a29635c56d9cd913122f90678756bf23887687", "76a914c01a7ca16b47be50cbdbc60724f701d52d75156688ac"],
    ),
    987876: ("010c0b40", []),
    1263442: ("0385acb4f0fe889ef0", ["002027a5000c7917f785d8fc6e5a55adfca8717ecb973ebb7743849ff956d896a7ed"]),
}
"""By height on testnet3: the basic filter, and scripts that the block's inputs spend (BIP158, test vectors)."""


def spread(script: bytes, block_hash: str, count: int) -> int:
    """Return the script's number in the filter of a block with ``count`` scripts, by the BIP's text."""
    key = bytes.fromhex(block_hash)[::-1][:16]
    halves = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    return (siphash(*halves, script) * (count * 784931)) >> 64


def write_filter(scripts: list[bytes], block_hash: str) -> bytes:
    """Return a basic filter, bit by bit."""
    unique = sorted(set(scripts))
    bits, last = "", 0
    for value in sorted(spread(script, block_hash, len(unique)) for script in unique):
        quotient, remainder = divmod(value - last, 1 << 19)
        bits += "1" * quotient + "0" + f"{remainder:019b}"
        last = value
    bits += "0" * (-len(bits) % 8)
    return compact(len(unique)) + bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))


@pytest.mark.parametrize("height", VECTORS)
def test_the_bips_vectors(height: int) -> None:
    known = next(each for each in BLOCKS if each["chain"] == BITCOIN_TESTNET3.name and each["height"] == height)
    content, spent = bytes.fromhex(VECTORS[height][0]), [bytes.fromhex(script) for script in VECTORS[height][1]]
    block = read_block(bytes.fromhex(known["raw"]), BITCOIN_TESTNET3, known["hash"])
    inside = [script for script in [*block.scripts, *spent] if script and script[0] != 0x6A]
    for script in inside:
        assert match_any(content, known["hash"], [script])
        assert match_any(content, known["hash"], [p2pkh(n) for n in range(50)] + [script])
    assert not match_any(content, known["hash"], [p2pkh(n) for n in range(50)])
    assert not match_any(content, known["hash"], [])


def test_siphash_of_its_authors() -> None:
    """SipHash's paper, appendix A."""
    assert siphash(0x0706050403020100, 0x0F0E0D0C0B0A0908, bytes(range(15))) == 0xA129CA6149BE45E5


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=40), st.binary(min_size=32, max_size=32))
def test_a_filter_never_denies_what_is_in_it(scripts: list[bytes], block_hash: bytes) -> None:
    content = write_filter(scripts, block_hash.hex())
    for script in scripts:
        assert match_any(content, block_hash.hex(), [p2wpkh(1), script, p2wpkh(2)])


def test_an_empty_filter_matches_nothing() -> None:
    assert not match_any(b"\0", "11" * 32, [p2pkh(1)])


def test_a_filter_that_ends_early_is_refused() -> None:
    block_hash = "11" * 32
    content = write_filter([p2pkh(n) for n in range(30)], block_hash)
    last = max((p2pkh(n) for n in range(30)), key=lambda script: spread(script, block_hash, 30))
    assert match_any(content, block_hash, [last])
    for size in range(len(content)):
        with pytest.raises(ValueError, match="ends before its time"):
            match_any(content[:size], block_hash, [last])


def test_a_filter_cannot_promise_more_than_it_holds() -> None:
    with pytest.raises(ValueError, match="ends before its time"):
        match_any(b"\xff" + b"\xff" * 8 + bytes(100), "11" * 32, [p2pkh(1)])

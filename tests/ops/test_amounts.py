"""Base units and display units: exact in both directions, or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from railwatch.ops.amounts import base_units, display_units


@pytest.mark.parametrize(
    ("amount", "decimals", "text"),
    [
        (0, 6, "0"),
        (1, 6, "0.000001"),
        (1_500_000, 6, "1.5"),
        (10_000_000, 6, "10"),
        (7, 0, "7"),
        (2**256 - 1, 18, "115792089237316195423570985008687907853269984665640564039457.584007913129639935"),
    ],
)
def test_digits_are_moved(amount: int, decimals: int, text: str) -> None:
    assert display_units(amount, decimals) == text
    assert base_units(text, decimals) == amount


@given(st.integers(0, 2**256 - 1), st.integers(0, 77))
def test_there_and_back(amount: int, decimals: int) -> None:
    assert base_units(display_units(amount, decimals), decimals) == amount


def test_zeros_at_the_end_are_no_finer() -> None:
    assert base_units("1.500000000", 1) == 15


@pytest.mark.parametrize("text", ["", "1,5", "-1", "1e3", ".5", "1.", "0x1", "1.23", " 1", "１"])
def test_what_is_no_amount_or_too_fine_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an amount|has more than the 1 decimals"):
        base_units(text, 1)

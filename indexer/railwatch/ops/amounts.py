"""Exact conversions between base units and display units, by moving digits; never by floats."""

import re

_DECIMAL = re.compile(r"([0-9]{1,78})(?:\.([0-9]{1,78}))?")


def display_units(amount: int, decimals: int) -> str:
    """Return base units as display units: ``display_units(1500000, 6)`` is ``"1.5"``. ``amount`` is at least 0."""
    digits = str(amount).rjust(decimals + 1, "0")
    whole, fraction = digits[: len(digits) - decimals], digits[len(digits) - decimals :].rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def base_units(text: str, decimals: int) -> int:
    """Return display units as base units: ``base_units("1.5", 6)`` is 1500000.

    Raises ValueError for text that is not an amount, or that has too many decimals.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not an amount such as "1.5"')
    fraction = (match[2] or "").rstrip("0")
    if len(fraction) > decimals:
        raise ValueError(f'"{text}" has more than the {decimals} decimals of the asset')
    return int(match[1] + fraction.ljust(decimals, "0"))

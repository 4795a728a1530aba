"""Between base units and display units, exactly: digits are moved, and nothing is ever a float."""

import re

_DECIMAL = re.compile(r"([0-9]{1,78})(?:\.([0-9]{1,78}))?")


def display_units(amount: int, decimals: int) -> str:
    """Base units as people write them: ``display_units(1500000, 6)`` is ``"1.5"``. Amounts are never negative."""
    digits = str(amount).rjust(decimals + 1, "0")
    whole, fraction = digits[: len(digits) - decimals], digits[len(digits) - decimals :].rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def base_units(text: str, decimals: int) -> int:
    """The other way: ``base_units("1.5", 6)`` is 1500000. Raises ValueError if it is no number, or too fine."""
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not an amount such as "1.5"')
    fraction = (match[2] or "").rstrip("0")
    if len(fraction) > decimals:
        raise ValueError(f'"{text}" has more than the {decimals} decimals of the asset')
    return int(match[1] + fraction.ljust(decimals, "0"))

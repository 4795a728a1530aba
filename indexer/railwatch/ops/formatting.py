"""Formats for people: times, durations, amounts with their asset, policies, and foreign text."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from railwatch.ops.amounts import display_units
from railwatch.rail.printable import printable

SHOWN_MOST = 4_000
"""Characters of one text that a page shows; `--json` has the whole text."""

STYLES: Mapping[str, str] = {
    **dict.fromkeys(("live", "paid", "watching", "confirmed", "final", "ok"), "green"),
    **dict.fromkeys(("syncing", "starting", "detected", "confirming", "pending", "included", "registered"), "cyan"),
    **dict.fromkeys(
        ("overpaid", "underpaid", "late_paid", "stalled", "dropped", "orphaned", "warning", "warn"), "yellow"
    ),
    **dict.fromkeys(("halted", "flagged", "rejected", "replaced", "critical", "fail"), "red"),
}
"""Colours of states and severities; any other word is plain."""


def printable_text(text: object) -> str:
    """Return foreign text safe for a terminal: a merchant's order id may hold escape sequences."""
    return printable(text, SHOWN_MOST)


def format_time(value: datetime | None) -> str:
    """Return a time such as ``2026-11-21 10:00:00``, in UTC; a dash for None."""
    return "-" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def format_age(seconds: float) -> str:
    """Return a duration such as ``3 s``, ``4 min``, ``5 h`` or ``6 d``."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def format_amount(row: Mapping[str, Any], column: str) -> str:
    """Return an amount of a row with its asset: in display units if the asset is configured, else in base units."""
    if row["decimals"] is None:
        return f"{row[column]} base units of {printable_text(row['asset'])}"
    return f"{display_units(row[column], row['decimals'])} {printable_text(row['symbol'])}"


def policy_words(policy: Mapping[str, Any]) -> str:
    """Return a policy such as ``3 confirmations``, ``finalized`` or ``128 blocks below finality``."""
    if policy.get("finalized"):
        return f"{policy['plus']} blocks below finality" if policy.get("plus") else "finalized"
    count = policy.get("confirmations")
    return "1 confirmation" if count == 1 else f"{count} confirmations"

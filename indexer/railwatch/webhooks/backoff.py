"""The pauses between delivery attempts: each three times as long, with jitter, up to a last attempt."""

import random

PAUSE_MAX_SECONDS = 12 * 3600.0
SPREAD = 0.25
"""Jitter of a quarter either way, so that events which failed together do not retry together."""


def pause_after(
    attempts: int, most: int, first: float, *, asked: float | None = None, dice: random.Random | None = None
) -> float | None:
    """Return the seconds until the next attempt after ``attempts`` failures; None after the last of ``most``.

    ``first``: the pause after the first failure. ``asked``: the receiver's Retry-After in seconds. It may lengthen a
    pause up to `PAUSE_MAX_SECONDS`, and never shortens one.
    """
    if attempts >= most:
        return None
    # The exponent has a bound, because the power of a large count exceeds a float.
    grown = min(first * 3.0 ** min(attempts - 1, 20), PAUSE_MAX_SECONDS)
    pause = grown * (dice or random).uniform(1 - SPREAD, 1 + SPREAD)
    return min(max(pause, asked or 0.0), PAUSE_MAX_SECONDS)

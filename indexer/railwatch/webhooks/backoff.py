"""When an attempt that failed is made again: pauses that grow threefold, spread by chance, and come to an end."""

import random

PAUSE_MAX_SECONDS = 12 * 3600.0
SPREAD = 0.25
"""What failed together is spread by a quarter either way, so that it does not come back together."""


def pause_after(
    attempts: int, most: int, first: float, *, asked: float | None = None, dice: random.Random | None = None
) -> float | None:
    """Seconds until the next attempt after ``attempts`` have failed; None: that was the last of ``most``.

    ``first`` is the pause after the first one. ``asked``: what the receiver wants (Retry-After); it may lengthen a
    pause up to the longest, and never shortens it.
    """
    if attempts >= most:
        return None
    # The exponent is bounded for its own sake: a power of a large count would be no float any more.
    grown = min(first * 3.0 ** min(attempts - 1, 20), PAUSE_MAX_SECONDS)
    pause = grown * (dice or random).uniform(1 - SPREAD, 1 + SPREAD)
    return min(max(pause, asked or 0.0), PAUSE_MAX_SECONDS)

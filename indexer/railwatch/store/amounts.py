"""The largest amount that a column holds, for sums that have no bound of their own."""

MOST = 10**78 - 1
"""Base units, the largest NUMERIC(78,0). A sum may be larger where a token has no honest bound: then it says this."""


def capped(amount: int) -> int:
    """Return ``amount``, or the largest that a column holds if it is beyond that."""
    return min(amount, MOST)

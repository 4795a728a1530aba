"""Hypothesis as the core's models use it."""

import os

from hypothesis import HealthCheck, settings

SHARE = float(os.environ.get("RAILWATCH_CORE_SHARE", "1"))
"""Of all examples, how many are played: they are the same ones each time, so CI plays the first of them."""


def model_settings(examples: int, steps: int = 30, *, whole: bool = False) -> settings:
    """Hypothesis as CI wants it: the same examples each time, and no clock of its own.

    ``whole``: a test of what all examples come to may need all of them.
    """
    return settings(
        deadline=None,
        derandomize=True,
        max_examples=examples if whole else max(1, round(examples * SHARE)),
        stateful_step_count=steps,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )

"""What the core's tests share."""

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def untraced_models(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the random models without coverage's tracer, which trebles what a tale costs.

    So the other tests alone have to reach every branch of the core, and none is covered by a lucky draw.
    """
    tracer = sys.gettrace() if request.module.__name__.endswith("_model") else None
    if tracer is None:
        yield
        return
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)

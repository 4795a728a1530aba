"""Random stories end in the exact ledger: see `tests/model/__init__.py`, and `make model` for many more of them.

A story that fails is told at once, and kept in a file: `python -m tests.model --replay FILE` plays it again. The same
seed in `python -m tests.model` makes it shorter first.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model.harness import Harness
from tests.model.machine import Model, play_stories

SEED = int(os.environ.get("RAILWATCH_MODEL_SEED", "1"))
EXAMPLES = int(os.environ.get("RAILWATCH_MODEL_EXAMPLES", "200"))
KEPT = sorted((Path(__file__).parent / "kept").glob("*.json"))
"""Stories that once failed, in the shortest form that did."""

PARTS = 4
"""So that several workers share the work."""


@pytest.fixture(scope="module")
def harness() -> Iterator[Harness]:
    with Harness() as harness:
        yield harness


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_happens_the_ledger_is_exact_in_the_end(harness: Harness, part: int) -> None:
    Model.harness = harness
    play_stories(SEED * PARTS + part, max(1, EXAMPLES // PARTS), shrink=False)


@pytest.mark.parametrize("story", KEPT, ids=lambda path: path.stem)
def test_a_story_that_once_failed_ends_in_the_exact_ledger(harness: Harness, story: Path) -> None:
    harness.replay(json.loads(story.read_text()))

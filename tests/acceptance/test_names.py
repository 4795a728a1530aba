"""The ten scenarios are there by their names, and the page that lists them is right."""

import re
from pathlib import Path

from tests.docs.test_docs import cells

PAGE = Path(__file__).parents[2] / "docs/acceptance.md"
SCENARIOS = {
    *("exact payment with confirmations", "duplicate delivery", "timeout then retry", "partial", "over", "late"),
    *("unsupported network", "missed push but visible on chain", "source temporarily unavailable"),
    "replay of historical events",
}


def test_each_scenario_has_the_test_of_its_name() -> None:
    listed = {row[0]: row[1].strip("`") for row in cells(PAGE.read_text()) if row[0] != "scenario"}
    assert listed == {each: f"test_{each.replace(' ', '_')}" for each in SCENARIOS}
    stories = [each.read_text() for each in Path(__file__).parent.glob("test_*.py") if each.name != Path(__file__).name]
    assert set(re.findall(r"^async def (test_\w+)", "".join(stories), re.MULTILINE)) == set(listed.values())

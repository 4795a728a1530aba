"""What of a demo can be tried without one: the configuration that it writes, and how it compares."""

import tomllib
from typing import Any

import pytest

from railwatch.demo.scenario_run import ScenarioRun, exception_words, state_words
from railwatch.demo.workspace import toml_table, toml_value
from railwatch.rail.demo import Scenario, Shop


async def nothing(shop: Shop) -> None:
    """A story without actions."""


def test_what_is_written_as_toml_is_read_back() -> None:
    table: dict[str, Any] = {
        "name": 'a "quoted" name\n',
        "nodes": [{"http": "http://127.0.0.1:1", "deep": {"list": [1, 2.5, True]}}],
        "empty": [],
    }
    assert tomllib.loads("\n".join(toml_table("[[rail]]", table))) == {"rail": [table]}
    with pytest.raises(TypeError, match="cannot be written as TOML"):
        toml_value(None)


def test_lines_carry_their_reason_only_where_it_is_not_the_usual_one() -> None:
    assert state_words("paid", "confirmed") == "paid"
    assert state_words("created", "reversed") == "created (reversed)"


def test_exceptions_say_whether_they_are_critical_and_whether_they_are_over() -> None:
    assert exception_words({"kind": "late", "severity": "warning", "resolved_at": None}) == "late"
    assert exception_words({"kind": "reversed", "severity": "critical", "resolved_at": 1}) == (
        "reversed (critical, resolved)"
    )


@pytest.mark.parametrize(
    ("path", "agrees", "diverged"),
    [
        (("created", "confirming"), False, False),
        (("created", "confirming", "paid"), True, False),
        (("created", "confirming", "paid", "created (reversed)"), False, True),
        (("created", "expired"), False, True),
    ],
)
def test_a_story_can_come_true_until_the_feed_differs(path: tuple[str, ...], agrees: bool, diverged: bool) -> None:
    telling = ScenarioRun("rail", Scenario("story", nothing, ("created", "confirming", "paid")), path=path)
    assert (telling.agrees, telling.diverged) == (agrees, diverged)

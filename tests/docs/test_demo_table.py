"""The README's table of the demo names scenarios that the demos have, with what they expect, and their number."""

import re
from pathlib import Path

from railwatch.rail.demo import Scenario
from railwatch_bitcoin.dev.demo import BitcoinDemo
from railwatch_evm.dev.demo import EvmDemo
from railwatch_solana.dev.demo import SolanaDemo

README = (Path(__file__).parents[2] / "README.md").read_text()
[TABLE] = re.findall(r"^```text\n +story +expected +seen.*?^```", README, re.DOTALL | re.MULTILINE)
ROW = re.compile(r"^ (✓| ) {3}(.{20})  (.{0,20})", re.MULTILINE)


def rows() -> dict[str, str]:
    """Return what each story expects, in one line, by the story's name."""
    found: list[tuple[list[str], list[str]]] = []
    for mark, name, expected in ROW.findall(TABLE.partition("─\n")[2].partition("\n\n")[0]):
        if mark == "✓":
            found.append(([], []))
        found[-1][0].append(name.strip())
        found[-1][1].append(expected.strip())
    return {" ".join(names).strip(): " ".join(lines).strip() for names, lines in found}


def expectation(scenario: Scenario) -> str:
    return " ".join([" → ".join(scenario.path), *(f"!{each}" for each in sorted(scenario.exceptions))])


def test_the_readme_shows_scenarios_of_the_demos() -> None:
    scenarios = [each for demo in (BitcoinDemo(), EvmDemo(), SolanaDemo()) for each in demo.scenarios]
    known = {each.name: expectation(each) for each in scenarios}
    shown = rows()
    assert len(shown) == 5
    assert shown == {name: known.get(name, "no such scenario") for name in shown}
    assert f"{len(scenarios)} of {len(scenarios)} stories as expected" in TABLE

"""The tables of methods in the READMEs of the rails, as they have to be: from the adapters' own lists.

``python -m tests.nodes.whitelist`` writes them anew.
"""

import re
from importlib import import_module
from pathlib import Path

from railwatch.rail import Method

ADAPTERS = Path(__file__).parents[2] / "adapters"
RAILS = ("bitcoin", "evm", "fake", "solana")
HEADING = "## The whitelist"


def methods_of(rail: str) -> tuple[Method, ...]:
    """Return the methods that the rail's adapter may ask."""
    methods: tuple[Method, ...] = import_module(f"railwatch_{rail}.methods").METHODS
    return methods


def section(rail: str) -> str:
    """Return the section of the rail's README."""
    rows = [
        f"| `{each.name}` | {each.needed_for} | {each.fallback or 'the rail cannot use the node'} | {each.remedy} |"
        for each in methods_of(rail)
    ]
    text = [
        HEADING,
        "",
        "The adapter asks these methods of a node and no others. On entering it asks each of them once, and",
        "`railwatch check` prints what the node said.",
        "",
        "| method | needed for | without it | to have it |",
        "|---|---|---|---|",
        *rows,
        "",
    ]
    return "\n".join(text)


def written(rail: str) -> str:
    """Return the section as the README has it; empty without one."""
    text = (ADAPTERS / f"railwatch_{rail}" / "README.md").read_text()
    found = re.search(rf"^{HEADING}\n.*?(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return found[0].rstrip() + "\n" if found else ""


def main() -> None:
    """Write all tables anew; a README without one gets it at its end."""
    for rail in RAILS:
        path = ADAPTERS / f"railwatch_{rail}" / "README.md"
        text, old = path.read_text(), written(rail).rstrip()
        new = section(rail).rstrip()
        path.write_text(text.replace(old, new) if old else f"{text.rstrip()}\n\n{new}\n")


if __name__ == "__main__":
    main()

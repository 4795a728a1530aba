"""Words that may not come back, in names and in sentences, with the number that each area still has.

``python -m tests.docs.vocabulary`` lowers the bounds in ``not_yet_clean.txt`` to what is so now. It never raises one.
``python -m tests.docs.vocabulary PATH`` prints each finding below a path.
"""

import ast
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
BOUNDS = Path(__file__).parent / "not_yet_clean.txt"

LISTS = tomllib.loads((Path(__file__).parent / "banned.toml").read_text())
BANNED = {re.compile(rf"\b(?:{words})\b", re.IGNORECASE): right for words, right in LISTS["prose"].items()}
PERMITTED = re.compile("|".join(rf"\b(?:{phrase})" for phrase in LISTS["allowed"]), re.IGNORECASE)
EVENTS = re.compile(rf"(?<![\w.])(?:{'|'.join(map(re.escape, LISTS['events']))})(?![\w.])")
SQL_FUNCTIONS = {"move_invoice"}
"""Names of SQL functions that Python has given up: the contract keeps them."""

SENTENCE = re.compile(r"\w+\s+\w+\s+\w+")
SKIPPED = {"node_modules", "site", "generated", "recordings"}
PROSE_SUFFIXES = {".py", ".sql", ".md", ".toml", ".sh"}
OWN_LISTS = {"tests/docs/banned.toml", "tests/docs/test_glossary.py"}
"""Files that quote banned words to ban them."""


class Finding(NamedTuple):
    """One word in one line, and what is right there."""

    path: str
    line: int
    word: str
    right: str
    is_name: bool = False

    def __str__(self) -> str:
        """Format it as compilers do."""
        return f"{self.path}:{self.line}: {self.word!r}; say: {self.right}"


def files() -> Iterator[Path]:
    """Return every file that we write by hand: code, SQL, documents, configuration."""
    for folder in ("indexer", "adapters", "tests", "docs", "systemd", "config", "scripts", "dev"):
        for file in sorted((ROOT / folder).rglob("*")):
            parts = file.relative_to(ROOT).parts
            if file.suffix in PROSE_SUFFIXES and not SKIPPED & {*parts} and not any(p.startswith(".") for p in parts):
                yield file
    yield from sorted(ROOT.glob("*.md"))
    yield ROOT / "Makefile"


def area(path: str) -> str:
    """Return the area that a path is counted under: a package, a folder of tests, or one document."""
    parts = path.split("/")
    return "/".join(parts[: 3 if parts[0] == "indexer" else 2])


def sentences(text: str, line: int) -> Iterator[tuple[int, str]]:
    """Split a text into lines, without code in backticks, placeholders and the targets of links."""
    text = re.sub(r"``?[^`\n]*``?|\{[^{}\n]*\}|\]\([^)\s]*\)|https?://\S+", " ", text)
    yield from enumerate(text.split("\n"), line)


def python_parts(file: Path) -> Iterator[tuple[str, int, str]]:
    """Return the names, and the comments and sentences in strings, of a module: (kind, line, text).

    Names within f-strings are left out, since Python 3.11 has no tokens for them.
    """
    depth = 0
    with file.open("rb") as source:
        for token in tokenize.tokenize(source.readline):
            kind = tokenize.tok_name[token.type]
            depth += (kind == "FSTRING_START") - (kind == "FSTRING_END")
            if kind == "NAME" and not depth:
                yield "name", token.start[0], token.string
            elif kind == "COMMENT":
                yield "prose", token.start[0], token.string
    for line, text in strings(ast.parse(file.read_bytes())):
        if SENTENCE.search(text):
            yield "prose", line, text


def strings(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Return the strings of a syntax tree, f-strings without their placeholders."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.lineno, node.value
    elif isinstance(node, ast.JoinedStr):
        fixed = (part.value if isinstance(part, ast.Constant) else " x " for part in node.values)
        yield node.lineno, "".join(map(str, fixed))
    else:
        for child in ast.iter_child_nodes(node):
            yield from strings(child)


def sql_parts(text: str) -> Iterator[tuple[str, int, str]]:
    """Return the names, and the comments and sentences in strings, of SQL."""
    for number, line in enumerate(text.split("\n"), 1):
        code, _, comment = line.partition("--")
        quoted = re.findall(r"'((?:[^']|'')*)'", code)
        for said in (comment, *(each for each in quoted if SENTENCE.search(each))):
            yield "prose", number, said
        for name in re.findall(r"\w+", re.sub(r"'(?:[^']|'')*'", " ", code)):
            yield "name", number, name


def parts(file: Path) -> Iterator[tuple[str, int, str]]:
    """Return what of a file is a name and what is prose."""
    if file.suffix == ".py":
        return python_parts(file)
    text = file.read_text()
    if file.suffix == ".sql":
        return sql_parts(text)
    if file.suffix == ".md":
        fenced = re.sub(
            r"^ *```.*?^ *```", lambda code: "\n" * code[0].count("\n"), text, flags=re.DOTALL | re.MULTILINE
        )
        return iter([("prose", 1, fenced)])
    comments = (re.search(r"(?:^|\s)#.*", line) for line in text.split("\n"))
    return (("prose", number, found[0]) for number, found in enumerate(comments, 1) if found)


def findings(file: Path) -> Iterator[Finding]:
    """Return what a file says in words that may not come back."""
    path = str(file.relative_to(ROOT))
    if path in OWN_LISTS:
        return
    for kind, line, text in parts(file):
        if kind == "name":
            if text in LISTS["names"] and not (file.suffix == ".sql" and text in SQL_FUNCTIONS):
                yield Finding(path, line, text, LISTS["names"][text], is_name=True)
            continue
        for number, said in sentences(text, line):
            plain = PERMITTED.sub(" ", said)
            for pattern, right in BANNED.items():
                yield from (Finding(path, number, match[0], right) for match in pattern.finditer(plain))
    if path == "CHANGELOG.md":  # It says which event has which name now.
        return
    for number, said in enumerate(file.read_text().split("\n"), 1):
        for event in EVENTS.findall(said):
            yield Finding(path, number, event, LISTS["events"][event], is_name=True)


@cache
def by_area() -> dict[str, list[Finding]]:
    """Return all findings, by area; clean areas are left out."""
    areas: dict[str, list[Finding]] = {}
    for file in files():
        for finding in findings(file):
            areas.setdefault(area(finding.path), []).append(finding)
    return areas


def bounds() -> dict[str, int]:
    """Return the bound of each area that is not clean yet. Of two lines for one area the lower counts (a merge)."""
    lowest: dict[str, int] = {}
    for line in BOUNDS.read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, number = line.rpartition(" ")
            lowest[name] = min(int(number), lowest.get(name, int(number)))
    return lowest


def lower() -> None:
    """Write each bound anew, as the lower of itself and of what is so."""
    heading = [line for line in BOUNDS.read_text().splitlines() if line.startswith("#")]
    now = {name: min(bound, len(by_area().get(name, ()))) for name, bound in bounds().items()}
    rows = [f"{name} {bound}" for name, bound in sorted(now.items()) if bound]
    BOUNDS.write_text("\n".join([*heading, *rows]) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(*(each for some in by_area().values() for each in some if each.path.startswith(sys.argv[1])), sep="\n")
    else:
        lower()

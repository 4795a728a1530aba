"""One word for one thing: the glossary names what exists, and given-up words do not come back."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from tests.docs.vocabulary import LISTS, PERMITTED, ROOT, area, bounds, by_area, findings

GLOSSARY = (ROOT / "docs/glossary.md").read_text()
SCHEMA = "\n".join(file.read_text() for file in (ROOT / "indexer/railwatch/store/sql").rglob("*.sql"))
ENTRIES = re.findall(r"^\| \*\*(.+?)\*\* \| (.+?) \| (.+?) \|$", GLOSSARY, re.MULTILINE)
REFERENCES = sorted({name for _, _, where in ENTRIES for name in re.findall(r"`([^`]+)`", where)})


def test_each_entry_has_one_place_and_at_most_two_sentences() -> None:
    rows = [line for line in GLOSSARY.splitlines() if line.startswith("| **")]
    assert len(ENTRIES) == len(rows) >= 40
    words = [word for word, _, _ in ENTRIES]
    assert words == sorted(set(words), key=str.lower)
    for word, meaning, where in ENTRIES:
        assert len(re.findall(r"\.(?: |$)", meaning)) <= 2, word
        assert "`" in where, f"{word} lives nowhere"


def in_schema(name: str) -> bool:
    """Return True if the schema has that table, view, function, or table and column."""
    owner, _, column = name.partition(".")
    found = re.search(rf"^create (?:table|view|function) railwatch\.{owner}\b.*?;$", SCHEMA, re.MULTILINE | re.DOTALL)
    return bool(found and (not column or re.search(rf"^ +{column} ", found[0], re.MULTILINE)))


def in_code(name: str) -> bool:
    """Return True if that name can be imported from the module before it."""
    module, _, attribute = name.rpartition(".")
    owner, _, member = module.rpartition(".")
    if member[:1].isupper():
        cls = getattr(import_module(owner), member)
        return hasattr(cls, attribute) or attribute in cls.__annotations__
    return hasattr(import_module(module), attribute)


@pytest.mark.parametrize("name", REFERENCES)
def test_the_place_of_a_word_exists(name: str) -> None:
    kind, _, rest = name.partition(" ")
    assert in_schema(rest) if kind == "sql" else in_code(name)


def test_no_area_says_more_of_the_given_up_words_than_before() -> None:
    allowed = bounds()
    more = {name: some for name, some in by_area().items() if len(some) > allowed.get(name, 0)}
    assert not more, "\n".join(
        [f"{name}: {len(some)}, bound {allowed.get(name, 0)}; {each}" for name, some in more.items() for each in some]
    )


def test_each_bound_is_what_its_area_still_has() -> None:
    slack = {name: bound for name, bound in bounds().items() if bound > len(by_area().get(name, ()))}
    assert not slack, "lower these bounds by `python -m tests.docs.vocabulary`: " + ", ".join(slack)


def test_a_given_up_word_is_found_wherever_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.docs.vocabulary.ROOT", tmp_path)
    samples = {
        "names.py": "class Book: ...\n",
        "comment.py": "x = 1  # the feed is told\n",
        "text.py": 'x = f"somebody holds {self.told} now"\n',
        "table.sql": "select told_in_the_feed from x; -- whoever asks\n",
        "page.md": "It stands beside `told`.\n",
        "event.md": "Search the log for `rail.stands_back`.\n",
    }
    for name, text in samples.items():
        (tmp_path / name).write_text(text)
    found = {name: {each.word for each in findings(tmp_path / name)} for name in samples}
    assert found == {
        "names.py": {"Book"},
        "comment.py": {"told"},
        "text.py": {"somebody"},
        "table.sql": {"whoever", "told_in_the_feed"},
        "page.md": {"stands", "beside"},
        "event.md": {"rail.stands_back"},
    }


@pytest.mark.parametrize(
    "right", ["takes 15 seconds", "takes effect", "the second look", "looks back", "it takes two arguments"]
)
def test_english_that_is_right_passes(right: str) -> None:
    assert not re.search(r"\b(?:takes?|looks?)\b", PERMITTED.sub("", right))


def test_each_exception_has_a_reason() -> None:
    assert all(len(reason) > 5 for reason in LISTS["allowed"].values())


def test_an_area_is_a_package_a_folder_or_a_page() -> None:
    assert area("indexer/railwatch/daemon/follow/follower.py") == "indexer/railwatch/daemon"
    assert area("docs/runbooks/roles.md") == "docs/runbooks"
    assert area("README.md") == "README.md"

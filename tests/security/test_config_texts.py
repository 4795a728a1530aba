"""Whatever the configuration file holds is refused in a whole sentence, by all commands, or is shown harmlessly.

Each value of the file is a hostile one in its turn. What is refused says where, what, and what to write instead, in one
line that no terminal obeys. What is accepted passes the daemon's own start, into the tables and back to a screen.
"""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from railwatch.cli.errors import ERROR_MAX
from railwatch.cli.resolve_args import rail_config
from railwatch.config import Config, ConfigError, Problem, load_config
from railwatch.daemon.registry import open_rail
from railwatch.daemon.supervisor import mirror_rails
from railwatch.ops.metrics import Metrics
from railwatch.ops.status import render_status
from railwatch.rail.printable import LONGEST, is_visible, printable
from railwatch.store.database import Database
from railwatch.store.errors import StoreError
from railwatch.store.read_models import read_status
from railwatch_fake import register
from tests.scenarios.daemon_harness import chain_named

TEXTS = (
    *("\x1b[2J\x1b[31mred", "\x9b31m", "a\nfalse line", "a\rb", "\t", " ", "", " a", "a ", "a\u00a0"),
    *("\u202eevil", "a\u200bb", "a\u2066b", "\ufeffa", "a\u3164", "\u00ad", "[red]x[/red]", "[link=https://x]a[/link]"),
    *("'; drop table railwatch.rails; --", '"', "$$", "%s", "{x}", "\\", "../../etc/passwd", "..", ".", "a/b", "/etc"),
    *(
        "-rf",
        "--config=x",
        "x" * 31,
        "x" * 10_000,
        "ETH\u0301",
        "\u0395TH",
        ":skull:",
        "=cmd|' /C calc'!A0",
        "0",
        "nan",
    ),
)
EACH_KIND = (
    "\x1b[2J\x1b[31mred",
    "a\nfalse line",
    "\u202eevil",
    "x" * 10_000,
    "[red]x[/red]",
    "'; --",
    "../../etc",
    "-rf",
    "",
)
"""What every single place is tried with; with all of ``TEXTS`` the whole file is, every place at once."""
OTHERS: tuple[Any, ...] = (True, 0, -1, 2**63, 2**70, 1e308, float("nan"), float("inf"), [], ["a"], {}, {"a": {"b": 1}})
GOOD: dict[str, Any] = {
    "database": {"url": "postgresql:///nowhere", "data_dir": "data"},
    "http": {"listen": "127.0.0.1:9464"},
    "log": {"format": "json", "level": "info"},
    "deliver": {"allow": ["127.0.0.1/32"], "listen": "127.0.0.1:9465", "proxy": "http://127.0.0.1:3128"},
    "invoices": {"keep_watching": "30d", "unfollowed_rails": ["old"]},
    "rail": [
        {
            "name": "story",
            "adapter": "fake",
            "chain_id": "fake:story",
            "poll_interval": 1.0,
            "stall_after": 60.0,
            "stuck_after": "2h",
            "start_height": 1,
            "horizon": 20,
            "nodes": [{"chain": "story"}],
            "options": {},
            "asset": [{"symbol": "COIN"}, {"symbol": "TOK", "contract": "tok", "decimals": 6, "min_amount": 1}],
        }
    ],
    "policy": [{"rail": "story", "asset": "COIN", "up_to": "99.5", "confirmations": 3}],
    "webhook": [
        {
            "name": "shop",
            "url": "https://shop.example/hook",
            "events": ["invoice.paid"],
            "secret": "whsec_" + "A" * 32,
            "begin": "now",
        }
    ],
}
SECRET_TEXT = "S3CRETpassword"


def places(table: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values that are no tables."""
    if isinstance(table, dict):
        return [each for key, value in table.items() for each in places(value, (*path, key))]
    if isinstance(table, list):
        return [each for number, value in enumerate(table) for each in places(value, (*path, number))]
    return [path]


PLACES = [*places(GOOD), ("rail", 0, "nodes", 0, "http"), ("rail", 0, "options", "x")]


def toml(value: Any) -> str:
    """A value as TOML writes it, on one line."""
    if isinstance(value, str):
        escaped = "".join(c if 32 <= ord(c) < 127 and c not in '"\\' else f"\\U{ord(c):08x}" for c in value)
        return f'"{escaped}"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(str(key))} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")


def written(folder: Path, tables: dict[str, Any]) -> Path:
    path = folder / "railwatch.toml"
    path.write_text("\n".join(f"{key} = {toml(value)}" for key, value in tables.items()), encoding="utf-8")
    path.chmod(0o600)
    return path


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """The good tables, with one other value."""
    tables = json.loads(json.dumps(GOOD))
    here = tables
    for step in path[:-1]:
        here = here[step]
    here[path[-1]] = value
    return tables


def is_harmless(text: str) -> bool:
    return all(each == "\n" or is_visible(each) for each in text)


@pytest.fixture(autouse=True)
def _a_chain() -> None:
    register(chain_named())


def refusal(path: Path, *, ask_adapters: bool = True) -> str | None:
    """What `load_config` or the adapters refuse of a file: None if every command would go on."""
    try:
        config = load_config(path)
    except ConfigError as error:
        for each in error.problems:
            assert_whole(each)
        return str(error)
    try:
        for rail in config.rails if ask_adapters else ():
            open_rail(rail).traits  # noqa: B018 - opens a node, and asks it nothing
    except ValueError as error:
        return printable(error, ERROR_MAX)
    return None


def assert_whole(problem: Problem) -> None:
    """It says where, what and what to do, and nothing of it is cut off."""
    assert problem.hint, f"what is to be written instead? {problem}"
    assert str(problem).startswith(problem.where), problem
    assert str(problem).endswith(problem.hint), problem
    assert len(str(problem)) < LONGEST, problem


@pytest.mark.parametrize("place", PLACES, ids=lambda path: ".".join(map(str, path)))
def test_a_hostile_value_is_refused_in_a_whole_sentence_or_is_harmless(tmp_path: Path, place: tuple[Any, ...]) -> None:
    for value in (*EACH_KIND, 2**70, float("nan"), True, ["a"]):
        message = refusal(written(tmp_path, changed(place, value)), ask_adapters=place[0] == "rail")
        if message is None:
            assert not isinstance(value, str) or is_harmless(value) or place[-1] in TAKEN_AS_BYTES, (place, value)
        else:
            assert is_harmless(message), (value, message)
            assert "Traceback" not in message


@pytest.mark.parametrize("value", [*TEXTS, *OTHERS], ids=lambda value: ascii(str(value)[:12]))
def test_a_file_that_is_hostile_everywhere_is_reported_whole(tmp_path: Path, value: Any) -> None:
    tables = json.loads(json.dumps(GOOD))
    for path in places(GOOD):
        here = tables
        for step in path[:-1]:
            here = here[step]
        here[path[-1]] = value
    message = refusal(written(tmp_path, tables), ask_adapters=False)
    assert message is not None
    assert is_harmless(message)


TAKEN_AS_BYTES = ("data_dir",)
"""A file's name may hold anything but a null; it is shown escaped."""


@pytest.mark.parametrize("value", ["\x1b[31m", "a\nb", "x" * 10_000, "[red]", "-x"], ids=lambda text: ascii(text[:12]))
def test_a_hostile_key_is_refused_by_its_name(tmp_path: Path, value: str) -> None:
    tables: list[dict[str, Any]] = [{**GOOD, value: 1}]
    for path in (("rail", 0), ("rail", 0, "nodes", 0), ("rail", 0, "options"), ("webhook", 0), ("http",)):
        tables.append(changed((*path, value), 1))
    for each in tables:
        message = refusal(written(tmp_path, each))
        assert message is not None, value
        assert is_harmless(message)
        assert len(max(message.split("\n"), key=len)) < LONGEST


@pytest.mark.parametrize(
    "text",
    ["a = " + "9" * 5_000, "a = " + "[" * 50_000, 'a = "\x1b[31m"', "\x00", "a = 1\na = 2", "[[rail]]\nname = 1"],
)
def test_what_is_no_toml_is_reported_in_words(tmp_path: Path, text: str) -> None:
    path = tmp_path / "railwatch.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert is_harmless(str(caught.value))


def test_a_password_in_a_url_is_in_no_refusal(tmp_path: Path) -> None:
    """Also where the rest of it is wrong."""
    for place in (
        ("database", "url"),
        ("webhook", 0, "url"),
        ("deliver", "proxy"),
        ("rail", 0, "nodes", 0, "http"),
        ("rail", 0, "nodes", 0, "ws"),
    ):
        for text in EACH_KIND[:5]:
            for url in (
                f"https://u:{SECRET_TEXT}@{text}",
                f"postgresql://u:{SECRET_TEXT}@h/{text}",
                f"{text}://u:{SECRET_TEXT}@h",
                f"http://h/{SECRET_TEXT}/{text}",
            ):
                message = refusal(written(tmp_path, changed(place, url)), ask_adapters=False)
                assert message is None or SECRET_TEXT not in message, (place, url, message)


VISIBLE = tuple(
    each for each in TEXTS if each and all(map(is_visible, each)) and each == each.strip() and len(each) <= 30
)


async def test_symbols_that_are_accepted_are_shown_as_they_are(tmp_path: Path, database: Database) -> None:
    """In the tables, on a screen, among the metrics."""
    tables = changed(("database", "url"), database.dsn)
    tables["rail"][0]["asset"] = [
        {"symbol": text, "contract": f"tok{number}", "decimals": 6} for number, text in enumerate(VISIBLE)
    ]
    tables["policy"] = [{"rail": "story", "asset": text, "confirmations": 3} for text in VISIBLE]
    tables["invoices"] = {}
    config = load_config(written(tmp_path, tables))
    assert rail_config(config, "story").assets
    try:
        await mirror_rails(database, config, None)
    except (ValueError, StoreError) as error:
        pytest.fail(str(error))
    kept = {row["symbol"] for row in await database.rows("select symbol from railwatch.assets")}
    assert kept == set(VISIBLE)
    console = Console(file=io.StringIO(), width=200)
    console.print(render_status(await read_status(database)))
    assert is_harmless(console.file.getvalue())  # type: ignore[attr-defined]
    metrics = Metrics()
    for name in TEXTS:
        metrics.waiting({(name, "critical"): 1}, {name: 1}, {name: 1})
    assert is_harmless(metrics.text().decode())


def test_the_good_file_is_good(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, GOOD)) is None
    assert isinstance(load_config(written(tmp_path, GOOD)), Config)

"""Every command, with hostile values for each of its parameters and over rows of which every text is hostile.

The commands are read from the program itself: one that is added is tried at once, and fails here until `SAMPLES` says
what its parameters accept.
"""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import click
import pytest
import structlog
from click.testing import CliRunner, Result

from railwatch.cli import main
from railwatch.cli.errors import Exit
from railwatch.rail.printable import is_visible
from railwatch.store.database import Database
from tests.scenarios.daemon_harness import DaemonHarness, chain_named

NASTY = (
    "\x1b[2J\x1b]8;;https://evil.example\x07x\x9b31m\x7f [red]x[/red] [link=https://evil.example]x[/link] [/no] [bold "
    "\u202eb\u2066c\u200bd\ufeffe\u2028f\u2029g\u00adh\u3164i\ufe0fj e\u0301\u0302\u0303 a\r\nfalse line\t"
    ":skull: {x} %s"
)
HOSTILE = {
    "nasty": NASTY,
    "half of a surrogate pair": "a\udcffb\ud800",
    "a null": "a\0b",
    "a megabyte": "x" * 1_000_000,
    "thirty digits": "9" * 30,
}
HOSTILE_JSON = {
    "nasty": json.dumps({NASTY: NASTY}),
    "a surrogate": '{"a":"\\ud800"}',
    "endless": "[" * 100_000,
    "digits": '{"a":' + "9" * 5_000 + "}",
}
SAMPLES: dict[str, str] = {
    "invoice": "shop/1",
    "exception": "00000000",
    "transfer": "00000000",
    "rescan_id": "00000000-0000-0000-0000-000000000000",
    "rail": "story",
    "name": "story",
    "old": "story",
    "new": "other",
    "reason": "why",
    "resolution": "accepted",
    "tx": "back",
    "first": "0",
    "minutes": "0.001",
    "file": "no-such-file",
}
"""A value for each parameter that a command needs."""
NOWHERE = {"record": {"rail": "nowhere"}}
"""Where the values that are right would begin something long."""


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with its words."""
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from leaves(each, (*path, name))
    else:
        yield path, command


COMMANDS = dict(leaves(main))
SHOWING = {
    *(("status",), ("invoice", "list"), ("invoice", "show"), ("explain",), ("feed",), ("exceptions", "list")),
    *(("unallocated", "list"), ("unallocated", "show")),
    *(("rescan", "list"), ("webhook", "list"), ("webhook", "dead", "list"), ("check",), ("audit",)),
}
"""Commands that show what is stored."""
DOING = {
    *(
        ("docs",),
        ("config", "example"),
        ("run",),
        ("migrate",),
        ("demo",),
        ("deliver",),
        ("record",),
        ("replay",),
        ("webhook", "secret"),
    ),
    *(("invoice", each) for each in ("create", "cancel", "hold", "release", "refund")),
    *(("exceptions", each) for each in ("resolve", "note")),
    ("unallocated", "assign"),
    *(("rescan", each) for each in ("request", "cancel")),
    *(("rail", each) for each in ("rename", "resume")),
    *(("webhook", each) for each in ("disable", "enable", "forget")),
    *(("webhook", "dead", each) for each in ("replay", "drop")),
}
"""Commands that do something, of which the hostile values here let none get far."""


def takes_a_value(parameter: click.Parameter) -> bool:
    """Whether a text follows it."""
    return not (isinstance(parameter, click.Option) and parameter.is_flag)


def words_for(command: click.Command, about: click.Parameter, value: str) -> list[str]:
    """The arguments of a call in which one parameter is hostile, and the others are as they should be."""
    given, last = [], []
    for parameter in command.params:
        samples = {**SAMPLES, **NOWHERE.get(str(command.name), {})}
        text = value if parameter is about else samples.get(str(parameter.name))
        if parameter is not about and not parameter.required:
            continue
        assert text is not None, f"say in SAMPLES what {parameter.name} of {command.name} accepts"
        if isinstance(parameter, click.Argument):
            last.append(text)
        else:
            given.append(f"{parameter.opts[-1]}={text}")
    return [*given, "--", *last] if last else given


class Shell:
    """Runs commands in this process, with one configuration."""

    def __init__(self, config: Path) -> None:
        self.config = config

    def run(self, path: tuple[str, ...], words: list[str]) -> Result:
        own = any(each.name == "config" for each in COMMANDS[path].params)
        is_given = any(each.startswith("--config=") for each in words)
        config = [f"--config={self.config}"] if own and not is_given else []
        return CliRunner().invoke(main, [*path, *config, *words])


def assert_harmless(result: Result, what: str) -> None:
    """One of our exit codes, nothing that a terminal would obey, no end of lines, and never a traceback."""
    text = result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), f"{what}: {result.exception!r:.500}"
    assert result.exit_code in set(Exit), f"{what}: {result.exit_code}"
    assert "Traceback" not in text, f"{what}: {text[-1500:]}"
    odd = {each for each in text if each != "\n" and not is_visible(each)}
    assert not odd, f"{what}: {odd}"
    assert "\ufffd" not in text, what
    assert max(map(len, text.splitlines()), default=0) <= 10_000, f"{what}: a line of {len(text)} characters"


@pytest.fixture(autouse=True)
def quiet_again() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(io.StringIO()))
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


CONFIG = """
[database]
url = "{dsn}"
[[rail]]
name = "story"
adapter = "fake"
chain_id = "fake:story"
nodes = [{{ chain = "story" }}]
[[rail.asset]]
symbol = "COIN"
"""


@pytest.fixture
def shell(hostile_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """In a folder of its own, over the database of which every text is hostile."""
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "railwatch.toml"
    config.write_text(CONFIG.format(dsn=hostile_dsn))
    config.chmod(0o600)
    return Shell(config)


def test_every_command_is_one_that_shows_or_one_that_does() -> None:
    assert set(COMMANDS) == SHOWING | DOING, "say of a new command which of both it is"
    assert not SHOWING & DOING


POISON = """
select format('update railwatch.%I set %I = %s', c.table_name, c.column_name,
              case c.data_type when 'text' then '$1 || ctid' else 'jsonb_build_object($1::text, $1::text)' end
       ) as statement
from information_schema.columns c
join information_schema.tables t using (table_schema, table_name)
where c.table_schema = 'railwatch' and t.table_type = 'BASE TABLE' and c.data_type in ('text', 'jsonb')
  and c.column_name not in
      ('policy', 'terms', 'tallies', 'state', 'subject', 'to_state', 'from_state', 'kind', 'severity')
  and c.table_name not in ('rights', 'allowed_transitions', 'locks', 'migrations')"""
"""Every text and every JSON of every table, but those that the program uses as keys."""


async def _furnish(dsn: str) -> None:
    """A story with every kind of row, whose texts are then replaced, as far as keys and CHECKs allow it."""
    async with Database(dsn, size=4) as database:
        async with DaemonHarness(database, [chain_named()]) as stage:
            paid, short = await stage.invoice(100), await stage.invoice(100)
            await stage.pay(paid, 150)
            await stage.pay(short, 40)
            await stage.mine(3)
            value = database.value
            await value("select railwatch.record_settlement($1, 'payout', actor => 'ann', note => 'n')", paid.id)
            await value("select railwatch.record_refund($1, 10, 'back', actor => 'ann', reason => 'r')", paid.id)
            await value("select railwatch.hold_invoice($1, actor => 'ann', reason => 'odd')", short.id)
            await value("select railwatch.ack('books', 1)")
            await value("select railwatch.set_aside('story', $1, 'why', 60)", short.id)
            await value("select railwatch.request_rescan('story', 0)")
        await database.rows(
            "insert into railwatch.webhook_endpoints (name, place, events) values ('shop', 'https://x', '{*}')"
        )
        await database.rows(
            "insert into railwatch.webhook_deliveries (endpoint, seq, event_id, lane, state) "
            "select 'shop', seq, event_id, invoice_id, 'dead' from railwatch.transitions"
        )
    connection = await asyncpg.connect(dsn)
    poisoned = 0
    try:
        for table in ("transitions", "refunds", "settlements", "observations"):
            await connection.execute(f"alter table railwatch.{table} disable trigger append_only")
        for row in await connection.fetch(POISON):
            with suppress(asyncpg.IntegrityConstraintViolationError):
                await connection.execute(row["statement"], NASTY)
                poisoned += 1
    finally:
        await connection.close()
    assert poisoned > 50


@pytest.fixture(scope="module")
def hostile_dsn(server: str) -> Iterator[str]:
    """A database of which every text is hostile."""

    async def run(statement: str) -> None:
        connection = await asyncpg.connect(server, database="postgres")
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    dsn = server.replace("/railwatch?", "/hostile_texts?")
    asyncio.run(run("create database hostile_texts template railwatch"))
    asyncio.run(_furnish(dsn))
    yield dsn
    asyncio.run(run("drop database hostile_texts with (force)"))


def calls(path: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """Calls of a command, in each of which one parameter is hostile."""
    command = COMMANDS[path]
    for about in command.params:
        if takes_a_value(about):
            values = HOSTILE_JSON if about.type.name == "json" else HOSTILE
            for name, value in values.items():
                yield f"{about.name} of {name}", words_for(command, about, value)


@pytest.mark.parametrize("path", list(COMMANDS), ids=" ".join)
def test_a_hostile_value_is_refused_or_accepted_in_plain_words(shell: Shell, path: tuple[str, ...]) -> None:
    for what, words in calls(path):
        assert_harmless(shell.run(path, words), f"{' '.join(path)} with {what}")


@pytest.mark.parametrize("path", sorted(SHOWING), ids=" ".join)
def test_rows_whose_every_text_is_hostile_are_shown_harmlessly(
    shell: Shell, hostile_dsn: str, path: tuple[str, ...]
) -> None:
    async def newest() -> str:
        async with Database(hostile_dsn, size=1) as database:
            return str(await database.value("select id from railwatch.invoices order by created_at limit 1"))

    needs = any(isinstance(each, click.Argument) and each.required for each in COMMANDS[path].params)
    words = [asyncio.run(newest())] if needs else []
    for more in ([], ["--json"]):
        result = shell.run(path, [*words, *more])
        assert_harmless(result, f"{' '.join(path)} {' '.join(more)}")
        assert result.output.strip()
        if more and path != ("feed",) and result.exit_code == 0:
            json.loads(result.stdout)


def test_an_option_that_does_not_exist_is_named_harmlessly(shell: Shell) -> None:
    for words in ([f"--{NASTY}"], [NASTY], ["status", f"--{NASTY}"], ["invoice", NASTY], ["webhook", "dead", NASTY]):
        result = CliRunner().invoke(main, words)
        assert_harmless(result, ascii(words))
        assert result.exit_code == Exit.USAGE

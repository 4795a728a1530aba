"""What the documentation says is compared with what is so: SQL runs, lists are the code's, links lead somewhere."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import asyncpg
import click
import pytest

from railwatch.cli import main
from railwatch.config import Config, load_config
from railwatch.core.evidence import RULES
from railwatch.core.exception_rules import FUNDS_KINDS, SEVERITY, STATE_KINDS
from railwatch.core.lifecycle import FORWARD_REASONS
from railwatch.core.states import DETECTION_MOVES, INVOICE_MOVES, REMOVED, DetectionState, InvoiceState, Kind
from railwatch.daemon.registry import open_rail
from railwatch.daemon.supervisor import rail_mirror
from railwatch.known_chains import default_tiers
from railwatch.rail import AssetSpec, ChainId
from railwatch.store.config_sync import PolicyRow, RailMirror, sync_config
from railwatch.store.database import Database
from railwatch.store.invoices import create_invoice
from railwatch.store.migrate import schema_text
from railwatch.store.read_models import Dossier

ROOT = Path(__file__).parents[2]
README, HAZARDS = ROOT / "README.md", ROOT / "docs/hazards.md"
CONTRACT = (ROOT / "docs/contract.md", *sorted((ROOT / "docs/contract").glob("*.md")))
EXCEPTIONS, EVIDENCE = ROOT / "docs/exceptions.md", ROOT / "docs/evidence.md"
SCHEMA = schema_text()
PAGES = sorted(
    page
    for page in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part == "node_modules" for part in page.relative_to(ROOT).parts)
)
RUNBOOKS = sorted((ROOT / "docs/runbooks").glob("*.md"))
CONTRACTS_TABLES = (
    *("invoices", "destinations", "detections", "unallocated_transfers", "transitions"),
    *("exceptions", "balances", "refunds", "settlements", "rails", "assets", "consumers"),
    *("orders", "order_destinations", "order_transfers", "order_money", "consumer_lag"),
)
FUNCTIONS = {
    *("create_invoice", "cancel_invoice", "hold_invoice", "release_invoice", "record_refund", "record_settlement"),
    *("resolve_exception", "annotate_exception", "ack", "find_orders"),
    *("request_rescan", "cancel_rescan", "resume_rail"),
    *("lock_consumer", "feed_generation", "feed_check", "create_invoices", "assign_transfer", "transfer_suggestions"),
}


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE)


def named(pages: Iterable[Path], language: str) -> list[Any]:
    """Return every block of those pages, under the page's name and its number there."""
    return [
        pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}")
        for page in pages
        for number, text in enumerate(blocks(page, language), 1)
    ]


def section(page: Path, heading: str) -> str:
    """Return the text from a heading to the next one of its level or above."""
    level = len(heading) - len(heading.lstrip("#"))
    _, found, rest = page.read_text().partition(f"\n{heading}\n")
    assert found, f"{page.name} has no heading {heading!r}"
    return re.split(rf"^#{{1,{level}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def contract(heading: str) -> str:
    """Return the section of the contract under that heading, on whichever page and level it is."""
    pattern = re.compile(rf"^#+ {re.escape(heading)}$", re.MULTILINE)
    [(page, line)] = [(page, line) for page in CONTRACT for line in pattern.findall(page.read_text())]
    return section(page, line)


def prose(text: str) -> str:
    """Return the text without fenced blocks."""
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)


def words(text: str) -> list[str]:
    """Return everything in backticks."""
    return re.findall(r"`([^`]+)`", prose(text))


def cells(text: str) -> Iterator[list[str]]:
    """Return the rows of the text's tables, without headings' rules."""
    for line in text.splitlines():
        if line.startswith("|") and not re.fullmatch(r"[|\s:-]+", line):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def readme_config() -> Config:
    [text] = blocks(README, "toml")
    return Config.model_validate(tomllib.loads(text))


@pytest.fixture
async def furnished(database: Database) -> Database:
    """Return a database with the rails of the README and of the contract's examples, and some invoices."""
    config = readme_config()
    mirrors = [rail_mirror(config, rail, open_rail(rail).traits) for rail in config.rails]
    sample = load_config(ROOT / "config/railwatch.example.toml").rails[0]
    traits = open_rail(sample).traits
    assets = (AssetSpec("ETH", None, 18), AssetSpec("TST", "0x5FbDB2315678afecb367f032d93F642f64180aa3", 6))
    tiers = default_tiers(sample.chain_id, has_finality=True)
    policies = [PolicyRow(None, tier.up_to, tier.policy, "default") for tier in tiers]
    mirrors.append(RailMirror(sample.name, ChainId(sample.chain_id), traits, assets, tuple(policies)))
    async with database.connection() as connection:
        await sync_config(connection, mirrors, {"closes_in": 2_592_000})
    for order in ("1001", "1002", "1003", "1004", "1005", "1006"):
        way = {"rail": "local-evm", "asset": "ETH", "amount": "5", "address": f"0x{order:0>40}"}
        await create_invoice(
            database, {"merchant_id": "shop", "order_id": order, "expires_in": 3600, "destinations": [way]}
        )
    return database


@pytest.mark.parametrize("sql", [*named((README, *CONTRACT, EXCEPTIONS, EVIDENCE), "sql"), *named(RUNBOOKS, "sql")])
async def test_sql_runs(furnished: Database, sql: str) -> None:
    connection = await asyncpg.connect(furnished.dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def test_an_invoice_is_registered_as_the_pages_say(furnished: Database) -> None:
    made = [text for page in (README, *CONTRACT) for text in blocks(page, "sql") if "create_invoice(" in text]
    assert len(made) == 3
    for sql in made:
        assert await furnished.value(sql)


def test_every_field_of_a_request_is_explained() -> None:
    explained = set(words(contract("create_invoice(request jsonb) returns uuid")))
    known = re.findall(r"where key not in \((.*?)\)", SCHEMA, re.DOTALL)
    assert len(known) == 2
    for listed in known:
        assert set(re.findall(r"'(\w+)'", listed)) <= explained


@pytest.mark.parametrize("table", CONTRACTS_TABLES)
async def test_every_column_of_the_contract_is_explained(database: Database, table: str) -> None:
    rows = await database.rows(
        "select column_name from information_schema.columns where table_schema = 'railwatch' and table_name = $1", table
    )
    [listed] = re.findall(r"^\| column \|.*?\n\n", contract(f"{table}"), re.DOTALL | re.MULTILINE)
    explained = {word for row in cells(listed) for word in words(row[0])}
    assert explained == {row["column_name"] for row in rows}


async def test_every_function_of_the_contract_has_its_place(database: Database) -> None:
    text = (ROOT / "docs/contract/functions.md").read_text()
    headings = re.findall(r"^## (\w+)\((.*?)\) returns ([\w ]+)$", text, re.MULTILINE)
    assert {name for name, _, _ in headings} == FUNCTIONS
    for name, arguments, result in headings:
        row = await database.row(
            "select pg_get_function_arguments(oid) as arguments, pg_get_function_result(oid) as given from pg_proc "
            "where proname = $1 and pronamespace = 'railwatch'::regnamespace",
            name,
        )
        assert row is not None
        assert re.sub(r" DEFAULT [^,]+", "", row["arguments"]) == arguments
        assert row["given"].partition("(")[0].lower() == result


def test_every_sqlstate_is_listed() -> None:
    listed = {row[0] for row in cells(contract("Errors")) if row[0].startswith("RW")}
    assert listed == set(re.findall(r"RW\d{3}", SCHEMA))


def table_of_moves(heading: str) -> Mapping[str, set[str]]:
    rows = list(cells(contract(heading)))
    start = rows.index(["from", "to"])
    return {row[0].strip("`"): set(words(row[1])) for row in rows[start + 1 :]}


@pytest.mark.parametrize(
    ("heading", "moves"), [("Invoices", INVOICE_MOVES), ("Detections", DETECTION_MOVES)], ids=lambda each: None
)
def test_the_tables_of_moves_are_the_cores(heading: str, moves: Mapping[Any, Iterable[Any]]) -> None:
    ours = {"(none)" if old is None else str(old): {str(new) for new in news} for old, news in moves.items()}
    assert table_of_moves(heading) == ours


def test_every_state_is_explained() -> None:
    for heading, states in (("Invoices", InvoiceState), ("Detections", DetectionState)):
        explained = {row[0].strip("`") for row in cells(contract(heading)) if len(row) > 1}
        assert {each.value for each in states} <= explained
    assert {each.value for each in Kind} <= set(words(contract("detections")))


def test_every_exception_is_explained_and_has_a_runbook() -> None:
    listed = {row[0].strip("`"): row[1] for row in cells(contract("Exceptions")) if row[0].startswith("`")}
    assert listed == dict(SEVERITY)
    pages = "\n".join(page.read_text() for page in RUNBOOKS if page.name.startswith("exception-"))
    for kind in SEVERITY:
        assert re.search(rf"\b{kind}\b", pages), kind


def matrix_of_exceptions() -> dict[str, list[str]]:
    rows = cells(section(EXCEPTIONS, "## The matrix"))
    return {row[0].strip("`"): row[1:] for row in rows if row[0].startswith("`")}


def test_the_matrix_of_exceptions_is_the_codes() -> None:
    matrix = matrix_of_exceptions()
    assert {kind: row[0] for kind, row in matrix.items()} == dict(SEVERITY)
    for kind, row in matrix.items():
        assert len(row) == 5
        assert all(row), f"{kind}: every exception has a meaning, an actor, an action and an end"


def test_the_matrix_says_of_each_kind_what_it_is_about() -> None:
    text = section(EXCEPTIONS, "## When each opens, exactly")
    assert {"stuck_confirming", "detection_delayed", "wrong_network", "unsupported_asset"} <= set(words(text))
    closed = {
        row[0].strip("`"): row[5] for row in cells(section(EXCEPTIONS, "## The matrix")) if row[0].startswith("`")
    }
    about_transfers = {kind for kind, end in closed.items() if "orphaned" in end}
    assert about_transfers == FUNDS_KINDS
    about_states = {kind for kind, end in closed.items() if re.search(r"leaves that state|moves on", end)}
    assert about_states == STATE_KINDS


def test_the_rules_of_the_evidence_are_the_codes() -> None:
    rows = list(cells(section(EVIDENCE, "## What a transition's evidence says")))
    explained = {row[0].strip("`"): row[1] for row in rows[rows.index(["state", "rule"]) + 1 :]}
    assert explained == {state.value: rule for state, rule in RULES.items()}


async def test_every_column_of_an_observation_is_explained(database: Database) -> None:
    rows = await database.rows(
        "select column_name from information_schema.columns where table_schema = 'railwatch' and table_name = $1",
        "observations",
    )
    explained = {word for row in cells(section(EVIDENCE, "## Observations")) for word in words(row[0])}
    assert explained == {row["column_name"] for row in rows}


def test_every_key_of_a_dossier_is_explained() -> None:
    explained = [row[0].strip("`") for row in cells(section(EVIDENCE, "## The dossier")) if row[0].startswith("`")]
    assert explained == ["format", *(each.name for each in fields(Dossier))]


def test_every_reason_is_explained() -> None:
    of_functions = re.findall(r"append_invoice_transition\(\w+, \w+, '(\w+)'", SCHEMA)
    of_functions += re.findall(r"(?:move_invoice\(existing, .+?|'recorded'), '(\w+)', cause", SCHEMA)
    assert len(of_functions) == 1 + 4 + 2
    of_losses = {each.value for each in (*REMOVED, DetectionState.ORPHANED)}
    known = {*FORWARD_REASONS.values(), *of_functions, *of_losses, "reversed", "final", "rejected", "assigned"}
    listed = {row[0].strip("`") for row in cells(contract("Reasons")) if row[0].startswith("`")}
    assert listed == known


def test_the_readmes_configuration_is_good(tmp_path: Path) -> None:
    for number, text in enumerate(blocks(README, "toml")):
        file = tmp_path / f"{number}.toml"
        file.write_text(text)
        assert load_config(file).rails


def test_the_default_policies_are_those_of_the_code() -> None:
    explained = {row[0]: row[1:] for row in cells(section(HAZARDS, "## Default confirmation policy"))}
    del explained["chain"]
    chains = tomllib.loads((ROOT / "indexer/railwatch/known_chains.toml").read_text())["chain"]
    assert explained == {each["name"]: [str(policy) for policy in each["policy"]] for each in chains}


def test_every_hazard_that_is_cited_is_there() -> None:
    rows = {row[0] for row in cells(HAZARDS.read_text()) if re.fullmatch(r"[A-Z]\d+", row[0])}
    cited: set[str] = set()
    for folder in ("indexer", "adapters", "tests", "docs"):
        for file in (ROOT / folder).rglob("*.*"):
            if file.suffix in (".py", ".sql", ".toml", ".md"):
                for text in re.findall(r"HAZARDS ((?:[A-Z]\d+(?:, | and | to )?)+)", file.read_text()):
                    cited.update(re.findall(r"[A-Z]\d+", text))
    assert cited
    assert cited <= rows


def test_where_a_hazard_is_met_is_there() -> None:
    folder, missing = "", []
    for row in cells(HAZARDS.read_text()):
        for word in words(row[-1]):
            file, _, test = word.rpartition("::")
            if file:
                folder = file
            if not test.startswith("test_"):
                continue
            place = next((each for each in (ROOT / "tests" / folder, ROOT / folder) if each.exists()), None)
            if place is None or f"def {test}(" not in place.read_text():
                missing.append(word)
    assert not missing


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        assert place.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", place.read_text(), re.MULTILINE)
            assert anchor in {slug(each) for each in headings}, target


def commands(group: click.Group) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (name,)
        if isinstance(command, click.Group):
            yield from ((name, *rest) for rest in commands(command))


def test_the_commands_that_pages_name_are_there() -> None:
    known = {" ".join(each) for each in commands(main)}
    for page in (README, *RUNBOOKS, *CONTRACT, EXCEPTIONS, EVIDENCE):
        shell = "\n".join(blocks(page, "sh"))
        for line in [*re.findall(r"(?:^|/)railwatch ([a-z]+(?: [a-z]+)?)", shell, re.MULTILINE), *_inline(page)]:
            first, _, _ = line.partition(" ")
            assert first in known or line in known, f"{page.name}: railwatch {line}"


def _inline(page: Path) -> list[str]:
    return [found for word in words(page.read_text()) for found in re.findall(r"^railwatch ([a-z]+(?: [a-z]+)?)", word)]

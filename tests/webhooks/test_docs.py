"""What docs/webhooks.md says is so: its sample has the keys of a real event, its types are all, its unit is good."""

import configparser
import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from railwatch.cli.errors import Exit
from railwatch.config.webhooks import EVENT_TYPES, DeliverConfig, WebhookConfig
from railwatch.store.database import Database
from railwatch_fake.dev.simulator import FakeSimulator
from tests.docs.test_docs import blocks, cells, section
from tests.scenarios.daemon_harness import DaemonHarness, chain_named
from tests.webhooks.receiver import Got, receiver
from tests.webhooks.shop import Shop, webhook

ROOT = Path(__file__).parents[2]
PAGE, CONSUMERS = ROOT / "docs/webhooks.md", ROOT / "docs/consumers/README.md"
UNIT = ROOT / "systemd/railwatch-deliver.service"


@pytest.fixture
async def received(database: Database) -> AsyncIterator[list[Got]]:
    """Return the events of a payment that a reorg reverses."""
    async with DaemonHarness(database, [chain_named()]) as stage, receiver() as shopkeeper:
        invoice = await stage.invoice(100)
        await stage.pay(invoice, 100)
        await stage.mine(2)
        await stage.sim.reorg(2, keep=False)
        await stage.follows()
        await Shop(database).once(webhook(shopkeeper))
        yield shopkeeper.got


def keys(value: Any) -> Any:
    """Return the shape of a value, with the order of its keys."""
    if isinstance(value, dict):
        return [(key, keys(each)) for key, each in value.items()]
    return [keys(each) for each in value] if isinstance(value, list) else None


async def test_a_real_event_has_the_samples_keys_in_their_order(received: list[Got]) -> None:
    sample, _, _ = [json.loads(each) for each in blocks(PAGE, "json")]
    [paid] = [each for each in received if each.event["type"] == "invoice.paid"]
    assert keys(json.loads(paid.body)) == keys(sample)
    transfers = [each.event["data"]["transfer"] for each in received if each.event["data"]["subject"] == "detection"]
    assert transfers
    assert {tuple(each) for each in transfers} == {("tx_index", "asset", "amount", "kind")}
    assert transfers[0]["amount"] == "100"


async def test_a_refund_and_a_settlement_say_what_finance_booked(database: Database) -> None:
    _, refund, settlement = [json.loads(each) for each in blocks(PAGE, "json")]
    async with DaemonHarness(database, [chain_named()]) as stage, receiver() as shopkeeper:
        invoice = await stage.invoice(2**200)
        await stage.pay(invoice, 2**200)
        await stage.mine(2)
        given = (refund["tx_id"], refund["actor"], refund["reason"])
        await database.value("select railwatch.record_refund($1, 7, $2, $3, $4)", invoice.id, *given)
        await database.value("select railwatch.record_refund($1, $2, 'the rest', 'ann')", invoice.id, 2**200 - 7)
        settled = (settlement["reference"], settlement["actor"])
        await database.value("select railwatch.record_settlement($1, $2, $3)", invoice.id, *settled)
        events = ["refund.*", "settlement.recorded", "invoice.refunded"]
        await Shop(database).once(webhook(shopkeeper, events=events))
    [part, rest, closed, booked] = [each.event for each in shopkeeper.got]
    types = [each["type"] for each in (part, rest, closed, booked)]
    assert types == ["refund.recorded", "refund.recorded", "invoice.refunded", "settlement.recorded"]
    assert keys(json.loads(shopkeeper.got[0].body)["data"]["refund"]) == keys(refund)
    assert part["data"]["refund"] == {**refund, "asset": FakeSimulator().native, "amount": "7"}
    assert part["data"]["tx_id"] == refund["tx_id"]
    assert rest["data"]["refund"] == {
        **part["data"]["refund"],
        "amount": str(2**200 - 7),
        "tx_id": "the rest",
        "reason": None,
    }
    assert keys(booked["data"]["settlement"]) == keys(settlement)
    assert booked["data"]["settlement"] == settlement
    assert [each["data"]["settlement"] for each in (part, rest, closed)] == [None, None, None]
    assert (closed["data"]["refund"], booked["data"]["refund"]) == (None, None)


async def test_a_daemons_reversal_is_emitted_with_its_own_type(received: list[Got]) -> None:
    types = [each.event["type"] for each in received]
    assert "invoice.reversed" in types
    assert "exception.open.reversed" in types
    assert types.count("invoice.created") == 1
    assert set(types) <= set(EVENT_TYPES)


def test_every_type_is_explained() -> None:
    found = set(re.findall(r"`((?:invoice|detection|refund|settlement)\.\w+)`", section(PAGE, "### Types")))
    assert found == {each for each in EVENT_TYPES if not each.startswith("exception")}


def test_the_configuration_of_the_page_is_good() -> None:
    [text] = blocks(PAGE, "toml")
    tables = tomllib.loads(text.replace("secret_file", "secret").replace("shop.secret", "whsec_" + "A" * 32))
    assert DeliverConfig.model_validate(tables["deliver"]).address == ("127.0.0.1", 9465)
    [endpoint] = tables["webhook"]
    assert WebhookConfig.model_validate(endpoint).attempts == 12
    for key, default in re.findall(r"^# (\w+) = ([^# ]+) ", text, re.MULTILINE):
        if key != "old_secret_file":
            assert getattr(WebhookConfig.model_validate(endpoint), key) == tomllib.loads(f"x = {default}")["x"], key


def test_exit_codes_are_those_of_the_command() -> None:
    listed = [row[0] for row in cells(section(PAGE, "## Running it")) if row[0].isdigit()]
    assert listed == [str(int(each)) for each in (Exit.OK, Exit.REJECTED, Exit.USAGE, Exit.SCHEMA, Exit.DATABASE)]


async def test_the_consumers_question_can_be_asked(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute((ROOT / "docs/consumers/shop.sql").read_text())
        for sql in blocks(CONSUMERS, "sql"):
            await connection.execute(sql)
    finally:
        await connection.close()


@pytest.fixture
def service() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys are not to be lowered
    parser.read(UNIT)
    return parser["Service"]


def test_the_unit_does_not_restart_what_only_a_person_can_fix(service: configparser.SectionProxy) -> None:
    assert set(map(int, service["RestartPreventExitStatus"].split())) == {Exit.USAGE, Exit.SCHEMA}
    assert int(service["TimeoutStopSec"]) > 4


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_accepts_it(tmp_path: Path) -> None:
    text = UNIT.read_text().replace("/opt/railwatch/.venv/bin/railwatch deliver", "/bin/true deliver")
    (tmp_path / UNIT.name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / UNIT.name)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert UNIT.name not in result.stderr

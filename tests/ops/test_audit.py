"""`railwatch audit`: it finds where tables and node differ, nothing else, and it changes nothing."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from railwatch.cli.errors import Exit
from railwatch.store.database import Database
from railwatch.store.errors import StoreUnavailable
from railwatch_fake import node_of
from tests.ops.shell import Shell
from tests.scenarios.daemon_harness import DaemonHarness, Placed, chain_named


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """Keep the daemon's logs out of the output of commands."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(io.StringIO()))
    yield
    structlog.reset_defaults()


@pytest.fixture
async def stage(elsewhere: None, database: Database) -> AsyncIterator[DaemonHarness]:
    async with DaemonHarness(database, [chain_named()]) as stage:
        yield stage


@pytest.fixture
def shell(stage: DaemonHarness, tmp_path: Path) -> Shell:
    return Shell(stage, tmp_path)


async def paid(stage: DaemonHarness, amount: int = 100) -> tuple[Placed, str, int]:
    """Return an invoice, the transaction that pays it, and its height, with one more block above."""
    invoice = await stage.invoice(100)
    tx_id = await stage.pay(invoice, amount)
    await stage.mine()
    height = stage.chain.tip.height
    await stage.mine()
    return invoice, tx_id, height


async def audited(shell: Shell, code: Exit, *words: object) -> dict[str, Any]:
    """Return the single audit of the command's JSON document; its exit code must be ``code``."""
    result = await shell.run("audit", *words, "--json")
    assert result.exit_code == code, result.output
    document = json.loads(result.stdout)
    assert document["ok"] is (code is Exit.OK)
    [audit] = document["audits"]
    assert isinstance(audit, dict)
    return audit


async def the_difference(shell: Shell, *words: object) -> dict[str, Any]:
    """Return the single difference that an audit finds."""
    [found] = (await audited(shell, Exit.REJECTED, *words))["differences"]
    assert isinstance(found, dict)
    return found


async def test_another_name_for_the_same_payment_is_no_difference(shell: Shell, stage: DaemonHarness) -> None:
    """HAZARDS E28: this node numbers the credits of a transaction in another way."""
    _, tx_id, _ = await paid(stage)
    tx = stage.chain.txs[tx_id]
    stranger = stage.sim.output(await stage.sim.new_address(), 7)
    node_of(stage.chain.name).retold[tx_id] = replace(tx, outputs=(stranger, *tx.outputs))
    assert (await audited(shell, Exit.OK))["differences"] == []


async def test_after_a_story_with_reorgs_nothing_differs(shell: Shell, stage: DaemonHarness) -> None:
    await paid(stage)
    second = await stage.invoice(100)
    await stage.pay(second, 40)
    await stage.mine(2)
    stage.chain.reorg(2)
    await stage.follows()
    await stage.mine(3)
    stage.chain.reorg(3, keep=False)
    await stage.follows()
    await paid(stage, 130)
    audit = await audited(shell, Exit.OK)
    assert (audit["first"], audit["last"], audit["differences"]) == (1, stage.chain.tip.height, [])
    assert audit["transfers"] >= 2
    assert "no difference" in await shell.output("audit", "--rail", shell.rail)
    await stage.audit()


async def test_another_content_is_reported_with_both_amounts_and_what_to_run(
    shell: Shell, stage: DaemonHarness
) -> None:
    _, tx_id, height = await paid(stage)
    tx = stage.chain.txs[tx_id]
    node_of(shell.rail).retold[tx_id] = replace(tx, outputs=(replace(tx.outputs[0], amount=60),))
    found = await the_difference(shell)
    assert (found["kind"], found["order"], found["tx_id"], found["height"]) == (
        "content_differs",
        "shop/1",
        tx_id,
        height,
    )
    assert (found["stored"]["amount"], found["reported"]["amount"]) == ("100", "60")
    assert found["run"] == "railwatch explain shop/1"
    result = await shell.run("audit")
    assert result.exit_code == Exit.REJECTED
    assert "railwatch explain shop/1" in result.stdout


async def test_a_transaction_that_the_node_does_not_have_is_missing_there(shell: Shell, stage: DaemonHarness) -> None:
    _, tx_id, height = await paid(stage)
    node_of(shell.rail).retold[tx_id] = None
    found = await the_difference(shell)
    assert (found["kind"], found["tx_id"], found["height"], found["reported"]) == ("missing_there", tx_id, height, None)


async def test_a_payment_that_was_hidden_from_the_daemon_is_missing_here_until_a_rescan(
    shell: Shell, stage: DaemonHarness
) -> None:
    invoice = await stage.invoice(100)
    tx_id = await stage.pay(invoice)
    node = node_of(shell.rail)
    node.retold[tx_id] = None
    await stage.mine(2)
    height = stage.chain.tip.height - 1
    node.retold.clear()
    found = await the_difference(shell)
    assert (found["kind"], found["order"], found["height"]) == ("missing_here", "shop/1", height)
    assert found["reported"]["amount"] == "100"
    assert found["run"] == f"railwatch rescan {shell.rail} --from {height} --to {height}"
    assert (await shell.run(*found["run"].split()[1:])).exit_code == Exit.OK
    await stage.rescanned()
    assert (await audited(shell, Exit.OK))["differences"] == []


async def test_a_stored_block_that_is_not_the_nodes_is_reported(
    shell: Shell, stage: DaemonHarness, database: Database
) -> None:
    _, tx_id, height = await paid(stage)
    block_hash = stage.chain.at(height).hash
    await database.value("update railwatch.detections set block_hash = 'elsewhere' where tx_id = $1", tx_id)
    found = await the_difference(shell)
    assert (found["kind"], found["height"]) == ("block_differs", height)
    assert (found["stored"]["block_hash"], found["reported"]["block_hash"]) == ("elsewhere", block_hash)


async def test_small_transfers_and_what_is_not_covered_are_no_difference(
    shell: Shell, stage: DaemonHarness, database: Database
) -> None:
    _, tx_id, _ = await paid(stage)
    await stage.stop()
    await database.value("alter table railwatch.detections disable trigger all")
    await database.value("update railwatch.detections set state = 'orphaned' where tx_id = $1", tx_id)
    found = await the_difference(shell)
    assert (found["kind"], found["stored"]) == ("missing_here", {"state": "orphaned"})
    await database.value("update railwatch.assets set min_amount = 101")
    assert (await audited(shell, Exit.OK))["differences"] == []
    await database.value("update railwatch.assets set min_amount = 0")
    await database.value("update railwatch.destinations set covered_from = 1000")
    assert (await audited(shell, Exit.OK))["differences"] == []
    await database.value("update railwatch.destinations set covered_from = 0, watch_state = 'closed'")
    assert (await audited(shell, Exit.OK))["differences"] == []


async def test_a_window_is_compared_and_nothing_else(shell: Shell, stage: DaemonHarness) -> None:
    _, tx_id, height = await paid(stage)
    node_of(shell.rail).retold[tx_id] = None
    assert (await audited(shell, Exit.OK, "--from", height + 1))["differences"] == []
    assert (await audited(shell, Exit.OK, "--to", height - 1))["differences"] == []
    bounds = ("--from", height, "--to", height, "--node", "node")
    assert (await the_difference(shell, *bounds))["height"] == height


async def test_what_cannot_be_audited_is_said(shell: Shell, stage: DaemonHarness) -> None:
    _, _, height = await paid(stage)
    node = node_of(shell.rail)
    for words, code, text in [
        (("--rail", "nowhere"), Exit.NOT_FOUND, 'there is no rail "nowhere"'),
        (("--node", "none"), Exit.NOT_FOUND, 'no node "none"; give one of: node'),
        (("--from", 9, "--to", 3), Exit.REJECTED, "is above"),
        (("--from", 9_999), Exit.REJECTED, "has no blocks from 9999"),
    ]:
        result = await shell.run("audit", *words)
        assert (result.exit_code, text in result.output) == (code, True), result.output
    node.pruned_below = height
    result = await shell.run("audit")
    assert result.exit_code == Exit.NODE
    assert f"--from {height + 1}" in result.stderr
    node.pruned_below = 0
    node.down = True
    result = await shell.run("audit")
    assert (result.exit_code, "is unavailable" in result.stderr) == (Exit.NODE, True), result.output
    node.down = False


async def test_its_connection_refuses_every_change(database: Database) -> None:
    async with Database(database.dsn, read_only=True) as reading:
        assert await reading.value("select 1") == 1
        with pytest.raises(StoreUnavailable, match="read-only"):
            await reading.value("update railwatch.settings set value = value")


async def test_what_a_second_reading_does_not_find_is_no_difference(
    shell: Shell, stage: DaemonHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the daemon commits a step, or follows a reorg, between the node's answer and the tables'."""
    monkeypatch.setattr("railwatch.ops.audit.RECHECK_DELAY", 2.0)
    _, tx_id, _ = await paid(stage)
    node = node_of(shell.rail)
    node.retold[tx_id] = None
    auditing = asyncio.create_task(shell.run("audit", "--json"))
    await asyncio.sleep(1.0)
    node.retold.clear()
    result = await auditing
    assert result.exit_code == Exit.OK, result.output

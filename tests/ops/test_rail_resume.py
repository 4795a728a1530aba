"""`railwatch rail resume`, as a person runs it next to a daemon whose rail has halted."""

import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from railwatch.cli.errors import Exit
from railwatch.daemon.follow import steadiness
from railwatch.store.database import Database
from railwatch_fake import Rules, node_of
from tests.ops.shell import Shell
from tests.scenarios.daemon_harness import DaemonHarness, Placed, chain_named

DEEP = 25
"""Blocks that are replaced: more than the horizon lets a reorg pass."""

RESUME = ("rail", "resume", "story")
ACCEPT = (*RESUME, "--accept-chain")


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """Redirect the logs of the daemon, which shares the process, to keep them out of the output of commands."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(io.StringIO()))
    yield
    structlog.reset_defaults()


@pytest.fixture
async def stage(elsewhere: None, database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DaemonHarness]:
    monkeypatch.setattr(steadiness, "DEEP_SECONDS", 0.2)
    async with DaemonHarness(database, [chain_named(rules=Rules(horizon=10, mempool=False))]) as stage:
        yield stage
        await stage.audit()


@pytest.fixture
def shell(stage: DaemonHarness, tmp_path: Path) -> Shell:
    return Shell(stage, tmp_path)


async def halted_by_another_chain(stage: DaemonHarness) -> Placed:
    """Return an order with a final payment that the node's current chain lacks."""
    await stage.mine(5)
    invoice = await stage.invoice(100)
    await stage.pay(invoice)
    await stage.mine(DEEP - 1)
    await stage.wait_for_state(invoice, "paid")
    stage.chain.reorg(DEEP, keep=False)
    assert (await stage.rail_is("halted")).startswith("DeepReorg")
    return invoice


async def acceptances(stage: DaemonHarness) -> list[tuple[str, str]]:
    rows = await stage.database.rows("select actor, reason from railwatch.chain_acceptances")
    return [(row["actor"], row["reason"]) for row in rows]


async def test_a_person_is_shown_what_another_chain_reverses_and_decides(shell: Shell, stage: DaemonHarness) -> None:
    invoice = await halted_by_another_chain(stage)

    for answer in ("n\n", "\n", ""):
        result = await shell.run(*ACCEPT, stdin=answer)
        assert ", final" in result.stdout, result.stdout
        assert f"shop/{stage._orders}, paid" in result.stdout
        assert "Follow the node's chain?" in result.stdout
        assert result.exit_code == (Exit.OK if answer else Exit.REJECTED), result.output
        assert ("nothing was changed" in result.stdout) == bool(answer)
    assert await acceptances(stage) == []
    assert (await stage.rail())["state"] == "halted"
    assert await stage.state(invoice) == "paid"

    result = await shell.run(*ACCEPT, "--actor", "ann", "--reason", "the world agrees", stdin="y\n")
    assert result.exit_code == Exit.OK
    assert result.stdout.splitlines()[-1] == "accepted; rail story follows the node's chain"
    await stage.follows()
    await stage.wait_for_state(invoice, "created")
    assert (await stage.path(invoice))[-1] == ("created", "reversed")
    assert await acceptances(stage) == [("ann", "the world agrees")]

    result = await shell.run(*ACCEPT, "--yes")
    assert result.exit_code == Exit.REJECTED
    assert "not halted by a DeepReorg" in result.stderr
    assert len(await acceptances(stage)) == 1


async def test_a_program_is_shown_and_decides_with_yes_only(shell: Shell, stage: DaemonHarness) -> None:
    invoice = await halted_by_another_chain(stage)
    shown = await shell.data(*ACCEPT)
    assert shown["accepted"] is None
    assert shown["proposal"]["common"] is True
    assert [(row["transfers"], row["state"]) for row in shown["proposal"]["reversal"]["transfers"]] == [(1, "final")]
    assert [row["state"] for row in shown["proposal"]["reversal"]["invoices"]] == ["paid"]
    assert (await stage.rail())["state"] == "halted"

    done = await shell.data(*ACCEPT, "--yes")
    assert done["proposal"] == shown["proposal"]
    known = await stage.database.value("select id from railwatch.chain_acceptances")
    assert done["accepted"] == str(known)
    await stage.follows()
    await stage.wait_for_state(invoice, "created")


async def test_to_resume_accepts_no_other_chain(shell: Shell, stage: DaemonHarness) -> None:
    invoice = await halted_by_another_chain(stage)
    assert await shell.data(*RESUME, "--reason", "try again") == {"rail": "story", "state": "starting"}

    async def halts_again() -> bool:
        row = await stage.rail()
        return row["state"] == "halted" and row["reason"].startswith("DeepReorg")

    await stage.until(halts_again)
    assert await stage.state(invoice) == "paid"
    assert await acceptances(stage) == []


async def test_a_rail_that_halted_for_another_reason_has_no_chain_to_accept(shell: Shell, stage: DaemonHarness) -> None:
    for words, state in ((RESUME, "is live, not halted"), (ACCEPT, "not halted by a DeepReorg")):
        result = await shell.run(*words, stdin="y\n")
        assert (result.exit_code, result.stdout) == (Exit.REJECTED, ""), result.output
        assert state in result.stderr
    node_of("story").undecodable = True
    await stage.pay(await stage.invoice(100))
    await stage.sim.mine()
    await stage.rail_is("halted")
    for more in (("--yes",), ("--yes", "--json"), ()):
        result = await shell.run(*ACCEPT, *more, stdin="y\n")
        assert (result.exit_code, result.stdout) == (Exit.REJECTED, ""), result.output
        assert "not halted by a DeepReorg" in result.stderr
    assert await acceptances(stage) == []
    node_of("story").undecodable = False
    assert "rail story is resumed" in await shell.output(*RESUME)
    await stage.follows()
    unknown = await shell.run("rail", "resume", "other", "--accept-chain", "--yes")
    assert unknown.exit_code == Exit.NOT_FOUND


async def test_nothing_is_accepted_while_no_node_can_show_its_chain(shell: Shell, stage: DaemonHarness) -> None:
    await halted_by_another_chain(stage)
    node_of("story").down = True
    result = await shell.run(*ACCEPT, "--yes")
    assert result.exit_code == Exit.NOT_FOUND
    assert "its nodes are unavailable" in result.stderr
    assert await acceptances(stage) == []
    assert (await stage.rail())["state"] == "halted"

"""The errors and checks of commands, over a daemon that follows a chain and real Postgres."""

import json

import pytest
from click.testing import CliRunner

from railwatch.cli import main
from railwatch.cli.errors import Exit
from tests.ops.shell import Shell
from tests.scenarios.daemon_harness import DaemonHarness


async def test_an_address_that_the_rail_refuses_is_reported(shell: Shell) -> None:
    result = await shell.run(*shell.create(1, "nonsense", "--amount", "5", "--wait"))
    assert result.exit_code == Exit.REJECTED
    assert "nonsense on " in result.stderr
    assert "is rejected: " in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["explain", "shop/9"], Exit.NOT_FOUND, 'there is no invoice "shop/9"; give its id or MERCHANT/ORDER'),
        (["explain", "0" * 32], Exit.NOT_FOUND, "there is no invoice"),
        (["rescan", "nope", "--from", "0"], Exit.NOT_FOUND, 'no rail "nope"; give one of the configured rails'),
        (["run", "--rail", "nope"], Exit.NOT_FOUND, 'there is no rail "nope"'),
        (["invoice", "create"], Exit.USAGE, "give --merchant, --order, --rail, --asset, --address, --expires-in"),
        (["invoice", "create", "--file", "-", "--order", "1"], Exit.USAGE, "--file holds the whole request"),
        (["status", "--watch", "--json"], Exit.USAGE, "--watch and --json exclude each other"),
        (["feed", "--after", "-1"], Exit.USAGE, "-1 is not in the range"),
    ],
)
async def test_mistakes_are_reported_in_words(shell: Shell, words: list[str], code: Exit, message: str) -> None:
    result = await shell.run(*words)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--amount", "1.5"], Exit.REJECTED, "(RW004)\nGive an integer"),
        (["--display-amount", "0.000000001"], Exit.REJECTED, "has more than the 8 decimals of the asset"),
        (["--display-amount", "1", "--amount", "1"], Exit.USAGE, "give either --amount"),
        (["--amount", "1", "--policy", "[]"], Exit.USAGE, "not a JSON object, such as"),
        (["--amount", "1", "--policy", '{"confirmations": 0}'], Exit.REJECTED, "(RW008)"),
        (["--amount", "1", "--asset", "SILVER"], Exit.REJECTED, "unknown asset"),
        (["--display-amount", "1", "--asset", "SILVER"], Exit.NOT_FOUND, 'has no asset "SILVER"'),
        (["--amount", "1", "--expires-in", "soon"], Exit.USAGE, '"soon" is no duration'),
    ],
)
async def test_what_an_invoice_cannot_be(
    shell: Shell, stage: DaemonHarness, more: list[str], code: Exit, message: str
) -> None:
    result = await shell.run(*shell.create(1, await stage.sim.new_address(), *more))
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr


async def test_texts_from_outside_cannot_speak_to_the_terminal(shell: Shell, stage: DaemonHarness) -> None:
    address = await stage.sim.new_address()
    refused = await shell.run(*shell.create("\x1b[2Jgone", address, "--amount", "5"))
    assert (refused.exit_code, "\x1b" in refused.stderr) == (Exit.REJECTED, False)
    await shell.run(*shell.create("gone", address, "--amount", "5"))
    # Older versions accepted it.
    await stage.database.rows("update railwatch.invoices set order_id = $1", "\x1b[2Jgone")
    assert "\x1b" not in await shell.output("invoice", "list")
    assert "\x1b" not in await shell.output("explain", "shop/\x1b[2Jgone")


async def test_check_verifies_database_and_nodes(shell: Shell, stage: DaemonHarness) -> None:
    text = await shell.output("check")
    assert [line.split()[0] for line in text.splitlines() if line.startswith("ok ")] == ["ok"] * 3, text
    stage.sim.node.down = True
    result = await shell.run("check", "--json")
    assert result.exit_code == Exit.REJECTED
    found = json.loads(result.stdout)
    assert [each["level"] for each in found["findings"]] == ["ok", "ok", "fail"]
    assert "is down" in found["findings"][2]["text"]
    stage.sim.node.down = False


async def check_fails(shell: Shell) -> str:
    result = await shell.run("check", "--json")
    assert result.exit_code == Exit.REJECTED
    return "\n".join(each["text"] for each in json.loads(result.stdout)["findings"] if each["level"] == "fail")


async def test_check_says_what_run_would_say_of_what_is_stored(shell: Shell, stage: DaemonHarness) -> None:
    await stage.stop()
    await stage.database.rows("update railwatch.rails set chain_id = 'fake:elsewhere'")
    assert "the database knows it as fake:elsewhere" in await check_fails(shell)
    await stage.database.rows("update railwatch.rails set chain_id = 'fake:story'")
    assert (await shell.run("check")).exit_code == Exit.OK
    await stage.database.rows("update railwatch.rails set state = 'halted', reason = 'a reorg of 9 blocks'")
    assert "is halted: a reorg of 9 blocks" in await check_fails(shell)
    await stage.database.rows("update railwatch.rails set state = 'live', finalized_height = 0, finalized_hash = 'x'")
    assert "but x was final: the node follows another or a rewritten chain" in await check_fails(shell)
    await stage.database.rows("update railwatch.rails set finalized_height = null, finalized_hash = null")


async def test_migrating_again_is_harmless(shell: Shell) -> None:
    assert await shell.output("migrate") == "the schema is current\n"
    assert await shell.data("migrate") == {"applied": []}


async def test_roles_that_were_not_created_are_reported(shell: Shell, stage: DaemonHarness) -> None:
    await stage.database.value("insert into railwatch.rights values ('railwatch_nobody', 'schema railwatch', 'usage')")
    migrated = await shell.run("migrate")
    assert (migrated.exit_code, migrated.stdout) == (Exit.OK, "the schema is current\n")
    assert "the server lacks the roles railwatch_nobody. Follow docs/runbooks/roles.md" in migrated.stderr
    findings = (await shell.data("check"))["findings"]
    assert [each["level"] for each in findings if each["subject"] == "roles"] == ["warn"]


async def test_a_schema_that_is_not_known_is_refused(shell: Shell, stage: DaemonHarness) -> None:
    await stage.stop()
    await stage.database.value("insert into railwatch.migrations values (99, 'later', '')")
    result = await shell.run("status")
    assert result.exit_code == Exit.SCHEMA
    assert "run the version that applied it, or a newer one" in result.stderr
    assert (await shell.run("check")).exit_code == Exit.REJECTED


async def test_an_unreachable_database_has_its_own_exit_code(shell: Shell) -> None:
    shell.config.write_text(shell.config.read_text().replace("host=", "host=/nowhere"))
    result = await shell.run("status")
    assert result.exit_code == Exit.DATABASE
    assert "railwatch: Postgres at postgresql:" in result.stderr


async def test_a_configuration_that_cannot_be_used_has_its_own(shell: Shell) -> None:
    shell.config.write_text("[database]")
    result = await shell.run("status")
    assert result.exit_code == Exit.USAGE
    assert "rail: is missing. Give at least one [[rail]] table." in result.stderr


def test_exit_codes_are_documented() -> None:
    text = CliRunner().invoke(main, ["--help"]).stdout
    for code in Exit:
        assert f"  {code.value}  " in text

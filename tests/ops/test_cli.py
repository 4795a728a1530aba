"""The command, as operators and scripts use it: next to a daemon that follows a chain, over real Postgres."""

import asyncio
import json
import signal
import sys

import pytest

from railwatch.cli.errors import Exit
from railwatch.cli.options import current_user
from tests.ops.shell import Shell
from tests.scenarios.daemon_harness import DaemonHarness


async def test_an_invoice_from_registration_to_its_evidence(shell: Shell, stage: DaemonHarness) -> None:
    address = await stage.sim.new_address()
    made = (await shell.output(*shell.create("A/1", address, "--display-amount", "1.5", "--wait"))).strip()
    assert (await shell.output("invoice", "show", made)).splitlines()[0] == "shop/A/1  created  (show instructions)"

    tx = await stage.sim.pay(address, 150_000_000)
    await stage.mine(3)
    text = await shell.output("explain", "shop/A/1")
    for words in [
        "shop/A/1  paid  (fulfil)",
        made,
        f"1. 1.5 COIN on {shell.rail}, watching",
        address,
        "counts at 2 confirmations (policy of the configuration)",
        "seen 1.5 COIN, confirmed 1.5 COIN, late 0 COIN",
        tx,
        "payment, in time",
        "- → created",
        "confirming → paid",
        "because least <= confirmed <= most",
        "seen in block",
        "by node",
    ]:
        assert words in text, f"{words} is not in\n{text}"

    dossier = await shell.data("explain", made)
    assert dossier["format"] == "railwatch-dossier/1"
    seen = dossier["observations"][-1]
    assert (seen["tx_id"], seen["state"], seen["node"], seen["raw"]["amount"]) == (tx, "included", "node", "150000000")
    assert dossier["transitions"][-1]["evidence"]["rule"] == "least <= confirmed <= most"
    assert dossier["invoice"]["state"] == "paid"
    assert dossier["destinations"][0]["expected_amount"] == "150000000"
    assert [each["tx_id"] for each in dossier["detections"]] == [tx]
    assert dossier["transitions"][0]["from_state"] is None
    seqs = [each["seq"] for each in dossier["transitions"]]
    assert seqs == sorted(seqs)
    listed = await shell.data("invoice", "list", "--state", "paid", "--merchant", "shop")
    assert [each["id"] for each in listed] == [made]
    assert "shop/A/1" in await shell.output("invoice", "list")
    assert await shell.data("invoice", "list", "--state", "expired") == []


async def test_the_feed_goes_on_where_it_was_left(shell: Shell, stage: DaemonHarness) -> None:
    for order in range(3):
        await shell.output(*shell.create(order, await stage.sim.new_address(), "--amount", "5"))
    lines = (await shell.output("feed")).splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    result = await shell.run("feed", "--json", "--after", 1, "--limit", 1)
    (row,) = map(json.loads, result.stdout.splitlines())
    assert (row["seq"], row["to_state"], row["seen_amount"]) == (2, "created", "0")


async def test_following_the_feed_hears_what_comes(shell: Shell, stage: DaemonHarness) -> None:
    # A process of its own: two commands in one process would share its standard output.
    command = [sys.executable, "-m", "railwatch", "feed", "--follow", "--json", "--config", str(shell.config)]
    following = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert following.stdout is not None
    try:
        for seq in (1, 2):
            await stage.invoice(100)
            line = await asyncio.wait_for(following.stdout.readline(), 20)
            assert json.loads(line)["seq"] == seq
        following.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(following.wait(), 20) == 130
    finally:
        if following.returncode is None:
            following.kill()
            await following.wait()


async def test_status_shows_rails_and_what_waits(shell: Shell, stage: DaemonHarness) -> None:
    paid = await stage.invoice(100)
    await stage.pay(paid, 40)
    await stage.mine(3)
    await stage.wait_for_state(paid, "underpaid")
    await stage.database.value("select railwatch.ack('shop', 1)")
    text = await shell.output("status")
    for words in ["live", "invoices watched  1 underpaid", "1 underpaid", "shop acknowledged 1"]:
        assert words in text, text
    status = await shell.data("status")
    (rail,) = status["rails"]
    assert (rail["state"], rail["behind"], rail["cursor_hash"]) == ("live", 0, stage.chain.tip.hash)
    assert rail["holder"] is not None
    assert status["invoices"] == {"underpaid": 1}
    assert "underpaid" in await shell.output("exceptions", "list")
    (case,) = await shell.data("exceptions", "list")
    assert (case["kind"], case["severity"], case["resolved_at"]) == ("underpaid", "warning", None)
    assert await shell.data("exceptions", "list", "--kind", "reversed") == []


async def test_a_rail_that_no_daemon_follows_is_not_called_live(shell: Shell, stage: DaemonHarness) -> None:
    await stage.stop()
    text = await shell.output("status")
    assert "not followed" in text
    assert "the daemon that followed this rail was stopped" in text


async def test_cancelling_and_why_it_may_be_refused(shell: Shell, stage: DaemonHarness) -> None:
    made = await stage.invoice(100)
    cancel = ("invoice", "cancel", made.id, "--note", "changed his mind", "--actor", "ann")
    assert await shell.output(*cancel) == "cancelled\n"
    last = (await shell.data("explain", made.id))["transitions"][-1]
    assert (last["cause"], last["evidence"]) == (
        "operator",
        {"actor": "ann", "note": "changed his mind", "login": "postgres"},
    )
    paid = await stage.invoice(100)
    await stage.pay(paid)
    await stage.mine(3)
    await stage.wait_for_state(paid, "paid")
    refused = await shell.run("invoice", "cancel", paid.id)
    assert refused.exit_code == Exit.REJECTED
    assert "is paid and cannot be cancelled (RW010)\n" in refused.stderr


async def test_holding_releasing_and_refunding_by_hand(shell: Shell, stage: DaemonHarness) -> None:
    made = await stage.invoice(150_000_000)
    tx = await stage.pay(made, 150_000_000)
    await stage.mine(2)
    assert await shell.output("invoice", "hold", "shop/1", "--reason", "same card as 7") == "flagged\n"
    assert "held        same card as 7" in await shell.output("invoice", "show", tx)
    assert await shell.data("invoice", "release", made.id) == {"invoice": str(made.id), "state": "paid"}
    held, released = (await shell.data("explain", made.id))["transitions"][-2:]
    assert held["evidence"] == {"actor": current_user(), "reason": "same card as 7", "login": "postgres"}
    assert (released["cause"], released["reason"], released["to_state"]) == ("operator", "released", "paid")

    refund = ["invoice", "refund", made.address, "--tx"]
    first = await shell.data(*refund, "back-1", "--display-amount", "0.5", "--reason", "damaged", "--actor", "ann")
    assert first["state"] == "paid"
    assert await shell.output(*refund, "back-2", "--amount", 100_000_000) == "refunded\n"
    text = await shell.output("explain", made.id)
    for words in [
        "shop/1  refunded  (close)",
        "0.5 COIN on story, by ann: damaged",
        "back-1",
        "1 COIN on story, by",
    ]:
        assert words in text, f"{words} is not in\n{text}"
    shown = await shell.data("explain", made.id)
    assert [each["amount"] for each in shown["refunds"]] == ["50000000", "100000000"]
    assert (await shell.run("feed")).stdout.count("< → recorded (refunded)") == 2


async def test_why_a_refund_may_be_refused(shell: Shell, stage: DaemonHarness) -> None:
    made = await stage.invoice(100)
    refund = ["invoice", "refund", made.id, "--tx", "back"]
    for more, code, message in (
        (["--amount", 5], Exit.REJECTED, "nothing has arrived for invoice"),
        (["--display-amount", "5"], Exit.NOT_FOUND, "several payments may be meant; give --rail and --asset"),
        ([], Exit.USAGE, "give either --amount (base units) or --display-amount"),
        (["--amount", 0], Exit.USAGE, "0 is not in the range"),
    ):
        refused = await shell.run(*refund, *more)
        assert (refused.exit_code, refused.stdout) == (code, "")
        assert message in refused.stderr


async def test_an_exception_is_noted_and_resolved_by_hand(shell: Shell, stage: DaemonHarness) -> None:
    made = await stage.invoice(100)
    await stage.pay(made, 40)
    await stage.mine(2)
    short = (await shell.output("exceptions", "list")).splitlines()[1].split()[0]
    assert await shell.output("exceptions", "note", short, "--owner", "ann", "--text", "customer called") == ""
    (case,) = await shell.data("exceptions", "list")
    assert case["id"].startswith(short)
    assert case["owner"] == "ann"
    assert "customer called" in case["notes"]
    resolve = ["exceptions", "resolve", short, "--resolution", "accepted", "--actor", "ann"]
    assert await shell.output(*resolve) == "resolved: accepted\n"
    assert await shell.data(*resolve) == {"exception": short, "resolution": "accepted"}
    assert await shell.data("exceptions", "list") == []
    (case,) = await shell.data("exceptions", "list", "--all")
    assert (case["resolution"], case["resolved_at"] is None) == ("accepted", False)
    for nothing in ("ffff", "%", "shop/1", "0" * 36):
        refused = await shell.run("exceptions", "resolve", nothing, "--resolution", "x")
        assert refused.exit_code == Exit.NOT_FOUND
        assert f'there is no exception "{nothing}"' in refused.stderr


async def test_the_actor_is_the_user_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ann")
    assert current_user() == "ann"
    monkeypatch.delenv("SUDO_USER")
    monkeypatch.setenv("LOGNAME", "bob")
    assert current_user() == "bob"


async def test_an_invoice_is_named_by_whatever_one_has(shell: Shell, stage: DaemonHarness) -> None:
    first, second = await stage.invoice(100), await stage.invoice(100)
    tx = await stage.pay(second)
    await stage.mine(2)
    for name in (second.id, "shop/2", "2", tx, second.address):
        assert (await shell.data("invoice", "show", name))["id"] == str(second.id)
    await stage.database.value(
        "update railwatch.invoices set merchant_id = 'mall', order_id = '2' where id = $1", first.id
    )
    refused = await shell.run("invoice", "show", "2")
    assert refused.exit_code == Exit.NOT_FOUND
    assert '"2" matches ' in refused.stderr
    assert (await shell.data("invoice", "show", "mall/2"))["id"] == str(first.id)


async def test_a_rescan_is_asked_for(shell: Shell, stage: DaemonHarness) -> None:
    asked = await shell.data("rescan", shell.rail, "--from", 0)
    assert (await shell.data("rescan", "list"))[0]["id"] == asked["id"]
    await stage.rescanned()


async def test_a_request_from_a_file_is_used_whole(shell: Shell, stage: DaemonHarness) -> None:
    destination = {"rail": shell.rail, "asset": "COIN", "address": await stage.sim.new_address(), "amount": 10**30}
    request = {"merchant_id": "m", "order_id": "o", "expires_in": 60, "destinations": [destination]}
    made = await shell.run("invoice", "create", "--file", "-", stdin=json.dumps(request))
    again = await shell.run("invoice", "create", "--file", "-", stdin=json.dumps(request))
    assert made.stdout == again.stdout
    shown = await shell.data("invoice", "show", "m/o")
    assert shown["destinations"][0]["expected_amount"] == str(10**30)

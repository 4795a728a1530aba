"""What an operator does at night: check, pause, replay, forget; and the meaning of exit codes."""

import asyncio
import io
import json
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result

from railwatch.cli import main
from railwatch.cli.errors import Exit
from tests.webhooks.process import deliverer, write_config
from tests.webhooks.receiver import SECRET, Got, Receiver, accept, receiver
from tests.webhooks.shop import Shop, until, webhook


@pytest.fixture(autouse=True)
def elsewhere() -> Iterator[None]:
    """Redirect the logs of a deliverer, which may share the process, to keep them out of the output of commands."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(io.StringIO()))
    yield
    structlog.reset_defaults()


class Shell:
    """Runs commands with a configuration, each with an event loop of its own."""

    def __init__(self, config: Path) -> None:
        self.config = config

    async def run(self, *words: object) -> Result:
        args = [*map(str, words), "--config", str(self.config)]
        result = await asyncio.to_thread(CliRunner().invoke, main, args)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert SECRET not in result.output
        return result

    async def output(self, *words: object) -> str:
        result = await self.run(*words)
        assert result.exit_code == Exit.OK, result.output
        assert max(map(len, result.stdout.splitlines()), default=0) <= 80, result.stdout
        return result.stdout

    async def data(self, *words: object) -> Any:
        result = await self.run(*words, "--json")
        assert result.exit_code == Exit.OK, result.output
        return json.loads(result.stdout)

    async def delivers_once(self) -> int:
        """Return the exit code of `railwatch deliver --once`, which needs a process for its signals."""
        async with deliverer(self.config, "--once") as running:
            return await running.process.wait()


async def refuse(_: Got) -> int:
    return 410


async def given_up(shop: Shop, shopkeeper: Receiver, folder: Path, **more: Any) -> Shell:
    """Three events that the shop has refused."""
    for _ in range(3):
        await shop.order()
    endpoint = webhook(shopkeeper, attempts=1, **more)
    await shop.once(endpoint)
    return Shell(write_config(folder, shop.database.dsn, endpoint))


async def test_what_was_given_up_is_listed_and_replayed_in_part_or_whole(shop: Shop, tmp_path: Path) -> None:
    async with receiver(behave=refuse) as shopkeeper:
        shell = await given_up(shop, shopkeeper, tmp_path)
        [first, second, third] = await shell.data("webhook", "dead", "list")
        assert (first["seq"], first["type"], first["order_id"]) == (1, "invoice.created", "0")
        assert (first["failure"], first["attempts"]) == ("HTTP 410", 1)
        assert "shop/0" in await shell.output("webhook", "dead", "list", "shop")
        assert await shell.data("webhook", "dead", "list", "other") == []

        shopkeeper.behave = accept
        assert await shell.data("webhook", "dead", "replay", "shop", "2", "99") == {"name": "shop", "replayed": [2]}
        assert await shell.delivers_once() == Exit.REJECTED, "two are still given up"
        assert [each.seq for each in shopkeeper.accepted] == [2]
        assert shopkeeper.accepted[0].id == second["event_id"], "a replay has the same webhook-id"
        assert await shell.data("webhook", "dead", "drop", "shop", "3") == {"name": "shop", "dropped": [3]}
        assert "replayed for shop: 1" in await shell.output("webhook", "dead", "replay", "shop", "--all")
        assert await shell.delivers_once() == Exit.OK
    assert [each.seq for each in shopkeeper.accepted] == [2, 1]
    assert third["seq"] == 3
    assert "no dead letters" in await shell.output("webhook", "dead", "list")


async def test_a_running_deliverer_hears_of_a_replay(shop: Shop, tmp_path: Path) -> None:
    async with receiver(behave=refuse) as shopkeeper:
        shell = await given_up(shop, shopkeeper, tmp_path)
        shopkeeper.behave = accept
        async with shop.delivering(webhook(shopkeeper)):
            await shell.output("webhook", "dead", "replay", "shop", "--all")
            await until(lambda: len(shopkeeper.accepted) == 3)


async def test_a_later_event_goes_on_once_an_earlier_one_was_given_up(shop: Shop) -> None:
    order = await shop.order()
    await shop.emit(order)

    async def not_the_first(got: Got) -> int:
        return 500 if got.seq == 1 else 200

    async with receiver(behave=not_the_first) as shopkeeper:
        left = (await shop.once(webhook(shopkeeper, attempts=1)))["shop"]
    assert [each.seq for each in shopkeeper.got] == [1, 2]
    assert (left["dead"], left["delivered"]) == (1, 1)


async def test_a_paused_endpoint_gets_nothing_and_later_everything(shop: Shop, tmp_path: Path) -> None:
    order = await shop.order()
    async with receiver() as shopkeeper:
        shell = Shell(write_config(tmp_path, shop.database.dsn, webhook(shopkeeper)))
        async with shop.delivering(webhook(shopkeeper)):
            await until(shop.owes_nothing)
            assert "shop is paused" in await shell.output("webhook", "disable", "shop")
            seq = await shop.emit(order)
            await shop.emit(order)
            assert [each["lag"] for each in await shell.data("webhook", "list")] == [2]
            assert "paused" in await shell.output("webhook", "list")
            assert [each.seq for each in shopkeeper.got] == [1]
            assert await shell.data("webhook", "enable", "shop") == {"name": "shop", "enabled": True}
            await until(shop.owes_nothing)
    assert [each.seq for each in shopkeeper.got] == [1, seq, seq + 1]
    status = await shell.data("status")
    assert [(each["name"], each["lag"]) for each in status["consumers"]] == [("webhook:shop", 0)]


async def test_what_was_owed_when_it_was_paused_waits_too(shop: Shop, tmp_path: Path) -> None:
    await shop.order()
    async with receiver(behave=refuse) as shopkeeper:
        endpoint = webhook(shopkeeper, first_pause=3600)
        await shop.once(endpoint)
        shell = Shell(write_config(tmp_path, shop.database.dsn, endpoint))
        await shell.output("webhook", "disable", "shop")
        await shop.database.rows("update railwatch.webhook_deliveries set due_at = now()")
        shopkeeper.behave = accept
        assert await shell.delivers_once() == Exit.REJECTED
        assert shopkeeper.accepted == []
        await shell.output("webhook", "enable", "shop")
        assert await shell.delivers_once() == Exit.OK
    assert len(shopkeeper.accepted) == 1


async def test_an_endpoint_is_forgotten_only_once_it_is_not_configured(shop: Shop, tmp_path: Path) -> None:
    async with receiver(behave=refuse) as shopkeeper:
        shell = await given_up(shop, shopkeeper, tmp_path)
        refused = await shell.run("webhook", "forget", "shop")
        assert refused.exit_code == Exit.REJECTED
        assert "first remove its [[webhook]] table" in refused.stderr
        other = webhook(shopkeeper, "other", begin="now")
        shell = Shell(write_config(tmp_path, shop.database.dsn, other))
        assert (await shell.run("webhook", "forget", "shop")).exit_code == Exit.NOT_FOUND, "it may still be at work"
        await shop.once(other)
        assert "not configured" in await shell.output("webhook", "list")
        assert await shell.data("webhook", "forget", "shop") == {"name": "shop", "forgotten": True}
    assert await shop.database.value("select string_agg(name, ',') from railwatch.consumer_lag") == "webhook:other"
    assert await shop.database.value("select count(*) from railwatch.webhook_deliveries") == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["webhook", "disable", "nope"], Exit.NOT_FOUND, 'there is no endpoint "nope"'),
        (["webhook", "dead", "replay", "shop"], Exit.USAGE, "give either seqs"),
        (["webhook", "dead", "drop", "shop", "1", "--all"], Exit.USAGE, "give either seqs"),
        (["deliver"], Exit.USAGE, "add a [[webhook]] table"),
    ],
)
async def test_mistakes_are_reported_in_words(
    shop: Shop, tmp_path: Path, words: list[str], code: Exit, message: str
) -> None:
    result = await Shell(write_config(tmp_path, shop.database.dsn)).run(*words)
    assert result.exit_code == code, result.output
    assert message in result.output


def test_a_new_secret_is_written_where_only_its_owner_reads_it_and_shown_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "new.secret"
    made = CliRunner().invoke(main, ["webhook", "secret", str(file)])
    assert made.exit_code == Exit.OK
    text = file.read_text().strip()
    assert text.startswith("whsec_")
    assert text not in made.output
    assert file.stat().st_mode & 0o777 == 0o600
    again = CliRunner().invoke(main, ["webhook", "secret", str(file)])
    assert again.exit_code == Exit.REJECTED
    assert file.read_text().strip() == text


async def test_its_pages_and_its_end(shop: Shop, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    await shop.order()
    async with receiver() as shopkeeper:
        config = write_config(tmp_path, shop.database.dsn, webhook(shopkeeper))
        config.write_text(config.read_text().replace("[deliver]", f'[deliver]\nlisten = "127.0.0.1:{port}"'))
        async with deliverer(config) as running:
            await until(shop.owes_nothing)

            async def shows(path: str, text: str) -> bool:
                return text in await asyncio.to_thread(page, port, path)

            await until(lambda: shows("/readyz", "ok"))
            await until(lambda: shows("/metrics", 'railwatch_webhook_pending{endpoint="shop"} 0.0'))
            assert await shows("/metrics", 'railwatch_webhook_delivery_seconds_count{endpoint="shop"} 1.0')
            assert await shows("/metrics", "railwatch_webhook_delivering 1.0")
            assert await running.end() == Exit.OK
    assert [each["event"] for each in running.events()][-1] == "deliver.stopped"


def page(port: int, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""

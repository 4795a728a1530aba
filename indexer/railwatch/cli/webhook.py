"""`railwatch webhook`: what one does with endpoints between two changes of the configuration, where they are."""

import asyncio
import base64
import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click

from railwatch.cli.errors import InvalidInput, NotFound
from railwatch.cli.options import LARGEST, config_option, json_option
from railwatch.cli.output import emit, say, show
from railwatch.config import Config
from railwatch.ops.database import open_database
from railwatch.store import endpoints
from railwatch.store.database import Database

Result = TypeVar("Result")

SECRET_BYTES = 32


@click.group()
def webhook() -> None:
    """Webhook endpoints, and what they are owed."""


@webhook.command("list")
@config_option
@json_option
def list_(config: Config, as_json: bool) -> None:
    """List endpoints: how far each has read, what it is owed, what was given up."""
    found = _ask(config, endpoints.list_endpoints)
    if as_json:
        emit(found)
        return
    from railwatch.ops.webhooks import render_endpoints

    show(render_endpoints(found))


@webhook.command()
@config_option
@json_option
@click.argument("name")
def disable(config: Config, as_json: bool, name: str) -> None:
    """Pause endpoint NAME. Nothing is lost: it gets everything once it is enabled again."""
    _set_enabled(config, as_json, name, enabled=False)


@webhook.command()
@config_option
@json_option
@click.argument("name")
def enable(config: Config, as_json: bool, name: str) -> None:
    """Let endpoint NAME go on where it was paused."""
    _set_enabled(config, as_json, name, enabled=True)


def _set_enabled(config: Config, as_json: bool, name: str, *, enabled: bool) -> None:
    if not _ask(config, lambda database: endpoints.set_enabled(database, name, enabled)):
        raise _unknown(name)
    if as_json:
        emit({"name": name, "enabled": enabled})
    else:
        say(f"{name} is {'enabled' if enabled else 'paused'}")


@webhook.command()
@config_option
@json_option
@click.argument("name")
def forget(config: Config, as_json: bool, name: str) -> None:
    """Delete endpoint NAME, its position and all that it is owed. First take it out of the configuration."""
    if any(each.name == name for each in config.webhooks):
        raise InvalidInput(f"{name} is configured; take its [[webhook]] table out, and restart the deliverer first")
    if not _ask(config, lambda database: endpoints.forget_endpoint(database, name)):
        raise _unknown(name)
    if as_json:
        emit({"name": name, "forgotten": True})
    else:
        say(f"{name} is forgotten")


@webhook.command()
@click.argument("file", type=click.Path(path_type=Path))
def secret(file: Path) -> None:
    """Make a new secret and write it to FILE, which must not exist. It is shown nowhere."""
    text = "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "w") as out:
            out.write(text + "\n")
    except OSError as error:
        raise InvalidInput(
            f"{file} cannot be written: {error.strerror}; name a new file in a folder that is yours"
        ) from error
    say(f"{file} holds a new secret; name it as secret_file, and give it to the receiver")


@webhook.group()
def dead() -> None:
    """Events that were given up."""


endpoint_argument = click.argument("name")
seqs_argument = click.argument("seqs", type=click.IntRange(min=1, max=LARGEST), nargs=-1, metavar="[SEQ]...")
all_option = click.option("--all", "everything", is_flag=True, help="All that were given up, instead of single ones.")


@dead.command("list")
@config_option
@json_option
@click.argument("name", required=False)
@click.option("--limit", type=click.IntRange(min=1, max=LARGEST), default=100, show_default=True, metavar="N")
def dead_list(config: Config, as_json: bool, name: str | None, limit: int) -> None:
    """List what was given up, of endpoint NAME or of all, the oldest first."""
    found = _ask(config, lambda database: endpoints.list_dead(database, name, limit))
    if as_json:
        emit(found)
        return
    from railwatch.ops.webhooks import render_dead

    show(render_dead(found))


@dead.command()
@config_option
@json_option
@endpoint_argument
@seqs_argument
@all_option
def replay(config: Config, as_json: bool, name: str, seqs: tuple[int, ...], everything: bool) -> None:
    """Owe endpoint NAME again what was given up, by seq. The webhook-id stays the same."""
    wanted = _wanted(seqs, everything)
    _done(as_json, name, "replayed", _ask(config, lambda database: endpoints.replay_dead(database, name, wanted)))


@dead.command()
@config_option
@json_option
@endpoint_argument
@seqs_argument
@all_option
def drop(config: Config, as_json: bool, name: str, seqs: tuple[int, ...], everything: bool) -> None:
    """Take events off the list of endpoint NAME, by seq. The feed keeps them."""
    wanted = _wanted(seqs, everything)
    _done(as_json, name, "dropped", _ask(config, lambda database: endpoints.drop_dead(database, name, wanted)))


def _wanted(seqs: tuple[int, ...], everything: bool) -> list[int] | None:
    if bool(seqs) == everything:
        raise click.UsageError("give either seqs (see `railwatch webhook dead list`) or --all")
    return None if everything else list(seqs)


def _done(as_json: bool, name: str, what: str, seqs: list[int]) -> None:
    if as_json:
        emit({"name": name, what: seqs})
    elif seqs:
        say(f"{what} for {name}: {', '.join(map(str, seqs))}")
    else:
        say(f"nothing of that was given up for {name}")


def _ask(config: Config, question: Callable[[Database], Awaitable[Result]]) -> Result:
    async def ask() -> Result:
        async with open_database(config) as database:
            return await question(database)

    return asyncio.run(ask())


def _unknown(name: str) -> NotFound:
    return NotFound(
        f'there is no endpoint "{name}" (see `railwatch webhook list`); the deliverer makes it at its start'
    )

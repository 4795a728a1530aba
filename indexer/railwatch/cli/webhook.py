"""`railwatch webhook`: operations on endpoints, which the configuration defines."""

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
    """Show, pause and repair webhook endpoints (docs/webhooks.md)."""


@webhook.command("list")
@config_option
@json_option
def list_(config: Config, as_json: bool) -> None:
    """List endpoints with their state, pending events and dead letters."""
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
    """Pause endpoint NAME. Its events wait until `railwatch webhook enable NAME`."""
    _set_enabled(config, as_json, name, enabled=False)


@webhook.command()
@config_option
@json_option
@click.argument("name")
def enable(config: Config, as_json: bool, name: str) -> None:
    """Resume the paused endpoint NAME with its first waiting event."""
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
    """Delete endpoint NAME, its position and its pending events. First remove it from the configuration."""
    if any(each.name == name for each in config.webhooks):
        raise InvalidInput(f"{name} is configured; first remove its [[webhook]] table, and restart the deliverer")
    if not _ask(config, lambda database: endpoints.forget_endpoint(database, name)):
        raise _unknown(name)
    if as_json:
        emit({"name": name, "forgotten": True})
    else:
        say(f"{name} is deleted")


@webhook.command()
@click.argument("file", type=click.Path(path_type=Path))
def secret(file: Path) -> None:
    """Write a new secret to FILE, which must not exist yet. The command does not print it.

    Example: railwatch webhook secret /etc/railwatch/shop.secret
    """
    text = "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "w") as out:
            out.write(text + "\n")
    except OSError as error:
        raise InvalidInput(f"cannot write {file}: {error.strerror}; name a new file in a folder of yours") from error
    say(f"{file} contains a new secret; set secret_file to it, and give the secret to the receiver")


@webhook.group()
def dead() -> None:
    """List, replay or drop dead letters: events that the deliverer gave up."""


endpoint_argument = click.argument("name")
seqs_argument = click.argument("seqs", type=click.IntRange(min=1, max=LARGEST), nargs=-1, metavar="[SEQ]...")
all_option = click.option(
    "--all", "everything", is_flag=True, help="All dead letters of the endpoint, instead of single ones."
)


@dead.command("list")
@config_option
@json_option
@click.argument("name", required=False)
@click.option(
    "--limit",
    type=click.IntRange(min=1, max=LARGEST),
    default=100,
    show_default=True,
    metavar="N",
    help="Show at most N events.",
)
def dead_list(config: Config, as_json: bool, name: str | None, limit: int) -> None:
    """List dead letters of endpoint NAME, or of all endpoints, oldest first."""
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
    """Deliver dead letters of endpoint NAME again, by seq. Each keeps its webhook-id.

    Example: railwatch webhook dead replay shop --all
    """
    wanted = _wanted(seqs, everything)
    _done(as_json, name, "replayed", _ask(config, lambda database: endpoints.replay_dead(database, name, wanted)))


@dead.command()
@config_option
@json_option
@endpoint_argument
@seqs_argument
@all_option
def drop(config: Config, as_json: bool, name: str, seqs: tuple[int, ...], everything: bool) -> None:
    """Discard dead letters of endpoint NAME, by seq. The feed keeps the transitions.

    Example: railwatch webhook dead drop shop 812 815
    """
    wanted = _wanted(seqs, everything)
    _done(as_json, name, "dropped", _ask(config, lambda database: endpoints.drop_dead(database, name, wanted)))


def _wanted(seqs: tuple[int, ...], everything: bool) -> list[int] | None:
    if bool(seqs) == everything:
        raise click.UsageError("give either seqs (see railwatch webhook dead list) or --all")
    return None if everything else list(seqs)


def _done(as_json: bool, name: str, verb: str, seqs: list[int]) -> None:
    if as_json:
        emit({"name": name, verb: seqs})
    elif seqs:
        say(f"{verb} for {name}: {', '.join(map(str, seqs))}")
    else:
        say(f"{name} has no such dead letters; see railwatch webhook dead list {name}")


def _ask(config: Config, question: Callable[[Database], Awaitable[Result]]) -> Result:
    async def ask() -> Result:
        async with open_database(config) as database:
            return await question(database)

    return asyncio.run(ask())


def _unknown(name: str) -> NotFound:
    return NotFound(
        f'there is no endpoint "{name}" (see railwatch webhook list); railwatch deliver creates it when it starts'
    )

"""Options that several commands share: configuration, output format, actor."""

import getpass
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from railwatch.config import Config, find_config, load_config, seconds_of

Function = TypeVar("Function", bound=Callable[..., Any])

LARGEST = 2**63 - 1
"""The largest number in a column or a limit of Postgres (bigint)."""


class ConfigFile(click.ParamType[Config]):
    """``--config``: loaded at once, so that every command starts with a valid configuration."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Config:
        """Return the loaded configuration. Raises `ConfigError`."""
        return value if isinstance(value, Config) else load_config(Path(value))


def config_option(function: Function) -> Function:
    """Pass ``config`` to the command."""
    option = click.option(
        "--config",
        type=ConfigFile(),
        default=lambda: find_config(None),
        show_default="$RAILWATCH_CONFIG, else ./railwatch.toml",
        help="Configuration file (TOML).",
    )
    return option(function)


def json_option(function: Function) -> Function:
    """Pass ``as_json`` to the command."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON: amounts as strings in base units, times in UTC."
    )(function)


def actor_option(function: Function) -> Function:
    """Pass ``actor`` to the command."""
    return click.option(
        "--actor",
        default=current_user,
        show_default="your user name",
        metavar="NAME",
        help="Who does this, kept as evidence.",
    )(function)


def current_user() -> str:
    """Return the name of the person at the terminal, also behind sudo."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name; KeyError before Python 3.13
        raise click.UsageError("your user has no name on this machine; give it with --actor NAME") from None


class Seconds(click.ParamType[int]):
    """A duration such as ``15m``, ``12h``, ``30d``, or a number of seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the duration in seconds."""
        try:
            return seconds_of(value)
        except ValueError as error:
            self.fail(f'"{value}" {error}; give a duration such as 90s, 15m, 12h or 30d', param, ctx)

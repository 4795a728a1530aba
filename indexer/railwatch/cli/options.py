"""What several commands share: where the configuration is, and how their output is wanted."""

import getpass
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from railwatch.config import Config, find_config, load_config, seconds_of

Function = TypeVar("Function", bound=Callable[..., Any])

LARGEST = 2**63 - 1
"""The largest number that a column or a limit of Postgres holds (bigint)."""


class ConfigFile(click.ParamType[Config]):
    """``--config``: loaded at once, so that a command begins with a configuration that is right."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Config:
        """Raises `ConfigError`."""
        return value if isinstance(value, Config) else load_config(Path(value))


def config_option(function: Function) -> Function:
    """Pass ``config`` to the command."""
    option = click.option(
        "--config",
        type=ConfigFile(),
        default=lambda: find_config(None),
        show_default="$RAILWATCH_CONFIG, else ./railwatch.toml",
        help="The configuration.",
    )
    return option(function)


def json_option(function: Function) -> Function:
    """Pass ``as_json`` to the command."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON: amounts as strings, times in UTC.")(
        function
    )


def actor_option(function: Function) -> Function:
    """Pass ``actor`` to the command."""
    return click.option(
        "--actor",
        default=current_user,
        show_default="your user name",
        metavar="NAME",
        help="Who does this; kept as evidence.",
    )(function)


def current_user() -> str:
    """Who sits at the terminal, also behind sudo."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name; KeyError before Python 3.13
        raise click.UsageError("your user has no name here; say who you are with --actor") from None


class Seconds(click.ParamType[int]):
    """A duration: ``15m``, ``12h``, ``30d``, or seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """In seconds."""
        try:
            return seconds_of(value)
        except ValueError as error:
            self.fail(f'"{value}" {error}; give one such as 90s, 15m, 12h or 30d', param, ctx)

"""The end of a command: documented exit codes, and texts instead of tracebacks for expected errors."""

import traceback
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import click

from railwatch.cli.output import complain
from railwatch.config import ConfigError
from railwatch.rail.printable import printable
from railwatch.redaction import hidden
from railwatch.store.embedded.server import EmbeddedPostgresError
from railwatch.store.errors import Refused, SchemaMismatch, StoreError, StoreUnavailable


class Exit(IntEnum):
    """Exit codes. They are part of the contract."""

    OK = 0
    REJECTED = 1
    USAGE = 2
    SCHEMA = 3
    DATABASE = 4
    NOT_FOUND = 5
    NODE = 6


EPILOG = """\b
Exit codes:
  0  success
  1  the input was rejected, `check` or `audit` found a problem, or
     `deliver --once` left events undelivered
  2  wrong usage, or an invalid configuration
  3  the database's schema belongs to another version: railwatch migrate
  4  the database is unavailable
  5  no such invoice, exception, rail or node
  6  no node can return the blocks (`audit`)
"""

NOT_FOUND_CODES = ("RW009", "RW012")
"""SQLSTATEs of the contract's functions for an unknown invoice or exception."""


ERROR_MAX = 4_000
"""Characters of one error that a command prints."""


class NotFound(Exception):
    """A named thing that does not exist. The message says which, and what to run."""


class InvalidInput(Exception):
    """Invalid input, or a wait that timed out. The message says the cause, and what to do."""


class UnusableConfig(Exception):
    """A well-formed configuration that the daemon cannot use. The message says the cause, and the key."""


EXPECTED = (ConfigError, UnusableConfig, StoreError, EmbeddedPostgresError, NotFound, InvalidInput)
"""Errors that an operator can fix. Any other error is a defect, and prints its traceback."""


CODES: Sequence[tuple[type[Exception], Exit]] = (
    (SchemaMismatch, Exit.SCHEMA),
    (StoreUnavailable, Exit.DATABASE),
    (EmbeddedPostgresError, Exit.DATABASE),
    (NotFound, Exit.NOT_FOUND),
    (ConfigError, Exit.USAGE),
    (UnusableConfig, Exit.USAGE),
    # The remaining errors of the store mean a configuration that contradicts the database.
    (StoreError, Exit.USAGE),
    (InvalidInput, Exit.REJECTED),
)
"""The first matching entry applies."""


def exit_code(error: Exception) -> Exit:
    """Return the exit code of one of `EXPECTED`."""
    if isinstance(error, Refused):
        return Exit.NOT_FOUND if error.code in NOT_FOUND_CODES else Exit.REJECTED
    return next(code for kind, code in CODES if isinstance(error, kind))


def format_error(error: Exception) -> str:
    """Return the text of one of `EXPECTED`: the cause, the place, and the fix."""
    if isinstance(error, Refused):
        return f"{printable(error)} ({error.code})" + (f"\n{error.hint}" if error.hint else "")
    # Only a list of problems has several lines, and each of its texts is printable already.
    return str(error) if isinstance(error, ConfigError | UnusableConfig) else printable(error, ERROR_MAX)


def _is_text(argument: str) -> bool:
    try:
        return b"\0" not in argument.encode()
    except UnicodeEncodeError:  # the shell's bytes that are not UTF-8 arrive as lone surrogates
        return False


class Railwatch(click.Group):
    """The command group, which turns expected errors into a text on stderr and an exit code."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Reject arguments that are not text: neither Postgres nor a file name can hold them."""
        try:
            for argument in args:
                if not _is_text(argument):
                    raise click.UsageError(
                        f'"{argument}" is not UTF-8, or contains a null character; correct this argument'
                    )
            return super().make_context(info_name, args, parent, **extra)
        except click.ClickException as error:
            error.message = printable(hidden(error.message))  # type: ignore[misc]  # click prints this text
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except EXPECTED as error:
            complain(f"railwatch: {format_error(error)}")
            ctx.exit(exit_code(error))
        except click.ClickException as error:
            error.message = printable(hidden(error.message))  # type: ignore[misc]  # click prints this text
            raise
        except (click.exceptions.Exit, click.Abort):
            raise
        except Exception:  # noqa: BLE001 - a defect: the command prints its traceback without secrets, and ends
            complain(traceback.format_exc())
            ctx.exit(Exit.REJECTED)
        except KeyboardInterrupt:
            # Ctrl-C is the normal end of `--watch` and `--follow`: no message, and the exit code that shells use.
            ctx.exit(130)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of first use, not alphabetically."""
        return list(self.commands)

"""How a command ends: documented exit codes, and expected errors in words instead of tracebacks."""

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
  0  done
  1  input was refused, `check` or `audit` found something, or `deliver --once`
     left something
  2  wrong usage, or a configuration that cannot be used
  3  the database's schema is not the one that this version knows
  4  the database cannot be reached
  5  there is no such invoice, exception, rail or node
  6  no node can tell (`audit`)
"""

NOT_FOUND_CODES = ("RW009", "RW012")
"""SQLSTATEs of the contract's functions that mean an unknown invoice or exception."""


LONGEST_TOLD = 4_000
"""Characters of one error."""


class NotFound(Exception):
    """What was named does not exist. The message says what, and what to do."""


class InvalidInput(Exception):
    """Input that makes no sense, or a wait that ended in vain. The message says what, and what to do."""


class UnusableConfig(Exception):
    """The configuration is well-formed, and the daemon cannot work with it. The message says what, and what to do."""


EXPECTED = (ConfigError, UnusableConfig, StoreError, EmbeddedPostgresError, NotFound, InvalidInput)
"""What people can do something about. Anything else is a defect, and shows its traceback."""


CODES: Sequence[tuple[type[Exception], Exit]] = (
    (SchemaMismatch, Exit.SCHEMA),
    (StoreUnavailable, Exit.DATABASE),
    (EmbeddedPostgresError, Exit.DATABASE),
    (NotFound, Exit.NOT_FOUND),
    (ConfigError, Exit.USAGE),
    (UnusableConfig, Exit.USAGE),
    # What remains of the store's errors is a configuration that contradicts the database.
    (StoreError, Exit.USAGE),
    (InvalidInput, Exit.REJECTED),
)
"""The first that fits counts."""


def exit_code(error: Exception) -> Exit:
    """The exit code of one of `EXPECTED`."""
    if isinstance(error, Refused):
        return Exit.NOT_FOUND if error.code in NOT_FOUND_CODES else Exit.REJECTED
    return next(code for kind, code in CODES if isinstance(error, kind))


def format_error(error: Exception) -> str:
    """One of `EXPECTED` in words: what is wrong, where, and what to do."""
    if isinstance(error, Refused):
        return f"{printable(error)} ({error.code})" + (f"\n{error.hint}" if error.hint else "")
    # Only a list of problems has lines of its own, and it is made of texts that are printable.
    return str(error) if isinstance(error, ConfigError | UnusableConfig) else printable(error, LONGEST_TOLD)


def _is_text(argument: str) -> bool:
    try:
        return b"\0" not in argument.encode()
    except UnicodeEncodeError:  # bytes of the shell that are no UTF-8 arrive as halves of surrogates
        return False


class Railwatch(click.Group):
    """The command group, which turns expected errors into words on stderr and an exit code."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Refuse arguments that are no text, which neither Postgres nor a file's name could hold."""
        try:
            for argument in args:
                if not _is_text(argument):
                    raise click.UsageError(f'"{argument}" is not UTF-8, or holds a null character')
            return super().make_context(info_name, args, parent, **extra)
        except click.ClickException as error:
            error.message = printable(hidden(error.message))  # type: ignore[misc]  # its text is what click shows
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except EXPECTED as error:
            complain(f"railwatch: {format_error(error)}")
            ctx.exit(exit_code(error))
        except click.ClickException as error:
            error.message = printable(hidden(error.message))  # type: ignore[misc]  # its text is what click shows
            raise
        except (click.exceptions.Exit, click.Abort):
            raise
        except Exception:  # noqa: BLE001 - a defect: its traceback is told without secrets, and ends the command
            complain(traceback.format_exc())
            ctx.exit(Exit.REJECTED)
        except KeyboardInterrupt:
            # Ctrl-C is how `--watch` and `--follow` are meant to end: no word about it, and the code that shells use.
            ctx.exit(130)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which one meets them, not by the alphabet."""
        return list(self.commands)

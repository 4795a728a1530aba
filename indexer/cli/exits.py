"""How a command ends: documented exit codes, and expected errors in words instead of tracebacks."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import click

from indexer.config import ConfigError
from indexer.store.embedded import EmbeddedPostgresError
from indexer.store.errors import Refused, SchemaMismatch, StoreError, StoreUnavailable


class Exit(IntEnum):
    """Exit codes. They are part of the contract."""

    OK = 0
    WRONG = 1
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


class NotFound(Exception):
    """What was named does not exist. The message says what, and what to do."""


class Wrong(Exception):
    """Input that makes no sense, or a wait that ended in vain. The message says what, and what to do."""


class Unusable(Exception):
    """The configuration is well-formed, and the daemon cannot work with it. The message says what, and what to do."""


EXPECTED = (ConfigError, Unusable, StoreError, EmbeddedPostgresError, NotFound, Wrong)
"""What people can do something about. Anything else is a defect, and shows its traceback."""


CODES: Sequence[tuple[type[Exception], Exit]] = (
    (SchemaMismatch, Exit.SCHEMA),
    (StoreUnavailable, Exit.DATABASE),
    (EmbeddedPostgresError, Exit.DATABASE),
    (NotFound, Exit.NOT_FOUND),
    (ConfigError, Exit.USAGE),
    (Unusable, Exit.USAGE),
    # What remains of the store's errors is a configuration that contradicts the database.
    (StoreError, Exit.USAGE),
    (Wrong, Exit.WRONG),
)
"""The first that fits counts."""


def exit_code(error: Exception) -> Exit:
    """The exit code of one of `EXPECTED`."""
    if isinstance(error, Refused):
        return Exit.NOT_FOUND if error.code in NOT_FOUND_CODES else Exit.WRONG
    return next(code for kind, code in CODES if isinstance(error, kind))


def told(error: Exception) -> str:
    """One of `EXPECTED` in words: what is wrong, where, and what to do."""
    if isinstance(error, Refused):
        return f"{error} ({error.code})" + (f"\n{error.hint}" if error.hint else "")
    return str(error)


class Railwatch(click.Group):
    """The command group, which turns expected errors into words on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except EXPECTED as error:
            click.echo(f"railwatch: {told(error)}", err=True)
            ctx.exit(exit_code(error))
        except KeyboardInterrupt:
            # Ctrl-C is how `--watch` and `--follow` are meant to end: no word about it, and the code that shells use.
            ctx.exit(130)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which one meets them, not by the alphabet."""
        return list(self.commands)

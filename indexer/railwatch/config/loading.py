"""Loading: find the file, parse it, resolve references, check it, and report all problems at once."""

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from railwatch.config.checks import cross_checks
from railwatch.config.errors import ConfigError, Problem, problems_of
from railwatch.config.exposure import exposed_files
from railwatch.config.models import Config
from railwatch.config.references import resolve_references
from railwatch.rail.printable import printable
from railwatch.redaction import hide

VARIABLE = "RAILWATCH_CONFIG"
DEFAULT = Path("railwatch.toml")


def find_config(named: Path | None) -> Path:
    """Return the named file, else that of $RAILWATCH_CONFIG, else ./railwatch.toml. Raises `ConfigError`."""
    if named is not None:
        return named
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    if DEFAULT.exists():
        return DEFAULT
    hint = f"Give --config FILE, set {VARIABLE}, or create one from config/railwatch.example.toml."
    raise ConfigError(
        None, [Problem("--config", f"no configuration is named, and there is no {DEFAULT} in this folder", hint)]
    )


def load_config(path: Path) -> Config:
    """Read and check the file. Raises `ConfigError` with every problem."""
    tables = _parse(path)
    tables.setdefault("database", {})  # Its default folder is relative to the file.
    folder = path.absolute().parent
    files: list[Path] = []
    problems = list(resolve_references(tables, folder, files))
    problems += cross_checks(tables)
    try:
        config = Config.model_validate(tables, context={"folder": folder})
    except ValidationError as error:
        # Without its cause, because pydantic's text could show a secret.
        raise ConfigError(path, problems + problems_of(error, Config, tables)) from None
    if problems:
        raise ConfigError(path, problems)
    hide(config.secrets())
    config.note_exposed(exposed_files(path, files, config.secrets()))
    return config


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        hint = "Give a readable file: --config FILE."
        raise ConfigError(path, [Problem("the file", f"cannot be read: {error.strerror}", hint)]) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        reason = printable("it is nested too deeply" if isinstance(error, RecursionError) else error, 200)
        raise ConfigError(path, [Problem("the file", f"is not TOML: {reason}", "Correct that line.")]) from None

"""Reading the file: find it, parse it, follow its references, check it, and tell everything that is wrong at once."""

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
    """The file that was named, else that of $RAILWATCH_CONFIG, else ./railwatch.toml. Raises `ConfigError`."""
    if named is not None:
        return named
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    if DEFAULT.exists():
        return DEFAULT
    todo = f"Use --config FILE, set {VARIABLE}, or write one: config/railwatch.example.toml is a start."
    raise ConfigError(None, [Problem("--config", f"no configuration was named, and there is no {DEFAULT} here", todo)])


def load_config(path: Path) -> Config:
    """Read and check the file. Raises `ConfigError` with every problem that there is."""
    tables = _parse(path)
    tables.setdefault("database", {})  # Its default folder depends on where the file is.
    folder = path.absolute().parent
    files: list[Path] = []
    problems = list(resolve_references(tables, folder, files))
    problems += cross_checks(tables)
    try:
        config = Config.model_validate(tables, context={"folder": folder})
    except ValidationError as error:
        # Without its cause: pydantic's own text could hold what must not be seen.
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
        todo = "Name a file that exists and can be read: --config FILE."
        raise ConfigError(path, [Problem("the file", f"cannot be read: {error.strerror}", todo)]) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        why = printable("it is nested too deeply" if isinstance(error, RecursionError) else error, 200)
        raise ConfigError(path, [Problem("the file", f"is not TOML: {why}", "Mend it there.")]) from None

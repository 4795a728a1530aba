"""Where a demo runs: a folder with the daemon's configuration, its database, and all logs."""

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from railwatch.rail.demo import RailDemo

CONFIG_NAME = "railwatch.toml"
DATA_NAME = "postgres"


class Workspace:
    """A temporary folder. It is gone after a demo that went well; logs and configuration stay after another."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="railwatch-demo-"))
        # For root, Postgres runs as another user, who has to get through to its own folder.
        self.folder.chmod(0o711)

    @property
    def config(self) -> Path:
        """The daemon's configuration."""
        return self.folder / CONFIG_NAME

    @property
    def data_dir(self) -> Path:
        """Where the daemon keeps its embedded database."""
        return self.folder / DATA_NAME

    def configure(self, demos: Iterable[RailDemo]) -> None:
        """Write the configuration. The demos are entered."""
        demos = list(demos)
        tables: list[tuple[str, Mapping[str, Any]]] = [
            ("[database]", {"url": "embedded", "data_dir": DATA_NAME}),
            *(("[[rail]]", demo.rail) for demo in demos),
            *(("[[policy]]", policy) for demo in demos for policy in demo.policies),
            ("[log]", {"format": "console"}),
        ]
        self.config.write_text("\n".join(line for head, table in tables for line in toml_table(head, table)))

    def clear(self, *, keep_logs: bool) -> None:
        """Remove the folder, or only the database in it if there are logs next to it."""
        keep_logs = keep_logs and any(self.folder.glob("*.log"))
        shutil.rmtree(self.data_dir if keep_logs else self.folder, ignore_errors=True)


def toml_table(head: str, table: Mapping[str, Any]) -> Iterator[str]:
    """Return the lines of one table. Python reads TOML and does not write it."""
    yield head
    for key, value in table.items():
        yield f"{key} = {toml_value(value)}"
    yield ""


def toml_value(value: Any) -> str:
    """Return a value on one line. Raises TypeError for a type that TOML does not have."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml_value(each)}" for key, each in value.items()) + " }"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(toml_value(each) for each in value) + "]"
    if isinstance(value, bool | int | float | str):
        # JSON's way to write these is TOML's as well.
        return json.dumps(value)
    raise TypeError(f"{value!r} cannot be written as TOML")

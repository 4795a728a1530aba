"""The base of every table of the configuration."""

import re

from pydantic import BaseModel, ConfigDict

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Table(BaseModel):
    """A table of the file: frozen, without unknown keys, and with errors that never show the input."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

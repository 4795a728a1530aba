"""What every table of the configuration has in common."""

import re

from pydantic import BaseModel, ConfigDict

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Table(BaseModel):
    """A table of the file: frozen, unknown keys are errors, and inputs are never part of an error's text."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

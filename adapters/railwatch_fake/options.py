"""One node's table of the configuration, checked once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from railwatch.rail.options import reject_unknown_keys
from railwatch.rail.printable import quoted
from railwatch_fake.registry import is_registered

KEYS = ("chain", "node", "timeout", "silence")


@dataclass(frozen=True, slots=True)
class FakeOptions:
    """A node of a registered chain. ``timeout`` bounds each call; after ``silence`` seconds a push is overdue."""

    chain: str
    node: str
    timeout: float
    silence: float

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Self:
        """Read ``{chain, node?, timeout?, silence?}``. Raises ValueError that names the wrong key."""
        reject_unknown_keys(table, KEYS)
        name = table.get("chain")
        if not is_registered(name):
            raise ValueError(f"chain: no fake chain named {quoted(name)} was registered in this process")
        return cls(
            str(name), str(table.get("node", "main")), _seconds(table, "timeout", 1.0), _seconds(table, "silence", 30.0)
        )


def _seconds(table: Mapping[str, Any], key: str, default: float) -> float:
    value = table.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ValueError(f"{key}: must be a number of seconds above 0, not {value!r}")
    return float(value)

"""One node of a rail. Its adapter checks the keys; this module finds the secrets."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Self

from pydantic import ConfigDict, RootModel, SecretStr, model_validator

from railwatch.config.parsing import check_url, place_of_url, url_secrets

NODE_SCHEMES = {
    "http": ("http", "https"),
    "rpc": ("http", "https"),
    "ws": ("ws", "wss"),
    "zmq": ("tcp", "ipc"),
}
"""Keys of a node that contain a URL on every rail; the adapter checks all others."""

CONFIDENTIAL_KEY = re.compile(r"pass|secret|token|key|cookie|auth|jwt", re.IGNORECASE)
"""Names of keys whose values are secrets. A cookie's path counts as one."""


class NodeConfig(RootModel[dict[str, Any]]):
    """One node as its adapter reads it. Texts from references are `SecretStr`."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    def reveal(self) -> dict[str, Any]:
        """Return the table with its secrets, for the adapter only."""
        return revealed(self.root)

    @property
    def name(self) -> str:
        """Scheme, host and port of its first URL, without secrets."""
        values = self.reveal()
        urls = (place_of_url(values[key]) for key in (*NODE_SCHEMES, *values) if isinstance(values.get(key), str))
        return next((each for each in urls if each), "node")

    def secrets(self) -> Iterator[str]:
        """Return the secrets: values from references, all headers, passwords, and keys within URLs."""
        return secrets_of(self.root)

    def __repr__(self) -> str:
        # Many a URL contains a key, so the values stay hidden.
        return f"NodeConfig({self.name}: {', '.join(self.root)})"

    __str__ = __repr__

    @model_validator(mode="after")
    def _urls(self) -> Self:
        if not self.root:
            raise ValueError("is empty")
        for key, value in self.reveal().items():
            try:
                if key in NODE_SCHEMES:
                    check_url(value if isinstance(value, str) else "", NODE_SCHEMES[key])
            except ValueError as error:
                raise ValueError(f"{key} {error}") from None
        return self


def revealed(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table with its secrets, for the adapter only."""
    return {
        key: {name: _plain(each) for name, each in value.items()} if isinstance(value, dict) else _plain(value)
        for key, value in table.items()
    }


def secrets_of(table: Mapping[str, Any]) -> Iterator[str]:
    """Return the secrets: values from references, all headers, passwords, and keys within URLs."""
    for key, value in table.items():
        items = value.items() if isinstance(value, dict) else ((key, value),)
        for name, each in items:
            text = _plain(each)
            if not isinstance(text, str):
                continue
            if isinstance(each, SecretStr) or key == "headers" or CONFIDENTIAL_KEY.search(name):
                yield text
            if "://" in text:
                yield from url_secrets(text)


def _plain(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value

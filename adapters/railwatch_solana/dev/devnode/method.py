"""What an RPC method is: parameters in, something that JSON can hold out, or an `RpcError`."""

from collections.abc import Callable
from typing import Any

from railwatch_solana.dev.devnode.params import Params

VERSION = "4.1.2-devnode"
"""The Agave that the machine's programs come from."""
Method = Callable[[Params], Any]


def context(slot: int, value: Any) -> dict[str, Any]:
    """Return an answer that depends on the state at a slot."""
    return {"context": {"apiVersion": VERSION, "slot": slot}, "value": value}

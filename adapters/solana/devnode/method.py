"""What an RPC method is: parameters in, something that JSON can hold out, or an `RpcError`."""

from collections.abc import Callable
from typing import Any

from adapters.solana.devnode.params import Params

Method = Callable[[Params], Any]

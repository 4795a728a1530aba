"""JSON-RPC 2.0: from bytes to a method and back to bytes, and never anything but an answer."""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from railwatch_solana.dev.devnode.account_methods import AccountMethods
from railwatch_solana.dev.devnode.block_methods import BlockMethods
from railwatch_solana.dev.devnode.controls import Controls
from railwatch_solana.dev.devnode.errors import INTERNAL, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE, RpcError
from railwatch_solana.dev.devnode.guard import Panicked, contained
from railwatch_solana.dev.devnode.history_methods import HistoryMethods
from railwatch_solana.dev.devnode.method import Method
from railwatch_solana.dev.devnode.node import Node
from railwatch_solana.dev.devnode.params import Params
from railwatch_solana.dev.devnode.send_methods import SendMethods

BATCH_MAX = 2_000
BRACKETS_MAX = 20_000
log = logging.getLogger(__name__)


class Rpc:
    """All methods of the node."""

    def __init__(self, node: Node) -> None:
        self.history = HistoryMethods(node.chain)
        self.accounts = AccountMethods(node)
        self.controls = Controls(node)
        sending = SendMethods(node, self.accounts)
        tables = (BlockMethods(node), self.history, self.accounts, sending, self.controls)
        self.methods = {name: method for part in tables for name, method in part.table().items()}

    def answer(self, body: bytes) -> bytes:
        """Return the answer to the body of a request, single or batch."""
        try:
            request = parsed(body)
        except RpcError as error:
            return msgspec.json.encode(failure(None, error))
        if not isinstance(request, list):
            return msgspec.json.encode(answered(request, self.methods))
        if not 1 <= len(request) <= BATCH_MAX:
            return msgspec.json.encode(failure(None, RpcError(INVALID_REQUEST, "Invalid request")))
        return msgspec.json.encode([answered(one, self.methods) for one in request])


def parsed(body: bytes) -> Any:
    """Return the JSON of ``body``.

    Raises `RpcError`, also for what is nested so deeply that reading it could end the process:
    the reader's own bound is Python's recursion limit, which others in the process may have raised."""
    if body.count(b"[") + body.count(b"{") > BRACKETS_MAX:
        raise RpcError(PARSE, "Parse error")
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise RpcError(PARSE, "Parse error") from error


def answered(request: Any, methods: Mapping[str, Method]) -> dict[str, Any]:
    """One request's answer, whatever the request is."""
    name = request.get("method") if isinstance(request, dict) else None
    number = request.get("id") if isinstance(request, dict) else None
    if not isinstance(name, str):
        return failure(number, RpcError(INVALID_REQUEST, "Invalid request"))
    try:
        method = methods.get(name, _unknown)
        with contained():
            result = method(Params(request.get("params")))
            # Encoded here, because what cannot be encoded must become an answer too.
            return {"jsonrpc": "2.0", "result": msgspec.Raw(msgspec.json.encode(result)), "id": number}
    except RpcError as error:
        return failure(number, error)
    except Panicked as error:
        return failure(number, RpcError(INTERNAL, f"Internal error: {error}"))
    except Exception as error:
        # The outermost layer: one unforeseen request must not end the node for all others.
        log.exception("%s failed", name)
        return failure(number, RpcError(INTERNAL, f"Internal error: {type(error).__name__}: {error}"))


def _unknown(_: Params) -> None:
    raise RpcError(METHOD_NOT_FOUND, "Method not found")


def failure(number: Any, error: RpcError) -> dict[str, Any]:
    """Return an error as an answer."""
    shown: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.data is not None:
        shown["data"] = error.data
    return {"jsonrpc": "2.0", "error": shown, "id": number}

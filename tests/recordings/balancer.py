"""A balancer before anvil: every second request is answered by a node that stands still."""

from typing import Any

from tests.faulty_proxy import Liar

UNKNOWN = {"code": -32000, "message": "header not found"}


class Balancer(Liar):
    """Passes everything on until `freeze`; from then on every second request meets the state of that moment."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self._frozen: int | None = None
        self._tags: dict[str, Any] = {}

    def freeze(self, height: int, tags: dict[str, Any]) -> None:
        """Let the second node stand still at ``height``; ``tags``: its blocks by their tags."""
        self._frozen, self._tags = height, tags

    def _told(self, call: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any]:
        if self._frozen is None or len(self.requests) % 2:
            return reply
        return _stale(call, reply, self._frozen, self._tags)


def _stale(call: dict[str, Any], reply: dict[str, Any], height: int, tags: dict[str, Any]) -> dict[str, Any]:
    method, params, result = call["method"], call["params"], reply.get("result")
    if method == "eth_blockNumber":
        return {**reply, "result": hex(height)}
    if method.startswith("eth_getBlockBy") and params[0] in tags:
        return {**reply, "result": tags[params[0]]}
    number = result.get("number") if isinstance(result, dict) else None
    if number is not None and int(number, 16) > height:
        return {**reply, "result": None}
    if isinstance(result, list) and any(
        _number(each["blockNumber"]) > height for each in result if "blockNumber" in each
    ):
        return {"jsonrpc": "2.0", "id": reply["id"], "error": UNKNOWN}
    return reply


def _number(value: Any) -> int:
    """Logs tell heights as hex, flat traces as numbers."""
    return int(value, 16) if isinstance(value, str) else int(value)

"""A node that plays one case: a few blocks, and for each method the answer that some real client gives."""

import json
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from railwatch_evm.bloom import bloom_of
from tests.nodes.turns import peer_of

GENESIS = "0x" + "00" * 32
BEFORE = "0x" + "aa" * 32
MISSING = (-32601, "the method does not exist/is not available")
UNSERVED = (
    *("debug_traceTransaction", "trace_transaction", "eth_getBlockReceipts"),
    *("eth_blockNumber", "eth_getBalance", "eth_getTransactionCount", "eth_getCode", "eth_call"),
)
"""What no case is about."""


def chain_of(case: dict[str, Any]) -> int:
    """Return the chain id that the case is played with: not Ethereum's own, whose landmarks a few blocks lack."""
    return 1_000_001 if case["chain_id"] == 1 else int(case["chain_id"])


def span_of_blocks(count: int, transactions: int) -> list[dict[str, Any]]:
    """Blocks 100 to 99 + ``count``, each with so many transactions that pay a stranger."""
    blocks = []
    for place in range(count):
        number = 100 + place
        txs = [
            {
                "hash": f"0x{number:032x}{at:032x}",
                "from": "0x" + "55" * 20,
                "to": "0x" + "99" * 20,
                "value": "0x1",
                "nonce": hex(place),
                "type": "0x2",
            }
            for at in range(transactions)
        ]
        tree = [{"txHash": tx["hash"], "result": {**tx, "type": "CALL"}} for tx in txs]
        blocks.append(
            {
                "number": number,
                "hash": f"0x{number:064x}",
                "parent": f"0x{number - 1:064x}" if place else BEFORE,
                "txs": txs,
                "tree": tree,
            }
        )
    return blocks


def nested(block: dict[str, Any]) -> str:
    """Return the answer of debug_traceBlockByHash for a tree of ``nest`` calls, written without recursion."""
    call = '{"type":"CALL","from":"0x' + "cc" * 20 + '","to":"0x' + "cc" * 20 + '","value":"0x0","calls":['
    last = f'{{"type":"CALL","from":"0x{"cc" * 20}","to":"{block["nest_to"]}","value":"{block["nest_value"]}"}}'
    tree = call * block["nest"] + last + "]}" * block["nest"]
    return f'[{{"txHash":"{block["txs"][0]["hash"]}","result":{tree}}}]'


class PlayedNode:
    """One case's node. ``asked`` holds every call, ``malformed`` the trace requests of another form than geth's."""

    def __init__(self, case: dict[str, Any]) -> None:
        # A chain that starts at such a block is none that has landmarks above it.
        self.case = {**case, "chain_id": chain_of(case)}
        self.node: dict[str, Any] = case["node"]
        blocks = case["blocks"]
        if isinstance(blocks, str):
            blocks = span_of_blocks(case["span"], 1 if "one transaction" in blocks else 0)
        self.blocks: list[dict[str, Any]] = blocks
        self.first_errors = dict(self.node.get("first_errors", {}))
        self.asked: list[str] = []
        self.malformed = 0
        self.requests = 0

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.http = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.Response:
        self.requests += 1
        if "http" in self.node:
            status, body = self.node["http"]
            return web.Response(status=status, text=body, content_type="application/json")
        calls = json.loads(await request.read())
        self.take_turns((calls[0] if isinstance(calls, list) else calls)["method"], peer_of(request))
        if not isinstance(calls, list):
            return self._response(self._reply(calls))
        limit = self.node.get("batch_limit")
        if limit is not None and len(calls) > limit:
            error = {"code": -32600, "message": f"batch too large, at most {limit} calls"}
            refusal = json.dumps({"jsonrpc": "2.0", "id": calls[0]["id"], "error": error})
            return self._response(f"[{refusal}]" if self.node.get("batch_style") == "first" else refusal)
        return self._response("[" + ",".join(map(self._reply, calls)) + "]")

    def take_turns(self, method: str, peer: object) -> None:
        """Do what is to be done before a request is answered: nothing, unless it balances several nodes."""

    @staticmethod
    def _response(text: str) -> web.Response:
        return web.Response(text=text, content_type="application/json")

    def _reply(self, call: dict[str, Any]) -> str:
        method, params = call["method"], call["params"]
        self.asked.append(method)
        error = self._error(method, params)
        body = f'"error":{json.dumps(error)}' if error else f'"result":{self._result(method, params)}'
        return f'{{"jsonrpc":"2.0","id":{call["id"]},{body}}}'

    def _error(self, method: str, params: list[Any]) -> dict[str, Any] | None:
        error = None
        if method in self.first_errors:
            error = self.first_errors.pop(method)
        elif params and isinstance(params[0], str):
            error = self.node.get("errors", {}).get(method, {}).get(params[0])
        if method == "trace_block" and not self.node.get("trace_block", True):
            error = MISSING
        if method.startswith("debug_") and not self.node.get("debug_trace", True):
            error = MISSING
        if method in UNSERVED:
            error = MISSING
        if error is None and method == "debug_traceBlockByHash" and params[0] not in {b["hash"] for b in self.blocks}:
            error = (-32000, f"block {params[0]} not found")
        return None if error is None else {"code": error[0], "message": error[1]}

    def _result(self, method: str, params: list[Any]) -> str:
        if method == "eth_chainId":
            return json.dumps(hex(self.case["chain_id"]))
        if method == "eth_getBlockByNumber":
            block = self.blocks[-1] if params[0] in ("latest", "safe", "finalized") else self._at(params[0])
            return json.dumps(block and self._header(block, params[1]))
        if method == "eth_getBlockByHash":
            block = next((block for block in self.blocks if block["hash"] == params[0]), None)
            return json.dumps(block and self._header(block, params[1]))
        if method == "eth_getLogs":
            return json.dumps([log for block in self._where(params[0]) for log in block.get("logs", [])])
        if method == "eth_getTransactionReceipt":
            return json.dumps(self._receipt(params[0]))
        if method == "trace_block":
            return json.dumps((self._at(params[0]) or {}).get("flat", []))
        if method == "debug_traceBlockByHash":
            if len(params) != 2 or not isinstance(params[0], str) or params[1] != {"tracer": "callTracer"}:
                self.malformed += 1
                return "null"
            block = next(block for block in self.blocks if block["hash"] == params[0])
            return nested(block) if block.get("nest") else json.dumps(block["tree"])
        raise AssertionError(f"no test asks a node for {method} here")

    def _at(self, number: str) -> dict[str, Any] | None:
        return next((block for block in self.blocks if hex(block["number"]) == number), None)

    def _where(self, where: dict[str, str]) -> list[dict[str, Any]]:
        if "blockHash" in where:
            return [block for block in self.blocks if block["hash"] == where["blockHash"]]
        low, high = int(where["fromBlock"], 16), int(where["toBlock"], 16)
        return [block for block in self.blocks if low <= block["number"] <= high]

    def _header(self, block: dict[str, Any], full: bool) -> dict[str, Any]:
        logs = block.get("logs", [])[: block.get("bloom_of")]
        items = [bytes.fromhex(text[2:]) for log in logs for text in (log["address"], *log["topics"])]
        return {
            "number": hex(block["number"]),
            "hash": block["hash"],
            "parentHash": block["parent"],
            "timestamp": hex(block.get("time", 1_700_000_000 + block["number"] % 1_000_000)),
            "logsBloom": block.get("bloom") or f"0x{bloom_of(items):0512x}",
            "transactions": block["txs"] if full else [tx["hash"] for tx in block["txs"]],
        }

    def _receipt(self, tx_id: str) -> dict[str, Any] | None:
        for block in self.blocks:
            if any(tx["hash"] == tx_id for tx in block["txs"]):
                logs = [log for log in block.get("logs", []) if log["transactionHash"] == tx_id]
                return {"transactionHash": tx_id, "blockHash": block["hash"], "status": "0x1", "logs": logs}
        return None

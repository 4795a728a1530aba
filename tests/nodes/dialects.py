"""EVM clients played in front of anvil: each answers as that client does, in its own words, codes and omissions.

The words come from the clients' sources and manuals; docs/nodes.md names them. Anvil runs the chain, so what is played
is the dialect and not the consensus.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

from railwatch_evm.dev.simulator import EvmSimulator

Error = tuple[int, str]
Json = dict[str, Any]

TRACES = ("trace_block", "trace_transaction")
DEBUGS = ("debug_traceBlockByHash", "debug_traceTransaction")
STATE = ("eth_getBalance", "eth_getTransactionCount", "eth_getCode", "eth_call")


def absent(*methods: str, words: str = "the method {} does not exist/is not available", code: int = -32601) -> Json:
    """Return these methods as a client without them refuses them."""
    return {method: (code, words.format(method)) for method in methods}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one client differs from another.

    ``refused``: methods and their errors. ``state``: how many blocks below the head have a state, and the words for
    older ones. ``batch``: calls a request, and whether the refusal is an array with one error (geth) or an object.
    ``log_range``: blocks of one eth_getLogs. ``tree`` and ``flat`` change one transaction's trace. ``every``: each
    that many requests one is refused with that status.
    """

    name: str
    refused: Mapping[str, Error] = field(default_factory=dict)
    state: tuple[int, str, str] | None = None
    batch: tuple[int, str, bool] | None = None
    log_range: tuple[int, Error] | None = None
    tree: Callable[[Json], Json] | None = None
    flat: Callable[[Json], Json] | None = None
    every: tuple[int, int, str] | None = None


def with_precompiles(item: Json) -> Json:
    """Put a call of a precompile before the others, as clients do that show those."""

    def add(frame: Json) -> Json:
        calls = [add(call) for call in frame.get("calls", [])]
        precompile = {"type": "STATICCALL", "from": frame.get("to"), "to": "0x" + "0" * 39 + "4", "input": "0x"}
        return {**frame, "calls": [precompile, *calls]} if calls else frame

    return {**item, "result": add(item["result"])}


def of_nitro(item: Json) -> Json:
    """Add what only Nitro's callTracer shows: transfers that happen outside the EVM."""
    fee = {"purpose": "feePayment", "from": item["result"]["from"], "to": None, "value": "0x5"}
    return {**item, "result": {**item["result"], "beforeEVMTransfers": [fee], "afterEVMTransfers": [fee]}}


def of_zksync(item: Json) -> Json:
    """Bring a tree into zkSync Era's form: no hash, below the bootloader, and a revert without an error."""

    def turn(frame: Json) -> Json:
        kind = frame["type"]
        turned: Json = {
            "type": "create" if kind.startswith("CREATE") else kind.lower() if kind == "SELFDESTRUCT" else "call",
            "from": frame["from"],
            "to": frame.get("to"),
            "value": frame.get("value", "0x0") if kind not in ("DELEGATECALL", "CALLCODE", "STATICCALL") else "0x0",
            "error": None,
            "revertReason": "failed" if "error" in frame else None,
            "calls": [turn(call) for call in frame.get("calls", [])],
        }
        return turned

    root = turn(item["result"])
    boot = {"type": "call", "from": "0x" + "0" * 40, "to": "0x" + "0" * 36 + "8001", "value": root["value"]}
    return {"result": {**boot, "error": None, "revertReason": None, "calls": [root]}}


GETH_STATE = "historical state not available in path scheme yet"
TRIE = "missing trie node 0000 (path ) state 0x00 is not available"

DIALECTS = (
    Dialect("geth, full", absent(*TRACES), state=(16, GETH_STATE, TRIE), batch=(1000, "batch too large", True)),
    Dialect("geth, archive", absent(*TRACES), batch=(1000, "batch too large", True)),
    Dialect(
        "Erigon",
        batch=(100, "batch limit 100 exceeded (can increase by --rpc.batch.limit). Requested batch of size: 101", True),
    ),
    Dialect(
        "Nethermind",
        absent(*DEBUGS, words="The method '{}' is found but the namespace 'Debug' is disabled for n/a.", code=-32600),
        state=(64, "No state available for block 0x00", "No state available for block 0x00"),
        batch=(1024, "Batch size limit exceeded", False),
    ),
    Dialect(
        "Besu",
        absent(*TRACES, words="Method not enabled", code=-32604),
        state=(512, "World state unavailable", "World state unavailable"),
        tree=with_precompiles,
    ),
    Dialect(
        "Reth",
        state=(64, "state at block #5 is pruned", "state at block #5 is pruned"),
        log_range=(10, (-32602, "query exceeds max block range 10")),
    ),
    Dialect("bor", absent(*TRACES), state=(16, GETH_STATE, TRIE), tree=with_precompiles),
    Dialect("op-geth", absent(*TRACES), state=(16, GETH_STATE, TRIE)),
    Dialect("Nitro", absent(*TRACES), tree=of_nitro, batch=(1000, "batch too large", True)),
    Dialect(
        "hosted, balanced",
        absent(*TRACES, *DEBUGS, words="{} is not available on the Free tier - upgrade to Pay As You Go", code=-32600),
        batch=(3, "Batch of more than 3 requests are not allowed on free tier", False),
        log_range=(10, (-32600, "You can make eth_getLogs requests with up to a 10 block range.")),
    ),
    Dialect("zkSync Era", absent(*TRACES, words="Method not found"), tree=of_zksync),
)


class DialectNode:
    """A client's dialect in front of a node that obeys. ``asked`` counts calls by method."""

    def __init__(self, upstream: str, dialect: Dialect) -> None:
        self.upstream, self.dialect = upstream, dialect
        self.asked: dict[str, int] = {}
        self.requests = 0

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
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
        await self._session.close()

    async def _serve(self, request: web.Request) -> web.Response:
        calls = json.loads(await request.read())
        many = calls if isinstance(calls, list) else [calls]
        self.requests += 1
        if self.dialect.every is not None and self.requests % self.dialect.every[0] == 0:
            _, status, words = self.dialect.every
            error = {"code": status, "message": words}
            return web.json_response(
                {"jsonrpc": "2.0", "id": many[0]["id"], "error": error}, status=status, headers={"Retry-After": "0"}
            )
        if self.dialect.batch is not None and len(many) > self.dialect.batch[0]:
            _, words, as_array = self.dialect.batch
            refusal = {"jsonrpc": "2.0", "id": many[0]["id"], "error": {"code": -32600, "message": words}}
            return web.json_response([refusal] if as_array else refusal)
        replies = await self._replies(many)
        return web.json_response(replies if isinstance(calls, list) else replies[0])

    async def _replies(self, calls: list[Json]) -> list[Json]:
        for call in calls:
            self.asked[call["method"]] = self.asked.get(call["method"], 0) + 1
        head = int(await self._ask("eth_blockNumber"), 16) if self.dialect.state else 0
        refusals = [await self._refusal(call, head) for call in calls]
        passed = [call for call, refusal in zip(calls, refusals, strict=True) if refusal is None]
        honest: dict[Any, Json] = {}
        if passed:
            async with self._session.post(self.upstream, json=passed) as response:
                honest = {reply["id"]: reply for reply in await response.json()}
        return [
            self._turned(call, honest[call["id"]])
            if refusal is None
            else {"jsonrpc": "2.0", "id": call["id"], "error": {"code": refusal[0], "message": refusal[1]}}
            for call, refusal in zip(calls, refusals, strict=True)
        ]

    async def _refusal(self, call: Json, head: int) -> Error | None:
        method, params = call["method"], call["params"]
        if method in self.dialect.refused:
            return self.dialect.refused[method]
        if self.dialect.state is not None and method in (*TRACES, *DEBUGS, *STATE):
            depth, traced, asked = self.dialect.state
            height = await self._height(method, params)
            if height is not None and height <= head - depth:
                return -32000, traced if method in (*TRACES, *DEBUGS) else asked
        if self.dialect.log_range is not None and method == "eth_getLogs" and "fromBlock" in params[0]:
            most, error = self.dialect.log_range
            if int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) >= most:
                return error
        return None

    async def _height(self, method: str, params: list[Any]) -> int | None:
        """Return the height whose state a call needs; None for the newest."""
        if method == "trace_block":
            return int(params[0], 16)
        if method.endswith("Transaction"):
            found = await self._ask("eth_getTransactionByHash", params[0])
            return int(found["blockNumber"], 16) if found and found["blockNumber"] else None
        where = params[0] if method == "debug_traceBlockByHash" else params[1]
        block_hash = where.get("blockHash") if isinstance(where, dict) else where
        if not isinstance(block_hash, str) or len(block_hash) != 66:
            return None
        block = await self._ask("eth_getBlockByHash", block_hash, False)
        return None if block is None else int(block["number"], 16)

    async def _ask(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        async with self._session.post(self.upstream, json=body) as response:
            return (await response.json())["result"]

    def _turned(self, call: Json, reply: Json) -> Json:
        """Bring anvil's answer into the dialect."""
        result, turn = reply.get("result"), self.dialect.tree
        if turn is not None and result and call["method"] == "debug_traceBlockByHash":
            return {**reply, "result": [turn(item) for item in result]}
        if turn is not None and result and call["method"] == "debug_traceTransaction":
            return {**reply, "result": turn({"result": result})["result"]}
        return reply


class DialectSimulator(EvmSimulator):
    """An anvil that is spoken to through a client's dialect. Pushes come from anvil itself."""

    def __init__(self, dialect: Dialect, **options: Any) -> None:
        super().__init__(**options)
        self._dialect = dialect
        self.front: DialectNode | None = None

    @property
    def node(self) -> dict[str, Any]:
        honest = super().node
        return honest if self.front is None else {**honest, "http": self.front.http}

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.front = await DialectNode(super().node["http"], self._dialect).__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        front, self.front = self.front, None
        if front is not None:
            await front.__aexit__(exc_type, exc, trace)
        await super().__aexit__(exc_type, exc, trace)

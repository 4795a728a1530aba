"""A node of the Bitcoin family that a test writes by hand: a table of methods, spoken as a client speaks JSON-RPC."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from railwatch_bitcoin.chains import Chain
from tests.nodes.turns import peer_of

Method = Callable[..., Any]


class Refusal(Exception):
    """What a method raises to answer with an error object."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass
class Speech:
    """How the client in front speaks.

    ``forbidden``: methods that a whitelist leaves out; Bitcoin Core answers 403 without a body, and does so for a whole
    batch that holds one of them (httprpc.cpp). ``batch_most``: calls in one request, 0 for none at all; ``refused_by``
    is how a larger one is refused: an HTTP status, or an error object. ``rest`` is the status of every path of REST.
    """

    forbidden: frozenset[str] = frozenset()
    batch_most: int = 10_000
    refused_by: int | Refusal = 400
    rest: int = 404


@dataclass
class BitcoinNode:
    """``methods`` by name; a name that is missing is answered with -32601. ``asked`` is what came.

    A request with the method ``held`` is answered once ``go`` is set.
    """

    methods: dict[str, Method]
    speech: Speech = field(default_factory=Speech)
    delay: float = 0.0
    held: str = ""
    go: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    url: str = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/{key:.*}", self._serve)
        app.router.add_get("/{path:.*}", self._serve_rest)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _serve_rest(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        return web.Response(status=self.speech.rest, headers={"Location": "/"} if self.speech.rest == 302 else {})

    async def _serve(self, request: web.Request) -> web.Response:
        calls = json.loads(await request.read())
        many: Sequence[dict[str, Any]] = calls if isinstance(calls, list) else [calls]
        self.asked += [call["method"] for call in many]
        self.headers.append(dict(request.headers))
        if self.delay:
            await asyncio.sleep(self.delay)
        if any(call["method"] == self.held for call in many):
            await self.go.wait()
        if any(call["method"] in self.speech.forbidden for call in many):
            return web.Response(status=403)
        if isinstance(calls, list) and len(calls) > self.speech.batch_most:
            how = self.speech.refused_by
            if isinstance(how, int):
                return web.Response(status=how, text="too many calls in one request")
            return web.json_response({"id": None, "error": {"code": how.code, "message": how.message}})
        methods = self._answering(many[0]["method"], peer_of(request))
        replies = [self._reply(call, methods) for call in many]
        return web.json_response(replies if isinstance(calls, list) else replies[0])

    def _answering(self, _method: str, _peer: object) -> Mapping[str, Method]:
        """Return the methods that answer a request, by its first method and its connection."""
        return self.methods

    def _reply(self, call: Mapping[str, Any], methods: Mapping[str, Method]) -> dict[str, Any]:
        try:
            method = methods.get(call["method"], _missing)
            return {"id": call["id"], "result": method(*call["params"]), "error": None}
        except Refusal as refusal:
            return {"id": call["id"], "result": None, "error": {"code": refusal.code, "message": refusal.message}}


def _missing(*_: Any) -> Any:
    raise Refusal(-32601, "Method not found")


def chain_methods(blocks: Mapping[int, str], height: int) -> dict[str, Method]:
    """Return a chain with just enough known hashes to identify it. ``height`` is its head's."""

    def getblockhash(at: int) -> str:
        if at > height:
            raise Refusal(-8, "Block height out of range")
        return blocks.get(at, f"{at:064x}")

    def getblockheader(block_hash: str, verbose: bool = True) -> dict[str, Any]:
        at = next((known for known, each in blocks.items() if each == block_hash), int(block_hash, 16))
        return {
            "hash": block_hash,
            "height": at,
            "time": 1_700_000_000,
            "confirmations": height - at + 1,
            "previousblockhash": getblockhash(at - 1) if at else "",
        }

    def getblockchaininfo() -> dict[str, Any]:
        best = getblockhash(height)
        return {
            "blocks": height,
            "headers": height,
            "bestblockhash": best,
            "initialblockdownload": False,
            "pruned": False,
        }

    return {
        "getblockhash": getblockhash,
        "getblockheader": getblockheader,
        "getblockchaininfo": getblockchaininfo,
        "getblock": lambda *_: "00",
    }


def chain_node(chain: Chain, height: int | None = None, **other: Any) -> BitcoinNode:
    """Yield a node of ``chain``, a block above its last landmark unless ``height`` says otherwise."""
    top = chain.landmarks[-1][0] + 1 if height is None else height
    return BitcoinNode(chain_methods(dict(chain.landmarks), top), **other)

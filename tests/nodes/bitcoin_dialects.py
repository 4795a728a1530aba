"""Clients of the Bitcoin family as they speak, in front of a real development node: what one refuses is refused.

Each row is from the client's own source. The chain behind is bitcoind's regtest, so that the conformance kit can drive
it; what a client serves otherwise than bitcoind (AuxPoW, MWEB, CashTokens) has tests of its own over real blocks.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from adapters.bitcoin import open_node
from adapters.bitcoin.simulator import BitcoinSimulator
from indexer.rail import RailAdapter
from tests.bitcoin.liar import Liar


@dataclass(frozen=True, slots=True)
class Dialect:
    """``missing``: methods answered with -32601. ``forbidden``: methods that a whitelist leaves out, whole batches with
    them. ``params_most``: more parameters than that are refused with the method's help. ``rest``: the status of REST.
    """

    missing: frozenset[str] = frozenset()
    forbidden: frozenset[str] = frozenset()
    params_most: Mapping[str, int] = field(default_factory=dict)
    raw_by_truth: bool = False
    batch_most: int = 1_000
    rest: int = 404


DIALECTS = {
    # dogecoin/dogecoin 1.14, src/rpc/blockchain.cpp and src/rpc/server.cpp: Core 0.14's, so no filters, no
    # getzmqnotifications, getblock by a truth value, and one parameter of getrawmempool.
    "dogecoin-1.14": Dialect(
        missing=frozenset({"getblockfilter", "getzmqnotifications", "getblockfrompeer"}),
        params_most={"getrawmempool": 1},
        raw_by_truth=True,
    ),
    # bitcoin-cash-node/bitcoin-cash-node 28, src/rpc/blockchain.cpp: one parameter of getrawmempool, no filters.
    "bchn-28": Dialect(
        missing=frozenset({"getblockfilter", "getblockfrompeer"}), params_most={"getrawmempool": 1}, rest=404
    ),
    # Bitcoin Core with rpcwhitelist (src/httprpc.cpp): 403 without a body, for a whole batch as well.
    "whitelist": Dialect(
        forbidden=frozenset(
            {"getblockfilter", "getzmqnotifications", "getmempoolinfo", "waitfornewblock", "getpeerinfo"}
        )
    ),
    # A hosted endpoint: no batches, no REST, no push, no mempool.
    "hosted": Dialect(
        forbidden=frozenset({"getblockfilter", "getrawmempool", "waitfornewblock", "getzmqnotifications"}),
        batch_most=1,
        rest=405,
    ),
}


class Speaker(Liar):
    """A node that passes everything on that its dialect knows."""

    def __init__(self, upstream: str, dialect: Dialect) -> None:
        super().__init__(upstream)
        self._dialect = dialect

    async def _serve(self, request: web.Request) -> web.Response:
        calls = json.loads(await request.read())
        many = calls if isinstance(calls, list) else [calls]
        if any(call["method"] in self._dialect.forbidden for call in many):
            return web.Response(status=403)
        if isinstance(calls, list) and len(calls) > self._dialect.batch_most:
            return web.json_response({"id": None, "error": {"code": -32600, "message": "batches are not supported"}})
        return await super()._serve(request)

    async def _serve_rest(self, request: web.Request) -> web.Response:
        return web.Response(status=self._dialect.rest)

    def _told(self, call: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any]:
        method, params, dialect = call["method"], call["params"], self._dialect
        if method in dialect.missing:
            return _refused(call, -32601, "Method not found")
        if len(params) > dialect.params_most.get(method, 99):
            return _refused(call, -1, f"{method} ( verbose )")
        if dialect.raw_by_truth and method == "getblock" and type(params[-1]) is int:
            return _refused(call, -1, "JSON value is not a boolean as expected")
        return super()._told(call, reply)


def _refused(call: dict[str, Any], code: int, message: str) -> dict[str, Any]:
    return {"id": call["id"], "result": None, "error": {"code": code, "message": message}}


class DialectSimulator(BitcoinSimulator):
    """A development chain whose adapters reach it through a client's way of speaking."""

    def __init__(self, dialect: str) -> None:
        super().__init__(push=False)
        self._dialect = DIALECTS[dialect]

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._speaker = await Speaker(self.fleet.nodes[0].url, self._dialect).__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._speaker.__aexit__(None, None, None)
        await super().__aexit__(exc_type, exc, trace)

    def table(self, at: int = 0) -> dict[str, Any]:
        """The node's table, with the speaker's URL."""
        rest = {key: value for key, value in super().table(at).items() if key not in ("rest", "rpc")}
        return {**rest, "rpc": self._speaker.url}

    def open_adapter(self, at: int = 0) -> RailAdapter:
        """An adapter that knows only the speaker."""
        return open_node(self.settings, self.table(at))

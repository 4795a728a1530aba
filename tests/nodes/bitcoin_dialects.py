"""Clients of the Bitcoin family as they speak, in front of a real development node: what one refuses is refused.

Each row is from the client's own source. The chain behind is bitcoind's regtest, so that the conformance kit can drive
it; what a client serves otherwise than bitcoind (AuxPoW, MWEB, CashTokens) has tests of its own over real blocks.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from railwatch.rail import RailAdapter
from railwatch_bitcoin import create_adapter
from railwatch_bitcoin.dev.simulator import BitcoinSimulator
from tests.bitcoin.faulty_proxy import Liar


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a client of the Bitcoin family differs from Core.

    ``missing``: methods answered with -32601. ``forbidden``: methods that a whitelist leaves out, whole batches with
    them. ``params_most``: more parameters than that are refused with the method's help. ``rest``: the status of REST.

    ``members``: additional or changed members of a method's objects. ``strict``: JSON-RPC 2.0: its replies
    have a result or an error and never both, with HTTP 200; else both are there, one of them null, and the status of an
    error is 404 or 500.
    """

    missing: frozenset[str] = frozenset()
    forbidden: frozenset[str] = frozenset()
    params_most: Mapping[str, int] = field(default_factory=dict)
    raw_by_truth: bool = False
    batch_most: int = 1_000
    rest: int = 404
    members: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    strict: bool = False
    refused: Mapping[str, tuple[int, str]] = field(default_factory=dict)


OLD_WARNING = "This is a pre-release test build - use at your own risk"
BITS = {"bits": "207fffff", "target": "7fffff" + "0" * 58}


def core(**members: Mapping[str, Any]) -> Dialect:
    """Return how Bitcoin Core speaks since 28.0: strictly (bitcoin#27101), with warnings in a list (bitcoin#29845)."""
    info = {"warnings": [OLD_WARNING, "Unknown new rules activated"], **members.get("getblockchaininfo", {})}
    return Dialect(members={**members, "getblockchaininfo": info}, strict=True)


DIALECTS = {
    # bitcoin/bitcoin, doc/release-notes: 27 answers both members, errors with status 404 and 500, and one warning.
    "core-27": Dialect(members={"getblockchaininfo": {"warnings": OLD_WARNING}}),
    "core-28": core(),
    # 29.0: "bits" and "target" of blocks and chain (bitcoin#31583).
    "core-29": core(getblockchaininfo=BITS, getblockheader=BITS, getblock=BITS),
    # 30.0: more members of getmempoolinfo; waitfornewblock accepts the current tip as well, which is left out.
    "core-30": core(
        getblockchaininfo=BITS,
        getblockheader=BITS,
        getblock=BITS,
        getmempoolinfo={"permitbaremultisig": True, "maxdatacarriersize": 100_000},
    ),
    # A node that prunes, while an index of its own still catches up (rpc/blockchain.cpp, getblockfilter, -1).
    "core-30-pruned": replace(
        core(getblockchaininfo={**BITS, "pruned": True, "pruneheight": 0, "automatic_pruning": True}),
        refused={"getblockfilter": (-1, "Filter not found. Block filters are still in the process of being indexed.")},
    ),
    # bitcoinknots/bitcoin 29: Core's, with members of its own.
    "knots-29": core(getblockchaininfo=BITS, getmempoolinfo={"rbf_policy": "always", "truc_policy": "enforce"}),
    # litecoin-project/litecoin 0.21.4: Core 0.21's, so no getblockfrompeer; headers report MWEB in their block only.
    "litecoin-0.21.4": Dialect(
        missing=frozenset({"getblockfrompeer", "getzmqnotifications"}),
        members={"getblockchaininfo": {"warnings": "", "softforks": {}}},
    ),
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
        response = await super()._serve(request)
        return response if isinstance(calls, list) else self._with_status(response)

    def _with_status(self, response: web.Response) -> web.Response:
        """Return the status that a single error has where both members are there (httprpc.cpp, JSONErrorReply)."""
        text = response.text or ""
        error = None if self._dialect.strict or not text.startswith("{") else json.loads(text).get("error")
        if error is not None:
            response.set_status(404 if error["code"] == -32601 else 500)
        return response

    async def _serve_rest(self, request: web.Request) -> web.Response:
        return web.Response(status=self._dialect.rest)

    def _altered(self, call: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any]:
        method, params, dialect = call["method"], call["params"], self._dialect
        if method in dialect.missing:
            return _refused(call, -32601, "Method not found")
        if len(params) > dialect.params_most.get(method, 99):
            return _refused(call, -1, f"{method} ( verbose )")
        if dialect.raw_by_truth and method == "getblock" and type(params[-1]) is int:
            return _refused(call, -1, "JSON value is not a boolean as expected")
        if method in dialect.refused:
            return self._said(_refused(call, *dialect.refused[method]))
        reply = super()._altered(call, reply)
        if isinstance(reply.get("result"), dict):
            reply = {**reply, "result": {**reply["result"], **dialect.members.get(method, {})}}
        return self._said(reply)

    def _said(self, reply: dict[str, Any]) -> dict[str, Any]:
        if not self._dialect.strict:
            return reply
        member = "result" if reply.get("error") is None else "error"
        return {"jsonrpc": "2.0", "id": reply["id"], member: reply.get(member)}


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
        """Return the node's table, with the speaker's URL."""
        rest = {key: value for key, value in super().table(at).items() if key not in ("rest", "rpc")}
        return {**rest, "rpc": self._speaker.url}

    def open_adapter(self, at: int = 0) -> RailAdapter:
        """Return an adapter that knows only the speaker."""
        return create_adapter(self.settings, self.table(at))

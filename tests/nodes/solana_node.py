"""A Solana endpoint that a test writes by hand: several nodes behind one URL, each with a ledger of its own height."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import cycle
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.nodes.turns import peer_of

GENESIS = "11111111111111111111111111111111111111111111"
CHAIN_ID = f"solana:{GENESIS[:32]}"
BASE = 1_700_000_000


class Refusal(Exception):
    """What a method raises to answer with an error object."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def block_hash(slot: int) -> str:
    """Return the hash of a slot's block."""
    return f"block{slot}"


@dataclass
class Backend:
    """One node: it has every slot from ``first`` to ``slot``, and ``paid`` by slot: (address, lamports)."""

    slot: int
    first: int = 0
    paid: dict[int, tuple[str, int]] = field(default_factory=dict)
    fork: int | None = None
    """From this slot on its blocks are others."""
    base: int = BASE
    """The time of slot 0."""
    methods: dict[str, Callable[..., Any]] = field(default_factory=dict)

    def hash_of(self, slot: int) -> str:
        """Return the hash of a slot's block on this node's branch."""
        return block_hash(slot) if self.fork is None or slot < self.fork else f"other{slot}"

    def answer(self, method: str, params: list[Any]) -> Any:
        """As Agave answers; raises `Refusal`."""
        options = next((each for each in params if isinstance(each, dict) and "programId" not in each), {})
        if len(params) > 2 and isinstance(params[2], dict):
            options = params[2]
        if options.get("minContextSlot", 0) > self.slot:
            raise Refusal(-32016, "Minimum context slot has not been reached")
        own = self.methods.get(method) or getattr(self, method, None)
        if own is None:
            raise Refusal(-32601, "Method not found")
        return own(*params)

    def getGenesisHash(self) -> str:
        return GENESIS

    def getHealth(self) -> str:
        return "ok"

    def getSlot(self, _: Any = None) -> int:
        return self.slot

    def getFirstAvailableBlock(self) -> int:
        return self.first

    def getLatestBlockhash(self, _: Any = None) -> Any:
        return {"context": {"slot": self.slot}, "value": {"blockhash": self.hash_of(self.slot)}}

    def getBlocks(self, low: int, high: int, _: Any = None) -> list[int]:
        return list(range(max(low, self.first), min(high, self.slot) + 1))

    def getBlocksWithLimit(self, low: int, limit: int, _: Any = None) -> list[int]:
        return self.getBlocks(low, self.slot)[:limit]

    def getBlock(self, slot: int, options: Mapping[str, Any]) -> Any:
        if slot < self.first:
            raise Refusal(-32001, f"Block {slot} cleaned up, does not exist on node. First available: {self.first}")
        if slot > self.slot:
            raise Refusal(-32004, f"Block not available for slot {slot}")
        txs = [self._tx(slot)] if slot in self.paid else []
        details = options["transactionDetails"]
        return {
            "blockhash": self.hash_of(slot),
            "previousBlockhash": self.hash_of(max(0, slot - 1)),
            "parentSlot": max(0, slot - 1),
            "blockTime": self.base + slot,
            **({"transactions": txs} if details == "accounts" else {}),
            **(
                {"signatures": [each["transaction"]["signatures"][0] for each in txs]}
                if details == "signatures"
                else {}
            ),
        }

    def getTokenAccountsByOwner(self, *_: Any) -> Any:
        return {"context": {"slot": self.slot}, "value": []}

    def getSignaturesForAddress(self, address: str, _: Any = None) -> Any:
        slots = [slot for slot, (to, _) in self.paid.items() if to == address and slot <= self.slot]
        return [{"signature": f"sig{slot}", "slot": slot, "err": None} for slot in sorted(slots, reverse=True)]

    def getTransaction(self, signature: str, _: Any = None) -> Any:
        slot = int(signature.removeprefix("sig"))
        if slot not in self.paid or slot > self.slot:
            return None
        tx = self._tx(slot)
        keys = [each["pubkey"] for each in tx["transaction"]["accountKeys"]]
        loaded: dict[str, list[str]] = {"writable": [], "readonly": []}
        return {
            "slot": slot,
            "transaction": {"signatures": [signature], "message": {"accountKeys": keys}},
            "meta": {**tx["meta"], "loadedAddresses": loaded},
            "version": "legacy",
        }

    def _tx(self, slot: int) -> Any:
        to, lamports = self.paid[slot]
        return {
            "transaction": {"signatures": [f"sig{slot}"], "accountKeys": [{"pubkey": GENESIS[:32]}, {"pubkey": to}]},
            "meta": {
                "err": None,
                "preBalances": [10**9, 0],
                "postBalances": [10**9 - lamports, lamports],
                "preTokenBalances": [],
                "postTokenBalances": [],
            },
            "version": "legacy",
        }


@dataclass
class SolanaEndpoint:
    """Takes turns among ``backends``, a request each. ``statuses`` answer a method with an HTTP status and no body."""

    backends: list[Backend]
    statuses: dict[str, int] = field(default_factory=dict)
    takes_batches: bool = True
    asked: list[str] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    http: str = ""

    async def __aenter__(self) -> Self:
        self.take_turns()
        app = web.Application()
        app.router.add_post("/{key:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.http = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def take_turns(self) -> None:
        """Let the back ends that there are now answer in turn."""
        self._turns = cycle(range(len(self.backends)))

    def choose(self, _method: str, _peer: object) -> Backend:
        """Return who answers a request, by its first method and its connection."""
        return self.backends[next(self._turns)]

    async def _serve(self, request: web.Request) -> web.Response:
        calls = json.loads(await request.read())
        self.headers.append(dict(request.headers))
        many = calls if isinstance(calls, list) else [calls]
        self.asked += [call["method"] for call in many]
        await asyncio.sleep(0)
        if isinstance(calls, list) and not self.takes_batches:
            return web.json_response({"id": None, "error": {"code": -32600, "message": "no batches here"}})
        for call in many:
            if call["method"] in self.statuses:
                return web.Response(status=self.statuses[call["method"]])
        backend = self.choose(many[0]["method"], peer_of(request))
        replies = [self._reply(backend, call) for call in many]
        return web.json_response(replies if isinstance(calls, list) else replies[0])

    def _reply(self, backend: Backend, call: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return {"jsonrpc": "2.0", "id": call["id"], "result": backend.answer(call["method"], call["params"])}
        except Refusal as refusal:
            return {
                "jsonrpc": "2.0",
                "id": call["id"],
                "error": {"code": refusal.code, "message": refusal.message},
            }

"""A tiny chain that obeys, served as JSON-RPC on loopback."""

import time
from dataclasses import asdict, dataclass, field
from itertools import count
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from railwatch.rail import AssetId, AssetSpec, ChainId, RailAdapter, RailSettings
from railwatch_tiny import create_adapter

CHAIN_ID = ChainId("tiny:main")
_numbers = count(1)


@dataclass
class Tx:
    """A transaction on the wire."""

    id: str
    to: str
    amount: int
    failed: bool = False


@dataclass
class Block:
    """A block on the wire."""

    height: int
    hash: str
    parent: str
    time: int
    txs: list[Tx] = field(default_factory=list)


class TinyNode:
    """A chain in memory that answers JSON-RPC."""

    def __init__(self) -> None:
        self.blocks = [Block(0, "hash-0", "", int(time.time()) - 3600)]
        self.waiting: list[Tx] = []

    def grow(self, txs: list[Tx]) -> None:
        """Add a block."""
        head = self.blocks[-1]
        self.blocks.append(Block(head.height + 1, f"hash-{next(_numbers)}", head.hash, head.time + 1, txs))

    async def serve(self, request: web.Request) -> web.Response:
        """Answer a call or a batch."""
        asked = await request.json()
        return web.json_response(
            [self._reply(call) for call in asked] if isinstance(asked, list) else self._reply(asked)
        )

    def _reply(self, call: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"jsonrpc": "2.0", "id": call["id"], "result": self._result(call["method"], call["params"])}
        except LookupError:
            return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": -5, "message": "unknown block"}}

    def _result(self, method: str, params: list[Any]) -> object:
        if method == "chain":
            return CHAIN_ID
        block = self.blocks[-1] if method == "head" else self.blocks[params[0]]
        return {**asdict(block), "count": len(block.txs)}


class TinySimulator:
    """Drives a `TinyNode` (`railwatch.rail.Simulator`)."""

    native = AssetId(f"{CHAIN_ID}/slip44:1")
    assets: tuple[AssetId, ...] = (native,)

    def __init__(self) -> None:
        self.node = TinyNode()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        """Serve the node on a free port of loopback."""
        app = web.Application()
        app.router.add_post("/", self.node.serve)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.node.grow([])
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the server."""
        if self._runner is not None:
            await self._runner.cleanup()

    def open_adapter(self, chain_id: ChainId = CHAIN_ID) -> RailAdapter:
        """Return a fresh adapter on this node."""
        rail = RailSettings("tiny", chain_id, (AssetSpec("TINY", None),))
        return create_adapter(rail, {"http": self.url})

    @property
    def url(self) -> str:
        """The node's URL, while the simulator is entered."""
        assert self._runner is not None, "enter the simulator first"
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/"

    async def new_address(self) -> str:
        """Return an address that was never used."""
        return f"tiny:{next(_numbers):020x}"

    async def pay(self, address: str, amount: int, asset: AssetId | None = None) -> str:
        """Send ``amount`` base units; return the transaction's id."""
        return self._send(address, amount)

    async def mine(self, blocks: int = 1) -> None:
        """Produce blocks; the first holds everything that waits."""
        for _ in range(blocks):
            self.node.grow(self.node.waiting)
            self.node.waiting = []

    async def reorg(self, depth: int, *, keep: bool = True) -> None:
        """Replace the newest ``depth`` blocks by ``depth`` + 1 others."""
        gone = self.node.blocks[-depth:]
        del self.node.blocks[-depth:]
        self.node.grow([tx for block in gone for tx in block.txs] if keep else [])
        for _ in range(depth):
            self.node.grow([])

    async def replace(self, tx_id: str) -> str:
        """Raise NotImplementedError: without a mempool there is nothing to replace."""
        raise NotImplementedError("the rail has no mempool")

    async def fail_next(self, address: str, amount: int) -> str:
        """Send a transaction that is included and fails."""
        return self._send(address, amount, failed=True)

    def _send(self, address: str, amount: int, *, failed: bool = False) -> str:
        tx = Tx(f"tx-{next(_numbers)}", address, amount, failed)
        self.node.waiting.append(tx)
        return tx.id

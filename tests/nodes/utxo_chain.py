"""A chain of the Bitcoin family that a test makes up, block by block, above the last landmark of a real one.

So Dogecoin, Bitcoin Cash, eCash or Namecoin can be followed by the whole daemon, though none of their nodes is at hand:
the blocks are real bytes of their kind, and the way of speaking is the client's (`tests.nodes.bitcoin_node`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from railwatch_bitcoin.chains import Chain
from tests.bitcoin.build import In, MadeBlock, MadeTx, Out, coin, coinbase, p2pkh
from tests.nodes.bitcoin_node import BitcoinNode, Method, Refusal

MERGE_MINED = 0x00620104
"""Dogecoin's version with the bit that says that another chain's proof follows the header."""


@dataclass
class UtxoChain:
    """``line``: the blocks above the last landmark, the oldest first; ``waiting``: the mempool, by id."""

    chain: Chain
    line: list[MadeBlock] = field(default_factory=list)
    waiting: dict[str, MadeTx] = field(default_factory=dict)
    _made: int = 0

    def __post_init__(self) -> None:
        # Ones that certainly reach back farther than any look-back, so that no request exceeds what is made.
        self.base = self.chain.landmarks[-1][0]
        self.mine(self.chain.lookback + 40)

    @property
    def height(self) -> int:
        """The head's."""
        return self.base + len(self.line)

    def pay(self, script: bytes, amount: int) -> str:
        """Add a payment to the mempool; return its id."""
        self._made += 1
        tx = MadeTx([In(coin(self._made))], [Out(amount, script), Out(7, p2pkh(self._made))])
        self.waiting[tx.id] = tx
        return tx.id

    def mine(self, count: int = 1, *, empty: bool = False) -> None:
        """Blocks with all that waits in the first of them."""
        for _ in range(count):
            self._made += 1
            txs = [] if empty else list(self.waiting.values())
            if not empty:
                self.waiting.clear()
            self.line.append(self._block([coinbase(Out(50, p2pkh(self._made)), height=self._made), *txs]))

    def reorg(self, depth: int, *, keep: bool = True) -> None:
        """Replace so many blocks by one more; their payments wait again if they are kept."""
        gone = self.line[-depth:]
        del self.line[-depth:]
        if keep:
            self.waiting.update((tx.id, tx) for block in gone for tx in block.txs[1:])
        self.mine(depth + 1, empty=not keep)

    def _block(self, txs: Sequence[MadeTx]) -> MadeBlock:
        parent = self.line[-1].hash if self.line else self.chain.landmarks[-1][1]
        now = int(time.time())
        if not self.chain.auxpow or self._made % 3:
            return MadeBlock(txs, parent=parent, time=now)
        other = MadeBlock([coinbase(Out(25, p2pkh(0)), height=self._made)])
        branches = b"\x00" + bytes(4)
        proof = other.txs[0].raw + bytes.fromhex(other.hash)[::-1] + branches + branches + other.header
        return MadeBlock(txs, parent=parent, time=now, version=MERGE_MINED, proof=proof)


SERVED = (
    *("getblockhash", "getblockheader", "getblock", "getblockchaininfo"),
    *("getrawtransaction", "getrawmempool", "getmempoolinfo"),
)


@dataclass(frozen=True)
class View:
    """What one node answers whose tip is at ``line``; methods have the names of the RPC."""

    chain: UtxoChain
    line: Callable[[], Sequence[MadeBlock]]

    @property
    def methods(self) -> dict[str, Method]:
        """By name."""
        return {name: getattr(self, name) for name in SERVED}

    @property
    def _top(self) -> int:
        return self.chain.base + len(self.line())

    def getblockhash(self, height: int) -> str:
        if height > self._top:
            raise Refusal(-8, "Block height out of range")
        if height > self.chain.base:
            return self.line()[height - self.chain.base - 1].hash
        return dict(self.chain.chain.landmarks).get(height, f"{height:064x}")

    def getblockheader(self, block_hash: str, verbose: bool = True) -> Any:
        below = {known: height for height, known in self.chain.chain.landmarks}
        if block_hash in below:
            return self._header(block_hash, below[block_hash], "00" * 32, 1_700_000_000) if verbose else "00" * 80
        place = self._place_of(block_hash)
        block = self.line()[place]
        if not verbose:
            return block.header.hex()
        return self._header(block_hash, self.chain.base + place + 1, block.parent, block.time)

    def getblock(self, block_hash: str, verbose: Any = 1) -> Any:
        if any(block_hash == known for _, known in self.chain.chain.landmarks):
            return {"size": 1} if verbose else "00"
        block = self.line()[self._place_of(block_hash)]
        return {"size": len(block.raw)} if verbose else block.raw.hex()

    def getblockchaininfo(self) -> Any:
        top = self._top
        best = self.getblockhash(top)
        return {"blocks": top, "headers": top, "bestblockhash": best, "initialblockdownload": False}

    def getrawtransaction(self, tx_id: str, *_: Any) -> str:
        if tx_id not in self.chain.waiting:
            raise Refusal(-5, "No such mempool or blockchain transaction.")
        return self.chain.waiting[tx_id].raw.hex()

    def getrawmempool(self, *_: Any) -> list[str]:
        return list(self.chain.waiting)

    def getmempoolinfo(self) -> Any:
        return {"loaded": True}

    def _place_of(self, block_hash: str) -> int:
        for place, block in enumerate(self.line()):
            if block.hash == block_hash:
                return place
        raise Refusal(-5, "Block not found")

    def _header(self, block_hash: str, height: int, parent: str, moment: int) -> dict[str, Any]:
        return {
            "hash": block_hash,
            "height": height,
            "time": moment,
            "confirmations": self._top - height + 1,
            "previousblockhash": parent,
        }


@dataclass(frozen=True, slots=True)
class Client:
    """How one client speaks. ``params_most``: parameters of `getrawmempool`; ``raw_by_truth``: see `Dialect`."""

    params_most: int = 2
    raw_by_truth: bool = False


def client_node(chain: UtxoChain, client: Client) -> BitcoinNode:
    """Yield a node of ``chain`` that speaks as ``client`` does."""
    methods = View(chain, lambda: chain.line).methods
    listed, block = methods["getrawmempool"], methods["getblock"]
    changes = [0]

    def getrawmempool(verbose: bool = False, *more: bool) -> Any:
        if 1 + len(more) > client.params_most:
            raise Refusal(-1, "getrawmempool ( verbose )\n\nReturns all transaction ids in memory pool.")
        if not more or not more[0]:
            return listed()
        changes[0] += 1
        return {"txids": listed(), "mempool_sequence": changes[0]}

    def getblock(block_hash: str, verbose: Any = 1) -> Any:
        if client.raw_by_truth and type(verbose) is int:
            raise Refusal(-1, "JSON value is not a boolean as expected")
        return block(block_hash, verbose)

    methods |= {"getrawmempool": getrawmempool, "getblock": getblock}
    return BitcoinNode(methods)

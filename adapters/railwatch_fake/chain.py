"""An in-memory chain that pays, forks and skips heights on command: the truth that fake nodes report, or lie about.

Nothing here knows of adapters or of asyncio, and nothing is random: two chains of the same name and seed that are
with the same history have the same hashes. Blocks of every branch are kept, because real nodes keep them too, and an
adapter must not mistake "the node knows this hash" for "this hash is canonical".
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from railwatch.rail import ChainId

GENESIS_TIME = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Output:
    """One credit of a transaction. ``token`` is "" for the native asset, else a token's contract."""

    to: bytes
    amount: int
    token: str = ""
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Tx:
    """A transaction: it consumes coins, named by text, and pays outputs unless it ``failed``."""

    id: str
    spends: tuple[str, ...]
    outputs: tuple[Output, ...]
    failed: bool = False
    maturity: int = 1
    takes: tuple[Output, ...] = ()
    """What leaves addresses: each output's ``to`` loses its amount."""
    inner: bool = False
    """It pays by means that only a tracing node shows (HAZARDS E2)."""


@dataclass(frozen=True, slots=True)
class Block:
    """One block of some branch."""

    height: int
    hash: str
    parent: str
    time: datetime
    txs: tuple[Tx, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """What kind of rail the chain plays; the adapter's traits follow from it.

    ``finality`` and ``safe`` are depths below the head, None where the rail has no such thing. A reorg may pass
    finality all the same: that is the catastrophe which a daemon's tests need. ``balances``: its nodes serve what keys
    hold.
    """

    finality: int | None = None
    safe: int | None = None
    mempool: bool = True
    tokens: tuple[str, ...] = ("gold",)
    span_max: int = 1_000
    lookback: int = 300
    horizon: int = 100
    block_seconds: int = 10
    balances: bool = False


PLAIN = Rules()
"""A mempool, one token, no finality."""


class FakeChain:
    """The chain. ``line`` is the canonical branch, oldest first; ``blocks`` holds every branch by hash.

    ``clock`` stamps the blocks; without one a block's time follows from its height alone. ``listeners`` are called,
    without arguments, after every change of the chain or the mempool.
    """

    def __init__(
        self, name: str, rules: Rules = PLAIN, *, seed: int = 0, clock: Callable[[], datetime] | None = None
    ) -> None:
        self.name = name
        self.rules = rules
        self.chain_id = ChainId(f"fake:{name}")
        self.waiting: dict[str, Tx] = {}
        self.txs: dict[str, Tx] = {}
        self.listeners: list[Callable[[], None]] = []
        self._clock = clock
        self._seed = seed
        self._named = 0
        self._held: set[str] = set()
        self._skip = 0
        genesis = Block(0, self.fresh_name("block"), "", self._time_at(0), ())
        self.blocks: dict[str, Block] = {genesis.hash: genesis}
        self.line: list[Block] = [genesis]

    # Reading

    @property
    def tip(self) -> Block:
        """The newest canonical block."""
        return self.line[-1]

    def at(self, height: int) -> Block:
        """Return the canonical block at ``height``, or the nearest below."""
        return nearest(self.line, height)

    def branch(self, tip: str) -> list[Block]:
        """Return the blocks that lead to ``tip``, oldest first, on whichever branch it is."""
        blocks = [self.blocks[tip]]
        while blocks[-1].parent:
            blocks.append(self.blocks[blocks[-1].parent])
        return blocks[::-1]

    def balance(self, key: bytes, token: str, tip: str) -> int:
        """Return what ``key`` holds of a token after block ``tip``: everything received, less what was spent."""
        txs = [tx for block in self.branch(tip) for tx in block.txs if not tx.failed]
        came = sum(out.amount for tx in txs for out in tx.outputs if (out.to, out.token) == (key, token))
        left = sum(out.amount for tx in txs for out in tx.takes if (out.to, out.token) == (key, token))
        return came - left

    # Transactions

    def new_key(self) -> bytes:
        """Return the key of an address that has never been used."""
        return bytes.fromhex(self.fresh_name("key"))[:20]

    def send(
        self,
        *outputs: Output,
        spends: Iterable[str] = (),
        failed: bool = False,
        maturity: int = 1,
        takes: tuple[Output, ...] = (),
        inner: bool = False,
    ) -> Tx:
        """Put one transaction into the mempool. Without ``spends`` it consumes a coin of its own."""
        coins = tuple(spends) or (f"coin:{self.fresh_name('coin')[:16]}",)
        tx = Tx(self.fresh_name("tx"), coins, outputs, failed, maturity, takes, inner)
        self.txs[tx.id] = self.waiting[tx.id] = tx
        self._changed()
        return tx

    def replace(self, tx_id: str) -> Tx:
        """Return a rival of ``tx_id`` that spends one of its coins to a stranger; the old one leaves the mempool.

        An orphaned transaction can be replaced too: that is the double-spend which a reorg makes possible.
        """
        old = self.txs[tx_id]
        self.waiting.pop(tx_id, None)
        return self.send(Output(self.new_key(), sum(out.amount for out in old.outputs)), spends=old.spends[:1])

    def drop(self, tx_id: str) -> None:
        """Drop a transaction from the mempool, with neither a block nor a rival (HAZARDS B2)."""
        del self.waiting[tx_id]
        self._changed()

    def resend(self, tx_id: str) -> None:
        """Put a dropped or orphaned transaction back into the mempool, unchanged."""
        self.waiting[tx_id] = self.txs[tx_id]
        self._changed()

    def hold(self, tx_id: str) -> None:
        """Keep a waiting transaction out of blocks until `release`."""
        self._held.add(tx_id)

    def release(self, tx_id: str) -> None:
        """Let a held transaction into the next block."""
        self._held.discard(tx_id)

    # Blocks

    def skip(self, heights: int) -> None:
        """Leave this many heights without a block below the next one."""
        self._skip += heights

    def mine(self, blocks: int = 1) -> Block:
        """Extend the canonical branch; the first block holds everything that waits and is not held."""
        for _ in range(blocks):
            ready = [tx for tx in self.waiting.values() if tx.id not in self._held]
            self.adopt(self.grow(self.tip, ready).hash)
        return self.tip

    def reorg(self, depth: int, *, keep: bool = True) -> Block:
        """Replace the newest ``depth`` blocks by ``depth`` + 1 others; returns the new tip.

        ``keep``: the first of the new blocks holds all their transactions; otherwise these are in none, and gone.
        """
        if not 1 <= depth < len(self.line):
            raise ValueError(f"cannot replace {depth} blocks of {len(self.line)}: the first one stays")
        orphaned = [tx for block in self.line[-depth:] for tx in block.txs]
        block = self.grow(self.line[-depth - 1], orphaned if keep else ())
        for _ in range(depth):
            block = self.grow(block)
        self.adopt(block.hash)
        return block

    def grow(self, parent: Block, txs: Iterable[Tx] = ()) -> Block:
        """Return a new block on any branch, known by its hash and not canonical until its branch is adopted."""
        height = parent.height + 1 + self._skip
        self._skip = 0
        block = Block(height, self.fresh_name("block"), parent.hash, self._time_at(height), tuple(txs))
        self.blocks[block.hash] = block
        return block

    def adopt(self, tip: str) -> None:
        """Make the branch that ends in ``tip`` the canonical one, also when it was canonical before."""
        joined: list[Block] = []
        block = self.blocks[tip]
        while self.at(block.height) is not block:
            joined.append(block)
            block = self.blocks[block.parent]
        del self.line[bisect_right(self.line, block.height, key=_height) :]
        self.line.extend(reversed(joined))
        consumed = {coin for block in joined for tx in block.txs for coin in tx.spends}
        # This removes what is now in a block, and with it every rival that can no longer be in one.
        self.waiting = {tx.id: tx for tx in self.waiting.values() if consumed.isdisjoint(tx.spends)}
        self._changed()

    # The rest

    def fresh_name(self, kind: str) -> str:
        """64 hex digits that are new on this chain and the same in every run of the same story."""
        self._named += 1
        return sha256(f"{self.name}/{self._seed}/{kind}/{self._named}".encode()).hexdigest()

    def _time_at(self, height: int) -> datetime:
        if self._clock is not None:
            return self._clock()
        return GENESIS_TIME + timedelta(seconds=height * self.rules.block_seconds)

    def _changed(self) -> None:
        for listener in self.listeners:
            listener()


def nearest(line: list[Block], height: int) -> Block:
    """Return the block of an ascending ``line`` at ``height``, or the nearest below; the first where there is none."""
    return line[max(bisect_right(line, height, key=_height) - 1, 0)]


def _height(block: Block) -> int:
    return block.height

"""One node of a fake chain: what it answers over its wire, and every way in which it can misbehave.

Several nodes may follow one chain, each with faults of its own, so that failover and disagreement can be tested.
Answers are plain dicts and strings, as JSON would bring them: an adapter has to decode them and trusts none of them.
"""

import asyncio
from collections.abc import Callable
from hashlib import sha256
from typing import TypedDict

from railwatch_fake.chain import Block, FakeChain, Output, Tx, nearest


class WireOutput(TypedDict):
    """One output: the key in hex, the amount in digits (a JSON number would lose some of them)."""

    to: str
    amount: str
    token: str
    reference: str | None


class WireTx(TypedDict):
    """One transaction."""

    id: str
    failed: bool
    maturity: int
    spends: list[str]
    outputs: list[WireOutput]


class WireHeader(TypedDict):
    """A block without its transactions; ``time`` in ISO 8601, ``count`` of the transactions that a whole block has."""

    height: int
    hash: str
    parent: str
    time: str
    count: int


class WireBlock(WireHeader):
    """A block."""

    txs: list[WireTx]


class WireHeads(TypedDict):
    """The newest, safe and finalized header."""

    latest: WireHeader
    safe: WireHeader | None
    finalized: WireHeader | None


class Pruned(ConnectionError):
    """The node no longer has that block; ``first`` is the lowest that it has."""

    def __init__(self, height: int, first: int) -> None:
        super().__init__(f"block {height} is pruned")
        self.first = first


class NotServed(ConnectionError):
    """The node does not serve that method."""


class FakeNode:
    """A node. Its faults are attributes, to be set in the middle of a story.

    - ``down``: it refuses; ``hangs``: it never answers; ``latency``: it answers after so many seconds
    - ``lag``: it is so many blocks behind, so that setting it makes the head go back
    - ``silent``: connected, but it pushes nothing more; ``pushes`` False: it never could
    - ``undecodable``: blocks hold an amount that is no number; ``misshapen``: headers lack their hash
    - ``truncates``: blocks come without their last transaction
    - ``forgets``: it reports heads, and knows no block by its hash, as where another node answers the next request
    - ``turns``: lines of blocks that it reports in turn, one for each request for heads, until the next such question
    - ``traces`` False: transactions that pay from within (`Tx.inner`) are missing, and nothing shows it
    - ``keeps``: it has only the states of so many newest blocks, None: of all, to read balances from
    - `pruned_below`: it has no block below that height any more
    - ``loses_below``: it reports headers below that height, and knows none of those blocks; ``fails_below``: it refuses
      whatever is asked of blocks below that height, as if an archive behind it were down
    - `impersonate`: it is another chain after a reconnect; `pin`: it stays on a branch of its own
    - `make_up`: it reports blocks that no other node knows, above the tip, with payments if so wished
    - ``ahead``: it claims to be so many (empty, made-up) blocks ahead of the chain, whatever the chain does
    - ``finality``: it claims that this depth below its head is final; ``finality_at``: it stays at this height
    - ``retold``: it reports another content: by transaction id, the transaction in its place, None: it hides it
    - ``misstates``: what it adds to every balance, in base units
    - ``misnames``: by height, a hash that it reports for its canonical block there, and that no block has
    - ``breaks``: every answer raises this exception, as a defect in an adapter would
    - ``refuses``: methods that it does not serve, as a whitelist leaves them out
    """

    def __init__(self, chain: FakeChain) -> None:
        self.chain = chain
        self.down = False
        self.hangs = False
        self.silent = False
        self.pushes = True
        self.undecodable = False
        self.misshapen = False
        self.truncates = False
        self.forgets = False
        self.turns: list[list[Block] | None] = []
        self.traces = True
        self.keeps: int | None = None
        self.pruned_below = 0
        self.loses_below = 0
        self.fails_below = 0
        self.lag = 0
        self.ahead = 0
        self.finality: int | None = None
        self.finality_at: int | None = None
        self.retold: dict[str, Tx | None] = {}
        self.misstates = 0
        self.misnames: dict[int, str] = {}
        self.breaks: Exception | None = None
        self.refuses: frozenset[str] = frozenset()
        self.asked = 0
        """How many questions it was asked."""
        self.latency = 0.0
        self.session = 1
        """Grows with each reconnect: a client that sees another number must ask again who it talks to."""
        self.subscribers: list[Callable[[], None]] = []
        self._claims: str = chain.chain_id
        self._pinned: list[Block] | None = None
        self._own: dict[str, Block] = {}
        """Blocks that only this node knows, by hash."""
        chain.listeners.append(self._push)

    # Misbehaving on command

    def restart(self) -> None:
        """Cut all connections; the node is back at once."""
        self.session += 1
        self._push()

    def impersonate(self, chain_id: str | None) -> None:
        """Answer for another chain from the next connection on; None: for its own again (HAZARDS E23)."""
        self._claims = chain_id or self.chain.chain_id
        self.restart()

    def pin(self, tip: str | None) -> None:
        """Stay on the branch that ends in ``tip`` whatever the others do; None: follow them again."""
        self._pinned = None if tip is None else self.chain.branch(tip)
        self._push()

    def make_up(self, blocks: int, *outputs: Output) -> list[Block]:
        """Report ``blocks`` blocks that no other node knows, above its reported chain, and stay there until `pin`.

        The first of them pays ``outputs``. Returns the new ones.
        """
        line, reported = list(self._line()), len(self._line())
        name = sha256(f"{line[-1].hash}/{len(self._own)}/{id(self)}".encode()).hexdigest()
        paying = (Tx(name, (f"coin:{name[:16]}",), outputs),) if outputs else ()
        for place in range(blocks):
            line.append(self._made_up(line[-1], name, () if place else paying))
        self._pinned = line
        self._push()
        return line[reported:]

    # Answering

    async def identify(self) -> str:
        """Return the chain id."""
        await self._answering("identify")
        return self._claims

    async def heads(self) -> WireHeads:
        """Return the three heads, of one moment."""
        await self._answering("heads")
        if self.turns:
            self._pinned, self.turns = self.turns[0], [*self.turns[1:], self.turns[0]]
        rules, line = self.chain.rules, self._line()
        finality = rules.finality if self.finality is None else self.finality
        if self.finality_at is not None:
            finality = max(0, line[-1].height - self.finality_at)

        def below(depth: int | None) -> WireHeader | None:
            return None if depth is None else self._header(nearest(line, line[-1].height - depth))

        return {"latest": self._header(line[-1]), "safe": below(rules.safe), "finalized": below(finality)}

    async def header_at(self, height: int) -> WireHeader | None:
        """Return the canonical header at ``height`` or the nearest below; None above the head."""
        await self._answering("header_at")
        line = self._line()
        if height > line[-1].height:
            return None
        self._refuse_old(height)
        header = self._header(nearest(line, height))
        return {**header, "hash": self.misnames[height]} if height in self.misnames else header

    async def block(self, block_hash: str) -> WireBlock | None:
        """Return the block of any branch that has this hash, or None if the node has not synchronised to it."""
        await self._answering("block")
        block = None if self.forgets else self._known(block_hash)
        if block is not None and block.height < self.pruned_below:
            raise Pruned(block.height, self.pruned_below)
        if block is not None:
            self._refuse_old(block.height)
        if block is None or block.height < self.loses_below or (self.lag and block.height > self._line()[-1].height):
            return None
        txs = [self._tx(tx) for tx in self._shown(block)]
        return {**self._header(block), "txs": txs[:-1] if self.truncates else txs}

    async def balance(self, keys: list[str], token: str, block_hash: str) -> list[str] | None:
        """Return what each key holds of a token after a block, in digits; None where the node has no such state."""
        await self._answering("balance")
        block, line = self._known(block_hash), self._line()
        if block is None or block_hash in self._own or block.height > line[-1].height:
            return None
        if self.keeps is not None and block.height <= line[-1].height - self.keeps:
            return None
        balances = (self.chain.balance(bytes.fromhex(key), token, block_hash) for key in keys)
        return [str(each + self.misstates) for each in balances]

    async def mempool(self) -> list[WireTx]:
        """Everything that waits."""
        await self._answering("mempool")
        return [self._tx(tx) for tx in self.chain.waiting.values() if self.traces or not tx.inner]

    # The rest

    async def _answering(self, method: str) -> None:
        # Even the fastest answer gives way to others once, as a socket would: what is unsafe under
        # concurrency shall show here and not first on a real rail.
        self.asked += 1
        await asyncio.sleep(self.latency)
        if self.hangs:
            await asyncio.Event().wait()
        if self.down:
            raise ConnectionRefusedError(f"the node of {self.chain.chain_id} is down")
        if self.breaks is not None:
            raise self.breaks
        if method in self.refuses:
            raise NotServed(f"{method} is not served here")

    def _refuse_old(self, height: int) -> None:
        if height < self.fails_below:
            raise ConnectionRefusedError(f"the archive of {self.chain.chain_id} is down, which has block {height}")

    def _known(self, block_hash: str) -> Block | None:
        return self.chain.blocks.get(block_hash) or self._own.get(block_hash)

    def _made_up(self, parent: Block, mark: str, txs: tuple[Tx, ...] = ()) -> Block:
        """Return a block of this node's own on ``parent``, the same on each call."""
        height = parent.height + 1
        named = sha256(f"{parent.hash}/{mark}/{id(self)}".encode()).hexdigest()
        return self._own.setdefault(named, Block(height, named, parent.hash, parent.time, txs))

    @property
    def line(self) -> list[Block]:
        """Return the blocks that it reports now, oldest first."""
        return self._line()

    def _line(self) -> list[Block]:
        line = self.chain.line if self._pinned is None else self._pinned
        if self.ahead:
            line = list(line)
            for _ in range(self.ahead):
                line.append(self._made_up(line[-1], "ahead"))
            return line
        return line[: max(len(line) - self.lag, 1)] if self.lag else line

    def _shown(self, block: Block) -> list[Tx]:
        transactions = (self.retold.get(tx.id, tx) for tx in block.txs)
        return [tx for tx in transactions if tx is not None and (self.traces or not tx.inner)]

    def _header(self, block: Block) -> WireHeader:
        header: WireHeader = {
            "height": block.height,
            "hash": block.hash,
            "parent": block.parent,
            "time": block.time.isoformat(),
            "count": len(self._shown(block)),
        }
        if self.misshapen:
            del header["hash"]  # type: ignore[misc]  # that it cannot be is the point
        return header

    def _tx(self, tx: Tx) -> WireTx:
        return {
            "id": tx.id,
            "failed": tx.failed,
            "maturity": tx.maturity,
            "spends": list(tx.spends),
            "outputs": [
                {
                    "to": out.to.hex(),
                    "amount": "many" if self.undecodable else str(out.amount),
                    "token": out.token,
                    "reference": out.reference,
                }
                for out in tx.outputs
            ],
        }

    def _push(self) -> None:
        if self.pushes and not (self.silent or self.down):
            for subscriber in list(self.subscribers):
                subscriber()

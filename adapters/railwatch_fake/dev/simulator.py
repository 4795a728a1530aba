"""Drives a fake chain through the seam's `Simulator`, and a little further: its node can be made to misbehave."""

from types import TracebackType
from typing import Self

from railwatch.rail import AssetId, RailAdapter
from railwatch_fake import address
from railwatch_fake.adapter import FakeAdapter
from railwatch_fake.chain import PLAIN, FakeChain, Output, Rules
from railwatch_fake.decode import asset_id
from railwatch_fake.node import FakeNode


class FakeSimulator:
    """`railwatch.rail.Simulator` over one chain and one node.

    Beyond the seam: ``chain`` for stories that the methods below cannot produce (batches, branches, skipped heights,
    held transactions), ``node`` for faults, and ``reference`` and `drop`.
    """

    def __init__(
        self, rules: Rules = PLAIN, name: str = "story", *, chain: FakeChain | None = None, node: FakeNode | None = None
    ) -> None:
        self.chain = chain or FakeChain(name, rules)
        self.node = node or FakeNode(self.chain)
        self.native = asset_id(self.chain.chain_id, "")
        self._tokens = {asset_id(self.chain.chain_id, token): token for token in ("", *self.chain.rules.tokens)}
        self.assets: tuple[AssetId, ...] = tuple(self._tokens)

    async def __aenter__(self) -> Self:
        """Mine the first block: a chain in memory needs no other start."""
        self.node.down = False
        if len(self.chain.line) == 1:
            self.chain.mine()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """There is no process to end: what is left of an open adapter finds its node down."""
        self.node.down = True

    def open_adapter(self) -> RailAdapter:
        """Return a fresh adapter on this node."""
        return FakeAdapter(self.node, self.chain.chain_id)

    async def new_address(self) -> str:
        """Return an address that has never been used."""
        return address.render(self.chain.new_key())

    async def pay(
        self, address: str, amount: int, asset: AssetId | None = None, *, reference: str | None = None
    ) -> str:
        """Send ``amount`` base units to ``address``; returns the transaction's id."""
        return self.chain.send(self.output(address, amount, asset, reference=reference)).id

    async def mine(self, blocks: int = 1) -> None:
        """Produce blocks; the first holds everything that waits and is not held."""
        self.chain.mine(blocks)

    async def reorg(self, depth: int, *, keep: bool = True) -> None:
        """Replace the newest ``depth`` blocks by ``depth`` + 1 others."""
        self.chain.reorg(depth, keep=keep)

    async def replace(self, tx_id: str) -> str:
        """Replace a waiting (or orphaned) transaction by a rival that pays a stranger; returns the rival's id."""
        return self.chain.replace(tx_id).id

    async def fail_next(self, address: str, amount: int) -> str:
        """Send a transaction that is included and fails."""
        return self.chain.send(self.output(address, amount), failed=True).id

    async def drop(self, tx_id: str) -> None:
        """Drop a transaction from the mempool."""
        self.chain.drop(tx_id)

    def output(self, text: str, amount: int, asset: AssetId | None = None, *, reference: str | None = None) -> Output:
        """Return an output for `FakeChain.send`, such as one of a batch that pays many at once."""
        return Output(address.parse(text).key, amount, self._tokens[asset or self.native], reference)

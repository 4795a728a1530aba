"""What happens on a chain: payments, blocks, reorgs and transactions that are lost."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from railwatch_fake import FakeChain, address
from tests.model.base import WorldBase, verb
from tests.model.setting import (
    BLOCK_SECONDS,
    DEEPEST,
)
from tests.model.truth import LEAST


class ChainVerbs(WorldBase):
    """Verbs of a chain."""

    @verb
    async def pays(
        self, *, order: int, amount: int, gold: bool = False, maturity: int = 1, rail: int = 0
    ) -> None:  # fmt: skip
        """A customer pays an invoice's address, maybe on a rail on which nobody asked for it."""
        if (paid := self.order(order)) is not None:
            self.side(rail).chain.send(self.output(paid.address, amount, gold), maturity=maturity)

    @verb
    async def pays_dust(self, *, order: int, amount: int) -> None:
        """Somebody sends an invoice's address less than moves anything."""
        if (paid := self.order(order)) is not None:
            self.chain.send(self.output(paid.address, amount % LEAST))

    @verb
    async def pays_many(self, *, orders: list[int], amount: int) -> None:
        """One transaction pays several invoices, maybe one of them twice."""
        paid = [found.address for found in map(self.order, orders) if found is not None]
        if paid:
            self.chain.send(*(self.output(each, amount) for each in paid))

    @verb
    async def pays_first(self, *, amount: int, rail: int = 0) -> None:
        """Somebody pays an address that no invoice has yet."""
        self.unregistered.append(address.render(self.chain.new_key()))
        self.side(rail).chain.send(self.output(self.unregistered[-1], amount))

    @verb
    async def mines(self, *, blocks: int, change: int = 0, rail: int = 0) -> None:
        """The chain grows. ``change``: what a waiting transaction pays turns out otherwise in its block."""
        chain = self.side(rail).chain
        for _ in range(blocks):
            await self.passes(BLOCK_SECONDS)
            if change and chain.waiting:
                self._change(chain, list(chain.waiting)[change % len(chain.waiting)], change)
            chain.mine()

    @verb
    async def reorgs(self, *, depth: int, fate: str, change: int = 0, rail: int = 0) -> None:
        """The newest blocks are replaced. ``fate`` of their transactions: kept, lost, half, back or changed."""
        chain = self.side(rail).chain
        depth = min(depth, DEEPEST, len(chain.line) - 2)
        if depth < 1:
            return
        orphaned = [tx for block in chain.line[-depth:] for tx in block.txs]
        changed = {tx.id for tx in orphaned[change % 2 :: 2]} if fate == "changed" else set[str]()
        for each in changed:
            self._change(chain, each, change)
        orphaned = [chain.txs[tx.id] for tx in orphaned]
        kept = {"kept": orphaned, "changed": orphaned, "half": orphaned[change % 2 :: 2]}.get(fate, [])
        await self.passes(BLOCK_SECONDS)
        block = chain.grow(chain.line[-depth - 1], kept)
        for _ in range(depth):
            block = chain.grow(block)
        chain.adopt(block.hash)
        consumed = {coin for each in chain.line for tx in each.txs for coin in tx.spends}
        if fate in ("back", "half"):
            for tx in orphaned:
                if tx not in kept and consumed.isdisjoint(tx.spends):
                    chain.resend(tx.id)

    @verb
    async def flaps(self, *, order: int, depth: int, times: int, milliseconds: int) -> None:
        """The chain shows a branch of the same length for moments, in which the order is paid, and pushes nothing."""
        chain, paid = self.chain, self.order(order)
        depth = min(depth, DEEPEST, len(chain.line) - 2)
        if depth < 1 or paid is None:
            return
        self.flapped = True
        await self.passes(BLOCK_SECONDS)
        tip = chain.tip.hash
        other = chain.grow(chain.line[-depth - 1], [chain.send(self.output(paid.address, 50))])
        for _ in range(depth - 1):
            other = chain.grow(other)
        for node in self.sides[0].all_nodes():
            node.silent = True
        for branch in (other.hash, tip) * times:
            chain.adopt(branch)
            await asyncio.sleep(milliseconds / 1000)
        for node in self.sides[0].all_nodes():
            node.silent = False

    @verb
    async def is_paid_by_a_late_block(self, *, order: int) -> None:
        """A block comes seconds after its timestamp, and pays an order whose window was over meanwhile."""
        paid, chain = self.order(order), self.chain
        if paid is None or (left := (paid.expires_at - self.clock.now()).total_seconds()) < 0:
            return
        await self.passes(left + 0.5)
        await asyncio.sleep(0.2)
        stamp = paid.expires_at - timedelta(seconds=2)
        usual, chain._clock = chain._clock, lambda: stamp
        chain.send(self.output(paid.address, paid.asks.get(self.sides[0].coin, 100)))
        late = chain.grow(chain.tip, list(chain.waiting.values()))
        chain._clock = usual
        chain.adopt(late.hash)

    def _change(self, chain: FakeChain, tx_id: str, how: int) -> None:
        """What the transaction pays depends on the state before it, so that it pays something else from now on."""
        tx = chain.txs[tx_id]
        out = tx.outputs[0]
        other = self.order(how)
        changes = [
            replace(out, amount=max(LEAST, out.amount * 3 // 5)),
            replace(out, amount=out.amount * 2),
            replace(out, to=address.parse(other.address).key) if other else out,
            replace(out, token="" if out.token else "gold"),
            replace(out, to=chain.new_key()),
        ]
        changed = replace(tx, outputs=(changes[how % len(changes)], *tx.outputs[1:]), maturity=1 + how % 3)
        chain.txs[tx_id] = changed
        if tx_id in chain.waiting:
            chain.waiting[tx_id] = changed

    @verb
    async def replaces(self, *, which: int, rail: int = 0) -> None:
        """A rival takes the coins of a waiting transaction elsewhere."""
        chain = self.side(rail).chain
        if chain.waiting:
            chain.replace(list(chain.waiting)[which % len(chain.waiting)])

    @verb
    async def drops(self, *, which: int, rail: int = 0) -> None:
        """The mempool forgets a transaction."""
        side = self.side(rail)
        if side.chain.waiting:
            side.dropped.append(list(side.chain.waiting)[which % len(side.chain.waiting)])
            side.chain.drop(side.dropped[-1])

    @verb
    async def resends(self, *, rail: int = 0) -> None:
        """A dropped transaction is back, unless its coins are gone."""
        side, chain = self.side(rail), self.side(rail).chain
        consumed = {coin for block in chain.line for tx in block.txs for coin in tx.spends}
        consumed |= {coin for tx in chain.waiting.values() for coin in tx.spends}
        if side.dropped and consumed.isdisjoint(chain.txs[side.dropped[-1]].spends):
            chain.resend(side.dropped.pop())

"""What every check works with: a simulator, a connected adapter, and the block at which the check begins."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import pytest

from railwatch.conformance.watches import WatchSet, assets_of
from railwatch.rail import Address, AssetId, BlockRef, RailAdapter, Scanned, Simulator, Span, Transfer


@dataclass(frozen=True, slots=True)
class ChainHarness:
    """One story on one chain. ``unit`` is an amount in base units that every asset can pay.

    Nothing assumes that the chain is empty: all is relative to ``start``, the head when the check began, so that a
    simulator whose node is slow to start may serve many stories with one node.
    """

    sim: Simulator
    rail: RailAdapter
    start: BlockRef
    unit: int

    @classmethod
    async def begin(cls, sim: Simulator, rail: RailAdapter, unit: int) -> Self:
        """From the block that is the newest now."""
        return cls(sim, rail, (await rail.heads()).latest, unit)

    # Acting

    async def address(self) -> Address:
        """Return a fresh address, parsed."""
        return self.rail.parse_address(await self.sim.new_address())

    async def pay(self, to: Address, units: int = 1, asset: AssetId | None = None) -> str:
        """Pay so many units; the transaction waits for the next block."""
        return await self.sim.pay(to.text, units * self.unit, asset)

    async def paid(self, to: Address, units: int = 1, asset: AssetId | None = None) -> str:
        """Pay, and mine it."""
        tx_id = await self.pay(to, units, asset)
        await self.sim.mine()
        return tx_id

    async def reorg(self, depth: int, *, keep: bool = True) -> None:
        """`Simulator.reorg`, or a skip where the development node cannot."""
        try:
            await self.sim.reorg(depth, keep=keep)
        except NotImplementedError as why:
            pytest.skip(f"the simulator cannot reorganise the chain: {why}")

    async def replace(self, tx_id: str) -> str:
        """`Simulator.replace`, or a skip where the development node cannot."""
        try:
            return await self.sim.replace(tx_id)
        except NotImplementedError as why:
            pytest.skip(f"the simulator cannot replace a transaction: {why}")

    async def fail(self, to: Address, units: int = 1) -> str:
        """`Simulator.fail_next`, or a skip where no transaction of the rail can be included and fail."""
        try:
            return await self.sim.fail_next(to.text, units * self.unit)
        except NotImplementedError as why:
            pytest.skip(f"the simulator cannot include a failing transaction: {why}")

    # Asking

    def watch(self, *addresses: Address, spends: Mapping[str, Collection[str]] | None = None) -> WatchSet:
        """Return a watch list of these addresses, with every asset of the simulator configured."""
        keys = frozenset(address.key for address in addresses)
        return WatchSet(keys, assets_of(self.sim, self.rail.traits.fold_case), spends or {})

    async def head(self) -> BlockRef:
        """Return the newest block."""
        return (await self.rail.heads()).latest

    async def line(self) -> list[BlockRef]:
        """Return the canonical blocks from the start up to the head, both included."""
        heights = range(self.start.height + 1, (await self.head()).height + 1)
        refs = [await self.rail.block_at(height) for height in heights]
        # Where heights are skipped, neighbours name the same block.
        return list(dict.fromkeys([self.start, *refs]))

    async def scan(self, *addresses: Address, after: BlockRef | None = None) -> Scanned:
        """Scan for these addresses from ``after`` (or the start) to the head, in one span."""
        return await self.scan_for(self.watch(*addresses), after=after)

    async def scan_for(self, watches: WatchSet, *, after: BlockRef | None = None, sparse: bool = False) -> Scanned:
        """Scan from ``after`` (or the start) to the head, in as few spans as the traits allow."""
        spans = [Span(low, high, sparse=sparse) for low, high in pairwise(await self._borders(after or self.start))]
        answers = [await self.rail.scan(span, watches) for span in spans]
        return Scanned(
            blocks=[ref for answer in answers for ref in answer.blocks],
            transfers=[transfer for answer in answers for transfer in answer.transfers],
        )

    async def scan_pieces(self, borders: Iterable[BlockRef], watches: WatchSet) -> list[Transfer]:
        """Return the transfers of the spans between neighbouring ``borders``, one after the other."""
        found: list[Transfer] = []
        for after, upto in pairwise(borders):
            found.extend((await self.rail.scan(Span(after, upto), watches)).transfers)
        return found

    async def _borders(self, after: BlockRef) -> list[BlockRef]:
        """From ``after`` to the head, with the stops that ``traits.span_max`` makes necessary."""
        head = await self.head()
        if head.height - after.height <= self.rail.traits.span_max:
            return [after, head]
        borders = [after]
        above = [ref for ref in await self.line() if ref.height > after.height]
        for ref, following in pairwise([*above, head]):
            if following.height - borders[-1].height > self.rail.traits.span_max:
                borders.append(ref)
        return [*borders, head] if borders[-1] != head else borders


# What is compared


def ids(transfers: Iterable[Transfer]) -> list[tuple[str, str]]:
    """Return the identities, which must never depend on the block."""
    return [(transfer.tx_id, transfer.tx_index) for transfer in transfers]


def facts(transfers: Iterable[Transfer]) -> list[tuple[object, ...]]:
    """All that money depends on, and where it is; not the evidence, which may say how the node was asked."""
    return [(t.tx_id, t.tx_index, t.to, t.asset, t.amount, t.reference, t.maturity, t.block) for t in transfers]


def single(transfers: Sequence[Transfer]) -> Transfer:
    """Return the single transfer of an answer that must have one."""
    assert len(transfers) == 1, f"one transfer was expected, and these came: {transfers}"
    return transfers[0]


def amounts(transfers: Iterable[Transfer], to: Address) -> list[int]:
    """Return the amounts that reached this address, smallest first: a node may order a block as it likes."""
    return sorted(transfer.amount for transfer in transfers if transfer.to == to.key)

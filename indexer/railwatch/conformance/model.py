"""The model test: random simulator steps through the real core end in the exact ledger.

A small follower does what `railwatch.core.chain_sync.next_step` decides and keeps nothing but which transfer is in
which block. Whatever the chain did meanwhile, what it holds in the end must be what the chain holds.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from railwatch.conformance.base import Conformance
from railwatch.conformance.harness import ChainHarness
from railwatch.conformance.watches import WatchSet
from railwatch.core.chain_sync import Idle, Limits, NodeView, Probe, Rewind, next_step
from railwatch.rail import Address, BlockGone, BlockRef, RailAdapter, Span

ACTS, DEEPEST, ANSWERS_MAX = 14, 3, 100


@dataclass(slots=True)
class Ledger:
    """What a daemon would have committed: its cursor, its checkpoints, and the block of each transfer."""

    rail: RailAdapter
    watches: WatchSet
    cursor: BlockRef
    checkpoints: list[BlockRef] = field(default_factory=list)
    included: dict[tuple[str, str], BlockRef] = field(default_factory=dict)

    async def follow(self) -> None:
        """Go on until there is nothing to do."""
        limits = Limits(self.rail.traits.span_max, self.rail.traits.horizon)
        view = NodeView(await self.rail.heads())
        for _ in range(ANSWERS_MAX):
            step = next_step(self.cursor, self.checkpoints, view, limits)
            try:
                if isinstance(step, Idle):
                    return
                if isinstance(step, Probe):
                    answer = await self.rail.block_at(step.height)
                    view = replace(view, probed={**view.probed, step.height: answer})
                    continue
                if isinstance(step, Rewind):
                    await self._take(step.branch, fork=step.fork)
                else:
                    await self._take(step.span)
                view = NodeView(await self.rail.heads())
            except BlockGone:
                view = NodeView(await self.rail.heads(), verify_cursor=True)
        pytest.fail(
            f"no rest after {ANSWERS_MAX} answers: the chain, or what the adapter says of it, does not hold still"
        )

    async def _take(self, span: Span, fork: BlockRef | None = None) -> None:
        scanned = await self.rail.scan(span, self.watches)
        if fork is not None:
            self.checkpoints = [point for point in self.checkpoints if point.height <= fork.height]
            self.included = {key: block for key, block in self.included.items() if block.height <= fork.height}
        for transfer in scanned.transfers:
            if transfer.amount and transfer.block is not None:
                key = (transfer.tx_id, transfer.tx_index)
                assert key not in self.included, f"{key} was reported twice on one branch"
                self.included[key] = transfer.block
        # Sparse, as a daemon keeps them: blocks with something of ours, and the end of each step.
        touched = {transfer.block for transfer in scanned.transfers if transfer.block is not None}
        kept = [block for block in scanned.blocks if block in touched or block == span.upto]
        self.checkpoints = [*self.checkpoints, *kept][-64:]
        self.cursor = span.upto


class ModelChecks(Conformance):
    """Random steps; the chain's own line is the oracle."""

    @pytest.mark.parametrize("seed", range(6))
    async def test_random_steps_end_in_the_exact_ledger(self, story: ChainHarness, seed: int) -> None:
        chance = random.Random(seed)
        addresses = [await story.address() for _ in range(3)]
        ledger = Ledger(story.rail, story.watch(*addresses), story.start, [story.start])
        # Above the start is room for every reorg, so that none passes the anchor or the simulator's own beginning.
        await story.sim.mine(DEEPEST)
        alive = [set[str]() for _ in range(DEEPEST)]
        waiting: set[str] = set()
        for _ in range(ACTS):
            await self._act(story, chance, addresses, alive, waiting)
            if chance.random() < 0.6:
                await ledger.follow()
        await ledger.follow()
        assert {tx_id for tx_id, _ in ledger.included} == set().union(*alive)
        line = await story.line()
        assert all(block in line for block in ledger.included.values())
        assert ledger.cursor == line[-1]

    async def _act(
        self,
        story: ChainHarness,
        chance: random.Random,
        addresses: Sequence[Address],
        alive: list[set[str]],
        waiting: set[str],
    ) -> None:
        """One step of the chain, and of what it must hold by then: ``alive`` by block, and what ``waiting`` holds."""
        act = chance.choice(("pay", "pay", "mine", "mine", "keep", "lose"))
        if act == "pay":
            waiting.add(
                await story.pay(chance.choice(addresses), chance.randint(1, 3), chance.choice(story.sim.assets))
            )
        elif act == "mine" or waiting:
            # A node decides whether a reorg includes unconfirmed transactions, so there are none when one comes.
            blocks = chance.randint(1, 3)
            await story.sim.mine(blocks)
            alive += [set(waiting), *(set[str]() for _ in range(blocks - 1))]
            waiting.clear()
        else:
            depth = chance.randint(1, min(DEEPEST, len(alive)))
            await story.reorg(depth, keep=act == "keep")
            gone = set().union(*alive[-depth:])
            alive[-depth:] = [gone if act == "keep" else set(), *(set[str]() for _ in range(depth))]

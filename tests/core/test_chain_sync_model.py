"""A little world of nodes that fork, lag, skip heights and change their mind, and a follower that must end up right.

The follower asks `next_step` and does what it says, as the daemon does. Its checkpoints are sparse: blocks with
payments always, others only now and then. After each commit its ledger must hold exactly what its own branch holds,
and once the world is calm exactly what the node's canonical chain holds.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from railwatch.core.chain_sync import DeepReorg, Idle, Limits, NodeView, Probe, Rewind, Scan, final_height, next_step
from railwatch.rail.types import BlockRef, Heads, Span
from tests.core.builders import minute
from tests.core.model_settings import model_settings

ANSWERS_MAX = 200
GENESIS = BlockRef(0, "genesis", "", minute(0))


class BlockGone(Exception):
    """The node no longer has what was asked for."""


@dataclass
class World:
    """A tree of blocks, and two nodes somewhere in it. No reorg passes ``floor``, except on purpose."""

    horizon: int
    blocks: dict[str, BlockRef] = field(default_factory=lambda: {GENESIS.hash: GENESIS})
    payments: dict[str, frozenset[str]] = field(default_factory=lambda: {GENESIS.hash: frozenset()})
    tips: list[BlockRef] = field(default_factory=lambda: [GENESIS, GENESIS])
    answering: int = 0
    floor: int = 0
    final: BlockRef = GENESIS
    names: Iterable[int] = field(default_factory=count)
    mempool: list[str] = field(default_factory=list)

    @property
    def tip(self) -> BlockRef:
        return self.tips[self.answering]

    def path(self, tip: BlockRef) -> list[BlockRef]:
        """From genesis to ``tip``."""
        path = [tip]
        while path[-1].parent:
            path.append(self.blocks[path[-1].parent])
        return path[::-1]

    def at(self, height: int, tip: BlockRef) -> BlockRef:
        return [block for block in self.path(tip) if block.height <= height][-1]

    def mine(self, skips: Iterable[int], paying: int = 0) -> None:
        """A block for each of ``skips``, so many heights further; those whose bit is set in ``paying`` hold one.

        A node that lags behind finality catches up first: no block is built next to what is final.
        """
        if self.final not in self.path(self.tip):
            self.tips[self.answering] = self.final
        for place, skip in enumerate(skips):
            parent = self.tip
            name = f"block-{next(self.names)}"  # type: ignore[call-overload]
            height = max(parent.height + 1 + skip, self.floor + 1)
            block = BlockRef(height, name, parent.hash, minute(height))
            self.blocks[name] = block
            self.payments[name] = self._content(paying >> place & 1)
            self.tips[self.answering] = block
        self._finalize()

    def _content(self, pays: int) -> frozenset[str]:
        """A new payment, or one that another branch held and this one does not: it is included again."""
        if not pays:
            return frozenset()
        held = {payment for block in self.path(self.tip) for payment in self.payments[block.hash]}
        back = [payment for payment in self.mempool if payment not in held]
        payment = back[0] if back else f"payment-{len(self.mempool)}"
        self.mempool = [*self.mempool, payment] if payment not in self.mempool else self.mempool
        return frozenset({payment})

    def reorg(self, depth: int, skips: Iterable[int], paying: int) -> None:
        """Leave up to ``depth`` blocks, never what is final, and build another branch there."""
        path = self.path(self.tip)
        fork = path[max(0, len(path) - 1 - depth)]
        self.tips[self.answering] = max(fork, self.final, key=_height)
        self.mine(skips, paying)

    def lag(self, blocks: int) -> None:
        """The node that answers is so many blocks behind where it was."""
        path = self.path(self.tip)
        self.tips[self.answering] = path[max(0, len(path) - 1 - blocks)]

    def switch(self) -> None:
        """Another node answers from now on."""
        self.answering = 1 - self.answering

    def _finalize(self) -> None:
        """What is ``horizon`` deep on the highest chain is final, and so are the heights below that it skipped."""
        highest = max(self.tips, key=_height)
        self.floor = max(self.floor, highest.height - self.horizon + 1)
        self.final = self.at(self.floor, highest)
        self.tips = [tip if self._agrees(tip) else self.final for tip in self.tips]

    def _agrees(self, tip: BlockRef) -> bool:
        return tip in self.path(self.final) or (
            tip.height >= self.final.height and self.at(self.floor, tip) == self.final
        )

    # The seam, as far as the follower needs it

    def heads(self) -> Heads:
        return Heads(self.tip)

    def block_at(self, height: int) -> BlockRef:
        if height > self.tip.height:
            raise BlockGone
        return self.at(height, self.tip)

    def scan(self, span: Span) -> list[BlockRef]:
        path = self.path(self.tip)
        if span.upto not in path or span.after not in path:
            raise BlockGone
        return [block for block in path if span.after.height < block.height <= span.upto.height]


def _height(block: BlockRef) -> int:
    return block.height


@dataclass
class Follower:
    """What is committed, and nothing else: a restart loses nothing that counts."""

    world: World
    limits: Limits
    every: int
    cursor: BlockRef = GENESIS
    checkpoints: list[BlockRef] = field(default_factory=list)
    ledger: set[tuple[str, str]] = field(default_factory=set)
    heights: dict[str, int] = field(default_factory=dict)
    verify_cursor: bool = True
    calm: bool = True
    calls: int = 0

    def follow(self, disturb: Callable[[], None] | None = None) -> Idle:
        """Step until there is nothing to do; ``disturb`` happens before each question to the node."""
        self.calls, self.calm = 0, disturb is None
        disturb = disturb or (lambda: None)
        while not isinstance(step := self._round(disturb), Idle):
            # A span of one height takes a question for each, and blocks may lie far apart.
            most = ANSWERS_MAX + 2 * max(tip.height for tip in self.world.tips)
            assert self.calls < most, "the follower never comes to rest"
        return step

    def _round(self, disturb: Callable[[], None]) -> Idle | None:
        """One view of the node, and what follows from it: rest, a commit, or a check of the cursor."""
        disturb()
        view = NodeView(self.world.heads(), verify_cursor=self.verify_cursor)
        while True:
            self.calls += 1
            step = next_step(self.cursor, self.below_cursor, view, self.limits)
            if isinstance(step, Idle):
                return step
            disturb()
            try:
                if not isinstance(step, Probe):
                    self._take(step)
                    return None
                assert step.height not in view.probed, "the same question twice in one round"
                view = replace(view, probed={**view.probed, step.height: self.world.block_at(step.height)})
            except BlockGone:
                self.verify_cursor = True
                return None

    def _take(self, step: Scan | Rewind) -> None:
        rewinds = isinstance(step, Rewind)
        span = step.branch if isinstance(step, Rewind) else step.span
        self._commit(span, self.world.scan(span), rewinds=rewinds)

    def _commit(self, span: Span, blocks: list[BlockRef], *, rewinds: bool) -> None:
        assert blocks, "a step that reads nothing is no step"
        assert [block.parent for block in blocks] == [span.after.hash, *(block.hash for block in blocks[:-1])]
        if self.calm:
            assert blocks[-1].height - blocks[0].height < self.limits.span_max
        assert not span.finalized or span.upto.height <= self.world.floor
        if rewinds:
            again = {block.hash for block in blocks} & {entry[1] for entry in self.ledger}
            assert not again, "a payment was reversed though its block is still canonical"
            self.ledger = {entry for entry in self.ledger if self.heights[entry[1]] <= span.after.height}
            self.checkpoints = [block for block in self.checkpoints if block.height <= span.after.height]
        kept = [block for block in blocks if self.world.payments[block.hash] or block.height % self.every == 0]
        known = [*(self.checkpoints or [self.cursor]), *kept]
        self.cursor, self.verify_cursor = blocks[-1], False
        final = final_height(self.world.heads(), self.limits.horizon)
        below = [block for block in known if block.height <= final]
        self.checkpoints = known[max(0, len(below) - 1) :]
        for block in blocks:
            self.heights[block.hash] = block.height
            self.ledger |= {(payment, block.hash) for payment in self.world.payments[block.hash]}
        assert self.ledger == self.expected(self.cursor), "the ledger is not that of the cursor's own branch"

    def expected(self, tip: BlockRef) -> set[tuple[str, str]]:
        return {(payment, block.hash) for block in self.world.path(tip) for payment in self.world.payments[block.hash]}

    @property
    def below_cursor(self) -> list[BlockRef]:
        return [block for block in self.checkpoints if block.height < self.cursor.height]

    def restart(self) -> None:
        """All that is in memory is lost, and the unfinalized window is checked first."""
        self.verify_cursor = True


SKIPS = st.lists(st.sampled_from([0, 0, 0, 0, 1, 2, 9]), max_size=6)
CHANGES = st.one_of(
    st.tuples(st.just("mine"), SKIPS, st.integers(0, 63)),
    st.tuples(st.just("reorg"), st.integers(0, 8), SKIPS, st.integers(0, 63)),
    st.tuples(st.just("lag"), st.integers(0, 6)),
    st.tuples(st.just("switch")),
)


class ChainModel(RuleBasedStateMachine):
    """Rules change the world, before or in the midst of a round of the follower."""

    @initialize(span_max=st.integers(1, 6), horizon=st.integers(2, 12), every=st.sampled_from([1, 3, 16]))
    def begin(self, span_max: int, horizon: int, every: int) -> None:
        self.world = World(horizon)
        self.follower = Follower(self.world, Limits(span_max, horizon), every)

    def change(self, what: tuple[Any, ...]) -> None:
        getattr(self.world, what[0])(*what[1:])

    @rule(changes=st.lists(CHANGES, min_size=1, max_size=4))
    def the_world_changes(self, changes: list[Any]) -> None:
        for each in changes:
            self.change(each)

    @rule(changes=st.lists(st.none() | CHANGES, max_size=8))
    def follow_while_the_world_changes(self, changes: list[Any]) -> None:
        left = iter(changes)

        def disturb() -> None:
            what = next(left, None)
            if what is not None:
                self.change(what)

        self.follower.follow(disturb)

    @rule()
    def restart(self) -> None:
        self.follower.restart()

    @rule()
    def follow_in_calm(self) -> None:
        idle = self.follower.follow()
        if not idle.lagging:
            assert self.follower.cursor == self.world.tip
            assert self.follower.ledger == self.follower.expected(self.world.tip)
        else:
            assert self.world.tip.height <= self.follower.cursor.height

    @rule(depth=st.integers(1, 4), longer=st.integers(1, 4))
    def a_fork_below_the_anchor_halts_and_touches_nothing(self, depth: int, longer: int) -> None:
        follower, world = self.follower, self.world
        follower.follow()
        anchor = [*follower.below_cursor, follower.cursor][0]
        path = world.path(anchor)
        if len(path) <= depth:
            return
        before = (follower.cursor, list(follower.checkpoints), set(follower.ledger))
        fork = path[-1 - depth]
        upto = follower.cursor.height + longer
        foreign = BlockRef(upto, f"foreign-{next(world.names)}", fork.hash, minute(upto))  # type: ignore[call-overload]
        world.blocks[foreign.hash], world.payments[foreign.hash] = foreign, frozenset()
        tips, world.tips = world.tips, [foreign, foreign]
        with pytest.raises(DeepReorg) as raised:
            follower.follow()
        assert raised.value.oldest == anchor
        assert (follower.cursor, follower.checkpoints, follower.ledger) == before
        world.tips, follower.verify_cursor = tips, True

    def teardown(self) -> None:
        """When a node has outgrown everything that was ever seen, the ledger is exactly its chain's."""
        if not hasattr(self, "world"):
            return
        ahead = max(self.follower.cursor.height, *(tip.height for tip in self.world.tips)) - self.world.tip.height
        self.world.mine([ahead], 1)
        assert self.follower.follow() == Idle()
        assert self.follower.cursor == self.world.tip
        assert self.follower.ledger == self.follower.expected(self.world.tip)


TestChainModel = ChainModel.TestCase
TestChainModel.settings = model_settings(examples=300, steps=25)

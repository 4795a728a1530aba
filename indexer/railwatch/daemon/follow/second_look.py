"""The second look: before a payment becomes final, its block is read once more, from another node where there is one.

A node can report a true block with a false content, and no hash of it is checked where the rail's adapter cannot check
it. A different content opens `content_mismatch`, and does not become final; a person decides. A node that cannot
answer (pruned, its state gone, unreachable) makes it `unverified` after a few tries, and stops nothing. Blocks without
payments cost nothing, and a block with something final costs one scan of it.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from railwatch.core.matching import base_index, paired
from railwatch.core.policy import Progress
from railwatch.daemon.follow.committer import Committer
from railwatch.daemon.nodes.node_set import NodeSet, Reread
from railwatch.daemon.watch.watchlist import ExplicitWatches, IndexedWatches
from railwatch.rail import RailUnavailable, Transfer
from railwatch.store.steps import Claim, SecondLookResult

SECOND_LOOK_ATTEMPTS = 3
"""Rounds in which a block is asked for before its transfers count as unverified, or its absence as a contradiction."""

ReportedBlock = tuple[int, str, str]
"""A block's height and hash, and the node that reported transfers in it; "": not known."""

BLOCKS_A_ROUND = 20
"""Blocks that one round reads again, so that no step waits for long."""


@dataclass(slots=True)
class SecondLook:
    """Reads again what is about to be final on one rail. The follower asks it before each step that it commits."""

    node: NodeSet
    committer: Committer
    watches: IndexedWatches
    _tries: defaultdict[ReportedBlock, int] = field(default_factory=lambda: defaultdict(int))
    _log: structlog.stdlib.BoundLogger = field(init=False)

    def __post_init__(self) -> None:
        self._log = structlog.get_logger().bind(rail=self.committer.rail)

    async def begin(self) -> None:
        """Load what waits for its second look. Raises `StoreUnavailable`."""
        self.committer.second_looks.update(await self.committer.steps.due_second_looks())

    async def check(self, rewinds: int, reached: Progress) -> None:
        """Read again what is final at ``reached``, and record it. Raises what the store raises, and `LeaseLost`."""
        waiting = self.committer.second_looks
        due = [identity for identity, at in waiting.items() if reached.has_reached(at)]
        if not due:
            return
        claims = await self.committer.steps.claims(due)
        if done := set(due) - {claim.id for claim in claims}:
            await self.committer.drop_second_looks(rewinds, list(done))
        by_block: defaultdict[ReportedBlock, list[Claim]] = defaultdict(list)
        for claim in claims:
            by_block[claim.height, claim.block_hash, claim.node or ""].append(claim)
        for gone in self._tries.keys() - by_block.keys():
            del self._tries[gone]  # Its block was orphaned meanwhile.
        results = [
            each for what in sorted(by_block)[:BLOCKS_A_ROUND] for each in await self._read(what, by_block[what])
        ]
        if results:
            await self.committer.commit_second_looks(rewinds, results)
            for each in results:
                waiting.pop(each.claim.id, None)

    async def _read(self, what: ReportedBlock, claims: Sequence[Claim]) -> list[SecondLookResult]:
        height, block_hash, node = what
        watches = ExplicitWatches(frozenset(claim.key for claim in claims), self.watches.assets)
        try:
            reread = await self.node.reread((height, block_hash), watches, node or None)
        except RailUnavailable as unavailable:
            return self._put_off(what, claims, str(unavailable))
        if reread.block_hash != block_hash and not self._is_last_try(what):
            # A node that has just left the block is at a reorg, which comes next. Only for long it contradicts.
            return []
        self._tries.pop(what, None)
        found = {(each.tx_id, each.tx_index): each for each in reread.transfers}
        same = {claim.id: found[name] for name, claim in paired(claims, reread.transfers).items()}
        results = [
            self._compare(claim, same.get(claim.id) or found.get((claim.tx_id, base_index(claim.tx_index))), reread)
            for claim in claims
        ]
        for result in results:
            if result.verdict == "mismatch":
                self._log.critical("content.mismatch", tx=result.claim.tx_id, height=height, **result.evidence)
        return results

    def _is_last_try(self, what: ReportedBlock) -> bool:
        self._tries[what] += 1
        return self._tries[what] >= SECOND_LOOK_ATTEMPTS

    def _put_off(self, what: ReportedBlock, claims: Sequence[Claim], why: str) -> list[SecondLookResult]:
        """Ask again in the next round, or give up: a block that no node can read again stops nothing."""
        if not self._is_last_try(what):
            return []
        del self._tries[what]
        self._log.warning("content.unverified", height=what[0], hash=what[1], reason=why)
        return [SecondLookResult(claim, "unverified", {"said": "unverified", "why": why}) for claim in claims]

    def _compare(self, claim: Claim, transfer: Transfer | None, reread: Reread) -> SecondLookResult:
        evidence = {"node": reread.node, "first_node": claim.node, "block_hash": reread.block_hash}
        if reread.block_hash != claim.block_hash:
            return SecondLookResult(
                claim, "mismatch", {**evidence, "said": "mismatch", "why": "another block is at that height"}
            )
        if transfer is None:
            native = claim.asset == self.watches.assets.get("")
            if native and not reread.native_complete:
                return SecondLookResult(
                    claim, "unverified", {**evidence, "said": "unverified", "why": "the node does not trace"}
                )
            return SecondLookResult(
                claim, "mismatch", {**evidence, "said": "mismatch", "why": "the block does not hold it"}
            )
        if (transfer.to, transfer.asset, transfer.amount) == (claim.key, claim.asset, claim.amount):
            return SecondLookResult(claim, "verified", {**evidence, "said": "verified"})
        words = {
            "amount": str(transfer.amount),
            "first_amount": str(claim.amount),
            "asset": transfer.asset,
            "to": transfer.to.hex(),
        }
        return SecondLookResult(
            claim, "mismatch", {**evidence, **words, "said": "mismatch", "why": "its content differs"}
        )

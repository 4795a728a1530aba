"""The simulated consensus: which slots have a block, which are confirmed and finalized, what a fork reverts."""

import hashlib
import struct
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from solders.hash import Hash
from solders.pubkey import Pubkey

from railwatch_solana.dev.devnode.block import Block, Landed
from railwatch_solana.dev.devnode.errors import invalid

Commitment = Literal["processed", "confirmed", "finalized"]
MAX_AGE = 150
"""Blocks for which a blockhash may be used, as in ``MAX_PROCESSING_AGE``."""
SLOT_HASHES = 512
"""Entries of the SlotHashes sysvar."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What stays known of a block when it is pruned, for as long as its hash can matter."""

    slot: int
    height: int
    hash: Hash


class Chain:
    """The main chain, oldest slot first, with an index of what landed in it. It holds no account and executes nothing.

    Lags count blocks: `confirmed` is behind the tip by ``confirm_lag``, `finalized` behind that by ``root_lag``.
    """

    def __init__(self, seed: str, start_slot: int, time: int, confirm_lag: int, root_lag: int) -> None:
        self.genesis = Hash(hashlib.sha256(f"genesis:{seed}".encode()).digest())
        first = Block(start_slot, max(start_slot - 1, 0), 0, self.genesis, self.genesis, time)
        self.blocks = {start_slot: first}
        self.slots = [start_slot]
        self.processed = self.confirmed = self.finalized = start_slot
        self.next_slot = start_slot + 1
        self.forks = 0
        self.landed_count = 0
        self.confirm_lag, self.root_lag = confirm_lag, root_lag
        self.by_signature: dict[str, tuple[Block, Landed]] = {}
        self.by_key: dict[Pubkey, list[tuple[Block, Landed]]] = {}
        self._stamps = [Stamp(start_slot, 0, self.genesis)]
        self._used: set[str] = set()
        self._pruned: deque[Block] = deque()

    @property
    def tip(self) -> Block:
        """The newest block."""
        return self.blocks[self.processed]

    @property
    def first(self) -> int:
        """The first slot whose block is still here."""
        return self.slots[0]

    def slot_at(self, commitment: Commitment) -> int:
        """Return the newest slot of this commitment."""
        return {"processed": self.processed, "confirmed": self.confirmed, "finalized": self.finalized}[commitment]

    def commitment_of(self, slot: int) -> Commitment:
        """How far a block of the main chain has come."""
        if slot <= self.finalized:
            return "finalized"
        return "confirmed" if slot <= self.confirmed else "processed"

    def between(self, start: int, end: int) -> list[int]:
        """Return the slots with a block from ``start`` to ``end``, both inclusive."""
        return self.slots[bisect_left(self.slots, start) : bisect_right(self.slots, end)]

    def above(self, slot: int) -> Iterator[Block]:
        """Return the blocks above a slot, oldest first."""
        return (self.blocks[above] for above in self.slots[bisect_right(self.slots, slot) :])

    def hash_age(self, blockhash: Hash, upto: int) -> int | None:
        """Blocks since this hash, seen from slot ``upto``; None if it is not on the main chain there, or too old."""
        at = bisect_right(self._stamps, upto, key=lambda stamp: stamp.slot)
        if not at:
            return None
        newest = self._stamps[at - 1].height
        for stamp in reversed(self._stamps[max(at - MAX_AGE - 1, 0) : at]):
            if stamp.hash == blockhash:
                return newest - stamp.height
        return None

    def recent_hashes(self) -> set[Hash]:
        """Return the hashes that a transaction in the next block may name."""
        return {stamp.hash for stamp in self._stamps[-MAX_AGE - 1 :]}

    def slot_hashes(self, below: int) -> list[tuple[int, Hash]]:
        """Return the SlotHashes sysvar as it is in the block at slot ``below``: newest first."""
        upto = bisect_left(self._stamps, below, key=lambda stamp: stamp.slot)
        return [(stamp.slot, stamp.hash) for stamp in reversed(self._stamps[max(upto - SLOT_HASHES, 0) : upto])]

    def was_used(self, signature: str) -> bool:
        """Whether this transaction has landed while its blockhash can still be valid."""
        return signature in self._used

    def open(self, time: int) -> Block:
        """Return a block in the next slot on top of the tip, not yet part of the chain."""
        parent, slot = self.tip, self.next_slot
        self.next_slot += 1
        return Block(slot, parent.slot, parent.height + 1, Hash.default(), parent.blockhash, max(time, parent.time))

    def note(self, block: Block, landed: Landed) -> None:
        """One more transaction in a block that is being produced."""
        block.landed.append(landed)
        self.by_signature[landed.signature] = (block, landed)
        self._used.add(landed.signature)
        for key in dict.fromkeys(landed.incoming.keys):
            self.by_key.setdefault(key, []).append((block, landed))

    def close(self, block: Block) -> None:
        """Make the block the tip. Its hash depends on all blocks below, its content, and the forks so far."""
        digest = hashlib.sha256(bytes(block.previous) + struct.pack("<QQQ", block.slot, block.time, self.forks))
        for landed in block.landed:
            digest.update(f"{landed.signature}{landed.meta.err}{landed.meta.post_balances}".encode())
        block.blockhash = Hash(digest.digest())
        self.blocks[block.slot] = block
        self.slots.append(block.slot)
        self._stamps.append(Stamp(block.slot, block.height, block.blockhash))
        self.processed = block.slot
        self.landed_count += len(block.landed)

    def advance(self) -> tuple[list[Block], list[Block]]:
        """Let the commitments follow the tip, never back; returns what became confirmed and what became finalized."""
        newest = len(self.slots) - 1
        confirmed = max(self.slots[max(newest - self.confirm_lag, 0)], self.confirmed)
        finalized = max(self.slots[max(newest - self.confirm_lag - self.root_lag, 0)], self.finalized)
        risen = [self.blocks[slot] for slot in self.between(self.confirmed + 1, confirmed)]
        rooted = [self.blocks[slot] for slot in self.between(self.finalized + 1, finalized)]
        self.confirmed, self.finalized = confirmed, finalized
        return risen, rooted

    def drop(self, depth: int) -> list[Block]:
        """Fork: remove the newest ``depth`` blocks, and return them newest first. Raises `RpcError`."""
        unrooted = len(self.between(self.finalized + 1, self.processed))
        if not 1 <= depth <= unrooted:
            raise invalid(f"a fork of {depth} blocks: there are {unrooted} above the finalized slot {self.finalized}")
        dropped = []
        for _ in range(depth):
            block = self.blocks.pop(self.slots.pop())
            self._stamps.pop()
            self._forget(block)
            for landed in block.landed:
                self._used.discard(landed.signature)
            dropped.append(block)
        self.processed = self.slots[-1]
        self.confirmed = min(self.confirmed, self.processed)
        self.forks += 1
        self.landed_count -= sum(len(block.landed) for block in dropped)
        return dropped

    def prune(self, below: int) -> None:
        """Forget the blocks below a slot, which must be finalized. Raises `RpcError`."""
        if below > self.finalized:
            raise invalid(f"slot {below} is not finalized: only blocks below {self.finalized} can be pruned")
        count = bisect_left(self.slots, below)
        for slot in self.slots[:count]:
            block = self.blocks.pop(slot)
            self._forget(block)
            self._pruned.append(block)
        del self.slots[:count]
        del self._stamps[: max(len(self._stamps) - len(self.slots) - SLOT_HASHES, 0)]
        # What is pruned may still not land twice, as long as its blockhash could be valid.
        while self._pruned and self._pruned[0].height < self.tip.height - MAX_AGE:
            for landed in self._pruned.popleft().landed:
                self._used.discard(landed.signature)

    def _forget(self, block: Block) -> None:
        """Remove the transactions of the oldest or the newest block from the index."""
        for landed in block.landed:
            del self.by_signature[landed.signature]
        for key in {key for landed in block.landed for key in landed.incoming.keys}:
            entries = self.by_key[key]
            start = bisect_left(entries, block.slot, key=_slot)
            end = bisect_right(entries, block.slot, key=_slot)
            del entries[start:end]
            if not entries:
                del self.by_key[key]


def _slot(entry: tuple[Block, Landed]) -> int:
    return entry[0].slot

"""RPC methods about slots and blocks."""

from collections.abc import Mapping

import msgspec

from railwatch_solana.dev.devnode.block import Block
from railwatch_solana.dev.devnode.errors import CLEANED_UP, NOT_AVAILABLE, SKIPPED, invalid, no_block
from railwatch_solana.dev.devnode.method import VERSION, Method
from railwatch_solana.dev.devnode.node import Node
from railwatch_solana.dev.devnode.params import BlockConfig, Config, Params, slot_of
from railwatch_solana.dev.devnode.show_block import show_block

RANGE_MAX = 500_000
SLOTS_PER_EPOCH = 432_000
CACHED_BLOCKS = 8


class BlockMethods:
    """Reads of the chain."""

    def __init__(self, node: Node) -> None:
        self._node, self._chain = node, node.chain
        self._shown: dict[tuple[str, bytes], msgspec.Raw] = {}

    def table(self) -> Mapping[str, Method]:
        """Each method under its name on the wire."""
        return {
            "getBlock": self.block,
            "getBlockHeight": self.height,
            "getBlockTime": self.time,
            "getBlocks": self.blocks,
            "getBlocksWithLimit": self.blocks_with_limit,
            "getEpochInfo": self.epoch,
            "getFirstAvailableBlock": lambda _: self._chain.first,
            "getGenesisHash": lambda _: str(self._chain.genesis),
            "getHealth": lambda _: "ok",
            "getIdentity": lambda _: {"identity": str(self._node.bank.faucet.pubkey())},
            "getSlot": lambda params: slot_of(self._chain, params.config(0, Config)),
            "getVersion": lambda _: {"solana-core": VERSION, "feature-set": 0},
            "minimumLedgerSlot": lambda _: self._chain.first,
        }

    def height(self, params: Params) -> int:
        """Blocks below the newest one, skipped slots not counted."""
        return self._chain.blocks[slot_of(self._chain, params.config(0, Config))].height

    def epoch(self, params: Params) -> dict[str, int]:
        """Epochs have their length and no other meaning here."""
        slot = slot_of(self._chain, params.config(0, Config))
        return {
            "absoluteSlot": slot,
            "blockHeight": self._chain.blocks[slot].height,
            "epoch": slot // SLOTS_PER_EPOCH,
            "slotIndex": slot % SLOTS_PER_EPOCH,
            "slotsInEpoch": SLOTS_PER_EPOCH,
            "transactionCount": self._chain.landed_count,
        }

    def block(self, params: Params) -> msgspec.Raw:
        """Return a block; the newest few stay encoded, because many clients request the same one."""
        slot, config = params.slot(0), params.config(1, BlockConfig)
        newest = slot_of(self._chain, config, at_least_confirmed=True)
        if self._is_null(slot):
            return msgspec.Raw(b"null")
        block = self._available(slot, newest)
        wanted = (str(block.blockhash), msgspec.json.encode(config))
        shown = self._shown.pop(wanted, None) or msgspec.Raw(msgspec.json.encode(show_block(block, config)))
        self._shown[wanted] = shown
        if len(self._shown) > CACHED_BLOCKS:
            del self._shown[next(iter(self._shown))]
        return shown

    def time(self, params: Params) -> int | None:
        """Return a block's unix time."""
        slot = params.slot(0)
        return None if self._is_null(slot) else self._available(slot, self._chain.processed).time

    def _is_null(self, slot: int) -> bool:
        """Whether the slot's answer is withheld by a null; one that is withheld by a code is raised here."""
        withheld = self._node.withheld.get(slot)
        if withheld is not None and withheld.code:
            raise no_block(withheld.code, slot)
        return withheld is not None

    def _available(self, slot: int, newest: int) -> Block:
        """Return the block at a slot, or the real node's error: a slot counts as skipped only up to the root."""
        if slot < self._chain.first:
            raise no_block(CLEANED_UP, slot, self._chain.first)
        block = self._chain.blocks.get(slot)
        if block is not None and slot <= newest:
            return block
        raise no_block(SKIPPED if slot <= self._chain.finalized else NOT_AVAILABLE, slot)

    def blocks(self, params: Params) -> list[int]:
        """Slots with a block, both ends inclusive; the end may be left out, and then the options come second."""
        start, second = params.slot(0), params.raw(1)
        config = params.config(1 if isinstance(second, dict) else 2, Config)
        newest = slot_of(self._chain, config, at_least_confirmed=True)
        end = min(params.slot(1), newest) if isinstance(second, int) else min(start + RANGE_MAX, newest)
        if end - start > RANGE_MAX:
            raise invalid(f"Slot range too large; max {RANGE_MAX}")
        return self._listed(self._chain.between(start, end))

    def blocks_with_limit(self, params: Params) -> list[int]:
        """Return the first slots with a block from a start on."""
        start, limit = params.slot(0), params.slot(1)
        if limit > RANGE_MAX:
            raise invalid(f"Limit too large; max {RANGE_MAX}")
        newest = slot_of(self._chain, params.config(2, Config), at_least_confirmed=True)
        return self._listed(self._chain.between(start, newest))[:limit]

    def _listed(self, slots: list[int]) -> list[int]:
        withheld = self._node.withheld
        return [slot for slot in slots if slot not in withheld or withheld[slot].listed] if withheld else slots

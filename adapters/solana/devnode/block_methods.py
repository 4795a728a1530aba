"""RPC methods about slots, blocks and transactions."""

from collections.abc import Mapping
from typing import Any

import msgspec

from adapters.solana.devnode.block import Block
from adapters.solana.devnode.chain import MAX_AGE
from adapters.solana.devnode.errors import CLEANED_UP, NOT_AVAILABLE, SKIPPED, invalid, no_block
from adapters.solana.devnode.method import Method
from adapters.solana.devnode.node import Node
from adapters.solana.devnode.params import (
    MAX_COUNT,
    BlockConfig,
    Config,
    HistoryConfig,
    Params,
    converted,
    signature,
    slot_of,
)
from adapters.solana.devnode.show_block import show_block, show_landed

RANGE_MAX = 500_000
STATUSES_MAX = 256
SLOTS_PER_EPOCH = 432_000
CACHED_BLOCKS = 8
VERSION = {"solana-core": "4.1.2-devnode", "feature-set": 0}


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
            "getSignatureStatuses": self.statuses,
            "getSignaturesForAddress": self.history,
            "getSlot": lambda params: slot_of(self._chain, params.config(0, Config)),
            "getTransaction": self.transaction,
            "getTransactionCount": lambda _: self._chain.landed_count,
            "getVersion": lambda _: VERSION,
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
        """A block; the newest few stay encoded, because many ask for the same one."""
        slot, config = params.slot(0), params.config(1, BlockConfig)
        block = self._available(slot, slot_of(self._chain, config, at_least_confirmed=True))
        wanted = (str(block.blockhash), msgspec.json.encode(config))
        shown = self._shown.pop(wanted, None) or msgspec.Raw(msgspec.json.encode(show_block(block, config)))
        self._shown[wanted] = shown
        if len(self._shown) > CACHED_BLOCKS:
            del self._shown[next(iter(self._shown))]
        return shown

    def time(self, params: Params) -> int:
        """A block's unix time."""
        return self._available(params.slot(0), self._chain.processed).time

    def _available(self, slot: int, newest: int) -> Block:
        """The block at a slot, or the real node's error: only at or below its root does it know a slot as skipped."""
        withheld = self._node.withheld.get(slot)
        if withheld is not None:
            raise no_block(withheld.code, slot)
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
        """The first slots with a block from a start on."""
        start, limit = params.slot(0), params.slot(1)
        if limit > RANGE_MAX:
            raise invalid(f"Limit too large; max {RANGE_MAX}")
        newest = slot_of(self._chain, params.config(2, Config), at_least_confirmed=True)
        return self._listed(self._chain.between(start, newest))[:limit]

    def _listed(self, slots: list[int]) -> list[int]:
        withheld = self._node.withheld
        return [slot for slot in slots if slot not in withheld or withheld[slot].listed] if withheld else slots

    def transaction(self, params: Params) -> dict[str, Any] | None:
        """A transaction with its outcome, null if it is not known at the commitment."""
        name, config = signature(params.get(0, str)), params.config(1, BlockConfig)
        newest = slot_of(self._chain, config, at_least_confirmed=True)
        block, landed = self._chain.by_signature.get(name, (None, None))
        if block is None or landed is None or block.slot > newest:
            return None
        return {"slot": block.slot, "blockTime": block.time} | show_landed(landed, config)

    def statuses(self, params: Params) -> dict[str, Any]:
        """How far each of these transactions has come."""
        names = converted(params.raw(0), list[str])
        if len(names) > STATUSES_MAX:
            raise invalid(f"Too many inputs provided; max {STATUSES_MAX}")
        return context(self._chain.processed, [self.status(signature(name)) for name in names])

    def status(self, name: str) -> dict[str, Any] | None:
        """One transaction's status; ``confirmations`` are the blocks above it, null once it is finalized."""
        block, landed = self._chain.by_signature.get(name, (None, None))
        if block is None or landed is None:
            return None
        reached, err = self._chain.commitment_of(block.slot), landed.meta.err
        return {
            "slot": block.slot,
            "confirmations": None if reached == "finalized" else self._chain.tip.height - block.height,
            "err": err,
            "status": {"Ok": None} if err is None else {"Err": err},
            "confirmationStatus": reached,
        }

    def history(self, params: Params) -> list[dict[str, Any]]:
        """The transactions that name a key, newest first."""
        key, config = params.key(0), params.config(1, HistoryConfig)
        newest = slot_of(self._chain, config, at_least_confirmed=True)
        limit = MAX_COUNT if config.limit is None else config.limit
        if not 1 <= limit <= MAX_COUNT:
            raise invalid(f"Invalid limit; max {MAX_COUNT}")
        found: list[dict[str, Any]] = []
        started = config.before is None
        for block, landed in reversed(self._chain.by_key.get(key, [])):
            if landed.signature == config.until or len(found) == limit:
                break
            if not started:
                started = landed.signature == config.before
            elif block.slot <= newest:
                found.append(
                    {
                        "signature": landed.signature,
                        "slot": block.slot,
                        "err": landed.meta.err,
                        "memo": None,
                        "blockTime": block.time,
                        "confirmationStatus": self._chain.commitment_of(block.slot),
                    }
                )
        return found


def context(slot: int, value: Any) -> dict[str, Any]:
    """An answer that depends on the state at a slot."""
    return {"context": {"apiVersion": VERSION["solana-core"], "slot": slot}, "value": value}


def last_valid_height(block: Block) -> int:
    """The height up to which this block's hash may be used."""
    return block.height + MAX_AGE

"""Asks a node for blocks, and says in the seam's words why one cannot be had.

Three reasons have one symptom: a slot was skipped (which only the next block's parent proves, HAZARDS S11), its
block is not there yet or got lost on this node, or it was pruned. This module never confuses them.
"""

import re
from collections import OrderedDict
from typing import Any

import msgspec

from railwatch.rail import BlockGone, BlockRef, ChainId, Heads, NotKept, NotYet, RailFault, RailUnavailable, Transfer
from railwatch.rail.again import OTHERS
from railwatch.rail.decoding import VALUES_MOST, decode, printable, read_text
from railwatch.rail.jsonrpc import Call, RpcResponse
from railwatch_solana import wire
from railwatch_solana.decode import DecodeContext, Ownerless, block_transfers
from railwatch_solana.options import check_chain
from railwatch_solana.owners import fill_owners
from railwatch_solana.rpc import Rpc
from railwatch_solana.rpc_errors import (
    BLOCK_CLEANED_UP,
    MISSING,
    UNSUPPORTED_VERSION,
    MalformedResponse,
    NullResult,
    RpcRejected,
)
from railwatch_solana.wire import Block, Header, Latest, Listed, RpcEnvelope, block_ref

CONFIRMED, FINALIZED = {"commitment": "confirmed"}, {"commitment": "finalized"}
"""``processed`` is never asked for: it can vanish, so it may not count as a payment (HAZARDS S10)."""

BARE = {**CONFIRMED, "transactionDetails": "none", "rewards": False, "maxSupportedTransactionVersion": wire.VERSION_MAX}
WHOLE = {**BARE, "transactionDetails": "accounts"}
LISTED = {**BARE, "transactionDetails": "signatures"}

REMEMBERED = 256
"""Headers that are kept by hash: more than there are blocks between confirmed and finalized."""

FIRST_NAMED = re.compile(r"first available\D{1,20}(\d{1,15})\b", re.IGNORECASE)

TIMELESS_MOST = 8
"""Blocks in a row whose time a node may have lost, before it counts as one that knows no times."""

GAPS = (64, 4_096, 400_000)
"""Slots to look back through for the nearest block, one after the other; a node answers for 500,000 at once."""


def since(slot: int) -> dict[str, Any]:
    """Options of a question that only a node may answer that has come to ``slot``; others say so (HAZARDS S15)."""
    return {**CONFIRMED, "minContextSlot": slot}


_named: "wire.Decoder[wire.Named]" = msgspec.json.Decoder(RpcEnvelope[wire.Named])


class NoBlock(NotYet):
    """The node has no block at a slot that should have one: it is not there yet, or this node has lost it."""


class BlockSource:
    """One node's blocks."""

    def __init__(self, rpc: Rpc, chain_id: ChainId) -> None:
        self._rpc = rpc
        self._chain_id = chain_id
        self._headers: OrderedDict[str, BlockRef] = OrderedDict()
        self.limited = True
        """Whether `getBlocksWithLimit` is served; else `getBlocks` is asked up to the newest slot."""
        self.tells_health = True
        """Whether `getHealth` is served."""
        self._reported = 0
        """The highest slot that the node has reported."""

    async def heads(self) -> Heads:
        """Latest and finalized, from a node that is healthy and on the right chain, in one request (E19, E23).

        Finalized is asked for first, so that it cannot overtake latest; where the two have become one, both are it.
        """
        calls: list[Call] = [
            ("getGenesisHash", ()),
            ("getLatestBlockhash", (FINALIZED,)),
            ("getLatestBlockhash", (CONFIRMED,)),
            # Where it is refused by a status, the others would be with it.
            *([("getHealth", ())] if self.tells_health else []),
        ]
        genesis, finalized, latest, *health = await self._rpc.batch(calls)
        check_chain(self._rpc.name, genesis.read(wire.text_result), self._chain_id)
        for each in health:
            self._check_health(each)
        settled = await self._named(finalized.read(wire.latest_result))
        newest = await self._named(latest.read(wire.latest_result))
        return Heads(newest if newest.height > settled.height else settled, None, settled)

    def _check_health(self, answer: RpcResponse[RpcRejected]) -> None:
        """Raise `RailUnavailable` unless the node reports itself healthy.

        A plan may leave the method out. A node that falls behind then shows by its slots.
        """
        try:
            state = answer.read(wire.text_result)
        except RpcRejected as refused:
            if refused.passes:
                raise
            return
        if state != "ok":
            raise RailUnavailable(f"{self._rpc.name} calls itself {printable(state, 80)!r}")

    async def slot(self) -> int:
        """Return the newest confirmed slot."""
        return await self._rpc.read(wire.number_decoder, "getSlot", CONFIRMED)

    async def at(self, height: int) -> BlockRef:
        """Return the canonical block at a slot, or the nearest below. Raises `BlockGone` above the head.

        Raises `RailUnavailable` where this endpoint itself reported that slot before: then another node answers behind
        it, or the same one has fallen back, and neither says anything of the chain (HAZARDS S15). Raises `NotKept` if
        all that could be the nearest has been pruned.
        """
        slot = await self.slot()
        for _ in range(OTHERS):
            if slot >= height or height > self._reported:
                break
            slot = await self.slot()  # Perhaps from another node behind the endpoint.
        if height > slot:
            self._check_lag(height, slot)
            raise BlockGone(f"{self._rpc.name}: no block at slot {height} yet")
        for gap in GAPS:
            low = max(0, height - gap)
            slots = await self.slots(low, height)
            if slots:
                return (await self.header(slots[-1]))[0]
            if not low:
                break
        await self.check_kept(height)
        raise NoBlock(f"{self._rpc.name}: it lists no block in the {GAPS[-1]:,} slots up to {height}")

    async def slots(self, low: int, high: int) -> list[int]:
        """Return the slots from ``low`` to ``high`` that the node has blocks for, ascending."""
        listed = await self._rpc.read(wire.slots_decoder, "getBlocks", low, high, since(min(high, self._reported)))
        return sorted({slot for slot in listed if low <= slot <= high})

    async def header(self, slot: int) -> tuple[BlockRef, Header]:
        """Return the block of this slot without its content. Raises `NoBlock`, and `NotKept` if it was pruned."""
        header = await self._ask(wire.header_decoder, slot, BARE)
        return await self._ref(slot, header), header

    async def signatures(self, slot: int) -> tuple[BlockRef, Listed]:
        """Return the block of this slot with the names of its transactions, in order. Raises as `header`."""
        listed = await self._ask(wire.listed_decoder, slot, LISTED)
        return await self._ref(slot, listed), listed

    async def block(self, slot: int) -> tuple[BlockRef, Block]:
        """Return the block of this slot. Raises as `header`, and `RailFault` if it cannot be decoded."""
        block = await self._ask(wire.block_decoder, slot, WHOLE)
        return await self._ref(slot, block), block

    async def transfers(self, slot_block: Block, ref: BlockRef, context: DecodeContext) -> list[Transfer]:
        """Return what a block paid to watched addresses, with owners that an old block omits. Raises `RailFault`."""
        try:
            return block_transfers(slot_block, ref, context)
        except Ownerless:
            await fill_owners(self._rpc, slot_block.transactions, ref)
        return block_transfers(slot_block, ref, context)

    async def is_gone(self, slot: int) -> bool:
        """Whether the chain provably has no block at this slot: the next block's parent is below it (HAZARDS S11).

        That the chain ends below it proves nothing: a node that is behind shows the same (HAZARDS S15).
        """
        if self.limited:
            above = await self._rpc.read(wire.slots_decoder, "getBlocksWithLimit", slot + 1, 1, since(slot))
        else:
            above = await self.slots(slot + 1, max(self._reported, slot + 1))
        return bool(above) and (await self.header(above[0]))[1].parent_slot < slot

    async def check_kept(self, low: int) -> None:
        """Raise `NotKept` if the node no longer has the blocks from slot ``low`` on (HAZARDS S14)."""
        first = await self._first_kept()
        if first is not None and first > low:
            raise self._pruned(low, f"its first block is {first}", first)

    async def _named(self, latest: Latest) -> BlockRef:
        """Return the block behind a commitment's slot and hash, from memory if it is known."""
        self._reported = max(self._reported, latest.context.slot)
        known = self._headers.get(latest.value.blockhash)
        if known is not None and known.height == latest.context.slot:
            return known
        try:
            return (await self.header(latest.context.slot))[0]
        except NoBlock:
            # A node may call a block confirmed a moment before it can serve it. The one below is as good: a head that
            # lags is no reorg.
            try:
                return await self.at(latest.context.slot - 1)
            except BlockGone as behind:
                raise RailUnavailable(
                    f"{self._rpc.name}: slot {latest.context.slot} is confirmed, and is not there: the nodes behind "
                    f"this endpoint are at different slots ({behind})"
                ) from behind

    async def _ask(self, decoder: "wire.Decoder[wire.T]", slot: int, options: dict[str, Any]) -> "wire.T":
        try:
            return await self._get_block(decoder, slot, options)
        except RpcRejected as refused:
            if refused.code == BLOCK_CLEANED_UP:
                first = _first_in(str(refused)) or await self._first_kept()
                raise self._pruned(slot, str(refused), first) from refused
            if refused.code == UNSUPPORTED_VERSION:
                raise RailFault(
                    f"the block of slot {slot} holds a transaction of a version above {wire.VERSION_MAX}, which this "
                    f"version of Railwatch cannot read; upgrade it, and the rail resumes at its cursor ({refused})"
                ) from refused
            if refused.code in MISSING:
                raise NoBlock(f"{refused}; a slot is skipped only if the next block's parent says so") from refused
            if not refused.passes:
                raise RailUnavailable(
                    f"{self._rpc.name} does not serve getBlock, which the rail needs: a Firedancer node does not "
                    "(Frankendancer does), nor does one without --enable-rpc-transaction-history or a plan without "
                    f"it; give the rail another node ({refused})"
                ) from refused
            raise
        except NullResult as nothing:
            # A node answers so for a block that it knows and cannot read.
            raise NoBlock(f"{nothing}, and slot {slot} was asked for") from nothing
        except MalformedResponse as unreadable:
            name = _name_of(unreadable.raw)
            if name is None:
                raise
            raise RailFault(f"block {slot} {name} cannot be decoded: {unreadable}") from unreadable

    async def _get_block(self, decoder: "wire.Decoder[wire.T]", slot: int, options: dict[str, Any]) -> "wire.T":
        """Call `getBlock`, a few times if the endpoint has reported the slot and has no block there (HAZARDS S15).

        The method has no option that excludes the nodes which are behind.
        """
        for _ in range(OTHERS if slot <= self._reported else 0):
            try:
                return await self._rpc.read(decoder, "getBlock", slot, options)
            except NullResult:
                continue
            except RpcRejected as refused:
                if refused.code not in MISSING:
                    raise
        return await self._rpc.read(decoder, "getBlock", slot, options)

    async def _first_kept(self) -> int | None:
        """Return the first slot that the node has, or None if it does not say.

        Raises `RailUnavailable` if that passes.
        """
        try:
            return await self._rpc.read(wire.number_decoder, "getFirstAvailableBlock")
        except RpcRejected as refused:
            if refused.passes:
                raise
        # A plan may leave that question out, and serve a list that begins with the same slot.
        if self.limited:
            listed = await self._rpc.read(wire.slots_decoder, "getBlocksWithLimit", 0, 1, CONFIRMED)
        else:
            listed = await self.slots(max(0, self._reported - GAPS[-1]), self._reported)
        return min(listed, default=None)

    def _check_lag(self, height: int, slot: int) -> None:
        if height <= self._reported:
            raise RailUnavailable(
                f"{self._rpc.name}: it is at slot {slot}, and reported slot {self._reported} before. It, or another "
                "node behind this endpoint, is behind"
            )

    def _pruned(self, slot: int, why: str, first: int | None) -> NotKept:
        return NotKept(
            f"{self._rpc.name} has pruned the block of slot {slot} ({why}); let the rail ask a node that keeps it",
            first,
        )

    async def _ref(self, slot: int, block: Header) -> BlockRef:
        """Return the block's name, place and time.

        A node may have lost the time of a block, and for good: then it is that of
        the nearest block below that has one, a moment before. Raises `RailUnavailable` where none has."""
        below = block
        for _ in range(TIMELESS_MOST):
            if below.block_time is not None or below.parent_slot >= slot:
                break
            below = await self._ask(wire.header_decoder, below.parent_slot, BARE)
        block.block_time = below.block_time
        return self._remember(block_ref(slot, block))

    def _remember(self, ref: BlockRef) -> BlockRef:
        self._headers[ref.hash] = ref
        while len(self._headers) > REMEMBERED:
            self._headers.popitem(last=False)
        return ref


def _first_in(words: str) -> int | None:
    """Return the slot that a node names for a block that it has cleaned up (Agave, rpc-client-api, custom_error.rs)."""
    named = FIRST_NAMED.search(words)
    return int(named[1]) if named else None


def _name_of(raw: bytes) -> str | None:
    """Return the hash of a block that cannot be decoded, or None if the answer is no block or has no hash."""
    try:
        reply = decode(raw, _named, "a block", VALUES_MOST)
        named = reply.result if isinstance(reply.result, wire.Named) else None
        return None if named is None else read_text(named.blockhash, wire.HASH_MOST, "a block")
    except RailUnavailable:
        return None

"""Asks a node for headers and blocks, and hands on only what is proven: by hash, by parent, by every byte read."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec

from railwatch.rail import BlockGone, BlockRef, Heads, NotKept, RailFault, RailUnavailable
from railwatch.rail.again import ask_again
from railwatch.rail.decoding import off_loop, printable, read_time
from railwatch.rail.jsonrpc import Call
from railwatch_bitcoin.abilities import Abilities
from railwatch_bitcoin.block import Block, read_block
from railwatch_bitcoin.chains import Chain
from railwatch_bitcoin.peers import Peers
from railwatch_bitcoin.rpc import Hash, Height, Rpc, RpcResponse, hash_decoder
from railwatch_bitcoin.rpc_errors import NOT_FOUND, OUT_OF_RANGE
from railwatch_bitcoin.wire import parse_header

ON_THEIR_WAY = 2
"""Blocks whose headers are known and that the node has yet to fetch, as whenever a block has just been found."""

TIP_AGE_MOST = timedelta(days=1)
"""The age of a newest block from which on Core calls itself in initial block download (validation.h, max tip age)."""

BLOCK_FACTOR = 2
"""A block's bytes need twice the time of JSON's, so that one of 2 MiB is read in a thread."""

REST_FROM = 30_000
"""Bytes of an average block from which on it is fetched over REST: a ninth of the time for large ones, while small ones
are faster by the batch."""


class ChainInfo(msgspec.Struct):
    """What `getblockchaininfo` says of the node's own state."""

    blocks: Height
    headers: Height
    bestblockhash: Hash
    initialblockdownload: bool | None = None
    """None from a client that does not report it: then the age of its newest block does, as Core itself decides."""
    pruned: bool = False
    pruneheight: Height | None = None


class HeaderInfo(msgspec.Struct):
    """`getblockheader`. ``confirmations`` is -1 for a block that is not, or no longer, on the chain."""

    hash: Hash
    height: Height
    time: int
    confirmations: int
    previousblockhash: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""


class BlockInfo(msgspec.Struct):
    """`getblock` with verbosity 1: only how many bytes there should be."""

    size: int


_chain_info = msgspec.json.Decoder(ChainInfo)
_header_info = msgspec.json.Decoder(HeaderInfo)
_block_info = msgspec.json.Decoder(BlockInfo)


class BlockSource:
    """One node's chain. That blocks are linked to one another is the caller's to check."""

    def __init__(self, rpc: Rpc, chain: Chain) -> None:
        self._rpc, self._chain, self._name = rpc, chain, rpc.name
        self._newest: BlockRef | None = None
        self._reported = -1
        """The height of the highest head that this endpoint has reported."""
        self.abilities = Abilities()
        self._peers = Peers(rpc)

    async def identify(self) -> None:
        """Compare the chain's landmarks. Raises `RailUnavailable`."""
        self._check_chain(await self._rpc.batch(self._landmarks))

    async def heads(self) -> Heads:
        """Return the newest block; the chain is compared in the same request (HAZARDS E23).

        Raises `RailUnavailable` while the node knows itself that it is not up to date (HAZARDS B16).
        """
        *landmarks, answer = await self._rpc.batch([*self._landmarks, ("getblockchaininfo", ())])
        self._check_chain(landmarks)
        info = answer.read(_chain_info)
        self._check_ready(info)
        newest = self._newest
        if newest is None or newest.hash != info.bestblockhash:
            newest = self._newest = _ref(await self._header(info.bestblockhash))
        if newest.height != info.blocks:
            raise RailUnavailable(f"{self._name}: block {newest.hash} is at {newest.height}, not at {info.blocks}")
        if info.initialblockdownload is None and datetime.now(UTC) - newest.time > TIP_AGE_MOST:
            raise RailUnavailable(
                f"{self._name} is catching up: its newest block is of {newest.time:%Y-%m-%d %H:%M} UTC"
            )
        self._reported = max(self._reported, newest.height)
        return Heads(newest)

    async def at(self, height: int) -> BlockRef:
        """Return the canonical block at ``height``. Raises `BlockGone` above the head.

        A block that this endpoint has reported is requested again: another node behind it may have it (HAZARDS E19).
        """
        (block_hash,) = await self.hashes(height, height)
        header = await self._header(block_hash, height)
        return _ref(header)

    async def hashes(self, low: int, high: int) -> list[str]:
        """Return the canonical hashes at these heights. Raises `BlockGone` above the head."""
        return await (ask_again(lambda: self._hashes(low, high)) if high <= self._reported else self._hashes(low, high))

    async def _hashes(self, low: int, high: int) -> list[str]:
        answers = await self._rpc.batch([("getblockhash", (height,)) for height in range(low, high + 1)])
        return [self._read(answer, f"height {low + place}") for place, answer in enumerate(answers)]

    async def check_canonical(self, ref: BlockRef) -> None:
        """Raise `BlockGone` if ``ref`` is not on the node's chain now."""
        await self._header(ref.hash, ref.height)

    async def line(self, parent: BlockRef, hashes: Sequence[str]) -> list[BlockRef]:
        """Return the blocks of these hashes as a line above ``parent``, read from headers. Raises `BlockGone`."""
        answers = await ask_again(lambda: self._known([("getblockheader", (each, False)) for each in hashes], hashes))
        refs = []
        for block_hash, answer in zip(hashes, answers, strict=True):
            parent = self.child_ref(answer.read_hex(), block_hash, parent)
            refs.append(parent)
        return refs

    def child_ref(self, raw: bytes, block_hash: str, parent: BlockRef) -> BlockRef:
        """Return the block that begins with ``raw``, if it is the requested child of ``parent``.

        Raises `RailUnavailable` for another block's bytes, `BlockGone` for another parent's child.
        """
        try:
            header = parse_header(raw)
        except ValueError as error:
            raise RailUnavailable(f"{self._name}: not the header of {block_hash}: {error}") from error
        if header.hash != block_hash:
            raise RailUnavailable(f"{self._name}: block {header.hash}, and {block_hash} was asked for")
        if header.parent != parent.hash:
            raise BlockGone(f"block {block_hash} is built on {header.parent}, not on {parent.height} {parent.hash}")
        return BlockRef(parent.height + 1, header.hash, header.parent, header.time)

    async def raw(self, hashes: Sequence[str], size: int = 0) -> list[bytes]:
        """Return the bytes of these blocks, about ``size`` each (unknown: 0). Raises `BlockGone`, or `NotKept`."""
        if self.abilities.rest and (size >= REST_FROM or len(hashes) == 1):
            # One after the other: the pieces of a long span overlap already, and a node has few threads.
            return [await self._over_rest(block_hash) for block_hash in hashes]
        calls: list[Call] = [("getblock", (block_hash, self.abilities.raw)) for block_hash in hashes]
        answers = await ask_again(lambda: self._known(calls, hashes))
        return [await self._bytes(answer, each) for answer, each in zip(answers, hashes, strict=True)]

    async def decode(self, raw: bytes, block_hash: str) -> Block:
        """Return the block, every byte of it read.

        Raises `RailFault` if it is whole and cannot be decoded (HAZARDS B14).
        """
        try:
            return await off_loop(BLOCK_FACTOR * len(raw), lambda: read_block(raw, self._chain, block_hash))
        except ValueError as error:
            size = (await self._rpc.call("getblock", block_hash, self.abilities.listed)).read(_block_info).size
            if size != len(raw):
                raise RailUnavailable(f"{self._name}: {len(raw)} of the {size} bytes of block {block_hash}") from error
            raise RailFault(f"block {block_hash} of {self._chain.name} cannot be decoded: {error}") from error

    async def _over_rest(self, block_hash: str) -> bytes:
        raw = await self._rpc.rest(f"block/{block_hash}.bin")
        if raw is not None:
            return raw
        # REST says 404 for whatever it has not; RPC knows why.
        (answer,) = await ask_again(lambda: self._known([("getblock", (block_hash, self.abilities.raw))], [block_hash]))
        return await self._bytes(answer, block_hash)

    async def _bytes(self, answer: RpcResponse, block_hash: str) -> bytes:
        """Raise `NotKept` for a block without its bytes that no peer gives (HAZARDS B16)."""
        if not _lacks_content(answer):
            return await answer.read_hex_beside()
        if await self._peers.fetch(block_hash, self.abilities.listed):
            answer = await self._rpc.call("getblock", block_hash, self.abilities.raw)
            if not _lacks_content(answer):
                return await answer.read_hex_beside()
        first = await self._first_kept(block_hash)
        lacks = "has pruned" if "prune" in str(answer.error) else "has not the bytes of"
        raise NotKept(
            f"{self._name} {lacks} block {block_hash}; it keeps blocks from height "
            f"{first} on. Give the rail a node that has it: nothing is skipped",
            first,
        )

    async def _first_kept(self, block_hash: str) -> int:
        """Return the lowest height above a missing block from which on the node has all blocks.

        A node that prunes reports it. One that began from an assumed UTXO snapshot does not, and fills up the blocks
        below it from the first one on: so what it has not is one stretch, whose end is searched for by halves.
        """
        info = (await self._rpc.call("getblockchaininfo")).read(_chain_info)
        if info.pruneheight is not None:
            return info.pruneheight
        missing = (await self._header(block_hash)).height
        there = max(missing + 1, info.blocks)
        while there - missing > 1:
            middle = (missing + there) // 2
            (middle_hash,) = await self.hashes(middle, middle)
            if _lacks_content(await self._rpc.call("getblock", middle_hash, self.abilities.listed)):
                missing = middle
            else:
                there = middle
        return there

    async def _known(self, calls: Sequence[Call], hashes: Sequence[str]) -> list[RpcResponse]:
        """Return the answers to one call for each of these blocks. Raises `BlockGone` if the node does not know one."""
        if len(calls) == 1:
            answers = [await self._rpc.call(calls[0][0], *calls[0][1])]
        else:
            answers = await self._rpc.batch(calls)
        for answer, block_hash in zip(answers, hashes, strict=True):
            self._check_known(answer, block_hash)
        return answers

    async def _header(self, block_hash: str, height: int | None = None) -> HeaderInfo:
        """Return the header of a block that this endpoint has reported, canonical at ``height`` if one is given.

        Raises `BlockGone` if none of the nodes behind it says so.
        """
        return await ask_again(lambda: self._header_once(block_hash, height))

    async def _header_once(self, block_hash: str, height: int | None) -> HeaderInfo:
        (answer,) = await self._known([("getblockheader", (block_hash,))], [block_hash])
        header = answer.read(_header_info)
        if header.hash != block_hash:
            raise RailUnavailable(f"{self._name}: header {header.hash}, and {block_hash} was asked for")
        if height is not None and (header.confirmations < 0 or header.height != height):
            raise BlockGone(f"{self._name}: block {height} {block_hash} is not on its chain")
        return header

    def _read(self, answer: RpcResponse, what: str) -> str:
        refusal = answer.error
        if refusal is not None and refusal.code == OUT_OF_RANGE:
            raise BlockGone(f"{self._name}: no block at {what}")
        return answer.read(hash_decoder)

    def _check_known(self, answer: RpcResponse, block_hash: str) -> None:
        refusal = answer.error
        if refusal is not None and refusal.code == NOT_FOUND:
            raise BlockGone(f"{self._name}: it knows no block {block_hash}")

    @property
    def _landmarks(self) -> list[Call]:
        return [("getblockhash", (height,)) for height, _ in self._chain.landmarks]

    def _check_chain(self, answers: Sequence[RpcResponse]) -> None:
        """Compare every landmark that the node has reached (HAZARDS B19, E23).

        Raises `RailUnavailable` for another chain, and while the last landmark is still above the node's head: up to
        there it may be any of the chains that began alike, and what it holds is no payment.
        """
        chain = self._chain
        missing = None
        for (height, expected), answer in zip(chain.landmarks, answers, strict=True):
            actual = "missing"
            try:
                actual = self._read(answer, f"height {height}")
            except BlockGone:
                missing = height
            if actual != expected and (actual != "missing" or not height):
                raise RailUnavailable(
                    f"{self._name} is on another chain: block {height} is {printable(actual, 80)}, and {expected} on "
                    f"{chain.name} ({chain.id})"
                )
        if missing is not None:
            raise RailUnavailable(
                f"{self._name} has not reached block {missing} yet, which distinguishes {chain.name} ({chain.id}) "
                "from the chains that began like it: wait until the node has caught up, or give the rail another node"
            )

    def _check_ready(self, info: ChainInfo) -> None:
        """Raise `RailUnavailable` while the node catches up: it cannot deny what it has not seen."""
        if info.initialblockdownload:
            raise RailUnavailable(f"{self._name} is in initial block download: {info.blocks} of {info.headers} blocks")
        if info.headers - info.blocks > ON_THEIR_WAY:
            raise RailUnavailable(f"{self._name} is catching up: {info.blocks} of {info.headers} blocks")


def _lacks_content(answer: RpcResponse) -> bool:
    refusal = answer.error
    return refusal is not None and refusal.lacks_content


def _ref(header: HeaderInfo) -> BlockRef:
    """Raise `RailUnavailable` for a time that no block has: it is 32 bits there."""
    what = f"the header of block {printable(header.hash, 80)} has no time"
    return BlockRef(header.height, header.hash, header.previousblockhash, read_time(header.time, what))

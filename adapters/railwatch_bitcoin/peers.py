"""Blocks that a pruned node has deleted, fetched again from its peers (`getblockfrompeer`, Core 23 and later)."""

import asyncio

import msgspec

from railwatch_bitcoin.rpc import Rpc
from railwatch_bitcoin.rpc_errors import MISC

PEERS_MOST = 4
"""Peers that are asked for one block, one after the other."""

POLL_SECONDS, POLLS = 0.05, 60
"""How long one of them is waited for: a block has some megabytes, and a peer that is pruned itself never answers."""


class Peer(msgspec.Struct):
    """One line of `getpeerinfo`. ``servicesnames`` holds NETWORK where it keeps the whole chain."""

    id: int
    servicesnames: list[str] = []


_peers = msgspec.json.Decoder(list[Peer])


class Peers:
    """One node's peers, asked for blocks. What came is kept by the node until it prunes the next time."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._one_at_a_time = asyncio.Lock()
        self._able = True

    async def fetch(self, block_hash: str, listed: int | bool) -> bool:
        """Whether a peer has given the block to the node. Raises `RailUnavailable` if the node itself is down.

        ``listed``: how the node is asked for a block's ids (`Abilities.listed`).
        """
        async with self._one_at_a_time:
            for peer in await self._whole():
                if await self._asked(block_hash, peer) and await self._came(block_hash, listed):
                    return True
        return False

    async def _whole(self) -> list[int]:
        """Peers that keep the whole chain; none where the node cannot ask them, in whatever words."""
        if not self._able:
            return []
        answer = await self._rpc.call("getpeerinfo")
        if answer.error is not None:
            self._able = answer.error.passes
            return []
        return [peer.id for peer in answer.read(_peers) if "NETWORK" in peer.servicesnames][:PEERS_MOST]

    async def _asked(self, block_hash: str, peer: int) -> bool:
        refusal = (await self._rpc.call("getblockfrompeer", block_hash, peer)).error
        if refusal is None:
            return True
        if refusal.code != MISC and not refusal.passes:
            self._able = False
        # "Block already downloaded" is said of what came in the meantime.
        return "already" in refusal.message.lower()

    async def _came(self, block_hash: str, listed: int | bool) -> bool:
        """Wait for the block, a while. `getblock` as a list of ids costs less than the bytes and says as much."""
        for _ in range(POLLS):
            if (await self._rpc.call("getblock", block_hash, listed)).error is None:
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False

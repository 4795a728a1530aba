"""A mirror of the node's mempool: the node's own list, and what was pushed since, as long as no push is missing.

The list is of one moment (`getrawmempool`, with the number of the mempool's next change), and nothing can drift from
it for long: a push that was lost, a restart, a block, a branch each end the trust, and the next look asks for the list
again. Without pushes every look does. On a list of 100,000 that costs 50 ms of our time and more of the node's, for
which some seven strangers a second on the main chain are no reason. Bodies are found by id, and an id is a hash of its
body, so where they came from does not matter.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from adapters.bitcoin.decode import Lens, pending_transfers
from adapters.bitcoin.params import Chain
from adapters.bitcoin.rpc import NOT_FOUND, Rpc
from adapters.bitcoin.wire import Tx, parse_tx
from indexer.rail import RailUnavailable, Transfer, Watches

BODIES = 250
"""Transactions that are asked for in one request."""

LOOKS = 3
"""How often the list is asked for again when something left it before it could be read."""

TRUSTED_SECONDS = 10.0
"""How long pushes without a gap stand for the list: a publisher that has fallen silent tells of no gap."""

LOOK_SECONDS = 120.0
"""The longest that one look may take: a first one reads every body, some thousands a second."""

TURN = 2_000
"""Transactions that are matched before the loop gets a turn."""


class MempoolInfo(msgspec.Struct):
    """`getmempoolinfo`: whether the node, just started, has read back what it had saved."""

    loaded: bool = True


class RawMempool(msgspec.Struct):
    """`getrawmempool false true`: the ids of all transactions at the moment of ``mempool_sequence``."""

    txids: list[str]
    mempool_sequence: int


_info = msgspec.json.Decoder(MempoolInfo)
_list = msgspec.json.Decoder(RawMempool)


@dataclass(frozen=True, slots=True)
class Change:
    """One message of the topic `sequence`: a transaction came in, or went; ``number`` counts the mempool's changes."""

    tx_id: str
    came: bool
    number: int


@dataclass(slots=True)
class Matched:
    """Which transactions concern a watch list as it was at ``version``."""

    watches: Watches
    version: int
    concerned: set[str] = field(default_factory=set)


class Mempool:
    """One node's mempool. Looks wait for one another; each is as fresh as its beginning."""

    def __init__(self, rpc: Rpc, chain: Chain) -> None:
        self._rpc, self._chain = rpc, chain
        self.followed = False
        """Somebody hands on every push, and calls `distrust` where one may be missing."""
        self._looking = asyncio.Lock()
        self._txs: dict[str, Tx] = {}
        self._odd: set[str] = set()
        self._pushed: dict[str, int] = {}
        """What came by a push since the list, and the number of that change."""
        self._unmatched: set[str] = set()
        self._matched: Matched | None = None
        self._listed_at = 0
        self._trusted_until = 0.0

    def distrust(self) -> None:
        """Something may have happened that nobody told: the next look asks for the list."""
        self._trusted_until = 0.0

    async def pending(self, lens: Lens) -> list[Transfer]:
        """Every waiting transfer to a watched script, and every rival of ``lens.watches.spends``, ordered by id.

        Raises `RailUnavailable`, also while the node still loads what it had saved (HAZARDS B16); what was read until
        then is kept for the next look.
        """
        try:
            async with asyncio.timeout(LOOK_SECONDS), self._looking:
                await self._look()
                matched = await self._match(lens.watches)
                txs = [self._txs[tx_id] for tx_id in sorted(matched.concerned) if tx_id in self._txs]
                return pending_transfers(txs, self._txs.get, lens)
        except TimeoutError as error:
            raise RailUnavailable(
                f"{self._rpc.name}: the mempool could not be read within {LOOK_SECONDS:g} s; "
                f"{len(self._txs)} transactions so far"
            ) from error

    async def follow(self, changes: Sequence[Change]) -> bool:
        """Take in what was pushed, in order; whether any of it may concern who looked last.

        Raises `RailUnavailable`, and is to be followed by `distrust` then.
        """
        if not self._trusted:
            return bool(changes)  # The list that the next look asks for holds all of it.
        # Pushes from before the list are on their way while it is read: it knows better.
        last = {change.tx_id: change for change in changes if change.number >= self._listed_at}
        concerns = self._take_out([tx_id for tx_id, change in last.items() if not change.came])
        came = {tx_id: change.number for tx_id, change in last.items() if change.came and tx_id not in self._txs}
        self._pushed.update(came)
        bodies = await self._read(list(came))
        return concerns or self._matched is None or bool(_concerned(bodies, self._matched.watches))

    def _take_out(self, went: Sequence[str]) -> bool:
        """Let go of what went; whether any of it concerned who looked last."""
        concerns = self._matched is None or not self._matched.concerned.isdisjoint(went)
        if went and concerns:
            # Its rival is told by a push of its own, and a look between the two would find neither (HAZARDS B1).
            self.distrust()
        for tx_id in went:
            self._txs.pop(tx_id, None)
            self._pushed.pop(tx_id, None)
            self._unmatched.discard(tx_id)
        return bool(went) and concerns

    @property
    def _trusted(self) -> bool:
        return time.monotonic() < self._trusted_until

    async def _look(self) -> None:
        """Make the mirror what the node says, unless pushes have kept it so."""
        if self._trusted:
            return
        try:
            await self._look_anew()
        except BaseException:
            self.distrust()
            raise

    async def _look_anew(self) -> None:
        """By the list. What leaves it while its bodies are read was there, and is not any more."""
        for _ in range(LOOKS):
            # Pushes are taken in from here on: they may be of after the list, and arrive before it does.
            self._trusted_until = time.monotonic() + TRUSTED_SECONDS if self.followed else 0.0
            listed = await self._list()
            known = self._txs.keys() | self._odd
            missing = [tx_id for tx_id in listed if tx_id not in known]
            await self._read(missing)
            if all(tx_id in self._txs or tx_id in self._odd for tx_id in missing):
                break
        else:
            self.distrust()
        # What was pushed before the list and is not in it is in a block by now, for which nothing is pushed.
        self._pushed = {tx_id: number for tx_id, number in self._pushed.items() if number >= self._listed_at}
        present = {*listed, *self._pushed}
        for gone in self._txs.keys() - present:
            del self._txs[gone]
        self._odd &= present
        self._unmatched &= self._txs.keys()

    async def _list(self) -> list[str]:
        info, listed = await self._rpc.batch([("getmempoolinfo", ()), ("getrawmempool", (False, True))])
        if not info.read(_info).loaded:
            raise RailUnavailable(f"{self._rpc.name}: it still loads its mempool")
        answer = listed.read(_list)
        self._listed_at = answer.mempool_sequence
        return answer.txids

    async def _read(self, tx_ids: Sequence[str]) -> list[Tx]:
        """Bodies into the mirror, as far as the node still has them. What was read until it fails stays there."""
        read: list[Tx] = []
        for at in range(0, len(tx_ids), BODIES):
            found = await self._read_some(tx_ids[at : at + BODIES])
            self._txs.update(found)
            self._unmatched.update(found)
            read += found.values()
        return read

    async def _read_some(self, tx_ids: Sequence[str]) -> dict[str, Tx]:
        answers = await self._rpc.batch([("getrawtransaction", (tx_id,)) for tx_id in tx_ids])
        found = {}
        for tx_id, answer in zip(tx_ids, answers, strict=True):
            refusal = answer.refusal
            if refusal is not None and refusal.code == NOT_FOUND:
                continue
            try:
                found[tx_id] = parse_tx(answer.read_hex(), self._chain, tx_id)
            except ValueError:
                # It pays nobody before it is in a block, and there, if it cannot be read, it halts the rail (B14).
                self._odd.add(tx_id)
        return found

    async def _match(self, watches: Watches) -> Matched:
        """What concerns ``watches``: matched anew if these may be others than before, else by what is new."""
        matched, fresh = self._matched, self._unmatched
        if matched is None or matched.watches is not watches or matched.version != watches.version:
            matched, fresh = Matched(watches, watches.version), set(self._txs)
        matched.concerned &= self._txs.keys()
        waiting = list(fresh)
        for at in range(0, len(waiting), TURN):
            # A push may have taken some of them out in the meantime, and brought others.
            some = [self._txs[tx_id] for tx_id in waiting[at : at + TURN] if tx_id in self._txs]
            matched.concerned |= _concerned(some, watches)
            await asyncio.sleep(0)
        self._matched = matched
        self._unmatched.difference_update(waiting)
        return matched


def _concerned(txs: Iterable[Tx], watches: Watches) -> set[str]:
    """Those that pay a watched script, or spend a coin that somebody claims."""
    txs = list(txs)
    hits = watches.hits([output.script for tx in txs for output in tx.outputs]) if len(watches) else set()
    spends = watches.spends
    return {
        tx.id
        for tx in txs
        if (hits and any(output.script in hits for output in tx.outputs))
        or (spends and any(coin in spends for coin in tx.inputs))
    }

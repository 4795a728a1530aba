"""A mirror of the node's mempool: what is in it is asked for at each look, what a transaction says only once.

The list is the node's own, taken at one moment (`getrawmempool`), so that nothing can drift: not by a push that was
lost, not by a restart, not by a reorg that brought transactions back. Bodies are found by id, and an id is a hash of
its body, so where they came from does not matter. A push brings them early, and saves a question and no more.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence
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

LOOK_SECONDS = 120.0
"""The longest that one look may take: a first one reads every body, some thousands a second."""

ANNOUNCED = 5_000
"""Bodies that are held for a list that has yet to name them. What is dropped is asked for again."""

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
        self._looking = asyncio.Lock()
        self._txs: dict[str, Tx] = {}
        self._odd: set[str] = set()
        self._announced: dict[str, Tx] = {}
        self._unmatched: set[str] = set()
        self._matched: Matched | None = None

    async def pending(self, lens: Lens) -> list[Transfer]:
        """Every waiting transfer to a watched script, and every rival of ``lens.watches.spends``, ordered by id.

        Raises `RailUnavailable`, also while the node still loads what it had saved (HAZARDS B16); what was read until
        then is kept for the next look.
        """
        try:
            async with asyncio.timeout(LOOK_SECONDS), self._looking:
                await self._look()
                matched = await self._match(lens.watches)
                txs = [self._txs[tx_id] for tx_id in sorted(matched.concerned)]
                return pending_transfers(txs, self._txs.get, lens)
        except TimeoutError as error:
            raise RailUnavailable(
                f"{self._rpc.name}: the mempool could not be read within {LOOK_SECONDS:g} s; "
                f"{len(self._txs)} transactions so far"
            ) from error

    async def announce(self, tx_ids: Collection[str]) -> bool:
        """Read what a push named; whether any of it concerns who looked last. Raises `RailUnavailable`."""
        unknown = [tx_id for tx_id in tx_ids if tx_id not in self._txs and tx_id not in self._announced]
        for at in range(0, len(unknown[:ANNOUNCED]), BODIES):
            self._announced.update(await self._read(unknown[at : at + BODIES]))
        while len(self._announced) > ANNOUNCED:
            del self._announced[next(iter(self._announced))]
        found = [self._announced[tx_id] for tx_id in unknown if tx_id in self._announced]
        return self._matched is None or bool(_concerned(found, self._matched.watches))

    def concerned(self, tx_id: str) -> bool:
        """Whether somebody who looked before was told of this transaction."""
        return self._matched is None or tx_id in self._matched.concerned

    async def _look(self) -> None:
        """Make the mirror what the node says. What leaves the list while it is read was there, and is not any more."""
        for _ in range(LOOKS):
            listed = await self._list()
            known = self._txs.keys() | self._odd
            left = await self._take([tx_id for tx_id in listed if tx_id not in known])
            if not left:
                break
        present = set(listed)
        for gone in self._txs.keys() - present:
            del self._txs[gone]
        self._odd &= present
        self._unmatched &= self._txs.keys()

    async def _list(self) -> list[str]:
        info, listed = await self._rpc.batch([("getmempoolinfo", ()), ("getrawmempool", (False, True))])
        if not info.read(_info).loaded:
            raise RailUnavailable(f"{self._rpc.name}: it still loads its mempool")
        return listed.read(_list).txids

    async def _take(self, tx_ids: Sequence[str]) -> bool:
        """Take bodies in, those announced first; whether some have left before they could be read."""
        announced = {tx_id: self._announced.pop(tx_id) for tx_id in tx_ids if tx_id in self._announced}
        self._add(announced)
        missing = [tx_id for tx_id in tx_ids if tx_id not in announced]
        for at in range(0, len(missing), BODIES):
            self._add(await self._read(missing[at : at + BODIES]))
        return any(tx_id not in self._txs and tx_id not in self._odd for tx_id in missing)

    def _add(self, txs: dict[str, Tx]) -> None:
        self._txs.update(txs)
        self._unmatched.update(txs)

    async def _read(self, tx_ids: Sequence[str]) -> dict[str, Tx]:
        """The bodies of these transactions, as far as the node still has them."""
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
            matched.concerned |= _concerned([self._txs[tx_id] for tx_id in waiting[at : at + TURN]], watches)
            if at:
                await asyncio.sleep(0)
        self._matched = matched
        self._unmatched.clear()
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

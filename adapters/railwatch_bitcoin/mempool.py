"""A mirror of the node's mempool: the node's own list, and what was pushed since, as long as no push is missing.

The list is of one moment (`getrawmempool`, with the number of the mempool's next change if the client reports it), and
nothing can drift from it for long: a push that was lost, a restart, a block, a branch each end the trust, and the next
poll asks for the list again. Without pushes every poll does. Bodies are found by id, and an id is a hash of its body,
so where they came from does not matter.

Reading a large or far mempool needs minutes. A task reads it: a poll meanwhile learns that
what waits is not known yet (`PendingUnknown`), and what was read outlives faults and connections (`records`).
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from railwatch.rail import PendingUnknown, RailUnavailable, Transfer, Watches
from railwatch.rail.jsonrpc import Call
from railwatch_bitcoin.abilities import Abilities
from railwatch_bitcoin.chains import Chain
from railwatch_bitcoin.decode import CLAIMS, OWN_CLAIMS, DecodeContext, pending_transfers
from railwatch_bitcoin.records import PARK, RECORDS_MOST, Records, key_of, mark_of, marks_of, scripts_of
from railwatch_bitcoin.rpc import Hash, Rpc
from railwatch_bitcoin.rpc_errors import NOT_FOUND, RpcRejected
from railwatch_bitcoin.wire import Tx, parse_tx

BODIES = 250
"""Transactions that are asked for in one request."""

REFRESH_ATTEMPTS = 3
"""How often the list is asked for again when something left it before it could be read."""

TRUSTED_SECONDS = 10.0
"""Seconds for which pushes without a gap replace the list: a publisher that has fallen silent shows no gap."""

PATIENCE_SECONDS = 2.0
"""Seconds that a poll waits at most, because blocks wait with it. A task reads on what is not read by then."""

BODIES_MOST = 16 * 1024 * 1024
"""Bytes on the wire of all unconfirmed transactions that concern watched addresses: some fifty thousand usual ones."""

PUSHED_MOST = 50_000
"""Transactions pushed since the list. After more the list is asked for, and says by itself what waits."""

TURN = 2_000
"""Transactions that are matched before the loop gets a turn."""


class MempoolInfo(msgspec.Struct):
    """`getmempoolinfo`: whether the node, just started, has read back what it had saved."""

    loaded: bool = True


class RawMempool(msgspec.Struct):
    """`getrawmempool false true`: the ids of all transactions at the moment of ``mempool_sequence``."""

    txids: list[Hash]
    mempool_sequence: int


_info = msgspec.json.Decoder(MempoolInfo)
_numbered = msgspec.json.Decoder(RawMempool)
_plain: "msgspec.json.Decoder[list[str]]" = msgspec.json.Decoder(list[Hash])


@dataclass(frozen=True, slots=True)
class MempoolEvent:
    """One message of the topic `sequence`: a transaction came in, or went; ``number`` counts the mempool's changes."""

    tx_id: str
    came: bool
    number: int


@dataclass(slots=True)
class MatchCache:
    """Which transactions concern a watch list as it was at ``version``."""

    watches: Watches
    version: int
    concerned: set[str] = field(default_factory=set)


class Mempool:
    """One node's mempool. Polls wait for one another; each is as fresh as its beginning."""

    def __init__(self, rpc: Rpc, chain: Chain) -> None:
        self._rpc, self._chain = rpc, chain
        self._place = (rpc.url, str(chain.id))
        self.abilities = Abilities()
        self.listed = True
        """Whether the node serves its mempool. False once it has refused to, in any words."""
        self.push_attached = False
        """Whether a subscriber hands on every push, and calls `invalidate` if one may be missing."""
        self._refresh_lock = asyncio.Lock()
        self._records = PARK.take(self._place)
        self._bodies: dict[str, Tx] = {}
        """Of those that concern a watched address, and of their ancestors."""
        self._backlog: asyncio.Task[list[Tx]] | None = None
        """The reading of what a list named and was not known."""
        self._pushed: dict[str, int] = {}
        """What came by a push since the list, and the number of that change."""
        self._matched: MatchCache | None = None
        self._numbered = True
        self._listed_at = 0
        self._total = 0
        self._trusted_until = 0.0

    @property
    def able(self) -> bool:
        """Whether the node serves its mempool."""
        return self.listed and self.abilities.bodies

    def invalidate(self) -> None:
        """Note that a push may be missing: the next poll asks for the list."""
        self._trusted_until = 0.0

    async def close(self) -> None:
        """End the reading, and leave what was read to the next connection. Idempotent."""
        backlog, self._backlog = self._backlog, None
        if backlog is not None:
            backlog.cancel()
            await asyncio.gather(backlog, return_exceptions=True)
        if self._records:
            PARK.leave(self._place, self._records)
            self._records = Records()

    async def pending(self, context: DecodeContext) -> list[Transfer]:
        """Every waiting transfer to a watched script, and every rival of ``context.watches.spends``, ordered by id.

        Raises `PendingUnknown` while that is not known: the mempool is still being read, the node still loads what it
        had saved (HAZARDS B16), or a question failed. What was read until then is kept for the next poll.
        """
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self._refresh_lock:
                await self._finish()
                await self._refresh(context.watches)
                txs = self._concerned_bodies()
                await self._read_ancestors(txs)
                return pending_transfers(txs, self._bodies.get, context)
        except TimeoutError as error:
            raise PendingUnknown(
                f"{self._rpc.name}: the mempool is still being read, {len(self._records)} of {self._total} "
                "transactions so far"
            ) from error
        except PendingUnknown:
            raise
        except RailUnavailable as error:
            raise PendingUnknown(f"the mempool cannot be read now: {error}") from error

    async def follow(self, changes: Sequence[MempoolEvent]) -> bool:
        """Apply what was pushed, in order; return whether any of it may concern the last poll's watches.

        Raises `RailUnavailable`, and is to be followed by `invalidate` then.
        """
        if not self._trusted:
            return bool(changes)  # The list that the next poll asks for holds all of it.
        # Pushes from before the list are on their way while it is read: it knows better.
        last = {change.tx_id: change for change in changes if change.number >= self._listed_at}
        concerns = self._take_out([tx_id for tx_id, change in last.items() if not change.came])
        came = {tx_id: change.number for tx_id, change in last.items() if change.came and tx_id not in self._records}
        self._pushed.update(came)
        if len(self._pushed) > PUSHED_MOST:
            self._pushed.clear()
            self.invalidate()
        bodies = await self._read(list(came))
        return concerns or self._matched is None or bool(_concerned(bodies, self._matched.watches))

    def _take_out(self, went: Sequence[str]) -> bool:
        """Remove what left the mempool; return whether any of it concerned the last poll's watches."""
        concerns = self._matched is None or not self._matched.concerned.isdisjoint(went)
        if went and concerns:
            # A push of its own announces its rival, and a poll between the two would find neither (HAZARDS B1).
            self.invalidate()
        for tx_id in went:
            self._records.discard(tx_id)
            self._bodies.pop(tx_id, None)
            self._pushed.pop(tx_id, None)
        return bool(went) and concerns

    @property
    def _trusted(self) -> bool:
        return time.monotonic() < self._trusted_until

    async def _finish(self) -> None:
        """Wait for what an earlier poll left to be read. Raises what ended it."""
        backlog = self._backlog
        if backlog is not None:
            await asyncio.wait({backlog})
            self._backlog = None
            if not backlog.cancelled():
                backlog.result()

    async def _refresh(self, watches: Watches) -> None:
        """Make the mirror what the node says, unless pushes have kept it so, and know what concerns ``watches``."""
        wanted = await self._match_anew(watches) if self._is_another(watches) else set[int]()
        if self._trusted and not wanted:
            return
        try:
            await self._refresh_whole(wanted)
        except BaseException:
            self.invalidate()
            if wanted:
                self._matched = None
            raise

    async def _refresh_whole(self, wanted: set[int]) -> None:
        """By the list. What leaves it while its bodies are read was there, and is not any more.

        ``wanted``: known ones whose bodies are needed again.
        """
        for _ in range(REFRESH_ATTEMPTS):
            # Pushes are accepted from here on: they may be of after the list, and arrive before it does.
            self._trusted_until = time.monotonic() + TRUSTED_SECONDS if self.push_attached else 0.0
            listed = await self._list()
            if self._is_full:
                self._records.retain(set(map(key_of, listed)))
            self._require_room()
            missing = [tx_id for tx_id in listed if tx_id not in self._records or key_of(tx_id) in wanted]
            await self._read_beside(missing)
            wanted = set()
            if all(tx_id in self._records for tx_id in missing):
                break
        else:
            self.invalidate()
        # What was pushed before the list and is not in it is in a block by now, for which nothing is pushed.
        self._pushed = {tx_id: number for tx_id, number in self._pushed.items() if number >= self._listed_at}
        present = set(map(key_of, listed)) | set(map(key_of, self._pushed))
        self._records.retain(present)
        self._bodies = {tx_id: tx for tx_id, tx in self._bodies.items() if key_of(tx_id) in present}

    @property
    def _is_full(self) -> bool:
        return self._records.size > RECORDS_MOST

    def _require_room(self) -> None:
        """Raise `PendingUnknown` if the node's mempool is larger than Railwatch keeps."""
        bodies = sum(tx.size for tx in self._bodies.values())
        if not self._is_full and bodies <= BODIES_MOST:
            return
        self.invalidate()
        if bodies > BODIES_MOST:
            self._bodies.clear()
            self._matched = None
        raise PendingUnknown(
            f"{self._rpc.name} has a larger mempool than Railwatch keeps: {self._records.size >> 20} MiB of "
            f"{RECORDS_MOST >> 20}, and {bodies >> 20} MiB of {BODIES_MOST >> 20} that concern watched addresses. "
            "Payments are seen in blocks meanwhile; ask another node, or lower this one's maxmempool"
        )

    async def _list(self) -> list[str]:
        """Return the ids of all unconfirmed transactions.

        Raises `PendingUnknown` if the node loads or withholds them.
        """
        info: list[Call] = [("getmempoolinfo", ())] if self.abilities.mempool_info else []
        *state, answer = await self._rpc.batch(
            [*info, ("getrawmempool", (False, True) if self._numbered else (False,))]
        )
        if state and not state[0].read(_info).loaded:
            raise PendingUnknown(f"{self._rpc.name}: it still loads its mempool")
        refusal = answer.error
        if refusal is not None and not refusal.passes:
            return await self._list_otherwise(refusal)
        if self._numbered:
            numbered = await answer.read_beside(_numbered)
            self._listed_at, listed = numbered.mempool_sequence, numbered.txids
        else:
            listed = await answer.read_beside(_plain)
        self._total = len(listed)
        return listed

    async def _list_otherwise(self, refusal: RpcRejected) -> list[str]:
        """With one parameter, as Dogecoin Core and Bitcoin Cash Node ask for it (HAZARDS B20); else not at all."""
        if self._numbered:
            self._numbered = False
            return await self._list()
        self.listed = False
        raise PendingUnknown(
            f"{self._rpc.name} does not serve its mempool, so payments are first seen in blocks: {refusal}"
        )

    async def _read_beside(self, tx_ids: Sequence[str]) -> None:
        """Read bodies in a task of their own, which goes on when its waiter gives up."""
        if tx_ids:
            self._backlog = asyncio.create_task(self._read(tx_ids))
            await self._finish()

    async def _read(self, tx_ids: Sequence[str]) -> list[Tx]:
        """Bodies into the mirror, as far as the node still has them; return those that concern the last poll's watches.

        What was read until it fails stays there.
        """
        read: list[Tx] = []
        for at in range(0, len(tx_ids), BODIES):
            found, failure = await self._read_some(tx_ids[at : at + BODIES])
            for tx in found:
                self._records.add(tx)
            matched = self._matched
            if matched is not None:
                concerned = _concerned(found, matched.watches)
                matched.concerned |= concerned
                found = [tx for tx in found if tx.id in concerned]
                self._bodies.update((tx.id, tx) for tx in found)
            read += found
            self._require_room()
            if failure is not None:
                raise failure
        return read

    async def _read_some(self, tx_ids: Sequence[str]) -> tuple[list[Tx], RailUnavailable | None]:
        """Return those transactions that the node still has, and the first refusal of another kind."""
        answers = await self._rpc.batch([("getrawtransaction", (tx_id,)) for tx_id in tx_ids])
        found: list[Tx] = []
        failure: RailUnavailable | None = None
        for tx_id, answer in zip(tx_ids, answers, strict=True):
            refusal = answer.error
            if refusal is not None and refusal.code == NOT_FOUND:
                continue
            try:
                raw = answer.read_hex()
            except RailUnavailable as error:
                failure = failure or error
                continue
            try:
                found.append(parse_tx(raw, self._chain, tx_id))
            except ValueError:
                # It pays no one before it is in a block, and there, if it cannot be read, it halts the rail (B14).
                self._records.odd.add(key_of(tx_id))
        return found, failure

    def _is_another(self, watches: Watches) -> bool:
        """Whether this watch list may be another than the one that was matched."""
        matched = self._matched
        return matched is None or matched.watches is not watches or matched.version != watches.version

    async def _match_anew(self, watches: Watches) -> set[int]:
        """Match all that is known; gives those that may concern the list and whose bodies are not at hand."""
        matched = MatchCache(watches, watches.version)
        claimed = set(map(mark_of, watches.spends))
        suspects: set[int] = set()
        for part in self._records.parts(TURN):
            suspects |= _suspects(part, watches, claimed)
            await asyncio.sleep(0)
        matched.concerned = _concerned(self._bodies.values(), watches)
        self._matched = matched
        return suspects.difference(map(key_of, self._bodies))

    def _concerned_bodies(self) -> list[Tx]:
        concerned = self._matched.concerned if self._matched is not None else set[str]()
        concerned &= self._bodies.keys()
        return [self._bodies[tx_id] for tx_id in sorted(concerned)]

    async def _read_ancestors(self, txs: Sequence[Tx]) -> None:
        """Return the bodies of all unconfirmed ancestors: replacing one replaces its descendants too (HAZARDS B1)."""
        young, seen = list(txs), {tx.id for tx in txs}
        for _ in range(CLAIMS):
            parents = {coin.partition(":")[0] for tx in young for coin in tx.inputs[:OWN_CLAIMS]} - seen
            parents = {tx_id for tx_id in parents if tx_id in self._records}
            seen |= parents
            unread = [tx_id for tx_id in parents if tx_id not in self._bodies]
            for at in range(0, len(unread), BODIES):
                bodies, failure = await self._read_some(unread[at : at + BODIES])
                self._bodies.update((tx.id, tx) for tx in bodies)
                self._require_room()
                if failure is not None:
                    raise failure
            young = [self._bodies[tx_id] for tx_id in parents if tx_id in self._bodies]
            if not young:
                return


def _suspects(part: Sequence[tuple[int, bytes]], watches: Watches, claimed: set[bytes]) -> set[int]:
    """Of some records those that pay a watched script, or may spend a claimed coin."""
    found: set[int] = set()
    if len(watches):
        scripts = [(key, script) for key, packed in part for script in scripts_of(packed)]
        hits = watches.hits([script for _, script in scripts])
        if hits:
            found.update(key for key, script in scripts if script in hits)
    if claimed:
        found.update(key for key, packed in part if not claimed.isdisjoint(marks_of(packed)))
    return found


def _concerned(txs: Iterable[Tx], watches: Watches) -> set[str]:
    """Those that pay a watched script, or spend a claimed coin."""
    txs = list(txs)
    hits = watches.hits([output.script for tx in txs for output in tx.outputs]) if len(watches) else set()
    spends = watches.spends
    return {
        tx.id
        for tx in txs
        if (hits and any(output.script in hits for output in tx.outputs))
        or (spends and any(coin in spends for coin in tx.inputs))
    }

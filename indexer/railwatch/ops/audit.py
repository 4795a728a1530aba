"""`railwatch audit`: what the tables say of a range of blocks, compared with what one node tells of them now.

Nothing is written. The tables are read after the node, and a difference counts only if a second reading of its block
and of the tables finds it too: a daemon that commits a step in between makes none.
"""

import asyncio
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from rich.console import Group, RenderableType
from rich.text import Text

from railwatch.core.matching import base_index, match, paired
from railwatch.ops.formatting import printable_text
from railwatch.rail import NO_RECIPIENT, BlockGone, NotKept, RailAdapter, RailError, Span, Transfer, Watches
from railwatch.store.audits import AuditedClaim, AuditedRail, AuditStore, Owner

WINDOW = 1_000
"""Heights below the cursor that are compared where nobody says from where."""

REACH = 200
"""Heights of one question to the node."""

MOVES = 5
"""How often in a row the chain may move under a question before the audit gives up."""

ANSWER_SECONDS = 120.0
"""How long the node may take for one span."""

AGAIN_AFTER = 0.5
"""Seconds before a difference is looked at again: a step that is under way is committed by then."""

IN_A_BLOCK = ("included", "confirmed", "final")

WORDS = {
    "missing_here": "the block pays a watched address, and no transfer in a block is stored for it",
    "missing_there": "the node's block does not hold it",
    "content_differs": "the node's block pays another amount, asset or recipient",
    "block_differs": "the node has another block at that height",
}


class CannotTell(Exception):
    """The node cannot tell now. The message says why, and what to do."""


class NothingToCompare(Exception):
    """Nothing is stored of such blocks. The message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that the tables and the node tell otherwise. ``stored`` and ``told`` hold JSON values, None: nothing.

    ``run``: the command that comes next.
    """

    kind: str
    rail: str
    order: str
    invoice_id: UUID
    tx_id: str
    tx_index: str
    height: int
    stored: dict[str, Any] | None
    told: dict[str, Any] | None
    run: str


@dataclass(frozen=True, slots=True)
class Audit:
    """What was compared: ``first`` to ``last``, both inclusive, with ``node``, and what differs."""

    rail: str
    node: str
    first: int
    last: int
    transfers: int
    differences: list[Difference]


@dataclass(slots=True)
class Told:
    """What the node tells of a range: its blocks' hashes by height, and the transfers to watched addresses."""

    blocks: dict[int, str]
    transfers: dict[tuple[str, str], Transfer]


WatchesOf = Callable[[Iterable[bytes], AuditedRail], Watches]
Progress = Callable[[int, int, int], None]
"""Called with the window's first height, the one that was reached, and the last."""


@dataclass(slots=True)
class Auditor:
    """Audits one rail by one entered node. ``watches_of`` makes of watched keys what a node is asked with."""

    store: AuditStore
    node: RailAdapter
    node_name: str
    watches_of: WatchesOf
    progress: Progress = lambda first, reached, last: None

    async def audit(self, name: str, first: int | None = None, last: int | None = None) -> Audit:
        """Compare a window; without bounds, from the oldest payment that is not final or the last 1,000 heights.

        Raises `CannotTell`, `NothingToCompare`, and what the store raises.
        """
        rail = await self.store.rail(name)
        if rail is None:
            raise NothingToCompare(
                f"rail {name} was never followed, so there is nothing to compare; start the daemon first"
            )
        first, last = window(rail, first, last)
        watches = await self._watches(rail, first, last)
        told = await self._read(first, last, watches)
        differences = await self._compare(rail, first, last, told)
        if differences:
            await asyncio.sleep(AGAIN_AFTER)
            differences = await self._found_again(rail, differences, watches)
        return Audit(name, self.node_name, first, last, len(told.transfers), differences)

    async def _found_again(self, rail: AuditedRail, before: Sequence[Difference], watches: Watches) -> list[Difference]:
        """Those that a second reading finds too, as it finds them: a state may have moved on in between."""
        known = {(each.kind, each.tx_id, each.tx_index) for each in before}
        found = []
        for height in sorted({each.height for each in before}):
            found += await self._compare(rail, height, height, await self._read(height, height, watches))
        return [each for each in found if (each.kind, each.tx_id, each.tx_index) in known]

    async def _watches(self, rail: AuditedRail, first: int, last: int) -> Watches:
        """All watched addresses, and those of stored transfers whose orders are no longer watched."""
        keys = {claim.key for claim in await self.store.claims(rail.name, first, last)}
        async for some in self.store.watched(rail.family):
            keys.update(some)
        return self.watches_of(keys, rail)

    async def _read(self, first: int, last: int, watches: Watches) -> Told:
        told, reach = Told({}, {}), min(REACH, self.node.traits.span_max)
        for start in range(first, last + 1, reach):
            end = min(last, start + reach - 1)
            await self._read_span(start, end, watches, told)
            self.progress(first, end, last)
        return told

    async def _read_span(self, first: int, last: int, watches: Watches, told: Told) -> None:
        for attempt in range(MOVES):
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    after = await self.node.block_at(first - 1)
                    upto = await self.node.block_at(last)
                    if upto.height <= after.height:
                        return  # no block in these slots
                    scanned = await self.node.scan(Span(after, upto), watches)
            except BlockGone as gone:
                if attempt + 1 == MOVES:
                    raise CannotTell(f"node {self.node_name} has no blocks {first} to {last}: {gone}") from gone
                await asyncio.sleep(0.05)
                continue
            except NotKept as gone:
                raise CannotTell(self._not_kept(gone, first)) from gone
            except (RailError, TimeoutError) as away:
                why = str(away) or f"no answer within {ANSWER_SECONDS:.0f} s"
                raise CannotTell(f"node {self.node_name} cannot tell blocks {first} to {last}: {why}") from away
            except Exception as defect:  # whatever an answer makes an adapter raise is that node's trouble
                why = f"its answer could not be read: {type(defect).__name__}"
                raise CannotTell(f"node {self.node_name} cannot tell blocks {first} to {last}: {why}") from defect
            told.blocks.update((block.height, block.hash) for block in scanned.blocks)
            credits = (each for each in scanned.transfers if each.to != NO_RECIPIENT and each.amount > 0 and each.block)
            told.transfers.update(((each.tx_id, each.tx_index), each) for each in credits)
            return

    def _not_kept(self, gone: NotKept, first: int) -> str:
        text = f"node {self.node_name} no longer keeps all blocks from {first} on: {gone}"
        if gone.first is None:
            return f"{text}. Choose a later block with --from, or another node with --node"
        return f"{text}. It keeps blocks from {gone.first}: give --from {gone.first + 1}, or another node with --node"

    async def _compare(self, rail: AuditedRail, first: int, last: int, told: Told) -> list[Difference]:
        claims = await self.store.claims(rail.name, first, last)
        same = paired(claims, told.transfers.values())
        names = {(claim.tx_id, claim.tx_index): name for name, claim in same.items()}
        differing = [each for claim in claims if (each := self._claim(rail, claim, told, names))]
        return sorted(
            [*differing, *await self._missing_here(rail, told, same.keys())], key=lambda each: (each.height, each.tx_id)
        )

    def _claim(
        self, rail: AuditedRail, claim: AuditedClaim, told: Told, names: Mapping[tuple[str, str], tuple[str, str]]
    ) -> Difference | None:
        """What differs of a stored transfer. ``names``: by what is stored, under which name the node tells the same."""
        name = names.get((claim.tx_id, claim.tx_index), (claim.tx_id, base_index(claim.tx_index)))
        transfer = told.transfers.get(name)
        block_hash = told.blocks.get(claim.height)
        if block_hash != claim.block_hash:
            there = None if block_hash is None else {"block_hash": block_hash}
            return self._differs("block_differs", rail, claim, there)
        if transfer is None or transfer.block is None or transfer.block.height != claim.height:
            native = claim.asset == rail.assets.get("")
            if native and not self.node.traits.native_complete:
                return None  # A node that does not trace cannot tell what moved within a transaction.
            return self._differs("missing_there", rail, claim, None)
        if (transfer.to, transfer.asset, transfer.amount) == (claim.key, claim.asset, claim.amount):
            return None
        return self._differs("content_differs", rail, claim, _told(transfer))

    @staticmethod
    def _differs(kind: str, rail: AuditedRail, claim: AuditedClaim, told: dict[str, Any] | None) -> Difference:
        stored = {
            "state": claim.state,
            "block_hash": claim.block_hash,
            "asset": claim.asset,
            "amount": claim.amount,
            "to": claim.key.hex(),
        }
        run = f"railwatch explain {shlex.quote(claim.order)}"
        return Difference(
            kind,
            rail.name,
            claim.order,
            claim.invoice_id,
            claim.tx_id,
            claim.tx_index,
            claim.height,
            stored,
            told,
            run,
        )

    async def _missing_here(
        self, rail: AuditedRail, told: Told, stored: Collection[tuple[str, str]]
    ) -> list[Difference]:
        """What the node's blocks pay to watched destinations, and no stored transfer in a block accounts for.

        ``stored``: transfers that do, under whichever name.
        """
        transfers = [each for name, each in told.transfers.items() if name not in stored]
        sightings = await self.store.sightings(rail.name, {each.tx_id for each in transfers})
        missing = [
            each for each in transfers if sightings.get((each.tx_id, each.tx_index), ("", 0))[0] not in IN_A_BLOCK
        ]
        owners = await self.store.owners(rail.family, {each.to for each in missing}) if missing else {}
        found = []
        for transfer in missing:
            owner = _expected(rail, transfer, owners.get(transfer.to, ()))
            if owner is None or transfer.block is None:
                continue
            height, known = transfer.block.height, sightings.get((transfer.tx_id, transfer.tx_index))
            run = f"railwatch rescan {shlex.quote(rail.name)} --from {height} --to {height}"
            found.append(
                Difference(
                    "missing_here",
                    rail.name,
                    owner.order,
                    owner.candidate.invoice_id,
                    transfer.tx_id,
                    transfer.tx_index,
                    height,
                    {"state": known[0]} if known else None,
                    _told(transfer),
                    run,
                )
            )
        return found


def window(rail: AuditedRail, first: int | None, last: int | None) -> tuple[int, int]:
    """Return the heights to compare, both inclusive, at most up to the stored cursor. Raises `NothingToCompare`."""
    end = rail.cursor if last is None else min(last, rail.cursor)
    begin = min(rail.cursor - WINDOW + 1, rail.cursor if rail.oldest is None else rail.oldest)
    start = max(1, begin if first is None else first)
    if start > end:
        raise NothingToCompare(f"rail {rail.name} has no blocks from {start} to {end}; its cursor is at {rail.cursor}")
    return start, end


def _expected(rail: AuditedRail, transfer: Transfer, owners: Sequence[Owner]) -> Owner | None:
    """The destination that should have the transfer, None where nobody has to: too small, too early, left out."""
    if transfer.amount < rail.least.get(transfer.asset, 0):
        return None
    candidates = [owner.candidate for owner in owners]
    found = match(transfer, rail.name, candidates, rail.least, datetime.now(UTC))
    if found is None or transfer.block is None:
        return None
    owner = next(each for each in owners if each.candidate == found[0])
    if owner.left_out and transfer.asset not in rail.least:
        return None
    if owner.candidate.rail == rail.name:
        is_covered = owner.covered_from is not None and transfer.block.height >= owner.covered_from
    else:
        is_covered = transfer.block.time >= owner.candidate.accepts_from
    return owner if is_covered else None


def _told(transfer: Transfer) -> dict[str, Any]:
    block = transfer.block
    return {
        "block_hash": block.hash if block else None,
        "asset": transfer.asset,
        "amount": transfer.amount,
        "to": transfer.to.hex(),
    }


def render_audit(audit: Audit) -> RenderableType:
    """What was compared, and each difference with what to run next."""
    head = f"{audit.rail}: blocks {audit.first} to {audit.last}, {audit.transfers} transfers, node {audit.node}: "
    count = len(audit.differences)
    if not count:
        return Text(printable_text(head) + "no difference", "green")
    lines = [Text(printable_text(head) + f"{count} difference{'s' * (count > 1)}", "red")]
    for each in audit.differences:
        lines += _lines(each, audit.node)
    return Group(*lines)


def _lines(each: Difference, node: str) -> Iterator[Text]:
    yield Text(printable_text(f"{each.kind}  {each.order}  {each.rail}  height {each.height}"), "bold")
    yield Text(printable_text(f"   {WORDS[each.kind]}"))
    yield Text(printable_text(f"   tx {each.tx_id}  {each.tx_index}"))
    yield Text(printable_text(f"   stored: {_words(each.stored)}"))
    yield Text(printable_text(f"   {node}: {_words(each.told)}"))
    yield Text(printable_text(f"   run: {each.run}"))


def _words(said: dict[str, Any] | None) -> str:
    if said is None:
        return "nothing"
    words = [said["state"]] if "state" in said else []
    if "amount" in said:
        words.append(f"{said['amount']} base units of {said['asset']} to {said['to']}")
    if said.get("block_hash"):
        words.append(f"in block {said['block_hash']}")
    return ", ".join(words)

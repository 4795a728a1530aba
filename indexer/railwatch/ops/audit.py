"""`railwatch audit`: the stored transfers of a range of blocks, compared with one node's transfers.

The audit writes nothing. It reads the tables after the node. A difference counts only if a second reading of its block
and of the tables finds it again, so a step that the daemon commits in between causes none.
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
"""Heights below the cursor to compare without `--from`."""

SPAN = 200
"""Heights of one query to the node."""

ATTEMPTS = 5
"""Attempts to read one span while the chain changes."""

ANSWER_SECONDS = 120.0
"""Seconds that the node has for one span."""

RECHECK_DELAY = 0.5
"""Seconds before the second reading of a difference, in which the daemon commits a running step."""

IN_A_BLOCK = ("included", "confirmed", "final")

WORDS = {
    "missing_here": "the node's block pays a watched address, but the tables hold no such transfer in a block",
    "missing_there": "the tables hold the transfer, but the node's block does not",
    "content_differs": "the node's block pays a different amount, asset or recipient",
    "block_differs": "the node has a different block at that height",
}


class NodeCannotAnswer(Exception):
    """The node cannot return the blocks now. The message says the cause, and what to do."""


class NothingToCompare(Exception):
    """The tables hold nothing of such blocks. The message says the cause, and what to do."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between the tables and the node. ``stored`` and ``reported`` hold JSON values, None: nothing.

    ``run``: the next command.
    """

    kind: str
    rail: str
    order: str
    invoice_id: UUID
    tx_id: str
    tx_index: str
    height: int
    stored: dict[str, Any] | None
    reported: dict[str, Any] | None
    run: str


@dataclass(frozen=True, slots=True)
class Audit:
    """The comparison of blocks ``first`` to ``last``, both inclusive, with ``node``."""

    rail: str
    node: str
    first: int
    last: int
    transfers: int
    differences: list[Difference]


@dataclass(slots=True)
class NodeRange:
    """One node's view of a range: block hashes by height, and transfers to watched addresses by (tx id, index)."""

    blocks: dict[int, str]
    transfers: dict[tuple[str, str], Transfer]


WatchesOf = Callable[[Iterable[bytes], AuditedRail], Watches]
Progress = Callable[[int, int, int], None]
"""Receives the window's first height, the height that was reached, and the last height."""


@dataclass(slots=True)
class Auditor:
    """The audit of one rail by one connected node. ``watches_of`` builds the watches for a scan from keys."""

    store: AuditStore
    node: RailAdapter
    node_name: str
    watches_of: WatchesOf
    progress: Progress = lambda first, reached, last: None

    async def audit(self, name: str, first: int | None = None, last: int | None = None) -> Audit:
        """Compare a window; by default from the oldest payment that is not final, or the last 1,000 heights.

        Raises `NodeCannotAnswer`, `NothingToCompare`, and the store's errors.
        """
        rail = await self.store.rail(name)
        if rail is None:
            raise NothingToCompare(
                f"rail {name} has no stored blocks, so there is nothing to compare; start the daemon: railwatch run"
            )
        first, last = window(rail, first, last)
        watches = await self._watches(rail, first, last)
        reported = await self._read(first, last, watches)
        differences = await self._compare(rail, first, last, reported)
        if differences:
            await asyncio.sleep(RECHECK_DELAY)
            differences = await self._found_again(rail, differences, watches)
        return Audit(name, self.node_name, first, last, len(reported.transfers), differences)

    async def _found_again(self, rail: AuditedRail, before: Sequence[Difference], watches: Watches) -> list[Difference]:
        """Return the differences that a second reading finds too, with its values."""
        known = {(each.kind, each.tx_id, each.tx_index) for each in before}
        found = []
        for height in sorted({each.height for each in before}):
            found += await self._compare(rail, height, height, await self._read(height, height, watches))
        return [each for each in found if (each.kind, each.tx_id, each.tx_index) in known]

    async def _watches(self, rail: AuditedRail, first: int, last: int) -> Watches:
        """Return all watched addresses, and those of stored transfers whose orders are no longer watched."""
        keys = {claim.key for claim in await self.store.claims(rail.name, first, last)}
        async for some in self.store.watched(rail.family):
            keys.update(some)
        return self.watches_of(keys, rail)

    async def _read(self, first: int, last: int, watches: Watches) -> NodeRange:
        reported, span = NodeRange({}, {}), min(SPAN, self.node.traits.span_max)
        for start in range(first, last + 1, span):
            end = min(last, start + span - 1)
            await self._read_span(start, end, watches, reported)
            self.progress(first, end, last)
        return reported

    async def _read_span(self, first: int, last: int, watches: Watches, reported: NodeRange) -> None:
        for attempt in range(ATTEMPTS):
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    after = await self.node.block_at(first - 1)
                    upto = await self.node.block_at(last)
                    if upto.height <= after.height:
                        return  # no block in these slots
                    scanned = await self.node.scan(Span(after, upto), watches)
            except BlockGone as gone:
                if attempt + 1 == ATTEMPTS:
                    raise NodeCannotAnswer(
                        f"node {self.node_name} has no blocks {first} to {last}: {gone}; try again, or choose another "
                        "node with --node"
                    ) from gone
                await asyncio.sleep(0.05)
                continue
            except NotKept as gone:
                raise NodeCannotAnswer(self._not_kept(gone, first)) from gone
            except (RailError, TimeoutError) as failure:
                reason = str(failure) or f"no answer within {ANSWER_SECONDS:.0f} s"
                raise NodeCannotAnswer(self._unreadable(first, last, reason)) from failure
            except Exception as defect:  # an exception that an answer causes in an adapter is that node's fault
                reason = f"its answer is unreadable: {type(defect).__name__}"
                raise NodeCannotAnswer(self._unreadable(first, last, reason)) from defect
            reported.blocks.update((block.height, block.hash) for block in scanned.blocks)
            credits = (each for each in scanned.transfers if each.to != NO_RECIPIENT and each.amount > 0 and each.block)
            reported.transfers.update(((each.tx_id, each.tx_index), each) for each in credits)
            return

    def _unreadable(self, first: int, last: int, reason: str) -> str:
        return f"node {self.node_name} cannot return blocks {first} to {last}: {reason}"

    def _not_kept(self, gone: NotKept, first: int) -> str:
        text = f"node {self.node_name} has pruned blocks from {first} on: {gone}"
        if gone.first is None:
            return f"{text}. Give a later block with --from, or another node with --node"
        return (
            f"{text}. It keeps blocks from {gone.first} on: give --from {gone.first + 1}, or another node with --node"
        )

    async def _compare(self, rail: AuditedRail, first: int, last: int, reported: NodeRange) -> list[Difference]:
        claims = await self.store.claims(rail.name, first, last)
        same = paired(claims, reported.transfers.values())
        names = {(claim.tx_id, claim.tx_index): name for name, claim in same.items()}
        differing = [each for claim in claims if (each := self._claim(rail, claim, reported, names))]
        return sorted(
            [*differing, *await self._missing_here(rail, reported, same.keys())],
            key=lambda each: (each.height, each.tx_id),
        )

    def _claim(
        self,
        rail: AuditedRail,
        claim: AuditedClaim,
        reported: NodeRange,
        names: Mapping[tuple[str, str], tuple[str, str]],
    ) -> Difference | None:
        """Return the difference of a stored transfer, or None. ``names``: the node's name of each stored one."""
        name = names.get((claim.tx_id, claim.tx_index), (claim.tx_id, base_index(claim.tx_index)))
        transfer = reported.transfers.get(name)
        block_hash = reported.blocks.get(claim.height)
        if block_hash != claim.block_hash:
            there = None if block_hash is None else {"block_hash": block_hash}
            return self._differs("block_differs", rail, claim, there)
        if transfer is None or transfer.block is None or transfer.block.height != claim.height:
            native = claim.asset == rail.assets.get("")
            if native and not self.node.traits.native_complete:
                return None  # A node without traces does not show transfers within a transaction.
            return self._differs("missing_there", rail, claim, None)
        if (transfer.to, transfer.asset, transfer.amount) == (claim.key, claim.asset, claim.amount):
            return None
        return self._differs("content_differs", rail, claim, _as_json(transfer))

    @staticmethod
    def _differs(kind: str, rail: AuditedRail, claim: AuditedClaim, reported: dict[str, Any] | None) -> Difference:
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
            reported,
            run,
        )

    async def _missing_here(
        self, rail: AuditedRail, reported: NodeRange, stored: Collection[tuple[str, str]]
    ) -> list[Difference]:
        """Return the node's transfers to watched destinations that no stored transfer in a block matches.

        ``stored``: the node's names of those that one matches.
        """
        transfers = [each for name, each in reported.transfers.items() if name not in stored]
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
                    _as_json(transfer),
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
    """Return the destination that should have the transfer; None if it is too small, too early or suppressed."""
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


def _as_json(transfer: Transfer) -> dict[str, Any]:
    block = transfer.block
    return {
        "block_hash": block.hash if block else None,
        "asset": transfer.asset,
        "amount": transfer.amount,
        "to": transfer.to.hex(),
    }


def render_audit(audit: Audit) -> RenderableType:
    """Return the compared range, and each difference with the next command."""
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
    yield Text(printable_text(f"   stored: {_format(each.stored)}"))
    yield Text(printable_text(f"   {node}: {_format(each.reported)}"))
    yield Text(printable_text(f"   run: {each.run}"))


def _format(values: dict[str, Any] | None) -> str:
    if values is None:
        return "nothing"
    words = [values["state"]] if "state" in values else []
    if "amount" in values:
        words.append(f"{values['amount']} base units of {values['asset']} to {values['to']}")
    if values.get("block_hash"):
        words.append(f"in block {values['block_hash']}")
    return ", ".join(words)

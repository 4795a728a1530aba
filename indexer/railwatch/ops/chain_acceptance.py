"""The effect of following another chain: the fork point, and the payments that it reverses."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from railwatch.ops.formatting import STYLES, format_amount, printable_text
from railwatch.rail import BlockRef, RailAdapter
from railwatch.store.database import Database
from railwatch.store.rails import Reversal, above_fork, history_begins, known_blocks

INVOICES_SHOWN = 20
"""Invoices that the page names; ``--json`` has all of them."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """The block from which a rail would continue, and the payments above it.

    ``common``: the rail had followed that block too. If not, the two chains share no stored block, and all stored
    blocks of the rail are above it.
    """

    rail: str
    fork: BlockRef
    common: bool
    reversal: Reversal


async def propose(database: Database, node: RailAdapter, rail: str) -> Proposal:
    """Return a proposal at the highest stored block that the node's chain has. Raises `RailError` and `StoreError`."""
    known = await known_blocks(database, rail)
    latest = (await node.heads()).latest
    low, high = 0, len(known)  # Blocks below ``low`` are on the node's chain, those from ``high`` on are not.
    while low < high:
        middle = (low + high) // 2
        height, block_hash = known[middle]
        held = height <= latest.height and (await node.block_at(height)).hash == block_hash
        low, high = (middle + 1, high) if held else (low, middle)
    if low:
        fork = await node.block_at(known[low - 1][0])
    else:
        # The other chain may pay invoices from the first block on that the rail has ever read.
        begun = await history_begins(database, rail)
        lowest = min(latest.height, *(height for height in (begun, *known[0][:1]) if height is not None))
        fork = await node.block_at(max(0, lowest - 1))
    return Proposal(rail, fork, low > 0, await above_fork(database, rail, fork.height))


def render_proposal(proposal: Proposal) -> RenderableType:
    """Return the page: the fork point, and counts, sums and invoices of the reversed payments."""
    return Group(*_lines(proposal))


def _lines(proposal: Proposal) -> Iterator[Text]:
    fork = proposal.fork
    if proposal.common:
        yield Text(
            f"The node's chain forks from the stored chain above block {fork.height} {printable_text(fork.hash)}."
        )
    else:
        yield Text("The node's chain has none of the blocks that this rail has stored.", "red")
        yield Text(f"The rail would continue above block {fork.height} {printable_text(fork.hash)}.")
    if not proposal.reversal.transfers:
        yield Text("There is no payment above it, so nothing would be reversed.")
        return
    yield Text("Following it reverses these payments (`orphaned`, `reversed` in the feed):", "bold")
    for row in proposal.reversal.transfers:
        amount = Text.assemble(f"  {row['transfers']} transfers, ", format_amount(row, "amount"), ", ")
        yield amount.append(row["state"], STYLES.get(row["state"], ""))
    invoices = proposal.reversal.invoices
    yield Text(f"of {len(invoices)} invoices:")
    for row in invoices[:INVOICES_SHOWN]:
        yield Text(f"  {printable_text(row['merchant_id'])}/{printable_text(row['order_id'])}, {row['state']}")
    if len(invoices) > INVOICES_SHOWN:
        yield Text(f"  and {len(invoices) - INVOICES_SHOWN} more")
    yield Text("Afterwards the daemon reads the node's chain from there, and finds the payments that it holds.")

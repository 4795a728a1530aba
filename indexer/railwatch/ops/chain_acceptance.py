"""What following another chain would mean: where it leaves ours, and all that would be taken back."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from railwatch.ops.formatting import STYLES, format_amount, printable_text
from railwatch.rail import BlockRef, RailAdapter
from railwatch.store.database import Database
from railwatch.store.rails import Reversal, above_fork, history_begins, known_blocks

INVOICES_SHOWN = 20
"""Invoices that are named; ``--json`` holds all of them."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Where a rail would go on, and what that takes back.

    ``common``: the fork is a block that we had followed too. If not, the two chains have no block in common that we
    know, and everything that we know of the rail is above the fork.
    """

    rail: str
    fork: BlockRef
    common: bool
    reversal: Reversal


async def propose(database: Database, node: RailAdapter, rail: str) -> Proposal:
    """Find the highest block of ours that the node's chain holds. Raises what the node and the store raise."""
    known = await known_blocks(database, rail)
    latest = (await node.heads()).latest
    low, high = 0, len(known)  # Blocks before ``low`` are on the node's chain, those from ``high`` on are not.
    while low < high:
        middle = (low + high) // 2
        height, block_hash = known[middle]
        held = height <= latest.height and (await node.block_at(height)).hash == block_hash
        low, high = (middle + 1, high) if held else (low, middle)
    if low:
        fork = await node.block_at(known[low - 1][0])
    else:
        # What the other chain pays may lie anywhere from where we began to look.
        begun = await history_begins(database, rail)
        lowest = min(latest.height, *(height for height in (begun, *known[0][:1]) if height is not None))
        fork = await node.block_at(max(0, lowest - 1))
    return Proposal(rail, fork, low > 0, await above_fork(database, rail, fork.height))


def render_proposal(proposal: Proposal) -> RenderableType:
    """Say what would be reversed: counts, sums, invoices."""
    return Group(*_lines(proposal))


def _lines(proposal: Proposal) -> Iterator[Text]:
    fork = proposal.fork
    if proposal.common:
        yield Text(f"The node's chain leaves ours above block {fork.height} {printable_text(fork.hash)}.")
    else:
        yield Text("The node's chain holds no block that this rail has followed.", "red")
        yield Text(f"The rail would go on above block {fork.height} {printable_text(fork.hash)}.")
    if not proposal.reversal.transfers:
        yield Text("No payment lies above it: nothing would be reversed.")
        return
    yield Text("Following it takes back, and tells as orphaned and reversed:", "bold")
    for row in proposal.reversal.transfers:
        amount = Text.assemble(f"  {row['transfers']} transfers, ", format_amount(row, "amount"), ", ")
        yield amount.append(row["state"], STYLES.get(row["state"], ""))
    invoices = proposal.reversal.invoices
    yield Text(f"of {len(invoices)} invoices:")
    for row in invoices[:INVOICES_SHOWN]:
        yield Text(f"  {printable_text(row['merchant_id'])}/{printable_text(row['order_id'])}, {row['state']}")
    if len(invoices) > INVOICES_SHOWN:
        yield Text(f"  and {len(invoices) - INVOICES_SHOWN} more")
    yield Text("What the node's chain holds of them is found again afterwards.")

"""Searches blocks of the past for payments to some addresses, on one node's chain."""

from typing import Protocol

from railwatch.rail import BlockGone, BlockRef, Scanned, Span, Traits, Transfer, Watches


class ReadsBlocks(Protocol):
    """What a search asks: two questions of `railwatch.rail.RailAdapter`."""

    async def block_at(self, height: int) -> BlockRef:
        """Return the canonical block at ``height``."""

    async def scan(self, span: Span, watches: Watches) -> Scanned:
        """Return all transfers of the span."""


async def search(
    node: ReadsBlocks, traits: Traits, start: int, upto: BlockRef, watches: Watches
) -> tuple[list[Transfer], str]:
    """Return transfers in the blocks above ``start`` up to and with ``upto``, and how the node was asked last.

    A span at a time. Each proves that it begins at an ancestor of its end, and the last one ends in ``upto`` by
    hash: so everything that is found lies on that block's own branch. Raises what the node raises.
    """
    after, found, route = await node.block_at(max(0, start)), list[Transfer](), ""
    while after.height < upto.height:
        target = after.height + (traits.lookback_span or traits.span_max)
        end = upto if target >= upto.height else await node.block_at(target)
        if end.height <= after.height:
            raise BlockGone(f"the chain has no block between {after.height} and {target}")
        scanned = await node.scan(Span(after, end, sparse=True), watches)
        found.extend(scanned.transfers)
        after, route = end, scanned.method
    return found, route

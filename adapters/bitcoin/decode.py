"""From blocks and waiting transactions to transfers: match first, decode after. Pure.

A transaction claims the coins it spends, and, as long as they are not settled, those that its ancestors spend: what
replaces an ancestor replaces it too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adapters.bitcoin.block import Block
from adapters.bitcoin.params import Chain
from adapters.bitcoin.wire import Tx
from indexer.rail import BlockRef, Transfer, Watches

Parent = Callable[[str], Tx | None]
"""Finds an ancestor that is in no earlier block, by transaction id; None for what is settled or not known."""


@dataclass(frozen=True, slots=True)
class Lens:
    """What decoding needs to know besides the content: whose chain, which node, who is watched."""

    chain: Chain
    node: str
    watches: Watches


def block_transfers(block: Block, ref: BlockRef, lens: Lens) -> list[Transfer]:
    """Every credit to a watched script, and every transaction that displaces a claimant, in chain order."""
    raise NotImplementedError


def pending_transfers(txs: Sequence[Tx], parent: Parent, lens: Lens) -> list[Transfer]:
    """The same of transactions that wait, in the order given. ``parent`` finds their unconfirmed ancestors."""
    raise NotImplementedError


def claims(tx: Tx, parent: Parent) -> tuple[str, ...]:
    """The coins that ``tx`` claims, its own first, then those of ever farther ancestors; bounded."""
    raise NotImplementedError

"""The three errors of an adapter, each named by what the daemon does next, and one for bad input."""

from collections.abc import Sequence

from railwatch.rail.abilities import Ability


class RailError(Exception):
    """The base of the three errors. An adapter raises only its subclasses."""


class RailUnavailable(RailError):
    """The node cannot answer now, or not correctly: down, slow, behind, on another chain. Back off and ask again."""


class NotKept(RailUnavailable):
    """The node no longer keeps what is this old: a pruned block, a ledger that begins later (HAZARDS B16, S14).

    ``first`` is the lowest height that it serves, if it reports one. The node is healthy otherwise. Another node may
    have the blocks; a look-back may begin there and say so. The daemon never skips the blocks.
    """

    def __init__(self, message: str, first: int | None = None) -> None:
        super().__init__(message)
        self.first = first


class NotYet(RailUnavailable):
    """The endpoint reported the block, and its content is missing or incomplete.

    A node that has not indexed the block yet answers so, as does a lagging node behind the same endpoint (HAZARDS E19,
    E20). A repeated request helps (`railwatch.rail.again`).
    """


class PendingUnknown(RailUnavailable):
    """The mempool is not known now, and the blocks are: the node or the adapter is still loading it.

    An incomplete snapshot would mean that payments were dropped, so there is none. The daemon still follows blocks.
    Only what depends on the mempool waits, and no payment window ends meanwhile.
    """


class MethodsMissing(RailUnavailable):
    """The node refuses methods that the rail cannot do without. The message names each, and the setting that allows it.

    ``abilities`` is the whole table of what it serves.
    """

    def __init__(self, message: str, abilities: Sequence[Ability] = ()) -> None:
        super().__init__(message)
        self.abilities = abilities


class AdapterDefect(RailUnavailable):
    """An unforeseen exception, chained as the cause. The daemon logs its trace once."""


class BlockGone(RailError):
    """The requested block is not, or no longer, on the node's chain. Plan again from new heads."""


class RailFault(RailError):
    """Going on would lose or invent money: a whole block that cannot be decoded.

    The rail halts until an operator acts.
    """


class BadAddress(ValueError):
    """The text is no address of this rail. The message says why, for the merchant's engineer."""

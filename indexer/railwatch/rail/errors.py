"""The three errors that leave an adapter, each named by what the daemon does next, and one for bad input."""

from collections.abc import Sequence

from railwatch.rail.abilities import Ability


class RailError(Exception):
    """An adapter could not answer. Only its three kinds are ever raised."""


class RailUnavailable(RailError):
    """The node cannot answer now, or not rightly: away, slow, behind, on another chain. Back off and ask again."""


class NotKept(RailUnavailable):
    """The node no longer keeps what is this old: a pruned block, a ledger that begins later (HAZARDS B16, S14).

    ``first`` is the lowest height that it serves, as far as it tells. The node is well otherwise: another one may have
    the blocks, and who only looks back may begin there and say so. The blocks are never skipped.
    """

    def __init__(self, message: str, first: int | None = None) -> None:
        super().__init__(message)
        self.first = first


class NotYet(RailUnavailable):
    """The answer contradicts what the same endpoint told of the block: its content is not there, or not all of it.

    A node that has not indexed the block yet answers so, and another node behind the endpoint that lags (HAZARDS E19,
    E20). Asking again helps (`railwatch.rail.again`).
    """


class PendingUnknown(RailUnavailable):
    """What waits for a block is not known now, and the blocks are: the mempool is still being read, or loaded.

    A snapshot that is not whole would say of payments that they were dropped, so there is none. The node is well
    otherwise: blocks are followed, and only what depends on the mempool waits (no window ends meanwhile).
    """


class MethodsMissing(RailUnavailable):
    """The node refuses methods that the rail cannot do without. The message names each, and the setting that allows it.

    ``abilities`` is the whole table of what it serves.
    """

    def __init__(self, message: str, abilities: Sequence[Ability] = ()) -> None:
        super().__init__(message)
        self.abilities = abilities


class AdapterDefect(RailUnavailable):
    """The adapter met something that it did not foresee. Its cause is chained; whoever asks logs that trace once."""


class BlockGone(RailError):
    """The block that was asked about is not, or no longer, on the node's chain. Plan again from fresh heads."""


class RailFault(RailError):
    """Going on would lose or invent money: a whole block that cannot be decoded. The rail halts until a person acts."""


class BadAddress(ValueError):
    """The text is no address of this rail. The message says why, in words for the merchant's engineer."""

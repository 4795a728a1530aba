"""How a rail is followed, as its table in the configuration has it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FollowOptions:
    """The pace of one rail, in seconds, and its first block.

    ``poll_interval`` None: the interval of the node's traits. ``stall_after``: the age of a head that no healthy chain
    has. None: the chain's own rhythm bounds it; 0: nothing does. ``start_height``: the first block to follow, None: the
    first one that is not final. ``finality_stall_after``: the most by which finality may be older than the head; None:
    it is not checked.
    """

    poll_interval: float | None = None
    stall_after: float | None = None
    start_height: int | None = None
    finality_stall_after: float | None = None

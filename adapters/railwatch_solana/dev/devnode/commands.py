"""All that can change the node, as records: what a client or a clock makes happen, and what the ledger keeps."""

import msgspec


class Command(msgspec.Struct, frozen=True, tag=str.lower):
    """One change. Applied in the same order to the same beginning, commands lead to the same state."""


class Submit(Command, frozen=True):
    """A transaction begins to wait."""

    raw: bytes


class Produce(Command, frozen=True):
    """A block at this unix time. ``blockhash`` is what came out, so that a replay can be compared."""

    time: int
    blockhash: str = ""


class Skip(Command, frozen=True):
    """Slots without a block."""

    count: int


class Fork(Command, frozen=True):
    """The newest blocks are dropped."""

    depth: int
    resubmit: bool


class Commitments(Command, frozen=True):
    """Blocks by which commitments lag behind; None leaves one as it is."""

    confirm_lag: int | None
    root_lag: int | None


class Withhold(Command, frozen=True):
    """A block is not served."""

    slot: int
    code: int
    listed: bool


class Restore(Command, frozen=True):
    """A withheld block is served again; None means all."""

    slot: int | None


class Prune(Command, frozen=True):
    """Blocks below this slot are gone."""

    below: int


AnyCommand = Submit | Produce | Skip | Fork | Commitments | Withhold | Restore | Prune

"""What a story begins with, and how long it waits for what comes about in it."""

from dataclasses import dataclass
from datetime import timedelta

import asyncpg

from railwatch.store.errors import StoreUnavailable
from railwatch_fake import Rules

RAIL, OTHER = "story", "other"
"""The rail of every story, and the second one of some, of the same family of addresses."""

BLOCK_SECONDS = 10
RULES = [
    Rules(lookback=5, horizon=9),
    Rules(mempool=False, finality=8, safe=4, lookback=5, span_max=7),
    Rules(horizon=12, lookback=5, span_max=3),
    Rules(mempool=False, horizon=9, lookback=5),
    Rules(finality=6, safe=3, lookback=5),
]
NOTICED_WITHIN = 20.0
"""Seconds of real time in which a daemon on a busy machine notices that the newest block has grown old."""

LOOKS_AGAIN = 30
"""Questions to nodes in which a daemon ends what it was at, and has looked at the newest block anew."""

BEGINS_WITHIN, SEEN_WITHIN = 60.0, 2.0
"""Seconds of real time in which a first daemon follows its rail, and in which one sees what waits for a block."""

IN_TROUBLE_WITHIN = 0.15
"""The same where a node or a daemon is in trouble, so that it may well not see it before the story goes on."""

POLL = 0.008
"""Seconds between two looks at whether something has come about."""

GOES_ON_WITHIN = 20.0
"""Seconds of real time in which a daemon on a busy machine goes on after a step that failed."""

LATE_BLOCKS = timedelta(seconds=5)
"""For how long after the end of a window a block of that time may still come: a rail's `time_margin`."""

DEEPEST = 4
"""Blocks that a reorg replaces at most, which finality and horizon are always below."""

REFUSALS = ("RW002", "RW003", "RW007", "RW008", "RW010", "RW012", "RW013", "RW014")
"""What the contract may answer to a verb that does not fit the moment."""

CONNECTION_LOST = (
    StoreUnavailable,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a story begins with. ``nodes``: how many follow the chain and are configured. ``rails``: one, or two."""

    rules: int = 0
    nodes: int = 1
    confirmations: int = 2
    rails: int = 1

"""The feed's generation: recorded by long-running processes, and begun by hand where Postgres cannot detect it."""

from uuid import UUID

from railwatch.store.database import Database
from railwatch.store.queries import query

NOTE_GENERATION = query("note_generation")
RENEW_FEED = query("renew_feed")


async def note_generation(database: Database) -> UUID:
    """Record that another server has taken over the feed, if one has, and return the generation.

    Each write to the feed does so by itself. A quiet feed must have its generation all the same, before the next
    restart begins another one. Raises `StoreUnavailable`.
    """
    made: UUID = await database.value(NOTE_GENERATION)
    return made


async def renew_feed(database: Database, last_common: int) -> UUID:
    """Begin a generation: readers go back to ``last_common``, a seq. Raises `StoreUnavailable`."""
    made: UUID = await database.value(RENEW_FEED, last_common)
    return made

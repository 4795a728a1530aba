"""A consumer of the feed, as docs/contract.md asks one to be."""

from uuid import UUID

from railwatch.store.database import Database


class Reader:
    """A consumer elsewhere, which keeps the lines that it read, and its position with the feed's generation.

    ``keeps_events``: also the last line's event. Who does not is told of a failover by the generation alone.
    """

    def __init__(self, *, keeps_events: bool) -> None:
        self.keeps_events = keeps_events
        self.lines: list[tuple[int, UUID]] = []
        self.generation: UUID | None = None

    async def reads(self, database: Database) -> None:
        """Go back to where `feed_check` says, and read on, as docs/contract.md asks of a consumer."""
        async with database.connection() as connection, connection.transaction(isolation="repeatable_read"):
            seq, event = self.lines[-1] if self.lines else (0, None)
            if self.generation is not None:
                check = "select railwatch.feed_check($1, $2, $3)"
                seq = await connection.fetchval(check, self.generation, seq, event if self.keeps_events else None)
                self.lines = [line for line in self.lines if line[0] <= seq]
            self.generation = await connection.fetchval("select railwatch.feed_generation()")
            more = "select seq, event_id from railwatch.transitions where seq > $1 order by seq"
            self.lines += [(row["seq"], row["event_id"]) for row in await connection.fetch(more, seq)]

"""Counts in how many stories something came about: verbs, what the feed told, exceptions, and how people ended them.

What is never reached is not tested, however many stories are played.
"""

from collections import Counter

from tests.model.world import World

TOLD = """
select distinct subject || ' ' || to_state || ' (' || reason || ', ' || cause || ')' from railwatch.transitions
where subject in ('invoice', 'detection', 'refund')
union
select distinct concat('exception ', kind, case when ended_at is not null then ', ended' end,
                       case when resolution = 'made good' then ' well'
                            when resolved_at is not null then ', resolved' end)
from railwatch.exceptions
union
select distinct 'kind ' || kind || ' ' || state from railwatch.detections
union
select distinct 'second look ' || second_look from railwatch.detections where second_look is not null
union
select distinct 'rescan ' || coalesce(outcome, 'open') from railwatch.rescans
union
select 'invoice closed' from railwatch.invoices where closed_at is not null
union
select 'destination ' || watch_state from railwatch.destinations
union
select concat('refund of what was ', case when waived > 0 then 'asked for' when surplus > 0 then 'surplus'
                                          else 'not settled' end)
from railwatch.refunds
union
select 'small transfers' from railwatch.destinations where small_count > 0
union
select 'feed generations: ' || count(*) from railwatch.feed_generations having count(*) > 1
"""
"""What a story left in its tables, in words."""


class Reached:
    """Of many stories."""

    def __init__(self) -> None:
        self.stories = 0
        self.counted: Counter[str] = Counter()

    async def note(self, world: World) -> None:
        """Count what came about in a story that is over."""
        self.stories += 1
        self.counted.update({f"verb {name}" for name, _ in world.story})
        rows = await world.database.rows(TOLD)
        self.counted.update({row[0] for row in rows} | world.happened)

    def table(self) -> str:
        """Return it as lines, the rarest first within each kind of thing."""
        lines = [f"{self.stories} stories"]
        for name, often in sorted(self.counted.items(), key=lambda each: (each[0].split()[0], each[1])):
            lines.append(f"{often:6} {name}")
        return "\n".join(lines)

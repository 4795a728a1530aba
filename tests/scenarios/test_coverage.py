"""Coverage says what was seen, and never more: expiry and the end of a watch both trust it."""

from datetime import UTC, datetime

from railwatch.store.database import Database
from railwatch_fake import Rules
from tests.scenarios.daemon_harness import DaemonHarness, chain_named


async def test_a_rail_that_catches_up_covers_no_time_that_it_has_not_seen(database: Database) -> None:
    chain = chain_named(rules=Rules(span_max=2, horizon=4), clock=lambda: datetime.now(UTC))
    async with DaemonHarness(database, [chain], options={"stall_after": 3600}) as stage:
        before = (await stage.rail())["covered_until"]
        await stage.stop()
        chain.mine(9)
        await stage.start()
        assert await database.value("select covered_until <= now() from railwatch.rails")
        assert before is None or before <= (await stage.rail())["covered_until"]

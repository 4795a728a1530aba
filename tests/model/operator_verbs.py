"""What operators do, and what befalls daemons and the database."""

import asyncio
from contextlib import suppress

from tests.model.base import WorldBase, verb
from tests.model.setting import (
    IN_TROUBLE_WITHIN,
    POLL,
    RAIL,
    SEEN_WITHIN,
)


class OperatorVerbs(WorldBase):
    """Verbs of operators."""

    @verb
    async def restarts(self, *, with_gold: bool = True, confirmations: int = 2) -> None:
        """The operator restarts the daemon, maybe with another configuration, which is for the orders to come."""
        await self.stop_all()
        self.sides[0].confirmations = confirmations
        self.with_gold = with_gold
        self.acts.was_without_gold |= not with_gold
        self.start()

    @verb
    async def gets_a_standby(self) -> None:
        """A second daemon starts beside the first, and knows by the end of this what is watched now."""
        if len(self.daemons) >= 2:
            return
        name = self.start()
        with suppress(TimeoutError):
            async with asyncio.timeout(SEEN_WITHIN):
                while not (name in self.watchers and self.watchers[name].is_ready):  # noqa: ASYNC110 - another thing's
                    await asyncio.sleep(POLL)

    @verb
    async def loses_a_daemon(self, *, which: int) -> None:
        """One of two daemons ends, whatever it was doing."""
        if len(self.daemons) > 1:
            await self.stop(list(self.daemons)[which % len(self.daemons)])

    @verb
    async def is_cut_off(self) -> None:
        """Postgres ends every connection of the daemons at any point: the answer to a commit may be lost."""
        ours = await self.database.value("select pg_backend_pid()")
        await self.server.cut_off(self.name, but=ours)

    @verb
    async def lets_leases_run_out(self) -> None:
        """Whoever follows the rail is taken for dead, and goes on for a while all the same."""
        await self.database.value("update railwatch.leases set expires_at = now() - interval '1 s' returning 1")

    @verb
    async def stands_still(self, *, after: int, within: bool = False, which: int = 0) -> None:
        """A daemon will stop, as by SIGSTOP, after so many steps of its tasks (``within``: within transactions)."""
        if self.standstills:
            list(self.standstills.values())[which % len(self.standstills)].stop_after(after, within=within)

    @verb
    async def is_held_up(self, *, after: int, task: str) -> None:
        """One task of each daemon stops after so many of its own steps, while the others go on."""
        for each in self.standstills.values():
            each.stop_after(after, within=False, task=f"{RAIL}.{task}")

    @verb
    async def was_held_up(self) -> None:
        """Wait until a task that was to stop has stopped."""
        for each in self.standstills.values():
            await self._waits(each.has_stopped, IN_TROUBLE_WITHIN)

    @verb
    async def goes_on_after_a_reorg(self) -> None:
        """A task that was held up goes on after a reorg. Raises AssertionError if it writes what is gone."""
        is_through = await self._has_read_all()
        end = await self.database.value("select last_seq from railwatch.feed_position")
        for each in self.standstills.values():
            each.go_on()
        await asyncio.sleep(IN_TROUBLE_WITHIN)
        emitted = await self.database.rows(
            "select seq, block_hash from railwatch.transitions where seq > $1 and subject = 'detection' "
            "and to_state in ('included', 'confirmed', 'final')",
            end,
        )
        line = {block.hash for side in self.sides for block in side.chain.line}
        gone = [row["seq"] for row in emitted if row["block_hash"] not in line]
        if is_through and gone:
            raise AssertionError(f"seqs {gone} name blocks that the daemon had rewound before")

    @verb
    async def stood_still(self) -> None:
        """Wait until a daemon that was to stop has stopped; then whoever follows the rail is taken for dead."""
        within = IN_TROUBLE_WITHIN if self._a_node_is_in_trouble() else SEEN_WITHIN
        for each in self.standstills.values():
            await self._waits(each.has_stopped, within)
        await self.database.value("update railwatch.leases set expires_at = now() - interval '1 s' returning 1")

    @verb
    async def goes_on_from_there(self) -> None:
        """A daemon that stood still goes on with what it was at."""
        for each in self.standstills.values():
            each.go_on()

    @verb
    async def is_copied(self) -> None:
        """A replica has everything up to now, and nothing that follows."""
        self.backup = await self._takes(self.server.copy(self.database)), self.acts.copy()

    @verb
    async def fails_over(self) -> None:
        """The database is lost, and the replica takes its place: what was committed since is gone."""
        if self.backup is None:
            return
        await self.stop_all()
        await self.database.close()
        (name, self.acts), self.backup = self.backup, None
        # The configuration is a file of the operator's, and is not lost with the database.
        self.acts.was_without_gold |= not self.with_gold
        await self._open(name)
        self.start()

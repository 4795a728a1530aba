"""The state that the daemon would give a rail now, from the follower's own code without a commit."""

import asyncio
import time

from railwatch.config import RailConfig
from railwatch.daemon.follow.committer import Committer
from railwatch.daemon.follow.follower import ChainFollower
from railwatch.daemon.halting import FATAL, halt_reason
from railwatch.daemon.registry import open_rail
from railwatch.daemon.supervisor import assets_by_contract, follow_options
from railwatch.daemon.watch.address_index import AddressIndex
from railwatch.daemon.watch.spend_index import SpendIndex
from railwatch.daemon.watch.watchlist import IndexedWatches
from railwatch.rail import BlockGone, RailUnavailable
from railwatch.reasons import one_line
from railwatch.store.database import Database
from railwatch.store.rails import ResumePoint
from railwatch.store.steps import Lease, StepStore

PATIENCE_SECONDS = 8.0
"""Seconds for which failures count as temporary: nodes connect, vote and fail over within them."""
POLL_SECONDS = 0.2
UNUSED_KEY = b"railwatch: nobody's"
"""A watched key, so that the preview queries the content of blocks and not only headers."""
UNOPENED = Database("postgresql://nowhere")
"""A database that is never opened, because a preview writes nothing."""


async def preview_rail(rail: RailConfig, resume_point: ResumePoint | None) -> tuple[str, str | None]:
    """Return the state and the reason that `railwatch run` would soon give a rail with this resume point.

    Raises ValueError if its adapter rejects the table, as `railwatch run` does.
    """
    node = open_rail(rail)
    resume_point = resume_point or ResumePoint(None, None, [], 0)
    assets = assets_by_contract(rail, node.traits)
    index = AddressIndex()
    index.add(UNUSED_KEY)
    committer = Committer(rail.name, node.traits, {}, StepStore(UNOPENED, Lease(rail.name, 0)), resume_point.origin)
    follower = ChainFollower(
        node, committer, IndexedWatches(index, assets, SpendIndex()), resume_point, follow_options(rail)
    )
    deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        while True:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    return await follower.preview()
            except FATAL as fault:
                return "halted", halt_reason(fault, rail.name)
            except TimeoutError:
                reason = f"the nodes do not answer within {PATIENCE_SECONDS:.0f} s; check that they run, and their urls"
                return "stalled", reason
            except (RailUnavailable, BlockGone) as failure:
                if time.monotonic() >= deadline:
                    return "stalled", one_line(str(failure))
            await asyncio.sleep(POLL_SECONDS)
    finally:
        await node.__aexit__(None, None, None)

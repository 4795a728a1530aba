"""A node with a rich wallet for every test that wants one."""

from collections.abc import AsyncIterator

import pytest

from tests.solana_devnode.cluster import Cluster


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """Finalized is 4 blocks behind the tip, confirmed 1."""
    async with Cluster() as cluster:
        await cluster.fund()
        yield cluster

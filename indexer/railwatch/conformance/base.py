"""The fixtures that all themes share, and the two hooks that a subclass fills."""

from collections.abc import AsyncIterator
from typing import ClassVar

import pytest
import pytest_asyncio

from railwatch.conformance.harness import ChainHarness
from railwatch.rail import RailAdapter, Simulator


@pytest.mark.asyncio
class Conformance:
    """What a theme of the suite builds on.

    Every check is a coroutine over a `ChainHarness`, also where it awaits nothing: so one mark on this class serves
    projects in pytest-asyncio's strict mode, and a test of the kit can call a check with a story of its own.
    """

    unit: ClassVar[int] = 1_000_000
    """Base units of the smallest payment: above the dust and rent limits of the rails that have them."""
    patience: ClassVar[float] = 10.0
    """Seconds after which a development node that pushes has certainly pushed."""

    def make_simulator(self) -> Simulator:
        """Return a fresh simulator of the rail. A subclass must define it."""
        raise NotImplementedError(f"{type(self).__name__} has to define make_simulator")

    def open_wrong_chain_adapter(self, simulator: Simulator) -> RailAdapter | None:
        """Return an adapter on the simulator's node whose ``chain_id`` is configured wrong; None skips that check."""
        return None

    @pytest_asyncio.fixture
    async def simulator(self) -> AsyncIterator[Simulator]:
        """Yield a running development node."""
        async with self.make_simulator() as simulator:
            yield simulator

    @pytest_asyncio.fixture
    async def story(self, simulator: Simulator) -> AsyncIterator[ChainHarness]:
        """Yield a harness with a running node and a connected adapter."""
        async with simulator.open_adapter() as rail:
            yield await ChainHarness.begin(simulator, rail, self.unit)

"""The conformance suite on the Solana adapter, with the development node's real programs."""

from dataclasses import replace

import pytest

from railwatch.conformance import AdapterConformance
from railwatch.rail import ChainId, RailAdapter, Simulator
from railwatch_solana import create_adapter
from railwatch_solana.dev.simulator import SolanaSimulator


@pytest.mark.solana
class TestSolana(AdapterConformance):
    """SOL and a token; what is confirmed is not final for some blocks, so that it can be reorganised."""

    def make_simulator(self) -> Simulator:
        return SolanaSimulator(root_lag=4)

    def open_wrong_chain_adapter(self, simulator: Simulator) -> RailAdapter:
        assert isinstance(simulator, SolanaSimulator)
        elsewhere = ChainId("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp")
        return create_adapter(replace(simulator.settings, chain_id=elsewhere), simulator.node)


@pytest.mark.solana
@pytest.mark.long
class TestSkippingSolana(TestSolana):
    """Slots without a block, everywhere."""

    def make_simulator(self) -> Simulator:
        return Gappy(root_lag=4)


class Gappy(SolanaSimulator):
    """A chain whose leaders miss every other slot."""

    async def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            await self.skip()
            await super().mine()

"""The conformance suite on the EVM adapter, with a real anvil."""

from dataclasses import replace

import pytest

from adapters.evm import open_node
from adapters.evm.simulator import EvmSimulator
from indexer.conformance import AdapterConformance
from indexer.rail import ChainId, RailAdapter, Simulator


@pytest.mark.anvil
class TestEvm(AdapterConformance):
    """Ether and a token, with safe and finalized heads close below the tip."""

    def make_simulator(self) -> Simulator:
        return EvmSimulator(epoch=2)

    def open_stranger(self, simulator: Simulator) -> RailAdapter:
        assert isinstance(simulator, EvmSimulator)
        return open_node(replace(simulator.settings, chain_id=ChainId("eip155:1")), simulator.node)

"""The conformance suite on the EVM adapter, with a real anvil."""

from dataclasses import replace

import pytest

from railwatch.conformance import AdapterConformance
from railwatch.rail import ChainId, RailAdapter, Simulator
from railwatch_evm import create_adapter
from railwatch_evm.dev.simulator import EvmSimulator


@pytest.mark.anvil
class TestEvm(AdapterConformance):
    """Ether and a token, with safe and finalized heads close below the tip."""

    def make_simulator(self) -> Simulator:
        return EvmSimulator(epoch=2)

    def open_wrong_chain_adapter(self, simulator: Simulator) -> RailAdapter:
        assert isinstance(simulator, EvmSimulator)
        return create_adapter(replace(simulator.settings, chain_id=ChainId("eip155:1")), simulator.node)

"""The conformance suite on the Bitcoin adapter, with a real bitcoind that pushes and a real litecoind that does not."""

from dataclasses import replace

import pytest

from railwatch.conformance import AdapterConformance
from railwatch.rail import RailAdapter, Simulator
from railwatch_bitcoin import create_adapter
from railwatch_bitcoin.chains import BITCOIN
from railwatch_bitcoin.dev.simulator import BitcoinSimulator


class BitcoinFamily(AdapterConformance):
    """What the two have in common."""

    def open_wrong_chain_adapter(self, simulator: Simulator) -> RailAdapter:
        assert isinstance(simulator, BitcoinSimulator)
        return create_adapter(replace(simulator.settings, chain_id=BITCOIN.id), simulator.node)


@pytest.mark.bitcoind
class TestBitcoin(BitcoinFamily):
    """bitcoind, with ZMQ, REST and filters."""

    def make_simulator(self) -> Simulator:
        return BitcoinSimulator()


@pytest.mark.litecoind
class TestLitecoin(BitcoinFamily):
    """litecoind, which has none of them."""

    def make_simulator(self) -> Simulator:
        return BitcoinSimulator("litecoind")

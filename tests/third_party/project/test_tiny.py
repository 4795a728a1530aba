"""The conformance suite on a rail of a third party, as docs/adapters.md describes."""

from railwatch.conformance import AdapterConformance
from railwatch.rail import ChainId, RailAdapter, Simulator
from railwatch_tiny.dev.simulator import TinySimulator


class TestTinyRail(AdapterConformance):
    """The tiny rail."""

    def make_simulator(self) -> Simulator:
        """Return a fresh simulator."""
        return TinySimulator()

    def open_wrong_chain_adapter(self, simulator: Simulator) -> RailAdapter:
        """Return an adapter that is configured for another chain."""
        assert isinstance(simulator, TinySimulator)
        return simulator.open_adapter(ChainId("tiny:elsewhere"))

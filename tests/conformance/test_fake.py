"""The conformance suite on the fake rail, as each kind of rail that it can play."""

from railwatch.conformance import AdapterConformance
from railwatch.rail import ChainId, RailAdapter, Simulator
from railwatch_fake import FakeAdapter, FakeChain, Rules
from railwatch_fake.dev.simulator import FakeSimulator


class TestMempoolRail(AdapterConformance):
    """Like Bitcoin: a mempool, no finality, no tokens."""

    rules = Rules(tokens=())

    def make_simulator(self) -> Simulator:
        return FakeSimulator(self.rules)

    def open_wrong_chain_adapter(self, simulator: Simulator) -> RailAdapter:
        assert isinstance(simulator, FakeSimulator)
        return FakeAdapter(simulator.node, ChainId("fake:elsewhere"))


class TestRailWithEverything(TestMempoolRail):
    """Everything at once: tokens, safe and finalized heads, a mempool, balances."""

    rules = Rules(safe=1, finality=2, tokens=("gold", "silver"), balances=True)


class TestRailWithoutMempool(TestMempoolRail):
    """Like Solana: finality, no mempool, and small spans."""

    rules = Rules(mempool=False, finality=2, span_max=2)


class TestRailThatSkipsHeights(AdapterConformance):
    """Like Solana's slots: heights without a block, everywhere."""

    def make_simulator(self) -> Simulator:
        return FakeSimulator(chain=SkippingChain("slots", Rules(mempool=False, finality=4)))


class TestNodeThatPushesNothing(AdapterConformance):
    """Like a node behind plain HTTP."""

    def make_simulator(self) -> Simulator:
        simulator = FakeSimulator()
        simulator.node.pushes = False
        return simulator


class SkippingChain(FakeChain):
    """Leaves one height empty below every other block."""

    def grow(self, parent, txs=()):
        self.skip(len(self.blocks) % 2)
        return super().grow(parent, txs)

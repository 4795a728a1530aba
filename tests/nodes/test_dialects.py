"""The conformance suite in the dialects of real EVM clients. CI runs two of them; RAILWATCH_DIALECTS=all runs each.

``make test-dialects`` is the long form.
"""

import os
from dataclasses import replace

import pytest

from adapters.evm import open_node
from indexer.conformance import AdapterConformance
from indexer.rail import ChainId, RailAdapter, Simulator
from tests.nodes.dialects import DIALECTS, Dialect, DialectSimulator

SHORT = ("geth, full", "hosted, balanced")
CHOSEN = [each for each in DIALECTS if each.name in SHORT or os.environ.get("RAILWATCH_DIALECTS") == "all"]


class DialectConformance(AdapterConformance):
    """Ether and a token through one client's dialect."""

    dialect: Dialect

    def make_simulator(self) -> Simulator:
        return DialectSimulator(self.dialect, epoch=2)

    def open_stranger(self, simulator: Simulator) -> RailAdapter:
        assert isinstance(simulator, DialectSimulator)
        return open_node(replace(simulator.settings, chain_id=ChainId("eip155:1")), simulator.node)


for each in CHOSEN:
    title = "Test" + "".join(part.capitalize() for part in each.name.replace(",", "").split())
    globals()[title] = pytest.mark.anvil(type(title, (DialectConformance,), {"dialect": each, "__module__": __name__}))

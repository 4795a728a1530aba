"""The conformance suite in the dialects of real EVM clients.

Every run plays all of it in two of them, and in the others what depends on the client. ``make test-dialects``
(RAILWATCH_DIALECTS=all) plays all of it in each.
"""

import os
from dataclasses import replace

import pytest

from railwatch.conformance import AdapterConformance
from railwatch.rail import ChainId, RailAdapter, Simulator
from railwatch_evm import create_adapter
from tests.nodes.client_checks import ClientChecks, Conformance
from tests.nodes.dialects import DIALECTS, Dialect, DialectSimulator

SHORT = ("geth, full", "hosted, balanced")
ALL = os.environ.get("RAILWATCH_DIALECTS") == "all"


class DialectConformance(Conformance):
    """Ether and a token through one client's dialect."""

    dialect: Dialect

    def make_simulator(self) -> Simulator:
        return DialectSimulator(self.dialect, epoch=2)

    def open_wrong_chain_adapter(self, simulator: Simulator) -> RailAdapter:
        assert isinstance(simulator, DialectSimulator)
        return create_adapter(replace(simulator.settings, chain_id=ChainId("eip155:1")), simulator.node)


for each in DIALECTS:
    checks = AdapterConformance if ALL or each.name in SHORT else ClientChecks
    title = "Test" + "".join(part.capitalize() for part in each.name.replace(",", "").split())
    globals()[title] = pytest.mark.anvil(
        type(title, (DialectConformance, checks), {"dialect": each, "__module__": __name__})
    )

"""The conformance kit in the dialects of other clients (HAZARDS B20).

All of it in one of them in every run, and in some others what depends on the client; a payment in every one; all of it
in all of them with ``make dialects`` (RAILWATCH_DIALECTS=all).
"""

import os
from dataclasses import replace

import pytest

from railwatch.conformance import AdapterConformance, ChainHarness
from railwatch.rail import RailAdapter, Simulator
from railwatch_bitcoin import create_adapter
from railwatch_bitcoin.chains import BITCOIN
from tests.nodes.bitcoin_dialects import DIALECTS, DialectSimulator
from tests.nodes.client_checks import ClientChecks, ClientPendingChecks, Conformance

FEW = ("dogecoin-1.14",)
SOME = (*FEW, "whitelist", "bchn-28", "hosted")
ALL = os.environ.get("RAILWATCH_DIALECTS") == "all"


class InADialect(Conformance):
    """What they have in common."""

    dialect: str

    def make_simulator(self) -> Simulator:
        return DialectSimulator(self.dialect)

    def open_wrong_chain_adapter(self, simulator: Simulator) -> RailAdapter:
        assert isinstance(simulator, DialectSimulator)
        return create_adapter(replace(simulator.settings, chain_id=BITCOIN.id), simulator.node)


for _name in DIALECTS if ALL else SOME:
    _checks: type = AdapterConformance if ALL or _name in FEW else ClientPendingChecks
    if _name == "hosted":
        # It hides what waits, which the adapter learns from its first refusal: the kit cannot skip by trait.
        _checks = ClientChecks
    _kit = type(f"Test_{_name.replace('-', '_').replace('.', '_')}", (InADialect, _checks), {"dialect": _name})
    globals()[_kit.__name__] = pytest.mark.bitcoind(_kit)


@pytest.mark.bitcoind
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_payment_is_found_in_every_dialect(dialect: str) -> None:
    """In the block everywhere, and before it where the client reports what waits."""
    async with DialectSimulator(dialect) as sim, sim.open_adapter() as rail:
        story = await ChainHarness.begin(sim, rail, 1_000_000)
        address = await story.address()
        await story.pay(address)
        if dialect != "hosted":
            assert [each.amount for each in await rail.pending(story.watch(address))] == [1_000_000]
        await sim.mine()
        assert [each.amount for each in (await story.scan(address)).transfers] == [1_000_000]

"""The kit can fail: each of its checks is shown an adapter that breaks the rule it names, and must catch it.

The mutants are in `mutants`, in the themes of the kit. The last test compares their marks with the kit, so that
no check can be added without something that it catches.
"""

import inspect

import pytest

from railwatch.conformance import AdapterConformance, ChainHarness
from railwatch.rail import ChainId, RailError
from tests.conformance.mutants import BREAKAGES

CAUGHT = (AssertionError, pytest.fail.Exception, RailError, TimeoutError)
"""How a check fails: it says so, no error came where one had to, or the adapter broke down before its eyes."""


class Kit(AdapterConformance):
    """The suite without pytest around it: its checks are called by hand, and lose patience early."""

    patience = 0.3

    def open_wrong_chain_adapter(self, simulator):
        stranger = simulator.open_adapter()
        stranger.chain_id = ChainId("fake:elsewhere")
        return stranger


@pytest.mark.parametrize(
    ("breakage", "check"),
    [
        pytest.param(breakage, check, id=f"{breakage.__name__}-{check}")
        for breakage in BREAKAGES
        for check in breakage.checks
    ],
)
async def test_the_kit_catches(breakage, check):
    caught = [await fails(breakage, check, arguments) for arguments in variants(check)]
    assert any(caught), f"{check} let {breakage.__name__} pass"


async def fails(breakage, check, arguments):
    """Whether the check fails on a fresh chain with this adapter. A skip proves nothing, so it is an error."""
    simulator = breakage.simulator()
    async with simulator, simulator.open_adapter() as rail:
        story = await ChainHarness.begin(simulator, rail, Kit.unit)
        try:
            await getattr(Kit(), check)(story, **arguments)
        except CAUGHT:
            return True
        except pytest.skip.Exception as why:
            pytest.fail(f"{check} was skipped for {breakage.__name__}: {why}")
    return False


def variants(check):
    """Return the arguments of each round of a parametrized check; one empty round for the others."""
    marks = getattr(getattr(Kit, check), "pytestmark", [])
    return [{mark.args[0]: value} for mark in marks if mark.name == "parametrize" for value in mark.args[1]] or [{}]


def test_every_check_is_known_to_catch_something():
    checks = {name for name, _ in inspect.getmembers(Kit, inspect.isfunction) if name.startswith("test_")}
    marked = {check for breakage in BREAKAGES for check in breakage.checks}
    assert marked == checks

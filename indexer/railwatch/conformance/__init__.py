"""The suite that every adapter passes, first- or third-party. It needs pytest and pytest-asyncio, and a simulator::

    from railwatch.conformance import AdapterConformance
    from railwatch.rail import Simulator
    from my_rail import MySimulator


    class TestMyRail(AdapterConformance):
        def make_simulator(self) -> Simulator:
            return MySimulator()

Checks are skipped by trait, never by a rail's name; ``docs/adapters.md`` walks through them. The model test sends
random simulator steps through the real core; it alone imports ``railwatch.core``.
"""

import pytest

# Before the imports: pytest explains a failed assert only in modules that it has rewritten, and by itself it
# rewrites test files and not installed packages.
for _theme in (
    "balances",
    "chain",
    "failures",
    "identity",
    "lifecycle",
    "model",
    "pending",
    "reorgs",
    "scanning",
    "harness",
    "transfers",
):
    pytest.register_assert_rewrite(f"{__name__}.{_theme}")

from railwatch.conformance.balances import BalanceChecks  # noqa: E402
from railwatch.conformance.chain import ChainChecks  # noqa: E402
from railwatch.conformance.failures import FailureChecks  # noqa: E402
from railwatch.conformance.harness import ChainHarness  # noqa: E402
from railwatch.conformance.identity import IdentityChecks  # noqa: E402
from railwatch.conformance.lifecycle import LifecycleChecks  # noqa: E402
from railwatch.conformance.model import ModelChecks  # noqa: E402
from railwatch.conformance.pending import PendingChecks  # noqa: E402
from railwatch.conformance.reorgs import ReorgChecks  # noqa: E402
from railwatch.conformance.scanning import ScanningChecks  # noqa: E402
from railwatch.conformance.transfers import TransferChecks  # noqa: E402
from railwatch.conformance.watches import WatchSet  # noqa: E402

__all__ = ["AdapterConformance", "ChainHarness", "WatchSet"]


class AdapterConformance(
    IdentityChecks,
    ChainChecks,
    TransferChecks,
    ScanningChecks,
    ReorgChecks,
    PendingChecks,
    BalanceChecks,
    LifecycleChecks,
    FailureChecks,
    ModelChecks,
):
    """The whole suite. Define ``make_simulator``; `base.Conformance` says what else may be set."""

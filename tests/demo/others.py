"""Demos of a third party's package, found by their entry points: one of a single story, one that expects a lie."""

from collections.abc import Sequence

from railwatch.rail.demo import RailDemo, Scenario
from railwatch_evm.dev.demo import PAID, EvmDemo


class Brief(EvmDemo):
    """One story only."""

    @property
    def scenarios(self) -> Sequence[Scenario]:
        return super().scenarios[:1]


class Liar(EvmDemo):
    """Says of an exact payment that it will be too much, and of one in a token what is true."""

    @property
    def scenarios(self) -> Sequence[Scenario]:
        return [
            Scenario("a lie", self._exact_ether, ("created", "confirming", "overpaid"), frozenset({"overpaid"})),
            Scenario("a truth", self._exact_token, PAID),
        ]


def open_brief() -> RailDemo:
    return Brief()


def open_liar() -> RailDemo:
    return Liar()

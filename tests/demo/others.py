"""Demos of somebody else's package, found by their entry points: one of a single story, one that expects a lie."""

from collections.abc import Sequence

from adapters.evm.demo import PAID, EvmDemo
from indexer.rail.demo import RailDemo, Story


class Brief(EvmDemo):
    """One story only."""

    @property
    def stories(self) -> Sequence[Story]:
        return super().stories[:1]


class Liar(EvmDemo):
    """Says of an exact payment that it will be too much, and of one in a token what is true."""

    @property
    def stories(self) -> Sequence[Story]:
        return [
            Story("a lie", self._exact_ether, ("created", "confirming", "overpaid"), frozenset({"overpaid"})),
            Story("a truth", self._exact_token, PAID),
        ]


def open_brief() -> RailDemo:
    return Brief()


def open_liar() -> RailDemo:
    return Liar()

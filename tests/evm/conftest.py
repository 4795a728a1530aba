"""A real anvil for every test that wants one, an adapter on it, and a liar between the two."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from railwatch.conformance import WatchSet
from railwatch.rail import BlockRef, RailAdapter, Span, Transfer
from railwatch_evm import create_adapter
from railwatch_evm.dev.simulator import EvmSimulator
from tests.faulty_proxy import Liar


@dataclass
class Chain:
    """A simulator and the questions that the tests ask about it."""

    sim: EvmSimulator
    rail: RailAdapter
    start: BlockRef
    spends: dict[str, set[str]] = field(default_factory=dict)

    def watch(self, *addresses: str) -> WatchSet:
        """Return a watch list of these addresses, for ether and the token."""
        keys = frozenset(self.rail.parse_address(address).key for address in addresses)
        return WatchSet(keys, {"": self.sim.native, self.sim.token: self.sim.assets[1]}, self.spends)

    async def span(self, *, after: BlockRef | None = None, **more: bool) -> Span:
        """From the start, or ``after``, to the head as anvil itself reports it."""
        head = await self.sim.rpc("eth_getBlockByNumber", "latest", False)
        async with self.sim.open_adapter() as honest:
            return Span(after or self.start, await honest.block_at(int(head["number"], 16)), **more)

    async def found(self, *addresses: str, after: BlockRef | None = None, **more: bool) -> list[Transfer]:
        """Return what a scan from the start, or ``after``, finds."""
        return list((await self.rail.scan(await self.span(after=after, **more), self.watch(*addresses))).transfers)


@pytest.fixture
async def sim() -> AsyncIterator[EvmSimulator]:
    """Yield a development chain."""
    async with EvmSimulator() as sim:
        yield sim


@pytest.fixture
async def chain(sim: EvmSimulator) -> AsyncIterator[Chain]:
    """Yield the chain through an adapter."""
    async with sim.open_adapter() as rail:
        yield Chain(sim, rail, (await rail.heads()).latest)


@pytest.fixture
async def liar(sim: EvmSimulator) -> AsyncIterator[Liar]:
    """Yield a node that answers truly until a test teaches it a lie."""
    async with Liar(sim.node["http"]) as liar:
        yield liar


@pytest.fixture
async def lied_to(sim: EvmSimulator, liar: Liar) -> AsyncIterator[Chain]:
    """Yield the chain through an adapter that knows only the liar."""
    async with create_adapter(sim.settings, {"http": liar.http, "timeout": 2}) as rail:
        yield Chain(sim, rail, (await rail.heads()).latest)

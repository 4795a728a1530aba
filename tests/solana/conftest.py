"""A real development node for every test that wants one, an adapter on it, and a liar between the two."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from railwatch.conformance import WatchSet
from railwatch.rail import BlockRef, RailAdapter, Span, Transfer
from railwatch_solana import create_adapter
from railwatch_solana.dev.simulator import SolanaSimulator
from tests.faulty_proxy import Liar


@dataclass
class Chain:
    """A simulator and the questions that the tests ask about it."""

    sim: SolanaSimulator
    rail: RailAdapter
    start: BlockRef

    def watch(self, *addresses: str) -> WatchSet:
        """Return a watch list of these addresses, for SOL and the two tokens."""
        keys = frozenset(self.rail.parse_address(address).key for address in addresses)
        tokens = {str(mint.key): self.sim.asset(mint) for mint in (self.sim.token, self.sim.taxed)}
        return WatchSet(keys, {"": self.sim.native, **tokens})

    async def span(self, *, after: BlockRef | None = None, **more: bool) -> Span:
        """From the start, or ``after``, to the head as an honest adapter reports it."""
        async with self.sim.open_adapter() as honest:
            return Span(after or self.start, (await honest.heads()).latest, **more)

    async def found(self, *addresses: str, after: BlockRef | None = None, **more: bool) -> list[Transfer]:
        """Return what a scan from the start, or ``after``, finds."""
        return list((await self.rail.scan(await self.span(after=after, **more), self.watch(*addresses))).transfers)

    async def mined(self, *addresses: str) -> list[Transfer]:
        """Mine a block, and find what it brings."""
        await self.sim.mine()
        return await self.found(*addresses)


@pytest.fixture
async def sim() -> AsyncIterator[SolanaSimulator]:
    """Yield a development chain."""
    async with SolanaSimulator() as sim:
        yield sim


@pytest.fixture
async def chain(sim: SolanaSimulator) -> AsyncIterator[Chain]:
    """Yield the chain through an adapter."""
    async with sim.open_adapter() as rail:
        yield Chain(sim, rail, (await rail.heads()).latest)


@pytest.fixture
async def liar(sim: SolanaSimulator) -> AsyncIterator[Liar]:
    """Yield a node that answers truly until a test teaches it a lie."""
    async with Liar(sim.node["http"]) as liar:
        yield liar


@pytest.fixture
async def lied_to(sim: SolanaSimulator, liar: Liar) -> AsyncIterator[Chain]:
    """Yield the chain through an adapter that knows only the liar."""
    async with create_adapter(sim.settings, {"http": liar.http, "timeout": 2}) as rail:
        yield Chain(sim, rail, (await rail.heads()).latest)

"""A real bitcoind or litecoind for every test that wants one, and an adapter on it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from railwatch.conformance import WatchSet
from railwatch.rail import BlockRef, RailAdapter, Span, Transfer
from railwatch_bitcoin import create_adapter
from railwatch_bitcoin.dev.simulator import BitcoinSimulator
from tests.bitcoin.faulty_proxy import Liar

if TYPE_CHECKING:
    from tests.bitcoin.push_fixtures import Node  # which imports from here


@dataclass
class Chain:
    """A simulator and the questions that the tests ask about it."""

    sim: BitcoinSimulator
    rail: RailAdapter
    start: BlockRef
    spends: dict[str, set[str]] = field(default_factory=dict)

    def watch(self, *addresses: str) -> WatchSet:
        """Return a watch list of these addresses."""
        keys = frozenset(self.rail.parse_address(address).key for address in addresses)
        return WatchSet(keys, {"": self.sim.native}, self.spends)

    async def span(self, *, after: BlockRef | None = None, **more: bool) -> Span:
        """From the start, or ``after``, to the node's head."""
        return Span(after or self.start, await self.rail.block_at(await self.sim.height()), **more)

    async def found(self, *addresses: str, after: BlockRef | None = None, **more: bool) -> list[Transfer]:
        """Return what a scan from the start, or ``after``, finds."""
        return list((await self.rail.scan(await self.span(after=after, **more), self.watch(*addresses))).transfers)

    async def waiting(self, *addresses: str) -> list[Transfer]:
        """Return what the mempool holds for these."""
        return list(await self.rail.pending(self.watch(*addresses)))


@pytest.fixture
async def sim() -> AsyncIterator[BitcoinSimulator]:
    """Yield a chain of Bitcoin."""
    async with BitcoinSimulator() as sim:
        yield sim


@pytest.fixture
async def litecoin() -> AsyncIterator[BitcoinSimulator]:
    """Yield a chain of Litecoin, on a node that pushes nothing."""
    async with BitcoinSimulator("litecoind") as sim:
        yield sim


@pytest.fixture
async def chain(sim: BitcoinSimulator) -> AsyncIterator[Chain]:
    """Bitcoin's chain through an adapter."""
    async with sim.open_adapter() as rail:
        yield Chain(sim, rail, (await rail.heads()).latest)


@pytest.fixture
async def liar(sim: BitcoinSimulator) -> AsyncIterator[Liar]:
    """Yield a node that answers truly until a test teaches it a lie."""
    async with Liar(sim.fleet.nodes[0].url) as liar:
        yield liar


@pytest.fixture
async def lied_to(sim: BitcoinSimulator, liar: Liar) -> AsyncIterator[Chain]:
    """Bitcoin's chain through an adapter that knows only the liar, and no push."""
    table = {"rpc": liar.url, "cookie_path": sim.node["cookie_path"], "timeout": 2}
    async with create_adapter(sim.settings, table) as rail:
        yield Chain(sim, rail, (await rail.heads()).latest)


@pytest.fixture
async def spoken() -> AsyncIterator["Node"]:
    """Yield a publisher."""
    from tests.bitcoin.push_fixtures import Node  # which imports from here

    node = Node()
    yield node
    node.end()

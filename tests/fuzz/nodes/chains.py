"""Development chains for the fuzzer: with payments of every kind in them, and without new blocks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from railwatch.conformance import WatchSet
from railwatch.conformance.watches import assets_of, spends_of
from railwatch.rail import AdapterFactory, Address, RailAdapter, RailSettings, Span
from railwatch_bitcoin.dev.simulator import BitcoinSimulator
from railwatch_evm.dev.simulator import EvmSimulator
from railwatch_solana.dev.simulator import SolanaSimulator

KINDS = ("evm", "bitcoin", "solana")
BLOCKS = 6
"""Blocks with payments."""
SECONDS = 1.0
"""How long a node may take for an answer."""


@dataclass(slots=True)
class Chain:
    """A chain, and what is asked about it. ``table`` is the honest node's, ``tx_id`` the shape of its names."""

    kind: str
    settings: RailSettings
    table: dict[str, Any]
    upstream: str
    watches: WatchSet
    address: Address
    whole: Span
    found: int
    tx_id: str

    @property
    def create_adapter(self) -> AdapterFactory:
        """The adapter's own."""
        import railwatch_bitcoin
        import railwatch_evm
        import railwatch_solana

        return {"evm": railwatch_evm, "bitcoin": railwatch_bitcoin, "solana": railwatch_solana}[
            self.kind
        ].create_adapter

    def hostile_table(self, http: int, ws: int) -> dict[str, Any]:
        """Return a node's table, for hostile ports."""
        if self.kind == "bitcoin":
            return {**self.table, "rpc": f"http://127.0.0.1:{http}", "timeout": SECONDS}
        return {"http": f"http://127.0.0.1:{http}", "ws": f"ws://127.0.0.1:{ws}", "timeout": SECONDS}


@asynccontextmanager
async def chain_of(kind: str) -> AsyncIterator[Chain]:
    """Start a chain of that kind, and fill it."""
    if kind == "evm":
        async with EvmSimulator() as evm, evm.open_adapter() as rail:
            start = (await rail.heads()).latest
            address = await evm.new_address()
            for amount in range(1, BLOCKS):
                await evm.pay(address, amount)
                await evm.pay_internal(address, 10 * amount)
                await evm.pay(address, 100 * amount, evm.assets[1])
                await evm.mine()
            yield await _chain(kind, evm, rail, address, start, evm.settings, evm.node, r"0x[0-9a-f]{64}")
    elif kind == "bitcoin":
        async with (
            BitcoinSimulator(push=False, lines=("rest=1", "blockfilterindex=1")) as btc,
            btc.open_adapter() as rail,
        ):
            start = (await rail.heads()).latest
            address = await btc.new_address()
            for amount in range(1_000, 1_000 + BLOCKS):
                await btc.pay(address, amount)
                await btc.mine()
            for amount in range(2_000, 2_005):
                await btc.pay(address, amount)
            yield await _chain(kind, btc, rail, address, start, btc.settings, btc.node, r"[0-9a-f]{64}")
    else:
        async with SolanaSimulator(root_lag=2) as sol, sol.open_adapter() as rail:
            start = (await rail.heads()).latest
            address = await sol.new_address()
            for amount in range(10**7, 10**7 + BLOCKS):
                await sol.pay(address, amount)
                await sol.pay(address, amount, sol.assets[1])
                await sol.skip()
                await sol.mine()
            yield await _chain(kind, sol, rail, address, start, sol.settings, sol.node, r"[1-9A-HJ-NP-Za-km-z]{64,88}")


async def _chain(
    kind: str,
    sim: Any,
    rail: RailAdapter,
    address: str,
    start: Any,
    settings: RailSettings,
    table: Mapping[str, Any],
    tx_id: str,
) -> Chain:
    place = rail.parse_address(address)
    assets = assets_of(sim, rail.traits.fold_case)
    whole = Span(start, (await rail.heads()).latest)
    watches = WatchSet(frozenset({place.key}), assets)
    found = (await rail.scan(whole, watches)).transfers
    waiting = await rail.pending(watches)
    claimed = WatchSet(watches.keys, assets, spends_of([*found, *waiting]))
    upstream = str(table.get("http") or table["rpc"])
    return Chain(kind, settings, dict(table), upstream, claimed, place, whole, len(found), tx_id)

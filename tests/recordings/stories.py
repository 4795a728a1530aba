"""What is recorded: each story drives a development node while the recorder follows it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from railwatch.config import Config
from railwatch.replay.record import Progress, record
from railwatch_bitcoin.dev.simulator import BitcoinSimulator
from railwatch_evm.dev.simulator import EvmSimulator
from railwatch_solana.dev.simulator import SolanaSimulator
from tests.recordings.balancer import Balancer

PAUSE = 0.6
"""Seconds after which a daemon has certainly seen what happened: three polls."""
PATIENCE = 30.0
MB = 1_000_000


@dataclass
class Take:
    """A recording that is being made."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    reported: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[Progress] = field(default_factory=list)

    async def follows(self, height: int) -> None:
        """Wait until the recorder has followed up to ``height``, and a little longer."""
        async with asyncio.timeout(PATIENCE):
            while (self.seen[-1].height or 0) < height:
                self.reported.clear()
                await self.reported.wait()
        await asyncio.sleep(PAUSE)

    def report(self, progress: Progress) -> None:
        """Take down how far the recorder is."""
        self.seen.append(progress)
        self.reported.set()


@asynccontextmanager
async def taking(
    rail: dict[str, Any], invoices: list[dict[str, Any]], file: Path, **policy: Any
) -> AsyncIterator[Take]:
    """Record ``rail`` into ``file`` until the context ends."""
    config = Config.model_validate({"rail": [rail], "policy": [{"rail": rail["name"], **policy}]})
    take = Take()
    work = asyncio.create_task(
        record(
            config,
            config.rails[0],
            file,
            seconds=60,
            bytes_max=MB,
            invoices=invoices,
            stop=take.stop,
            report=take.report,
            at_stop="time",
        )
    )
    try:
        begun = asyncio.create_task(take.reported.wait())
        await asyncio.wait({begun, work}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        yield take
    finally:
        take.stop.set()
        await work


def invoice(rail: str, asset: str, address: str, amount: int, order: str = "1", **terms: Any) -> dict[str, Any]:
    """A request for `create_invoice`."""
    way = {"rail": rail, "asset": asset, "address": address, "amount": str(amount)}
    return {"merchant_id": "shop", "order_id": order, "expires_in": 3600, "destinations": [way], **terms}


def _evm(sim: EvmSimulator, **more: Any) -> dict[str, Any]:
    assets = [{"symbol": "ETH"}, {"symbol": "TST", "contract": sim.token, "decimals": 6}]
    rail = {"name": "evm", "adapter": "evm", "chain_id": sim.chain_id, "asset": assets, "poll_interval": 0.2}
    return {**rail, "nodes": [sim.node], **more}


async def evm_reorg(file: Path) -> None:
    """A payment in ether and one in a token are paid, taken back by a reorg, and only one of them comes again."""
    async with EvmSimulator() as sim:
        ether, token = await sim.new_address(), await sim.new_address()
        invoices = [invoice("evm", "ETH", ether, 10**18, "ether"), invoice("evm", "TST", token, 5_000_000, "token")]
        async with taking(_evm(sim), invoices, file, confirmations=2) as take:
            await take.follows(await sim.height())
            await sim.pay(ether, 10**18)
            await sim.mine()
            await sim.pay(token, 5_000_000, sim.assets[1])
            await sim.mine(2)
            await take.follows(await sim.height())
            await sim.reorg(3, keep=False)
            await take.follows(await sim.height())
            await sim.pay(ether, 10**18)
            await sim.mine(2)
            await take.follows(await sim.height())


async def evm_balancer(file: Path) -> None:
    """Behind the first address two nodes take turns, and one stands still: the payment is found nevertheless."""
    async with EvmSimulator() as sim, Balancer(sim.node["http"]) as balancer:
        address = await sim.new_address()
        nodes = [{"http": balancer.http, "timeout": 2}, {"http": sim.node["http"], "timeout": 2}]
        async with taking(
            _evm(sim, nodes=nodes), [invoice("evm", "ETH", address, 10**18)], file, confirmations=2
        ) as take:
            await take.follows(await sim.height())
            tags = ("latest", "safe", "finalized")
            blocks = {tag: await sim.rpc("eth_getBlockByNumber", tag, False) for tag in tags}
            balancer.freeze(await sim.height(), blocks)
            await sim.mine(2)
            await take.follows(await sim.height())
            await sim.pay(address, 10**18)
            await sim.mine(3)
            await take.follows(await sim.height())


async def bitcoin_reorg(file: Path) -> None:
    """A payment waits in the mempool, is mined, paid, and undone by a double spend in a longer branch."""
    async with BitcoinSimulator() as sim:
        address, other = await sim.new_address(), await sim.new_address()
        rail = {
            "name": "bitcoin",
            "adapter": "bitcoin",
            "chain_id": sim.chain_id,
            "nodes": [sim.node],
            "asset": [{"symbol": "BTC"}],
            "poll_interval": 0.2,
        }
        invoices = [
            invoice("bitcoin", "BTC", address, 2_500_000, "undone"),
            invoice("bitcoin", "BTC", other, 10_000, "kept"),
        ]
        async with taking(rail, invoices, file, confirmations=2) as take:
            await take.follows(await sim.height())
            spent = await sim.pay(address, 2_500_000)
            await asyncio.sleep(PAUSE)
            await sim.mine(2)
            await take.follows(await sim.height())
            await sim.reverse(2, spent)
            await take.follows(await sim.height())
            await sim.pay(other, 10_000)
            await asyncio.sleep(PAUSE)
            await sim.mine(2)
            await take.follows(await sim.height())


async def solana_payment(file: Path) -> None:
    """SOL and a token arrive, one of them too late for nobody: slots are skipped between, and a fork takes one back."""
    async with SolanaSimulator() as sim:
        sol, token = await sim.new_address(), await sim.new_address()
        rail = {
            "name": "solana",
            "adapter": "solana",
            "chain_id": sim.chain_id,
            "nodes": [sim.node],
            "asset": [{"symbol": "SOL"}, {"symbol": "TST", "contract": str(sim.token.key), "decimals": 6}],
            "poll_interval": 0.2,
        }
        invoices = [invoice("solana", "SOL", sol, 10**9, "sol"), invoice("solana", "TST", token, 7_000_000, "token")]
        async with taking(rail, invoices, file, confirmations=1) as take:
            await take.follows(await sim.slot())
            await sim.pay(sol, 10**9)
            await sim.mine()
            await take.follows(await sim.slot())
            await sim.skip(3)
            await sim.pay(token, 7_000_000, sim.asset(sim.token))
            await sim.mine()
            await take.follows(await sim.slot())
            await sim.mine(10)
            await take.follows(await sim.slot())


STORIES: dict[str, Callable[[Path], Any]] = {
    "evm-reorg": evm_reorg,
    "evm-balancer": evm_balancer,
    "bitcoin-reorg": bitcoin_reorg,
    "solana-payment": solana_payment,
}

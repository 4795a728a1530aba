"""What `railwatch demo` lives on an EVM: a real anvil, and a customer who pays as customers do, through web3.

Payments are sent with web3's AsyncWeb3 from an account that anvil signs for; the daemon's own code has no part in them.
Blocks and reorgs are ordered through `EvmSimulator`, like in tests.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
from web3 import AsyncHTTPProvider, AsyncWeb3
from web3.contract import AsyncContract
from web3.exceptions import Web3Exception
from web3.types import Wei

from railwatch.rail.demo import DemoError, Program, RailDemo, Scenario, Shop
from railwatch.rail.dev.node_process import demo_errors, free_ports
from railwatch_evm.dev.node_process import AnvilError, RunningAnvil, find_anvil
from railwatch_evm.dev.simulator import SUPPLY, EvmSimulator

NAME = "local-evm"
BLOCK_SECONDS = 0.25
BLOCK_SECONDS_LEFT_ALONE = 2
CONFIRMATIONS = 3
WINDOW_SECONDS = 4
"""Window of invoices that are meant to expire: short for a viewer, long enough to be watched in time."""

LATE_SECONDS = 2
"""After its window, for a payment that is meant to be late: a block's time has no fractions of a second."""

ETHER = 10**18
TOKEN = 10**6

PAID = ("created", "confirming", "paid")


def open_demo() -> RailDemo:
    """Return a demo on an anvil of its own (`railwatch.rail.demo.OpenDemo`)."""
    return EvmDemo()


class RunningSimulator(EvmSimulator):
    """An `EvmSimulator` on such an anvil."""

    def __init__(self, port: int) -> None:
        super().__init__(port=port, name=NAME)
        self._anvil = RunningAnvil(port=port)


class Customer:
    """A customer with a wallet. Amounts are base units; every payment returns its transaction's hash."""

    def __init__(self, url: str, account: str) -> None:
        self._web3 = AsyncWeb3(AsyncHTTPProvider(url))
        self._from = AsyncWeb3.to_checksum_address(account)
        # Anvil numbers a transaction when it is sent: two that come at once would be rivals for one nonce.
        self._turn = asyncio.Lock()

    async def pay_ether(self, address: str, amount: int) -> str:
        """Send ether; return the transaction's id."""
        async with self._turn, translated():
            to = AsyncWeb3.to_checksum_address(address)
            sent = await self._web3.eth.send_transaction({"from": self._from, "to": to, "value": Wei(amount)})
            return sent.to_0x_hex()

    async def pay_token(self, token: str, address: str, amount: int) -> str:
        """Send a token by its ``transfer``; return the transaction's id."""
        call = self._contract("Token", token).functions.transfer(address, amount)
        async with self._turn, translated():
            return (await call.transact({"from": self._from})).to_0x_hex()

    async def pay_through(self, multisender: str, address: str, amount: int) -> str:
        """Let a contract pay, as exchanges do: the payment is an internal call, without a log (HAZARDS E2)."""
        call = self._contract("Multisender", multisender).functions.send([address], [amount])
        async with self._turn, translated():
            return (await call.transact({"from": self._from, "value": Wei(amount)})).to_0x_hex()

    async def close(self) -> None:
        """Close the wallet."""
        await self._web3.provider.disconnect()

    def _contract(self, name: str, address: str) -> AsyncContract:
        text = resources.files("railwatch_evm").joinpath("dev", "contracts", f"{name}.json").read_bytes()
        return self._web3.eth.contract(AsyncWeb3.to_checksum_address(address), abi=msgspec.json.decode(text)["abi"])


class EvmDemo:
    """`railwatch.rail.demo.RailDemo` on anvil: a block every `BLOCK_SECONDS`, two tokens, and a multisender."""

    def __init__(self) -> None:
        [self._port] = free_ports(1)
        self._sim = RunningSimulator(self._port)
        self._chain = asyncio.Lock()
        self._produced: dict[int, float] = {}
        self._other_token = ""
        self._customer: Customer | None = None

    def programs(self, folder: Path) -> Sequence[Program]:
        """One anvil, in memory."""
        try:
            anvil = str(find_anvil())
        except AnvilError as error:
            raise DemoError(str(error)) from error
        where = ("--host", "127.0.0.1", "--port", str(self._port))
        return [Program("anvil", (anvil, *where, "--no-mining", "--order", "fifo", "--slots-in-an-epoch", "32"))]

    async def __aenter__(self) -> Self:
        async with translated():
            await self._sim.__aenter__()
            self._other_token = await self._sim.deploy("Token", SUPPLY)
            await self._sim.mine()
        self._customer = Customer(self._sim.node["http"], self._sim.payer)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._customer is not None:
            await self._customer.close()
        await self._sim.__aexit__(exc_type, exc, trace)

    @property
    def rail(self) -> Mapping[str, Any]:
        """Ether and two tokens. The poll is only for pushes that are lost."""
        tokens = {"TST": self._sim.token, "ALT": self._other_token}
        return {
            "name": NAME,
            "adapter": "evm",
            "chain_id": self._sim.chain_id,
            "nodes": [self._sim.node],
            "poll_interval": 0.5,
            "asset": [
                {"symbol": "ETH"},
                *({"symbol": symbol, "contract": contract, "decimals": 6} for symbol, contract in tokens.items()),
            ],
        }

    @property
    def policies(self) -> Sequence[Mapping[str, Any]]:
        """One for all."""
        return [{"rail": NAME, "confirmations": CONFIRMATIONS}]

    @property
    def scenarios(self) -> Sequence[Scenario]:
        """Everything that an EVM does to a shop, the reorgs last."""
        returns, goes = partial(self._reorg, keep=True), partial(self._reorg, keep=False)
        return [
            Scenario("paid exactly, in ether", self._exact_ether, PAID),
            Scenario("paid exactly, in a token", self._exact_token, PAID),
            Scenario(
                "underpaid, then topped up",
                self._topped_up,
                ("created", "confirming", "underpaid", "confirming", "paid"),
                frozenset({"underpaid (resolved)"}),
            ),
            Scenario("overpaid", self._overpaid, ("created", "confirming", "overpaid"), frozenset({"overpaid"})),
            Scenario(
                "paid too late",
                self._late,
                ("created", "expired", "confirming", "late_paid"),
                frozenset({"late", "unexpected_payment"}),
            ),
            Scenario("never paid", self._expired, ("created", "expired")),
            Scenario("paid in the wrong token", self._wrong_token, ("created",), frozenset({"wrong_asset"})),
            Scenario("paid by a contract's internal call", self._internal, PAID),
            Scenario(
                "a reorg after paid; the payment returns",
                returns,
                (*PAID, "created (reversed)", "confirming", "paid"),
                frozenset({"reversed (critical, resolved)"}),
                exclusive=True,
            ),
            Scenario(
                "a reorg after paid; the payment is gone",
                goes,
                (*PAID, "created (reversed)"),
                frozenset({"reversed (critical)"}),
                exclusive=True,
            ),
        ]

    async def mine_blocks(self) -> None:
        """Mine a block every `BLOCK_SECONDS`, unless a reorg is under way."""
        while True:
            async with self._chain, translated():
                asked = time.monotonic()
                await self._sim.mine()
                self._produced[await self._sim.height()] = asked
            await asyncio.sleep(BLOCK_SECONDS)

    async def keep_mining(self) -> None:
        """Anvil mines by itself, more slowly."""
        async with translated():
            await self._sim.rpc("evm_setIntervalMining", BLOCK_SECONDS_LEFT_ALONE)

    def produced_at(self, height: int) -> float | None:
        """When anvil was ordered to mine the block, or to replace the one at its height."""
        return self._produced.get(height)

    async def _exact_ether(self, shop: Shop) -> None:
        address = await self._invoice(shop, "ETH", 2 * ETHER)
        await self._wallet.pay_ether(address, 2 * ETHER)

    async def _exact_token(self, shop: Shop) -> None:
        address = await self._invoice(shop, "TST", 25 * TOKEN)
        await self._wallet.pay_token(self._sim.token, address, 25 * TOKEN)

    async def _topped_up(self, shop: Shop) -> None:
        address = await self._invoice(shop, "TST", 25 * TOKEN)
        await self._wallet.pay_token(self._sim.token, address, 15 * TOKEN)
        await shop.wait_for_state("underpaid")
        await self._wallet.pay_token(self._sim.token, address, 10 * TOKEN)

    async def _overpaid(self, shop: Shop) -> None:
        address = await self._invoice(shop, "ETH", 2 * ETHER)
        await self._wallet.pay_ether(address, 3 * ETHER)

    async def _late(self, shop: Shop) -> None:
        address = await self._invoice(shop, "ETH", 2 * ETHER, expires_in=WINDOW_SECONDS)
        await shop.wait_for_state("expired")
        await asyncio.sleep(LATE_SECONDS)
        await self._wallet.pay_ether(address, 2 * ETHER)

    async def _expired(self, shop: Shop) -> None:
        await self._invoice(shop, "ETH", 2 * ETHER, expires_in=WINDOW_SECONDS)

    async def _wrong_token(self, shop: Shop) -> None:
        address = await self._invoice(shop, "TST", 25 * TOKEN)
        await self._wallet.pay_token(self._other_token, address, 25 * TOKEN)

    async def _internal(self, shop: Shop) -> None:
        address = await self._invoice(shop, "ETH", 2 * ETHER)
        await self._wallet.pay_through(self._sim.multisender, address, 2 * ETHER)

    async def _reorg(self, shop: Shop, *, keep: bool) -> None:
        """Paid, and then the chain replaces the payment's block and all above it; with ``keep`` by one that has it."""
        address = await self._invoice(shop, "ETH", 2 * ETHER)
        tx_id = await self._wallet.pay_ether(address, 2 * ETHER)
        await shop.wait_for_state("paid")
        async with self._chain, translated():
            included = int((await self._sim.rpc("eth_getTransactionReceipt", tx_id))["blockNumber"], 16)
            head = await self._sim.height()
            # Noted first: the feed may report the new blocks before the simulator has finished.
            self._produced.update(dict.fromkeys(range(included, head + 2), time.monotonic()))
            await self._sim.reorg(head - included + 1, keep=keep)

    async def _invoice(self, shop: Shop, asset: str, amount: int, *, expires_in: int = 3600) -> str:
        """Register an invoice at an unused address, which is returned."""
        address = await self._sim.new_address()
        await shop.invoice(address, asset, amount, expires_in=expires_in)
        return address

    @property
    def _wallet(self) -> Customer:
        if self._customer is None:
            raise DemoError("the EVM demo is not entered")
        return self._customer


def translated() -> AbstractAsyncContextManager[None]:
    """Return what raises the demo's own error for what anvil, or the way to it, has against a call."""
    return demo_errors("anvil", AnvilError, Web3Exception)

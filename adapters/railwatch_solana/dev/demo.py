"""What `railwatch demo` lives on Solana: real programs, and a customer who pays as customers do, through solana-py.

Payments are sent with solana-py's AsyncClient by a wallet of the customer's; the daemon's own code has no part in them.
Blocks and forks are ordered through `SolanaSimulator`, like in tests.
"""

import asyncio
import base64
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from solana.exceptions import SolanaRpcException
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Finalized
from solana.rpc.core import RPCException
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from railwatch.rail.demo import DemoError, Program, RailDemo, Scenario, Shop
from railwatch_solana.dev.node_process import (
    CALL_SECONDS,
    START_SECONDS,
    Devnode,
    DevnodeError,
    DevnodeMissing,
    command,
)
from railwatch_solana.dev.simulator import CONFIRMED, SOL, SolanaSimulator
from railwatch_solana.dev.wallet import Mint, Wallet

NAME = "local-solana"
SLOT_SECONDS = 0.25
SLOT_MILLISECONDS_LEFT_ALONE = 2_000
TOKEN = 10**6
BATCH = 3

PAID = ("created", "confirming", "paid")


def open_demo() -> RailDemo:
    """Return a demo on a development node of its own (`railwatch.rail.demo.OpenDemo`)."""
    return SolanaDemo()


class RunningDevnode(Devnode):
    """A node that the demo has started and will end: it can outlive us, and its log is a file."""

    def __init__(self, port: int, ws_port: int) -> None:
        super().__init__(port=port)
        self.http, self.ws = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{ws_port}"

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(CALL_SECONDS))
        try:
            await self._answers()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def _answers(self) -> None:
        """Wait until it does, and have it produce only what we order."""
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                await self.rpc("devPause")
            except aiohttp.ClientConnectionError as away:
                if time.monotonic() > until:
                    raise DevnodeError(f"nothing answers at {self.http} after {START_SECONDS:.0f} s") from away
                await asyncio.sleep(0.02)
            else:
                return


class Customer:
    """A customer with a wallet. Amounts are base units; every payment returns its signature."""

    def __init__(self, url: str, wallet: Wallet) -> None:
        self._client, self._wallet = AsyncClient(url), wallet

    async def pay_sol(self, *payments: tuple[str, int]) -> str:
        """Plain transfers, all by one transaction."""
        return await self._send([self._wallet.sol(Pubkey.from_string(to), amount) for to, amount in payments])

    async def pay_token(self, mint: Mint, address: str, amount: int) -> str:
        """Send a transfer to the owner's associated account, which the same transaction creates; return its id."""
        return await self._send(self._wallet.tokens(mint, Pubkey.from_string(address), amount))

    async def again(self, tx: bytes) -> None:
        """Send once more what was lost."""
        async with translated():
            await self._client.send_raw_transaction(tx)

    async def close(self) -> None:
        """Close the wallet."""
        await self._client.close()

    async def _send(self, instructions: Sequence[Instruction]) -> str:
        async with translated():
            # A finalized blockhash outlives every fork, so that what a fork drops can be sent again.
            latest = (await self._client.get_latest_blockhash(Finalized)).value
            sent = await self._client.send_raw_transaction(bytes(self._wallet.sign(instructions, latest.blockhash)))
            return str(sent.value)


class SolanaDemo:
    """`railwatch.rail.demo.RailDemo` on the development node: a slot every `SLOT_SECONDS`, and a token."""

    def __init__(self) -> None:
        self._port, self._ws_port = _free_ports(2)
        self._sim = SolanaSimulator(node=RunningDevnode(self._port, self._ws_port), name=NAME)
        self._chain = asyncio.Lock()
        self._produced: dict[int, float] = {}
        self._batch: list[str] = []
        self._customer: Customer | None = None

    def programs(self, folder: Path) -> Sequence[Program]:
        """One node, in memory. It names a block confirmed as soon as it is there, and finalized 31 blocks later."""
        ports = ("--port", str(self._port), "--ws-port", str(self._ws_port))
        pace = ("--slot-ms", str(SLOT_MILLISECONDS_LEFT_ALONE), "--confirm-lag", "0")
        try:
            return [Program("solana-devnode", command(*ports, *pace))]
        except DevnodeMissing as error:
            raise DemoError(str(error)) from error

    async def __aenter__(self) -> Self:
        async with translated():
            await self._sim.__aenter__()
        self._customer = Customer(self._sim.node["http"], self._sim.wallet)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._customer is not None:
            await self._customer.close()
        await self._sim.__aexit__(exc_type, exc, trace)

    @property
    def rail(self) -> Mapping[str, Any]:
        """SOL and a token. The poll is only for pushes that are lost."""
        return {
            "name": NAME,
            "adapter": "solana",
            "chain_id": self._sim.chain_id,
            "nodes": [self._sim.node],
            "poll_interval": 0.5,
            "asset": [{"symbol": "SOL"}, {"symbol": "TST", "contract": str(self._sim.token.key), "decimals": 6}],
        }

    @property
    def policies(self) -> Sequence[Mapping[str, Any]]:
        """Confirmed is enough here, so that a fork can take a payment back."""
        return [{"rail": NAME, "confirmations": 1}]

    @property
    def scenarios(self) -> Sequence[Scenario]:
        """Everything that Solana does to a shop, the forks last."""
        reversed_ = frozenset({"reversed (critical, resolved)"})
        again = (*PAID, "created (reversed)", "confirming", "paid")
        return [
            Scenario("paid exactly, in SOL", self._exact_sol, PAID),
            Scenario("paid in a token, into an account that the payment opens", self._exact_token, PAID),
            *(
                Scenario(f"paid by one transaction that pays three invoices ({number} of {BATCH})", self._batched, PAID)
                for number in range(1, BATCH + 1)
            ),
            Scenario(
                "a fork after confirmed; the payment is in the new branch", self._kept, again, reversed_, exclusive=True
            ),
            Scenario(
                "a fork after confirmed; the payment lands again later", self._later, again, reversed_, exclusive=True
            ),
        ]

    async def mine_blocks(self) -> None:
        """Produce a slot every `SLOT_SECONDS`, unless a fork is under way, and skip every seventh."""
        while True:
            async with self._chain, translated():
                asked = time.monotonic()
                for slot in await self._sim.rpc("devProduce", 1):
                    self._produced[slot] = asked
                    if slot % 7 == 0:
                        await self._sim.skip()
            await asyncio.sleep(SLOT_SECONDS)

    async def keep_mining(self) -> None:
        """Let the node produce slots by itself, more slowly."""
        async with translated():
            await self._sim.rpc("devResume")

    def produced_at(self, height: int) -> float | None:
        """When the node was ordered to produce the block of that slot."""
        return self._produced.get(height)

    async def _exact_sol(self, shop: Shop) -> None:
        address = await self._invoice(shop, "SOL", 2 * SOL)
        await self._wallet.pay_sol((address, 2 * SOL))

    async def _exact_token(self, shop: Shop) -> None:
        address = await self._invoice(shop, "TST", 25 * TOKEN)
        await self._wallet.pay_token(self._sim.token, address, 25 * TOKEN)

    async def _batched(self, shop: Shop) -> None:
        """Send for all three, once the last of their addresses is watched."""
        self._batch.append(await self._invoice(shop, "SOL", SOL))
        if len(self._batch) == BATCH:
            await self._wallet.pay_sol(*((address, SOL) for address in self._batch))

    async def _kept(self, shop: Shop) -> None:
        """Paid, and then another branch wins, which holds the payment in another slot."""
        await self._fork(await self._paid(shop), keep=True)

    async def _later(self, shop: Shop) -> None:
        """Paid, and then another branch wins without it; some slots later it lands after all."""
        tx_id = await self._paid(shop)
        tx = await self._ask("getTransaction", tx_id, {**CONFIRMED, "encoding": "base64"})
        await self._fork(tx_id, keep=False)
        await shop.wait_for_state("created")
        await self._wallet.again(base64.b64decode(tx["transaction"][0]))

    async def _paid(self, shop: Shop) -> str:
        address = await self._invoice(shop, "SOL", 2 * SOL)
        tx_id = await self._wallet.pay_sol((address, 2 * SOL))
        await shop.wait_for_state("paid")
        return tx_id

    async def _fork(self, tx_id: str, *, keep: bool) -> None:
        """Drop the payment's block and all above it, and produce one block more than there were."""
        async with self._chain, translated():
            slot = (await self._sim.rpc("getTransaction", tx_id, CONFIRMED))["slot"]
            depth = len(await self._sim.rpc("getBlocks", slot, None, CONFIRMED))
            await self._sim.rpc("devFork", depth, {"resubmit": keep})
            asked = time.monotonic()
            # Noted first: the feed may report the new blocks before we hear of them.
            first = (await self._sim.rpc("devState"))["nextSlot"]
            self._produced.update(dict.fromkeys(range(first, first + depth + 1), asked))
            await self._sim.mine(depth + 1)

    async def _ask(self, method: str, *params: Any) -> Any:
        async with translated():
            return await self._sim.rpc(method, *params)

    async def _invoice(self, shop: Shop, asset: str, amount: int) -> str:
        """Register an invoice at an unused address, which is returned."""
        address = await self._sim.new_address()
        await shop.invoice(address, asset, amount)
        return address

    @property
    def _wallet(self) -> Customer:
        if self._customer is None:
            raise DemoError("the Solana demo is not entered")
        return self._customer


def _free_ports(many: int) -> list[int]:
    """Ports that are free now. The node could choose them itself, but then only its log would name them."""
    probes = [socket.socket() for _ in range(many)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Yield what the node, or the way to it, has against a call, in the demo's own error."""
    try:
        yield
    except (DevnodeError, RPCException, SolanaRpcException, aiohttp.ClientError, TimeoutError) as error:
        raise DemoError(f"the development node: {type(error).__name__}: {error}") from error

"""What `railwatch demo` lives on Bitcoin: a real bitcoind, and a customer who pays out of its wallet.

Payments, their replacements and their double-spends are made and signed by bitcoind's own wallet; the daemon's code has
no part in them. Blocks and branches are made by `BitcoinSimulator`, like in tests.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from railwatch.rail.demo import DemoError, NotInstalled, Program, RailDemo, Scenario, Shop
from railwatch_bitcoin.address import script_address
from railwatch_bitcoin.dev.cluster import RegtestCluster
from railwatch_bitcoin.dev.node_process import DaemonNode, NodeError, find_node
from railwatch_bitcoin.dev.node_rpc import DevNodeRpc
from railwatch_bitcoin.dev.simulator import COIN, BitcoinSimulator
from railwatch_bitcoin.dev.tx_builder import Tx
from railwatch_bitcoin.dev.wallet import random_script

NAME = "local-btc"
WALLET = "customer"
BLOCK_SECONDS = 0.25
CONFIRMATIONS = 2
PRICE = 2_500_000
"""Base units that each story asks for."""
COINS = 12
"""That the customer begins with, of 1 each: more than there are payments, so that none depends on another's change."""
FEE = 20_000
"""Base units that a double-spend leaves to its miner."""

PAID = ("created", "detected", "confirming", "paid")


def open_demo() -> RailDemo:
    """Return a demo on a bitcoind of its own (`railwatch.rail.demo.OpenDemo`)."""
    try:
        find_node("bitcoind")
    except NodeError as missing:
        raise NotInstalled(str(missing)) from missing
    return BitcoinDemo()


class RunningCluster(RegtestCluster):
    """A node that the demo has started and will end."""

    async def __aenter__(self) -> Self:
        [console] = self.rpcs
        await self.exits.enter_async_context(console)
        try:
            await console.wait()
        except BaseException:
            await self.exits.aclose()
            raise
        return self


class Customer:
    """A customer with a wallet. Amounts are base units; every payment returns its transaction's id."""

    def __init__(self, node: DaemonNode) -> None:
        self._console = DevNodeRpc(node)

    async def __aenter__(self) -> Self:
        await self._console.__aenter__()
        await self._console.rpc("createwallet", WALLET)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._console.__aexit__(None, None, None)

    async def address(self) -> str:
        """Where the customer can be paid."""
        return str(await self._wallet("getnewaddress"))

    async def pay(self, address: str, amount: int) -> str:
        """Send a payment that may be replaced while it waits (BIP125); return its id."""
        return str(await self._wallet("sendtoaddress", address, btc(amount)))

    async def take_back(self, tx_id: str) -> str:
        """Replace a waiting payment by one that pays a stranger instead, for a higher fee."""
        stranger = await self._stranger()
        bumped = await self._wallet("bumpfee", tx_id, {"outputs": [{stranger: btc(PRICE)}]})
        return str(bumped["txid"])

    async def double_spend(self, tx_id: str) -> Tx:
        """Another transaction, signed and not sent, that spends a payment's coin to a stranger."""
        [source] = (await self._console.rpc("getrawtransaction", tx_id, True))["vin"]
        coin = (await self._console.rpc("getrawtransaction", source["txid"], True))["vout"][source["vout"]]
        value = int(coin["value"] * COIN)
        spent = {"txid": source["txid"], "vout": source["vout"]}
        bare = await self._console.rpc("createrawtransaction", [spent], [{await self._stranger(): btc(value - FEE)}])
        # The wallet searches among the unspent coins, and this one is spent: so the call names it.
        known = {**spent, "scriptPubKey": coin["scriptPubKey"]["hex"], "amount": btc(value)}
        signed = (await self._wallet("signrawtransactionwithwallet", bare, [known]))["hex"]
        ids = await self._console.rpc("decoderawtransaction", signed)
        return Tx(ids["txid"], ids["hash"], signed)

    async def _stranger(self) -> str:
        """Return an address that no party of the demo owns."""
        return str((await self._console.rpc("decodescript", random_script("p2wpkh").hex()))["address"])

    async def _wallet(self, method: str, *params: Any) -> Any:
        return await self._console.rpc(method, *params, wallet=WALLET)


class BitcoinDemo:
    """`railwatch.rail.demo.RailDemo` on bitcoind: a block every `BLOCK_SECONDS`, unless a story holds them back."""

    def __init__(self) -> None:
        # The customer never pays out of change that waits: one story's replacement must not drop another's payment.
        self._node = DaemonNode(wallet=True, settings=("spendzeroconfchange=0",))
        self._sim = BitcoinSimulator(name=NAME, fleet=RunningCluster([self._node]))
        self._customer = Customer(self._node)
        self._chain = asyncio.Lock()
        self._produced: dict[int, float] = {}
        self._start = Path()

    def programs(self, folder: Path) -> Sequence[Program]:
        """One bitcoind, and a miner that waits for `keep_mining`."""
        self._node.folder = folder / "bitcoind"
        self._node.folder.mkdir()
        self._node.prepare()
        self._start = folder / "mine"
        reward = script_address(random_script("p2wsh"), self._sim.chain)
        where = (self._node.url, str(self._node.cookie), str(reward), str(self._start))
        return [
            Program("bitcoind", self._node.command),
            Program("bitcoin-miner", (sys.executable, "-m", "railwatch_bitcoin.dev.auto_miner", *where)),
        ]

    async def __aenter__(self) -> Self:
        async with translated():
            await self._sim.__aenter__()
            await self._customer.__aenter__()
            await self._sim.pay_many([(await self._customer.address(), COIN) for _ in range(COINS)])
            await self._sim.mine()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._customer.__aexit__()
        await self._sim.__aexit__(exc_type, exc, trace)

    @property
    def rail(self) -> Mapping[str, Any]:
        """The coin alone. The poll is only for pushes that are lost."""
        return {
            "name": NAME,
            "adapter": "bitcoin",
            "chain_id": self._sim.chain_id,
            "nodes": [self._sim.node],
            "poll_interval": 0.5,
            "asset": [{"symbol": "BTC"}],
        }

    @property
    def policies(self) -> Sequence[Mapping[str, Any]]:
        """One for all."""
        return [{"rail": NAME, "confirmations": CONFIRMATIONS}]

    @property
    def scenarios(self) -> Sequence[Scenario]:
        """What a mempool and a fork do to a shop, the forks last."""
        return [
            Scenario("seen at once, in a block, paid two blocks deep", self._paid, PAID),
            Scenario(
                "replaced while it waits, by a payment to a stranger",
                self._replaced,
                ("created", "detected", "created (replaced)"),
                frozenset({"double_spend (critical)"}),
            ),
            Scenario(
                "a two-block reorg after paid; the payment returns",
                self._returns,
                (*PAID, "created (reversed)", "confirming", "paid"),
                frozenset({"reversed (critical, resolved)"}),
                exclusive=True,
            ),
            Scenario(
                "a two-block reorg after paid; the coin went elsewhere",
                self._double_spent,
                (*PAID, "created (reversed)"),
                frozenset({"reversed (critical)", "double_spend (critical)"}),
                exclusive=True,
            ),
        ]

    async def mine_blocks(self) -> None:
        """Mine a block every `BLOCK_SECONDS`, unless a scenario holds blocks back."""
        while True:
            async with self._chain, translated():
                await self._mine()
            await asyncio.sleep(BLOCK_SECONDS)

    async def keep_mining(self) -> None:
        """Start the miner, at its own slower pace."""
        await asyncio.to_thread(self._start.touch)

    def produced_at(self, height: int) -> float | None:
        """When bitcoind was ordered to mine the block, or got another one at its height."""
        return self._produced.get(height)

    async def _paid(self, shop: Shop) -> None:
        address = await self._invoice(shop)
        async with self._chain, translated():
            await self._customer.pay(address, PRICE)
            await shop.wait_for_state("detected")

    async def _replaced(self, shop: Shop) -> None:
        """No block comes between the payment and its rival."""
        address = await self._invoice(shop)
        async with self._chain, translated():
            tx_id = await self._customer.pay(address, PRICE)
            await shop.wait_for_state("detected")
            await self._customer.take_back(tx_id)

    async def _returns(self, shop: Shop) -> None:
        address = await self._invoice(shop)
        async with self._chain, translated():
            await self._pay_and_confirm(shop, address)
            await self._branch(await self._sim.newest(CONFIRMATIONS))

    async def _double_spent(self, shop: Shop) -> None:
        address = await self._invoice(shop)
        async with self._chain, translated():
            tx_id = await self._pay_and_confirm(shop, address)
            rival = await self._customer.double_spend(tx_id)
            kept = [tx for tx in await self._sim.newest(CONFIRMATIONS) if tx.tx_id != tx_id]
            await self._branch([rival, *kept])

    async def _invoice(self, shop: Shop) -> str:
        """Register the scenario's invoice at an unused address, which is returned."""
        async with translated():
            address = await self._sim.new_address()
        await shop.invoice(address, "BTC", PRICE)
        return address

    async def _pay_and_confirm(self, shop: Shop, address: str) -> str:
        """Pay, and bury the payment just as deep as the policy asks for."""
        tx_id = await self._customer.pay(address, PRICE)
        await shop.wait_for_state("detected")
        await self._mine()
        await shop.wait_for_state("confirming")
        await self._mine()
        await shop.wait_for_state("paid")
        return tx_id

    async def _mine(self) -> None:
        """One block; the chain is ours."""
        asked, height = time.monotonic(), await self._sim.height() + 1
        self._produced[height] = asked
        await self._sim.mine()

    async def _branch(self, txs: Sequence[Tx]) -> None:
        """Replace the blocks that made a payment `paid` by others, of which the first holds ``txs``."""
        top = await self._sim.height()
        # Noted first: the feed may report the new blocks before the simulator has finished.
        self._produced.update(dict.fromkeys(range(top - CONFIRMATIONS + 1, top + 2), time.monotonic()))
        await self._sim.rewrite(CONFIRMATIONS, txs)


def btc(amount: int) -> str:
    """Return base units as bitcoind reads amounts."""
    return f"{Decimal(amount) / COIN:.8f}"


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Yield what the node has against a command, in the demo's own error."""
    try:
        yield
    except NodeError as error:
        raise DemoError(f"bitcoind: {error}") from error

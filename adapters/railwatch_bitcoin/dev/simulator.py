"""Drives bitcoind or litecoind: stories in tests and demos (`railwatch.rail.Simulator`), and what only coins can do."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from railwatch.rail import AssetId, AssetSpec, RailAdapter, RailSettings
from railwatch_bitcoin.chains import BITCOIN_REGTEST, LITECOIN_REGTEST
from railwatch_bitcoin.dev.cluster import RegtestCluster
from railwatch_bitcoin.dev.node_process import BITCOIND, LITECOIND, DaemonNode, NodeError
from railwatch_bitcoin.dev.tx_builder import (
    REWARD_SCRIPT,
    SPENDABLE_SCRIPT,
    Coin,
    Tx,
    fee_of,
    make_block,
    make_tx,
    p2wsh_script,
)
from railwatch_bitcoin.dev.wallet import Kind, TestWallet, random_script

COIN = 100_000_000
MATURE = 8
"""Rewards that wait to be spent when a story begins; they become 399 coins of 1."""
EXPIRED = 2 * 3600
"""Seconds after which a node certainly forgets what waits (``mempoolexpiry=1``: an hour)."""


class BitcoinSimulator:
    """A development chain on as many ``nodes``. Blocks appear only through `mine`, `reorg` and their kin.

    ``password``: the nodes ask for it, instead of a cookie. ``push``: adapters get the ZMQ endpoints, if any.
    ``lines`` are further lines of the nodes' configuration, ``options`` the rail's. ``at`` is a node's place.
    ``fleet`` has the nodes themselves: to stop, to start, to part and to heal; ``purse`` has the money.
    """

    def __init__(
        self,
        program: str = BITCOIND,
        *,
        nodes: int = 1,
        name: str = "local-btc",
        password: str | None = None,
        push: bool = True,
        lines: Sequence[str] = (),
        options: Mapping[str, Any] | None = None,
        fleet: RegtestCluster | None = None,
    ) -> None:
        self.fleet = fleet or RegtestCluster([DaemonNode(program, password, lines) for _ in range(nodes)])
        self.purse = TestWallet(self.fleet)
        self.chain = LITECOIN_REGTEST if program == LITECOIND else BITCOIN_REGTEST
        self.symbol = "LTC" if program == LITECOIND else "BTC"
        self.chain_id = self.chain.id
        self.native = AssetId(f"{self.chain_id}/{self.chain.native_asset}")
        self.assets: tuple[AssetId, ...] = (self.native,)
        self._name, self._push, self._options = name, push, dict(options or {})
        self._scrypt = program == LITECOIND
        self._scripts: dict[str, bytes] = {}
        self._rewarded: list[str] = []
        self._base = 0

    # What it is to a configuration

    def table(self, at: int = 0) -> dict[str, Any]:
        """One node's table, as a configuration would hold it."""
        return {key: value for key, value in self.fleet.nodes[at].table.items() if self._push or key != "zmq"}

    @property
    def node(self) -> dict[str, Any]:
        """The first node's."""
        return self.table()

    @property
    def settings(self) -> RailSettings:
        """The rail, as a configuration would describe it."""
        return RailSettings(self._name, self.chain_id, (AssetSpec(self.symbol, None, 8),), self._options)

    def open_adapter(self, at: int = 0) -> RailAdapter:
        """Return a fresh adapter on one node."""
        from railwatch_bitcoin import create_adapter

        return create_adapter(self.settings, self.table(at))

    # Coming and going

    async def __aenter__(self) -> Self:
        await self.fleet.__aenter__()
        try:
            await self.fund()
        except BaseException:
            await self.fleet.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.fleet.__aexit__(exc_type, exc, trace)

    async def fund(self) -> None:
        """Coins for hundreds of payments that share none, on a chain whose clock is not ahead of ours."""
        self._rewarded = [await self._address_of(p2wsh_script(REWARD_SCRIPT))]
        # Nodes that reward the same script in the same second would find the very same block.
        self._rewarded += [await self._address_of(random_script("p2wsh")) for _ in self.fleet.nodes[1:]]
        # Many blocks at once get times ahead of the clock, so they are made at a time that is past by then.
        await self.rpc("setmocktime", int(time.time()) - EXPIRED)
        await self.mine(MATURE + self.chain.coinbase_maturity)
        await self.rpc("setmocktime", 0)
        rewards = (await self._treasury())[:MATURE]
        many = sum(coin.amount for coin in rewards) // COIN - 1
        split = make_tx(rewards, [(p2wsh_script(SPENDABLE_SCRIPT), COIN)] * many)
        await self.fleet.send(split)
        await self.mine()
        self.purse.fill(Coin(split.tx_id, vout, COIN) for vout in range(many))
        self._base = await self.height()

    async def _treasury(self) -> list[Coin]:
        """Return the rewards of our blocks, oldest first."""
        found = await self.rpc("scantxoutset", "start", [f"addr({self._rewarded[0]})"])
        ordered = sorted(found["unspents"], key=lambda each: int(each["height"]))
        return [Coin(each["txid"], each["vout"], int(each["amount"] * COIN), REWARD_SCRIPT) for each in ordered]

    # The seam's Simulator

    async def new_address(self, kind: Kind = "p2wpkh") -> str:
        """Return random bytes in the node's own spelling: no key for them is known, and nothing here needs one."""
        script = random_script(kind)
        address = await self._address_of(script)
        self._scripts[address] = script
        return address

    async def pay(self, address: str, amount: int, asset: AssetId | None = None, *, at: int = 0) -> str:
        """Send ``amount`` base units out of coins that no other payment has touched; returns the transaction's id."""
        if asset not in (None, self.native):
            raise ValueError(f"{asset} is none of this chain's assets: {self.native}")
        return await self.pay_many([(address, amount)], at=at)

    async def mine(self, blocks: int = 1, *, at: int = 0) -> None:
        """Produce blocks; the first holds everything that waits at that node."""
        await self.fleet.carry(await self.rpc("generatetoaddress", blocks, self._rewarded[at], at=at), at)

    async def reorg(self, depth: int, *, keep: bool = True) -> None:
        """Replace the newest ``depth`` blocks by ``depth`` + 1 others, met as one branch.

        ``keep``: the first of them holds what the old ones held; otherwise none does, and the nodes forget it.
        """
        old = await self.newest(depth)
        await self.rewrite(depth, old if keep else [])
        if not keep:
            await self.drop(*[tx.tx_id for tx in old])

    async def replace(self, tx_id: str, *, at: int = 0) -> str:
        """Send a rival of an unconfirmed transaction that pays a stranger; return its id."""
        rival = self.purse.rival(tx_id)
        await self.fleet.send(rival, at)
        return rival.tx_id

    async def fail_next(self, address: str, amount: int) -> str:
        """There is no such thing."""
        raise NotImplementedError("a transaction of the Bitcoin family is either valid or in no block")

    # What only coins can do

    async def pay_many(self, payments: Sequence[tuple[str, int]], *, at: int = 0) -> str:
        """One transaction with an output for each (address, amount), in this order, and change."""
        tx = await self.purse.spend([(await self.script_of(address), amount) for address, amount in payments])
        await self.fleet.send(tx, at)
        return tx.tx_id

    async def pay_through(self, address: str, amount: int, links: int = 2) -> list[str]:
        """Send a chain of so many transactions, of which the last pays; return their ids.

        A replacement of the first (`replace`) drops the others too, though it spends none of their coins.
        """
        left = amount + links * fee_of(1, 1)
        chain = [await self.purse.spend([(p2wsh_script(SPENDABLE_SCRIPT), left)])]
        for link in range(1, links):
            coin = Coin(chain[-1].tx_id, 0, left)
            left -= fee_of(1, 1)
            last = link == links - 1
            chain.append(
                self.purse.make(
                    [coin],
                    [(await self.script_of(address), amount) if last else (p2wsh_script(SPENDABLE_SCRIPT), left)],
                )
            )
        for tx in chain:
            await self.fleet.send(tx)
        return [tx.tx_id for tx in chain]

    async def bump(self, tx_id: str) -> str:
        """Send the same payment once more, for a higher fee that its change pays; returns the new one's id."""
        tx = self.purse.bumped(tx_id)
        await self.fleet.send(tx)
        return tx.tx_id

    async def double_spend_in_block(self, tx_id: str, *, at: int = 0) -> str:
        """Mine a rival of what waits that no mempool has seen; returns its id."""
        rival = self.purse.rival(tx_id)
        await self.rewrite(0, [rival], at=at)
        return rival.tx_id

    async def reverse(self, depth: int, tx_id: str) -> str:
        """Reorganise onto a branch with a rival of ``tx_id`` and all other old transactions; return the rival's id."""
        rival = self.purse.rival(tx_id)
        await self.rewrite(depth, [rival, *(tx for tx in await self.newest(depth) if tx.tx_id != tx_id)])
        return rival.tx_id

    async def coinbase_to(self, address: str) -> str:
        """Mine a block that rewards this address; returns the id of its coinbase."""
        [block] = await self.rpc("generatetoaddress", 1, address)
        await self.fleet.carry([block])
        return str((await self.rpc("getblock", block))["tx"][0])

    async def drop(self, *tx_ids: str) -> None:
        """Let the nodes forget a waiting transaction and its descendants, as they do after two weeks.

        A stranger's transaction is sent for it: a node expires old transactions when it accepts another.
        """
        for place in self.fleet.reached():
            waiting = await self.fleet.waiting(place)
            if not set(waiting) & set(tx_ids):
                continue
            kept = [("getrawtransaction", (tx_id,)) for tx_id in waiting if tx_id not in tx_ids]
            raws = await self.fleet.batch(kept, place)
            await self.rpc("setmocktime", int(time.time()) + EXPIRED, at=place)
            await self.rpc("sendrawtransaction", (await self.purse.spend([])).raw, at=place)
            await self.rpc("setmocktime", 0, at=place)
            for raw in raws:
                with suppress(NodeError):  # it builds on what is gone
                    await self.rpc("sendrawtransaction", raw, at=place)

    async def bring_back(self, tx_id: str) -> None:
        """Send once more what was dropped, or lost its block."""
        await self.fleet.send(self.sent(tx_id))

    def sent(self, tx_id: str) -> Tx:
        """Return one of our transactions in full, whatever its state. Raises `NodeError` if it is not ours."""
        return self.purse.made(tx_id).tx

    # Blocks

    async def height(self, at: int = 0) -> int:
        """Return the height of a node's newest block."""
        return int(await self.rpc("getblockcount", at=at))

    async def head(self, at: int = 0) -> str:
        """Return the hash of a node's newest block."""
        return str(await self.rpc("getbestblockhash", at=at))

    async def branch(self, depth: int) -> list[str]:
        """Hashes of the newest blocks, the newest last."""
        top = await self.height()
        calls = [("getblockhash", (height,)) for height in range(top - depth + 1, top + 1)]
        return [str(each) for each in await self.fleet.batch(calls)]

    async def newest(self, depth: int) -> list[Tx]:
        """Return the transactions of the newest blocks without their coinbases, in order."""
        blocks = await self.fleet.batch([("getblock", (each, 2)) for each in await self.branch(depth)])
        return [Tx(tx["txid"], tx["hash"], tx["hex"]) for block in blocks for tx in block["tx"][1:]]

    async def rewrite(self, depth: int, txs: Sequence[Tx], *, at: int = 0) -> None:
        """Replace the newest ``depth`` blocks by one more; the first holds ``txs`` and nothing else. 0 adds a block.

        Raises `NodeError` with what the node has against it, ValueError beyond the story's own beginning.
        """
        top = await self.height(at)
        if not 0 <= depth <= top - self._base:
            raise ValueError(f"cannot replace {depth} of the {top - self._base} blocks since the beginning")
        fork = await self.rpc("getblockheader", await self.rpc("getblockhash", top - depth, at=at), at=at)
        parent, clock = fork["hash"], max(fork["time"], int(time.time()) - depth - 1)
        for step in range(1, depth + 2):
            held = txs if step == 1 else ()
            block = make_block(parent, fork["height"] + step, clock + step, fork["bits"], held, by_scrypt=self._scrypt)
            await self.fleet.submit(block, at)
            parent = block.hash
        if await self.head(at) != parent:
            raise NodeError(f"the branch up to {parent} was refused: its first block holds what is not valid there")

    async def rpc(self, method: str, *params: Any, at: int = 0) -> Any:
        """Any other command to a node."""
        return await self.fleet.rpc(method, *params, at=at)

    # Scripts and their spelling

    async def _address_of(self, script: bytes) -> str:
        found = await self.rpc("decodescript", script.hex())
        return str(found["address"] if "address" in found else found["addresses"][0])

    async def script_of(self, address: str) -> bytes:
        """Return the output script of an address, as the node reports it."""
        if address not in self._scripts:
            self._scripts[address] = bytes.fromhex((await self.rpc("validateaddress", address))["scriptPubKey"])
        return self._scripts[address]

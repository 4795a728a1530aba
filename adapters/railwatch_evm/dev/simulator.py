"""Drives anvil: stories in tests and demos (`railwatch.rail.Simulator`), and what only an EVM can do beyond them."""

import secrets
from collections.abc import Mapping, Sequence
from importlib import resources
from types import TracebackType
from typing import Any, Self

import msgspec
from eth_abi.abi import encode
from eth_hash.auto import keccak

from railwatch.rail import AssetId, AssetSpec, ChainId, RailAdapter, RailSettings
from railwatch_evm.address import checksum_address
from railwatch_evm.dev.node_process import Anvil, AnvilError

PLAIN_GAS = 100_000
"""Enough for a transfer of ether or tokens; given, so that anvil need not run each one first to estimate it."""
BIG_GAS = 15_000_000
SUPPLY = 10**30


class EvmSimulator:
    """An anvil with a token and a multisender on it. Blocks appear only through `mine` unless a test says otherwise.

    ``epoch``: safe is the head less ``epoch``, finalized the head less twice that. ``block_time`` (seconds) and
    ``automine`` make the chain move by itself, for a demo. ``options`` and ``watch_token`` shape the adapter's rail.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        block_time: float | None = None,
        automine: bool = False,
        epoch: int = 32,
        chain_id: int = 31337,
        name: str = "local-evm",
        options: Mapping[str, Any] | None = None,
        watch_token: bool = True,
    ) -> None:
        mining = ["--block-time", str(block_time)] if block_time else [] if automine else ["--no-mining"]
        self._anvil = Anvil(
            *mining,
            *("--order", "fifo", "--chain-id", str(chain_id), "--slots-in-an-epoch", str(epoch)),
            *("--balance", "1000000000", "--gas-limit", "1000000000", "--no-request-size-limit"),
            port=port,
        )
        self._name, self._options, self._watch_token = name, dict(options or {}), watch_token
        self.chain_id = ChainId(f"eip155:{chain_id}")
        self.native = AssetId(f"{self.chain_id}/slip44:60")
        self.assets: tuple[AssetId, ...] = (self.native,)
        self.token = self.multisender = self.payer = ""
        self._base = 0

    @property
    def node(self) -> dict[str, Any]:
        """The node's table, as a configuration would hold it."""
        return {"http": self._anvil.http, "ws": self._anvil.http.replace("http", "ws", 1)}

    @property
    def settings(self) -> RailSettings:
        """The rail, as a configuration would describe it."""
        specs = [AssetSpec("ETH", None, 18)]
        if self._watch_token:
            specs.append(AssetSpec("TST", self.token, 6))
        return RailSettings(self._name, self.chain_id, tuple(specs), self._options)

    @property
    def pid(self) -> int:
        """The node's process."""
        return self._anvil.pid

    async def __aenter__(self) -> Self:
        await self._anvil.__aenter__()
        try:
            await self._furnish()
        except BaseException:
            await self._anvil.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._anvil.__aexit__(exc_type, exc, trace)

    async def _furnish(self) -> None:
        """Deploy contracts first, and a block above them: anvil wipes a contract whose own block is orphaned."""
        self.payer = (await self.rpc("eth_accounts"))[0]
        self.token = await self.deploy("Token", SUPPLY)
        self.multisender = await self.deploy("Multisender")
        self.assets = (self.native, AssetId(f"{self.chain_id}/erc20:{self.token}"))
        await self.mine()
        self._base = await self.height()

    def open_adapter(self) -> RailAdapter:
        """Return a fresh adapter on this node."""
        from railwatch_evm import create_adapter

        return create_adapter(self.settings, self.node)

    async def new_address(self) -> str:
        """Return twenty random bytes in EIP-55: no key for them is known, and nothing here needs one."""
        return checksum_address(secrets.token_bytes(20))

    async def pay(self, address: str, amount: int, asset: AssetId | None = None) -> str:
        """Send ether, or the token; returns the transaction's hash."""
        if asset is None or asset == self.native:
            return await self.send({"to": address, "value": hex(amount)})
        if asset not in self.assets:
            raise ValueError(f"{asset} is none of this chain's assets: {', '.join(self.assets)}")
        return await self.call(asset.rsplit(":", 1)[1], "transfer(address,uint256)", address, amount)

    async def mine(self, blocks: int = 1) -> None:
        """Produce blocks; the first holds everything that waits."""
        await self.rpc("anvil_mine", hex(blocks))

    async def reorg(self, depth: int, *, keep: bool = True) -> None:
        """Replace the newest ``depth`` blocks by ``depth`` + 1 others; with ``keep`` the first holds what they held."""
        head = await self.height()
        if not 0 < depth <= head - self._base:
            raise ValueError(f"cannot replace {depth} of the {head - self._base} blocks since the contracts'")
        old = await self._anvil.batch(
            [("eth_getBlockByNumber", (hex(height), False)) for height in range(head - depth + 1, head + 1)]
        )
        kept = await self._raw([tx_id for block in old for tx_id in block["transactions"]]) if keep else []
        # What waits in the pool would otherwise slip into the extra block. It goes back afterwards.
        pool = await self.rpc("txpool_content")
        waiting = await self._raw([tx["hash"] for queue in pool["pending"].values() for tx in queue.values()])
        await self.rpc("anvil_dropAllTransactions")
        await self.rpc("anvil_reorg", depth, [[raw, 0] for raw in kept])
        await self.mine()
        for raw in waiting:
            await self.rpc("eth_sendRawTransaction", raw)

    async def replace(self, tx_id: str) -> str:
        """Send a rival with the same nonce and twice the fee that pays a stranger; return its hash."""
        old = await self.rpc("eth_getTransactionByHash", tx_id)
        if old is None or old.get("blockHash"):
            raise AnvilError(f"{tx_id} is not waiting, so nothing can replace it")
        fees = {key: hex(2 * int(old[key], 16)) for key in ("maxFeePerGas", "maxPriorityFeePerGas")}
        return await self.send({"to": await self.new_address(), "value": "0x1", "nonce": old["nonce"], **fees})

    async def fail_next(self, address: str, amount: int) -> str:
        """Send a transaction that pays ``address`` by an internal call and then fails as a whole (HAZARDS E1)."""
        return await self.call(self.multisender, "sendAndFail(address)", address, value=amount)

    async def pay_internal(self, address: str, amount: int) -> str:
        """Send ether through a contract: no log, and another ``to`` at the top (HAZARDS E2)."""
        return await self.call(self.multisender, "send(address[],uint256[])", [address], [amount], value=amount)

    async def pay_token_many(self, addresses: Sequence[str], amounts: Sequence[int]) -> str:
        """Token payments to many in one transaction: one log each, in order."""
        return await self.call(self.token, "transferMany(address[],uint256[])", addresses, amounts)

    async def deploy(self, name: str, *arguments: int) -> str:
        """Deploy one of ``contracts/`` in a block of its own; returns its address in lower case."""
        text = resources.files("railwatch_evm").joinpath("dev", "contracts", f"{name}.json").read_bytes()
        code = msgspec.json.decode(text)["bytecode"]
        data = code + "".join(f"{argument:064x}" for argument in arguments)
        tx_id = await self.send({"data": data, "gas": hex(BIG_GAS)})
        await self.mine()
        return str((await self.rpc("eth_getTransactionReceipt", tx_id))["contractAddress"]).lower()

    async def call(self, contract: str, signature: str, *arguments: Any, value: int = 0) -> str:
        """Send a call such as ``transfer(address,uint256)`` with its arguments; returns the transaction's hash."""
        gas = BIG_GAS if contract != self.token or "[" in signature else PLAIN_GAS
        return await self.send(
            {"to": contract, "value": hex(value), "data": calldata(signature, *arguments), "gas": hex(gas)}
        )

    async def send(self, transaction: Mapping[str, Any]) -> str:
        """Send a transaction from the payer, which anvil holds the key of."""
        return str(await self.rpc("eth_sendTransaction", {"from": self.payer, "gas": hex(PLAIN_GAS), **transaction}))

    async def height(self) -> int:
        """Return the number of the newest block."""
        return int(await self.rpc("eth_blockNumber"), 16)

    async def head(self) -> str:
        """Return the hash of the newest block."""
        return str((await self.rpc("eth_getBlockByNumber", "latest", False))["hash"])

    async def set_time(self, timestamp: int) -> None:
        """Give the next block this time, in seconds since 1970; anvil refuses one before the newest block's."""
        await self.rpc("evm_setNextBlockTimestamp", timestamp)

    async def rpc(self, method: str, *params: Any) -> Any:
        """Any other call to the node."""
        return await self._anvil.rpc(method, *params)

    async def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Many calls to the node in one request; their results in order."""
        return await self._anvil.batch(calls)

    async def _raw(self, tx_ids: Sequence[str]) -> list[str]:
        return await self._anvil.batch([("eth_getRawTransactionByHash", (tx_id,)) for tx_id in tx_ids])


def calldata(signature: str, *arguments: Any) -> str:
    """Return the selector and the ABI encoding of ``arguments``, for a signature without nested tuples."""
    types = signature[signature.index("(") + 1 : -1]
    body = encode(types.split(",") if types else [], arguments)
    return "0x" + (keccak(signature.encode())[:4] + body).hex()

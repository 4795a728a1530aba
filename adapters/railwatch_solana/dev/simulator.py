"""Drives the development node: stories in tests and demos (`railwatch.rail.Simulator`), and what only Solana does."""

import base64
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction
from spl.token.constants import WRAPPED_SOL_MINT

from railwatch.rail import AssetId, AssetSpec, ChainId, RailAdapter, RailSettings
from railwatch_solana.decode import NATIVE_ASSET, TOKEN_NAMESPACE
from railwatch_solana.dev.node_process import Devnode, DevnodeError
from railwatch_solana.dev.wallet import (
    ACCOUNT_BYTES,
    FEE_MINT_BYTES,
    LEGACY,
    MINT_BYTES,
    TOKEN_2022_PROGRAM_ID,
    Mint,
    Wallet,
)
from railwatch_solana.options import chain_of

SOL = 10**9
FUNDS, SUPPLY = 1_000_000 * SOL, 10**18
TOO_MUCH = 2**62
WRAPPED = Mint(WRAPPED_SOL_MINT, decimals=9)
CONFIRMED, FINALIZED = {"commitment": "confirmed"}, {"commitment": "finalized"}


class SolanaSimulator:
    """A development node with a payer, a token, and a Token-2022 token that charges for transfers.

    ``confirm_lag`` and ``root_lag`` are the node's: blocks by which confirmed is behind what is produced, and finalized
    behind confirmed. ``watch_tokens`` says whether the adapter's rail is configured with the tokens.
    """

    def __init__(
        self,
        *,
        confirm_lag: int = 0,
        root_lag: int = 8,
        name: str = "local-solana",
        options: Mapping[str, Any] | None = None,
        watch_tokens: bool = True,
        node: Devnode | None = None,
    ) -> None:
        lags = ("--confirm-lag", str(confirm_lag), "--root-lag", str(root_lag))
        self._node = node or Devnode(*lags)
        self._name, self._options, self._watch_tokens = name, dict(options or {}), watch_tokens
        self._sent: dict[str, str] = {}
        self.wallet = Wallet()
        self.chain_id = ChainId("")
        self.native = AssetId("")
        self.assets: tuple[AssetId, ...] = ()
        self.token, self.taxed = Mint(Pubkey.default()), Mint(Pubkey.default())

    @property
    def node(self) -> dict[str, Any]:
        """The node's table, as a configuration would hold it."""
        return {"http": self._node.http, "ws": self._node.ws}

    @property
    def settings(self) -> RailSettings:
        """The rail, as a configuration would describe it."""
        specs = [AssetSpec("SOL", None, 9)]
        if self._watch_tokens:
            tokens = {"TST": self.token, "TAX": self.taxed}
            specs += [AssetSpec(symbol, str(mint.key), mint.decimals) for symbol, mint in tokens.items()]
        return RailSettings(self._name, self.chain_id, tuple(specs), self._options)

    @property
    def pid(self) -> int:
        """The node's process."""
        return self._node.pid

    async def __aenter__(self) -> Self:
        await self._node.__aenter__()
        try:
            await self._furnish()
        except BaseException:
            await self._node.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._node.__aexit__(exc_type, exc, trace)

    async def _furnish(self) -> None:
        """Funds, and the tokens: all of it before the story begins."""
        self.chain_id = chain_of(await self.rpc("getGenesisHash"))
        self.native = AssetId(f"{self.chain_id}/{NATIVE_ASSET}")
        await self.rpc("requestAirdrop", str(self.wallet.address), FUNDS)
        await self.mine()
        self.token = await self.new_mint()
        self.taxed = await self.new_mint(program=TOKEN_2022_PROGRAM_ID, fee_bps=100)
        self.assets = (self.native, self.asset(self.token))
        await self.mine(2)

    # The seam's verbs

    def open_adapter(self) -> RailAdapter:
        """Return a fresh adapter on this node."""
        from railwatch_solana import create_adapter

        return create_adapter(self.settings, self.node)

    async def new_address(self) -> str:
        """Return the public key of a pair whose private key is discarded."""
        return str(Keypair().pubkey())

    async def pay(
        self, address: str, amount: int, asset: AssetId | None = None, *, references: Sequence[str] = ()
    ) -> str:
        """Send SOL, or a token to the owner's associated account; returns the signature.

        ``references`` go along as Solana Pay has it: as keys of the paying instruction that do nothing.
        """
        to = Pubkey.from_string(address)
        if asset is None or asset == self.native:
            made = [self.wallet.sol(to, amount)]
        else:
            made = self.wallet.tokens(self._mint_of(asset), to, amount)
        return await self.send([*made[:-1], _marked(made[-1], references)])

    async def mine(self, blocks: int = 1) -> None:
        """Produce blocks; the first holds everything that waits."""
        await self.rpc("devProduce", blocks)

    async def reorg(self, depth: int, *, keep: bool = True) -> None:
        """Replace the newest ``depth`` blocks by ``depth`` + 1 others; with ``keep`` the first holds what they held."""
        await self.rpc("devFork", depth, {"resubmit": keep})
        await self.mine(depth + 1)

    async def replace(self, tx_id: str) -> str:
        """Nothing on Solana replaces a transaction that waits: there is no mempool that would hold both."""
        raise NotImplementedError("Solana has no mempool, so nothing waits that could be replaced")

    async def fail_next(self, address: str, amount: int) -> str:
        """Pay, and then do what cannot be done: the whole transaction fails, and its fee is charged (HAZARDS S1)."""
        to = Pubkey.from_string(address)
        return await self.send([self.wallet.sol(to, amount), self.wallet.sol(to, TOO_MUCH)])

    # What only Solana does

    async def pay_many(self, payments: Sequence[tuple[str, int, AssetId]]) -> str:
        """One transaction that pays many: (address, amount, asset) of each."""
        made: list[Instruction] = []
        for address, amount, asset in payments:
            to = Pubkey.from_string(address)
            native = asset == self.native
            made += [self.wallet.sol(to, amount)] if native else self.wallet.tokens(self._mint_of(asset), to, amount)
        return await self.send(made)

    async def pay_versioned(self, address: str, amount: int, version: int) -> str:
        """Pay SOL by a transaction of version 0, which names the recipient in a lookup table only, or of version 1."""
        to = Pubkey.from_string(address)
        tables = []
        if version == 0:
            table, made = self.wallet.lookup_table(await self.slot(), [to])
            await self.send(made)
            await self.mine(2)
            tables = [table]
        return await self.send([self.wallet.sol(to, amount)], version=version, tables=tables)

    async def pay_auxiliary(self, address: str, amount: int, mint: Mint | None = None) -> str:
        """Pay tokens into a fresh token account of the owner that is not the associated one (HAZARDS S6)."""
        mint, account = mint or self.token, Keypair()
        rent = await self.rent(ACCOUNT_BYTES)
        made = self.wallet.auxiliary_account(mint, Pubkey.from_string(address), account.pubkey(), rent)
        return await self.send([*made, self.wallet.tokens_into(mint, account.pubkey(), amount)], account)

    async def pay_wrapped(self, address: str, amount: int) -> str:
        """Pay wrapped SOL (HAZARDS S9)."""
        return await self.send(self.wallet.wrap(WRAPPED, Pubkey.from_string(address), amount))

    async def pay_by_closing(self, address: str, amount: int) -> str:
        """Pay SOL by closing an account of ours that holds ``amount``: no transfer is among the instructions (S4)."""
        ours = WRAPPED.account_of(self.wallet.address)
        rent = await self.rent(ACCOUNT_BYTES)
        if amount <= rent:
            raise ValueError(f"an account that is closed pays its rent as well: {rent} lamports at the least")
        made = self.wallet.wrap(WRAPPED, self.wallet.address, amount - rent)
        return await self.send([*made, self.wallet.close(WRAPPED, ours, Pubkey.from_string(address))])

    async def pay_nested(self, owner: Keypair, amount: int) -> str:
        """Pay tokens that ``owner`` gets by inner instructions only: out of an account of an account of theirs (S4)."""
        wallet, outer = self.wallet, self.token.account_of(owner.pubkey())
        await self.send([wallet.open_account(self.token, owner.pubkey()), *wallet.tokens(self.token, outer, amount)])
        await self.mine()
        return await self.send([wallet.recover_nested(self.token, self.token, owner.pubkey())], owner)

    async def again(self, tx_id: str) -> None:
        """Send a transaction once more: what a fork dropped lands later, if its blockhash has not expired."""
        await self._submit(self._sent[tx_id])

    async def skip(self, slots: int = 1) -> None:
        """Leave slots without a block."""
        await self.rpc("devSkip", slots)

    async def new_mint(self, *, program: Pubkey | None = None, fee_bps: int = 0) -> Mint:
        """Create a token of our own, in a block of its own."""
        key = Keypair()
        mint = Mint(key.pubkey(), fee_bps=fee_bps) if program is None else Mint(key.pubkey(), program, fee_bps=fee_bps)
        rent = await self.rent(FEE_MINT_BYTES if fee_bps else MINT_BYTES)
        await self.send(self.wallet.mint(mint, rent, SUPPLY), key)
        await self.mine()
        return mint

    async def send(
        self,
        instructions: Sequence[Instruction],
        *signers: Keypair,
        version: int | str = LEGACY,
        tables: Sequence[Any] = (),
        payer: Keypair | None = None,
    ) -> str:
        """Sign and send, past the node's own trial run; returns the signature.

        The blockhash is a finalized one: no fork drops it, and the transaction with it.
        """
        latest = await self.rpc("getLatestBlockhash", FINALIZED)
        blockhash = Hash.from_string(latest["value"]["blockhash"])
        tx = self.wallet.sign(instructions, blockhash, *signers, version=version, tables=tables, payer=payer)
        return await self.submit(tx)

    async def submit(self, tx: VersionedTransaction) -> str:
        """Send a signed transaction; returns the signature."""
        raw = base64.b64encode(bytes(tx)).decode()
        signature = await self._submit(raw)
        self._sent[signature] = raw
        return signature

    async def _submit(self, raw: str) -> str:
        return str(await self.rpc("sendTransaction", raw, {"encoding": "base64", "skipPreflight": True}))

    # Asking

    async def slot(self) -> int:
        """Return the newest confirmed slot."""
        return int(await self.rpc("getSlot", CONFIRMED))

    async def head(self) -> str:
        """Return the hash of the newest confirmed block."""
        return str((await self.rpc("getLatestBlockhash", CONFIRMED))["value"]["blockhash"])

    async def rent(self, size: int = 0) -> int:
        """Lamports that an account of this size must hold."""
        return int(await self.rpc("getMinimumBalanceForRentExemption", size))

    async def balance(self, address: str) -> int:
        """Lamports at an address."""
        return int((await self.rpc("getBalance", address, CONFIRMED))["value"])

    async def rpc(self, method: str, *params: Any) -> Any:
        """Any other call to the node."""
        return await self._node.rpc(method, *params)

    def asset(self, mint: Mint) -> AssetId:
        """Return the mint's CAIP-19 id."""
        return AssetId(f"{self.chain_id}/{TOKEN_NAMESPACE}:{mint.key}")

    def _mint_of(self, asset: AssetId) -> Mint:
        for mint in (self.token, self.taxed):
            if asset == self.asset(mint):
                return mint
        raise DevnodeError(f"{asset} is none of this chain's assets")


def _marked(instruction: Instruction, references: Sequence[str]) -> Instruction:
    """Return the instruction with extra read-only keys that need no signature (Solana Pay, "reference")."""
    marks = [AccountMeta(Pubkey.from_string(each), is_signer=False, is_writable=False) for each in references]
    return Instruction(instruction.program_id, instruction.data, [*instruction.accounts, *marks])

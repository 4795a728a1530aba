"""A development node in this process, spoken to over real sockets, and a wallet to make transactions with."""

import base64
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import aiohttp
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0, MessageV1, TransactionConfig
from solders.pubkey import Pubkey
from solders.system_program import CreateAccountParams, TransferParams, create_account, transfer
from solders.transaction import VersionedTransaction
from spl.token import models
from spl.token.constants import TOKEN_PROGRAM_ID
from spl.token.instructions import (
    create_associated_token_account,
    get_associated_token_address,
    initialize_mint2,
    mint_to_checked,
    transfer_checked,
)

from railwatch_solana.dev.devnode.node import Node, Settings
from railwatch_solana.dev.devnode.server import Server

SOL = 10**9
PROCESSED = {"commitment": "processed"}
CONFIRMED = {"commitment": "confirmed"}


class Refused(Exception):
    """The node answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["code"], error["message"])
        self.code, self.message, self.data = error["code"], error["message"], error.get("data")


class Rpc:
    """A node's methods over HTTP."""

    def __init__(self, http: str, ws: str) -> None:
        self.http, self.ws = http, ws
        self._session = aiohttp.ClientSession()

    async def close(self) -> None:
        await self._session.close()

    async def post(self, body: Any) -> Any:
        """Any JSON, or bytes that may be none."""
        data = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self._session.post(self.http, **data) as response:
            return await response.json()

    async def __call__(self, method: str, *params: Any) -> Any:
        reply = await self.post({"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)})
        if "error" in reply:
            raise Refused(reply["error"])
        return reply["result"]


class Wallet:
    """Keys with lamports, and what they can do on a node."""

    def __init__(self, rpc: Rpc) -> None:
        self.rpc, self.key = rpc, Keypair()

    @property
    def address(self) -> str:
        return str(self.key.pubkey())

    async def blockhash(self) -> Hash:
        answer = await self.rpc("getLatestBlockhash", PROCESSED)
        return Hash.from_string(answer["value"]["blockhash"])

    async def signed(
        self,
        *steps: Instruction,
        version: int | None = None,
        tables: Sequence[AddressLookupTableAccount] = (),
        signers: Sequence[Keypair] = (),
        blockhash: Hash | None = None,
        priority: int = 0,
    ) -> VersionedTransaction:
        """A transaction, legacy unless ``version`` says otherwise; ``priority`` is version 1's fee in lamports."""
        payer, recent = self.key.pubkey(), blockhash or await self.blockhash()
        message: Message | MessageV0 | MessageV1
        if version == 0:
            message = MessageV0.try_compile(payer, steps, tables, recent)
        elif version == 1:
            message = MessageV1.try_compile(
                payer, steps, recent, TransactionConfig(priority_fee=priority, compute_unit_limit=200_000)
            )
        else:
            message = Message.new_with_blockhash(steps, payer, recent)
        return VersionedTransaction(message, [self.key, *signers])

    async def send(self, *steps: Instruction, preflight: bool = True, **how: Any) -> str:
        """Let a transaction wait; returns its signature."""
        return await self.post(await self.signed(*steps, **how), preflight=preflight)

    async def post(self, tx: VersionedTransaction, *, preflight: bool = True) -> str:
        """Let this very transaction wait."""
        config = {"encoding": "base64", "skipPreflight": not preflight, "preflightCommitment": "processed"}
        sent: str = await self.rpc("sendTransaction", encoded(tx), config)
        return sent

    def pays(self, to: Pubkey, lamports: int) -> Instruction:
        return transfer(TransferParams(from_pubkey=self.key.pubkey(), to_pubkey=to, lamports=lamports))

    async def token(self, supply: int, *, decimals: int = 6, program: Pubkey = TOKEN_PROGRAM_ID) -> Pubkey:
        """A mint, with its whole supply in this wallet's associated account. Produces a block."""
        mint, payer = Keypair(), self.key.pubkey()
        rent = await self.rpc("getMinimumBalanceForRentExemption", 82)
        account = CreateAccountParams(
            from_pubkey=payer, to_pubkey=mint.pubkey(), lamports=rent, space=82, owner=program
        )
        start = models.InitializeMint2Params(
            decimals=decimals, program_id=program, mint=mint.pubkey(), mint_authority=payer
        )
        home = get_associated_token_address(payer, mint.pubkey(), program)
        minting = models.MintToCheckedParams(
            program_id=program, mint=mint.pubkey(), dest=home, mint_authority=payer, amount=supply, decimals=decimals
        )
        await self.send(
            create_account(account),
            initialize_mint2(start),
            create_associated_token_account(payer, payer, mint.pubkey(), program),
            mint_to_checked(minting),
            signers=[mint],
        )
        await self.rpc("devProduce")
        return mint.pubkey()

    def opens(self, owner: Pubkey, mint: Pubkey, program: Pubkey = TOKEN_PROGRAM_ID) -> Instruction:
        """The owner's associated token account comes to be."""
        return create_associated_token_account(self.key.pubkey(), owner, mint, program)

    def pays_token(
        self, owner: Pubkey, mint: Pubkey, amount: int, *, decimals: int = 6, program: Pubkey = TOKEN_PROGRAM_ID
    ) -> Instruction:
        """From this wallet's associated account to the owner's."""
        payer = self.key.pubkey()
        return transfer_checked(
            models.TransferCheckedParams(
                program_id=program,
                source=get_associated_token_address(payer, mint, program),
                mint=mint,
                dest=get_associated_token_address(owner, mint, program),
                owner=payer,
                amount=amount,
                decimals=decimals,
            )
        )


class Cluster:
    """A node that serves, and a rich wallet on it. Blocks appear only through `produce`."""

    def __init__(self, settings: Settings | None = None, *, node: Node | None = None, **server: int) -> None:
        self.node = node or Node(settings or Settings(root_lag=3))
        self._server = Server(self.node, **server)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._server)
            self.http = f"http://127.0.0.1:{self._server.port}"
            self.ws = f"ws://127.0.0.1:{self._server.ws_port}"
            self.rpc = Rpc(self.http, self.ws)
            stack.push_async_callback(self.rpc.close)
            self.wallet = Wallet(self.rpc)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def methods(self) -> list[str]:
        """The names of all methods over HTTP."""
        return sorted(self._server.rpc.methods)

    async def fund(self, lamports: int = 1_000 * SOL) -> None:
        """Give the wallet lamports, with a block."""
        await self.rpc("requestAirdrop", self.wallet.address, lamports)
        await self.produce()

    async def produce(self, count: int = 1) -> list[int]:
        slots: list[int] = await self.rpc("devProduce", count)
        return slots

    async def balance(self, key: Pubkey | str, commitment: str = "processed") -> int:
        answer = await self.rpc("getBalance", str(key), {"commitment": commitment})
        lamports: int = answer["value"]
        return lamports

    async def meta(self, signature: str) -> dict[str, Any]:
        """What a transaction did; it must be in a block."""
        await self.produce(2)
        found = await self.rpc(
            "getTransaction", signature, {"commitment": "confirmed", "maxSupportedTransactionVersion": 1}
        )
        meta: dict[str, Any] = found["meta"]
        return meta


def encoded(tx: VersionedTransaction) -> str:
    """A transaction as base64."""
    return base64.b64encode(bytes(tx)).decode()

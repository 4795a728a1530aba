"""Clients that others wrote find here what they find on a real node: solana-py, web3.js and kit."""

import asyncio
import json
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed, Processed
from solana.rpc.core import RPCException
from solana.rpc.models import TokenAccountOpts
from solana.rpc.websocket_api import SolanaWsClient
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.rpc.responses import LogsNotification, SlotNotification
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction
from solders.transaction_status import TransactionDetails

from railwatch_solana.dev.devnode.node import Settings
from tests.solana_devnode.cluster import SOL, Cluster

PACKAGES = (
    "@solana/web3.js@1.99.0",
    "@solana/spl-token@0.4.15",
    "@solana/kit@8.4.0",
    "@solana-program/system@0.14.1",
)
INSTALL_SECONDS = 180
RUN_SECONDS = 60
SLOT_MS = 50
"""A blockhash expires after 150 of these, and a machine that runs many tests is slow."""
HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "railwatch" / "solana-clients"
"""Outside of the repository, and kept: the next run finds the packages."""


async def output(*command: str | Path, seconds: float) -> tuple[int, str]:
    """Run a program to its end; its exit code and all that it said."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(seconds):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return -1, f"{command[0]} took longer than {seconds} s"
    return process.returncode or 0, said.decode()


async def packages() -> Path:
    """A folder with the packages, or a skip that says why not."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no node and npm on PATH: web3.js and kit cannot run")
    wanted = FOLDER / "installed"
    if not wanted.exists() or wanted.read_text() != "\n".join(PACKAGES):
        quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--silent")
        code, said = await output("npm", "install", "--prefix", FOLDER, *quiet, *PACKAGES, seconds=INSTALL_SECONDS)
        if code:
            pytest.skip(f"npm did not install {' '.join(PACKAGES)}: {said.strip()[-300:]}")
        wanted.write_text("\n".join(PACKAGES))
    return FOLDER


async def run(script: str, cluster: Cluster) -> dict[str, Any]:
    """What a script prints as its last line."""
    folder = await packages()
    # A module finds its packages in its own folder.
    copy = shutil.copy(HERE / script, folder / script)
    code, said = await output("node", copy, cluster.http, cluster.ws, seconds=RUN_SECONDS)
    assert code == 0, said
    seen: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    return seen


async def test_web3_js_pays_in_sol_and_tokens() -> None:
    async with Cluster(slot_ms=SLOT_MS) as cluster:
        assert await run("web3.mjs", cluster) == {
            "balance": 2 * SOL,
            "token": "250000",
            "inBlock": True,
            "parsed": "transferChecked",
            "version": 0,
            "fee": 5000,
            "refused": "SendTransactionError",
        }


async def test_kit_hears_slots_pays_and_waits() -> None:
    # Finality is out of reach, so that a slow machine sees the same status as a fast one.
    async with Cluster(Settings(root_lag=10_000), slot_ms=SLOT_MS) as cluster:
        seen = await run("kit.mjs", cluster)
        first = seen.pop("heard")[0]
        assert first > 0
        assert seen == {"status": "confirmed", "balance": SOL, "inBlock": True, "code": -32004}


class SolanaPy:
    """A payer, as a program that knows only solana-py would have one."""

    def __init__(self, http: str) -> None:
        self.client = AsyncClient(http, Confirmed)
        self.payer = Keypair()

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        airdrop = await self.client.request_airdrop(self.payer.pubkey(), 100 * SOL)
        await self.client.confirm_transaction(airdrop.value, Confirmed, sleep_seconds=0.05)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.close()

    async def send(self, *steps: Instruction) -> Signature:
        """Send and wait until it is confirmed."""
        latest = (await self.client.get_latest_blockhash()).value
        message = MessageV0.try_compile(self.payer.pubkey(), steps, [], latest.blockhash)
        sent = await self.client.send_transaction(VersionedTransaction(message, [self.payer]))
        await self.client.confirm_transaction(
            sent.value, Confirmed, sleep_seconds=0.05, last_valid_block_height=latest.last_valid_block_height
        )
        return sent.value

    def pays(self, to: Pubkey) -> Instruction:
        return transfer(TransferParams(from_pubkey=self.payer.pubkey(), to_pubkey=to, lamports=SOL))


async def test_solana_py_pays_and_reads_blocks() -> None:
    async with Cluster(slot_ms=SLOT_MS) as cluster, SolanaPy(cluster.http) as py:
        owner = Keypair().pubkey()
        signature = await py.send(py.pays(owner))
        assert (await py.client.get_balance(owner)).value == SOL
        status = (await py.client.get_signature_statuses([signature])).value[0]
        assert status is not None
        for details in (TransactionDetails.Full, TransactionDetails.Accounts):
            block = (
                await py.client.get_block(
                    status.slot, max_supported_transaction_version=0, transaction_details=details, rewards=False
                )
            ).value
            assert block is not None
            (landed,) = block.transactions or []
            assert landed.transaction.signatures == [signature]
            assert landed.meta is not None
            assert landed.meta.post_balances[1] == SOL
        found = (await py.client.get_transaction(signature, max_supported_transaction_version=0)).value
        assert found is not None
        assert found.transaction.meta is not None
        assert (found.slot, found.transaction.meta.fee) == (status.slot, 5000)
        history = (await py.client.get_signatures_for_address(owner)).value
        assert [entry.signature for entry in history] == [signature]
        with pytest.raises(RPCException, match="Transaction version"):
            await py.client.get_transaction(signature)


async def test_solana_py_sees_tokens() -> None:
    async with Cluster(slot_ms=SLOT_MS) as cluster, SolanaPy(cluster.http) as py:
        await cluster.rpc("devPause")
        await cluster.fund()
        mint, owner = await cluster.wallet.token(1_000_000), Keypair().pubkey()
        await cluster.wallet.send(cluster.wallet.opens(owner, mint), cluster.wallet.pays_token(owner, mint, 250_000))
        (slot,) = await cluster.produce()
        await cluster.produce()
        opts = TokenAccountOpts(mint=mint)
        (held,) = (await py.client.get_token_accounts_by_owner_json_parsed(owner, opts)).value
        assert held.account.data.program == "spl-token"
        assert (await py.client.get_token_account_balance(held.pubkey)).value.amount == "250000"
        assert (await py.client.get_token_supply(mint)).value.amount == "1000000"
        block = (await py.client.get_block(slot)).value
        assert block is not None
        (landed,) = block.transactions or []
        assert landed.meta is not None
        after = landed.meta.post_token_balances or []
        assert {(one.owner, one.ui_token_amount.amount) for one in after} == {
            (owner, "250000"),
            (cluster.wallet.key.pubkey(), "750000"),
        }


async def test_solana_py_hears_slots_and_logs() -> None:
    async with Cluster(slot_ms=SLOT_MS) as cluster, SolanaWsClient(cluster.ws) as socket:
        slots = await socket.slot_subscribe()
        heard = await socket.recv()
        assert isinstance(heard, SlotNotification)
        assert heard.result.parent < heard.result.slot
        await socket.unsubscribe(slots)
        await socket.logs_subscribe(commitment=Processed)
        signature = await cluster.rpc("requestAirdrop", str(Keypair().pubkey()), SOL)
        while not isinstance(notice := await socket.recv(), LogsNotification):
            pass
        assert str(notice.result.value.signature) == signature

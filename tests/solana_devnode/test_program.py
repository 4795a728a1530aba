"""The node as a program: its one line, its end, and its rise after the hardest end of all."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from websockets.asyncio.client import connect

from tests.solana_devnode.cluster import PROCESSED, SOL, Rpc, Wallet

END_SECONDS = 10


@asynccontextmanager
async def program(*arguments: str | Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, Rpc]]:
    """A node on ports of the kernel's choice; ended by its pid if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "railwatch_solana.dev.devnode", "--port", "0", *map(str, arguments)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        ready, http, ws = (await process.stdout.readline()).decode().split()
        assert ready == "ready"
        assert ws.startswith("ws=ws://127.0.0.1:")
        rpc = Rpc(http.removeprefix("http="), ws.removeprefix("ws="))
        try:
            yield process, rpc
        finally:
            await rpc.close()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def ended(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(END_SECONDS):
        return await process.wait()


async def test_it_says_where_it_listens_and_ends_when_asked() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        async with program("--slot-ms", "10", "--start-slot", "1000") as (process, rpc), connect(rpc.ws) as socket:
            assert await rpc("getSlot", PROCESSED) >= 1000
            await socket.send('{"jsonrpc":"2.0","id":1,"method":"slotSubscribe"}')
            process.send_signal(number)
            assert await ended(process) == 0, "with a subscriber that would have stayed"


async def test_what_was_answered_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    async with program("--ledger", tmp_path) as (process, rpc):
        wallet = Wallet(rpc)
        await rpc("requestAirdrop", wallet.address, 5 * SOL)
        await rpc("devProduce", 3)
        await rpc("requestAirdrop", wallet.address, SOL)
        state = await rpc("devState")
        process.kill()
        await ended(process)
    async with program("--ledger", tmp_path, "--seed", "another") as (process, rpc):
        assert await rpc("devState") == state
        assert state["waiting"] == 1
        await rpc("devProduce")
        assert (await rpc("getBalance", wallet.address, PROCESSED))["value"] == 6 * SOL


async def test_a_ledger_in_use_is_an_error_in_words(tmp_path: Path) -> None:
    async with program("--ledger", tmp_path):
        second = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "railwatch_solana.dev.devnode", "--port", "0", "--ledger", str(tmp_path)),
            stderr=asyncio.subprocess.PIPE,
        )
        assert second.stderr is not None
        said = (await second.stderr.read()).decode()
        assert await ended(second) == 1
        assert said.strip().endswith("is in use by another node")
        assert "Traceback" not in said


async def test_its_help_says_what_is_real() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "railwatch_solana.dev.devnode", "--help", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    said = " ".join((await process.stdout.read()).decode().split())
    assert await ended(process) == 0
    assert "Real: execution" in said
    assert "Simulated: slots, commitments, forks and skipped slots" in said

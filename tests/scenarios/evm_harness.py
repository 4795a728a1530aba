"""A stage on a real node: anvil, and daemons in processes of their own, to be killed, paused or asked to stop."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from railwatch.store.database import Database
from railwatch_evm.dev.simulator import EvmSimulator
from tests.scenarios.daemon_harness import DaemonHarness, Placed

REPOSITORY = Path(__file__).parents[2]

CONFIG = """
[database]
url = {dsn}

[log]
format = "json"

[[rail]]
name = "local-evm"
adapter = "evm"
chain_id = "eip155:31337"
nodes = [{{ http = {http}, ws = {ws} }}]
poll_interval = 0.2
{options}

[[rail.asset]]
symbol = "ETH"

[[rail.asset]]
symbol = "TST"
contract = {token}
decimals = 6

[[policy]]
rail = "local-evm"
confirmations = {confirmations}
"""


@dataclass(slots=True)
class EvmStage:
    """One anvil, one database, and daemons as an operator runs them."""

    sim: EvmSimulator
    database: Database
    folder: Path
    confirmations: int = 2
    http: str | None = None
    """Where the daemon asks, if not anvil itself."""
    options: str = ""
    """More lines of the rail's table."""
    daemons: list[asyncio.subprocess.Process] = field(default_factory=list)
    _orders: int = 0

    @property
    def tables(self) -> DaemonHarness:
        """The questions that any stage asks of the tables."""
        return DaemonHarness(self.database, [])

    async def __aenter__(self) -> Self:
        text = CONFIG.format(
            dsn=json.dumps(self.database.dsn),
            http=json.dumps(self.http or self.sim.node["http"]),
            ws=json.dumps(self.sim.node["ws"]),
            token=json.dumps(self.sim.token),
            confirmations=self.confirmations,
            options=self.options,
        )
        await asyncio.to_thread(self._file.write_text, text)
        return self

    async def __aexit__(self, *_: object) -> None:
        for daemon in self.daemons:
            if daemon.returncode is None:
                daemon.send_signal(signal.SIGCONT)
                daemon.kill()
                await daemon.wait()

    @property
    def _file(self) -> Path:
        return self.folder / "railwatch.toml"

    async def start(self) -> asyncio.subprocess.Process:
        """Start a daemon, as ``railwatch run`` does. Its log is in the stage's folder."""
        log = await asyncio.to_thread((self.folder / f"daemon{len(self.daemons)}.log").open, "wb")
        try:
            daemon = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "railwatch", "run", "--config", str(self._file)),
                cwd=REPOSITORY,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        finally:
            log.close()
        self.daemons.append(daemon)
        return daemon

    async def follows(self) -> None:
        """Wait until the committed cursor is anvil's head."""

        async def is_at_head() -> bool:
            row = await self.database.row("select cursor_hash, state from railwatch.rails")
            head = await self.sim.rpc("eth_getBlockByNumber", "latest", False)
            return row is not None and (row["cursor_hash"], row["state"]) == (head["hash"], "live")

        try:
            await self.tables.until(is_at_head)
        except AssertionError as waited:
            raise AssertionError(f"{waited}; the last daemon said: {await self.last_words()}") from None

    async def last_words(self) -> str:
        """The end of the newest daemon's log."""
        log = self.folder / f"daemon{len(self.daemons) - 1}.log"
        return (await asyncio.to_thread(log.read_text))[-1500:]

    async def mine(self, blocks: int = 1) -> None:
        """Mine, and wait until that is committed."""
        await self.sim.mine(blocks)
        await self.follows()

    async def order(self, amount: int, asset: str = "ETH", address: str | None = None) -> Placed:
        """Register an invoice, and wait for nothing."""
        self._orders += 1
        address = address or await self.sim.new_address()
        way = {"rail": "local-evm", "asset": asset, "address": address, "amount": str(amount)}
        request = {"merchant_id": "shop", "order_id": str(self._orders), "expires_in": 3600, "destinations": [way]}
        return Placed(await self.database.value("select railwatch.create_invoice($1)", request), address)

    async def invoice(self, amount: int, asset: str = "ETH") -> Placed:
        """Register an invoice, and wait until it is watched."""
        placed = await self.order(amount, asset)
        await self.tables.all_taken_in()
        return placed

    async def balance(self, placed: Placed, asset: str) -> int:
        """Return what the chain says that the address holds: its key never spends."""
        if asset == "ETH":
            return int(await self.sim.rpc("eth_getBalance", placed.address, "latest"), 16)
        data = "0x70a08231" + placed.address[2:].lower().rjust(64, "0")
        return int(await self.sim.rpc("eth_call", {"to": self.sim.token, "data": data}, "latest"), 16)

    async def check(self, placed: Sequence[tuple[Placed, str, int]]) -> None:
        """Every invoice (with its asset and amount) has exactly what its address holds, and the state that follows."""
        wrong: list[Any] = []
        for invoice, asset, expected in placed:
            held = await self.balance(invoice, asset)
            counted = await self.database.value(
                "select coalesce(sum(amount), 0) from railwatch.detections "
                "where invoice_id = $1 and state in ('confirmed', 'final')",
                invoice.id,
            )
            state = await self.tables.state(invoice)
            should = "created" if not held else "underpaid" if held < expected else "paid"
            should = "overpaid" if held > expected else should
            if (int(counted), state) != (held, should):
                wrong.append((invoice.address, asset, int(counted), held, state, should))
        assert not wrong, wrong
        await self.tables.audit()


@asynccontextmanager
async def evm_stage(database: Database, folder: Path, *, epoch: int = 32) -> AsyncIterator[EvmStage]:
    """The whole of it, without a daemon yet."""
    async with EvmSimulator(epoch=epoch) as sim, EvmStage(sim, database, folder) as stage:
        yield stage

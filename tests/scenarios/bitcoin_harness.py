"""A stage on real coins: bitcoind, real Postgres, and the daemon, in this process or in one of its own to be killed."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from railwatch.config import Config
from railwatch.daemon.supervisor import NullReporter, serve
from railwatch.demo.workspace import toml_table
from railwatch.store.database import Database
from railwatch_bitcoin.dev.simulator import BitcoinSimulator
from tests.scenarios.daemon_harness import DaemonHarness, Placed

REPOSITORY = Path(__file__).parents[2]
RAIL = "local-btc"
AMOUNT = 2_500_000


@dataclass(slots=True)
class BitcoinStage:
    """One chain on one node or several, one database, one daemon. ``tables`` asks what any stage asks of them."""

    sim: BitcoinSimulator
    database: Database
    folder: Path
    confirmations: int = 2
    daemon_dsn: str | None = None
    """How the daemon reaches the database, if not as the story does."""
    _daemon: asyncio.Task[None] | None = None
    _process: asyncio.subprocess.Process | None = None
    _orders: int = 0
    tables: DaemonHarness = field(init=False)

    def __post_init__(self) -> None:
        self.tables = DaemonHarness(self.database, [])

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self.kill()

    async def __aenter__(self) -> "BitcoinStage":
        return self

    @property
    def config(self) -> dict[str, Any]:
        """What an operator would have written."""
        rail = {
            "name": RAIL,
            "adapter": "bitcoin",
            "chain_id": self.sim.chain_id,
            "nodes": [self.sim.table(at) for at in range(len(self.sim.fleet.nodes))],
            "poll_interval": 0.1,
            "asset": [{"symbol": self.sim.symbol}],
        }
        return {
            "database": {"url": self.daemon_dsn or self.database.dsn},
            "rail": [rail],
            "policy": [{"rail": RAIL, "confirmations": self.confirmations}],
        }

    # The daemon

    async def start(self, *, wait: bool = True) -> None:
        """Start it in this process, and wait until it follows."""
        self._daemon = asyncio.create_task(serve(Config.model_validate(self.config), None, NullReporter()))
        if wait:
            await self.follows()

    async def stop(self) -> None:
        """Stop it, as SIGTERM would."""
        daemon, self._daemon = self._daemon, None
        if daemon is not None:
            daemon.cancel()
            with suppress(asyncio.CancelledError):
                await daemon

    async def start_process(self) -> None:
        """Start it as ``railwatch run`` does, and wait for nothing. Its log is in the stage's folder."""
        tables = self.config
        heads = {"database": "[database]", "rail": "[[rail]]", "policy": "[[policy]]"}
        each = [(heads[key], table) for key in heads for table in _list(tables[key])]
        text = "\n".join(line for head, table in each for line in toml_table(head, table))
        await asyncio.to_thread((self.folder / "railwatch.toml").write_text, text)
        log = await asyncio.to_thread((self.folder / "daemon.log").open, "ab")
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "railwatch", "run", "--config", str(self.folder / "railwatch.toml")),
                cwd=REPOSITORY,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        finally:
            log.close()

    async def kill(self) -> None:
        """Kill that process."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    # What happens

    async def order(self, address: str, amount: int = AMOUNT, **terms: Any) -> Placed:
        """Register an invoice, and wait for nothing."""
        self._orders += 1
        way = {"rail": RAIL, "asset": self.sim.symbol, "address": address, "amount": amount}
        request = {
            "merchant_id": "shop",
            "order_id": str(self._orders),
            "expires_in": 3600,
            "destinations": [way],
            **terms,
        }
        return Placed(await self.database.value("select railwatch.create_invoice($1)", request), address)

    async def invoice(self, amount: int = AMOUNT, **terms: Any) -> Placed:
        """Register an invoice, and wait until it is watched."""
        placed = await self.order(await self.sim.new_address(), amount, **terms)
        await self.tables.all_taken_in()
        return placed

    async def pay(self, invoice: Placed, amount: int = AMOUNT) -> str:
        """Pay the invoice; returns the transaction's id."""
        return await self.sim.pay(invoice.address, amount)

    async def mine(self, blocks: int = 1) -> None:
        """Mine, and wait until that is committed."""
        await self.sim.mine(blocks)
        await self.follows()

    # The feed

    async def follows(self, at: int = 0) -> None:
        """Wait until the committed cursor is that node's head."""

        async def is_at_head() -> bool:
            row = await self.database.row("select cursor_hash, state from railwatch.rails")
            return row is not None and (row["cursor_hash"], row["state"]) == (await self.sim.head(at), "live")

        await self.until(is_at_head)

    async def rail_is(self, state: str) -> str:
        """Wait until the rail is in that state; returns the reason that it gives."""
        await self.until(lambda: self._is_rail(state), lambda: self._is_rail(state))
        return str(await self.database.value("select reason from railwatch.rails"))

    async def _is_rail(self, state: str) -> bool:
        return bool(await self.database.value("select state from railwatch.rails") == state)

    async def emits(self, invoice: Placed, *path: tuple[str, str]) -> None:
        """Wait until the invoice's transitions are these, (state, reason) by (state, reason)."""

        async def is_so() -> bool:
            return await self.tables.path(invoice) == list(path)

        await self.until(is_so, lambda: self.tables.path(invoice))

    async def has_open(self, invoice: Placed, *kinds: str) -> None:
        """Wait until these exceptions are open, and no others."""

        async def is_so() -> bool:
            return await self.tables.open_cases(invoice) == set(kinds)

        await self.until(is_so, lambda: self.tables.open_cases(invoice))

    async def detections(self, invoice: Placed) -> list[dict[str, Any]]:
        """The rows about the invoice, the first seen first."""
        rows = await self.database.rows(
            "select * from railwatch.detections where invoice_id = $1 order by first_seen_at, tx_id, tx_index",
            invoice.id,
        )
        return [dict(row) for row in rows]

    async def until(
        self, condition: Callable[[], Awaitable[bool]], shown: Callable[[], Awaitable[Any]] | None = None
    ) -> None:
        """Wait for a condition, and fail with what was seen instead, or with what ended the daemon."""
        if self._daemon is not None and self._daemon.done():
            await self._daemon
        try:
            await self.tables.until(condition, shown)
        except AssertionError as waited:
            log = self.folder / "daemon.log"
            said = await asyncio.to_thread(log.read_text) if self._process is not None else ""
            raise AssertionError(f"{waited} {said[-1500:]}") from None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]

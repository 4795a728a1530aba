"""A stage on Solana: a real daemon in this process, real Postgres, and the development node's real programs."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from railwatch.config import Config
from railwatch.store.database import Database
from railwatch_solana.dev.simulator import SolanaSimulator
from tests.scenarios.daemon_harness import DaemonHarness, Placed

RAIL = "local-solana"


@dataclass(slots=True)
class SolanaStage(DaemonHarness):
    """`Phase` whose one chain is Solana. Payments count once confirmed unless ``policy`` says otherwise."""

    solana: SolanaSimulator = None  # type: ignore[assignment]
    policy: dict[str, Any] | None = None

    @property
    def config(self) -> Config:
        """What an operator would have written."""
        tokens = {"TST": self.solana.token, "TAX": self.solana.taxed}
        rail = {
            "name": RAIL,
            "adapter": "solana",
            "chain_id": self.solana.chain_id,
            "nodes": [self.solana.node],
            "poll_interval": 0.2,
            "asset": [
                {"symbol": "SOL"},
                *({"symbol": name, "contract": str(mint.key), "decimals": 6} for name, mint in tokens.items()),
            ],
            **self.options,
        }
        policy = {"rail": RAIL, **(self.policy or {"confirmations": 1})}
        database = {"url": self.daemon_dsn or self.database.dsn}
        return Config.model_validate({"database": database, "rail": [rail], "policy": [policy]})

    async def order_at(self, address: str, amount: int, asset: str = "SOL", **terms: Any) -> Placed:
        """Register an invoice at ``address``, and wait for nothing; ``reference`` goes to its destination."""
        self._orders += 1
        way = {"rail": RAIL, "asset": asset, "address": address, "amount": str(amount)}
        if reference := terms.pop("reference", None):
            way["reference"] = reference
        request = {
            "merchant_id": "shop",
            "order_id": str(self._orders),
            "expires_in": 3600,
            "destinations": [way],
            **terms,
        }
        return Placed(await self.database.value("select railwatch.create_invoice($1)", request), address)

    async def asks(self, amount: int, asset: str = "SOL", address: str | None = None, **terms: Any) -> Placed:
        """Register an invoice, at a fresh address by default, and wait until it is watched or refused."""
        placed = await self.order_at(address or await self.solana.new_address(), amount, asset, **terms)
        await self.all_taken_in()
        return placed

    async def produce(self, blocks: int = 1) -> None:
        """Mine, and wait until that is committed."""
        await self.solana.mine(blocks)
        await self.follows()

    async def states(self, placed: Sequence[Placed]) -> list[str]:
        """The states of some invoices."""
        return [await self.state(each) for each in placed]

    async def refused(self, placed: Placed) -> str | None:
        """Why the invoice's destination was rejected; None if it was not."""
        row = await self.database.row(
            "select watch_state, watch_error from railwatch.destinations where invoice_id = $1", placed.id
        )
        assert row is not None
        return row["watch_error"] if row["watch_state"] == "rejected" else None

    async def _is_at_tip(self) -> bool:
        row = await self.database.row("select cursor_hash, state from railwatch.rails where enabled")
        return row is not None and (row["cursor_hash"], row["state"]) == (await self.solana.head(), "live")


@asynccontextmanager
async def solana_stage(
    database: Database, sim: SolanaSimulator | None = None, **more: Any
) -> AsyncIterator[SolanaStage]:
    """The whole of it, with a daemon that follows."""
    async with sim or SolanaSimulator() as solana, SolanaStage(database, [], solana=solana, **more) as stage:
        yield stage

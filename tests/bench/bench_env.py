"""What the benchmarks run on: one anvil, one Postgres, a daemon in this process, and a chain of known size."""

import asyncio
import gc
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from railwatch.config import Config
from railwatch.daemon.supervisor import GC_THRESHOLDS, NullReporter, serve
from railwatch.daemon.watch.address_index import AddressIndex
from railwatch.store.database import Database, connect
from railwatch_evm.address import checksum_address
from railwatch_evm.dev.simulator import EvmSimulator, calldata

RAIL = "bench"


@dataclass(slots=True)
class BenchEnv:
    """The running parts. ``addresses`` belong to registered invoices, in base units far above what they are paid."""

    simulator: EvmSimulator
    database: Database
    addresses: list[str] = field(default_factory=list)
    invoices: list[UUID] = field(default_factory=list)

    def config(self, **rail: Any) -> Config:
        """A rail that watches one token."""
        table = {
            "name": RAIL,
            "adapter": "evm",
            "chain_id": self.simulator.chain_id,
            "nodes": [self.simulator.node],
            "asset": [{"symbol": "TST", "contract": self.simulator.token, "decimals": 6}],
            **rail,
        }
        policy = {"rail": RAIL, "confirmations": 1}
        return Config.model_validate({"database": {"url": self.database.dsn}, "rail": [table], "policy": [policy]})

    @asynccontextmanager
    async def daemon(self, **rail: Any) -> AsyncIterator[asyncio.Task[None]]:
        """The daemon, following, with its own way of collecting garbage."""
        before = gc.get_threshold()
        gc.set_threshold(*GC_THRESHOLDS)
        task = asyncio.create_task(serve(self.config(**rail), None, NullReporter()))
        try:
            yield task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            gc.set_threshold(*before)

    async def register(self, count: int, amount: int = 10**12) -> None:
        """``count`` invoices, one new address each."""
        for _ in range(count):
            address = checksum_address(secrets.token_bytes(20))
            request = {
                "merchant_id": "bench",
                "order_id": secrets.token_hex(8),
                "expires_in": 86_400,
                "destinations": [{"rail": RAIL, "asset": "TST", "address": address, "amount": amount}],
            }
            self.invoices.append(await self.database.value("select railwatch.create_invoice($1)", request))
            self.addresses.append(address)
        waiting = "select count(*) from railwatch.destinations where watch_state = 'registered'"
        await until(lambda: self._is(waiting, 0))

    async def _is(self, query: str, value: object) -> bool:
        return bool(await self.database.value(query) == value)

    async def cursor(self) -> int:
        """The committed cursor."""
        return int(await self.database.value("select coalesce(max(cursor_height), -1) from railwatch.rails") or 0)

    async def reached(self, height: int) -> bool:
        """Whether the cursor is at ``height`` or above."""
        return await self.cursor() >= height

    async def at(self, block_hash: str) -> bool:
        """Whether the cursor is that block."""
        return bool(await self.database.value("select max(cursor_hash) from railwatch.rails") == block_hash)

    async def is_live(self) -> bool:
        """Whether the daemon follows."""
        return bool(await self.database.value("select count(*) from railwatch.rails where state = 'live'") == 1)

    async def pay_many(self, count: int, first: int, *, invoices: int = 0) -> None:
        """``count`` transfers to the invoices from the ``first`` on, in turn: to all, or to so many of them."""
        among = invoices or len(self.addresses)
        await self._send([self.addresses[(first + number % among) % len(self.addresses)] for number in range(count)])

    async def _send(self, recipients: Sequence[str]) -> None:
        """The node works on a batch's calls side by side, so each gets its nonce from us."""
        nonce = int(await self.simulator.rpc("eth_getTransactionCount", self.simulator.payer, "pending"), 16)
        await self.simulator.batch(
            [
                (
                    "eth_sendTransaction",
                    (
                        {
                            "from": self.simulator.payer,
                            "to": self.simulator.token,
                            "gas": hex(100_000),
                            "nonce": hex(nonce + place),
                            "data": calldata("transfer(address,uint256)", to, 1),
                        },
                    ),
                )
                for place, to in enumerate(recipients)
            ]
        )

    async def grow(self, blocks: int, per_block: int, *, ours: int = 0, payees: int = 0) -> None:
        """Make ``blocks`` of ``per_block`` transfers. A block pays one invoice, round robin.

        ``ours``: only every so many blocks do; the others pay an address that is not watched. 0: every block does.
        ``payees``: each transfer pays another one of so many invoices, in turn. 0: a block's transfers pay the same.
        """
        stranger = checksum_address(secrets.token_bytes(20))
        for block in range(blocks):
            if payees:
                paid = [self.addresses[(block * per_block + n) % payees] for n in range(per_block)]
            else:
                is_ours = not ours or block % ours == 0
                paid = [self.addresses[block % len(self.addresses)] if is_ours else stranger] * per_block
            await self._send(paid)
            await self.simulator.mine()
            if block % 500 == 499:
                print(f"  made {block + 1} of {blocks} blocks", flush=True)

    async def forget(self) -> None:
        """Empty the ledger, and keep the invoices: the next daemon begins at its start height."""
        connection = await connect(self.database.dsn)
        try:
            await connection.execute(
                """alter table railwatch.transitions disable trigger append_only;
                alter table railwatch.observations disable trigger append_only;
                truncate railwatch.transitions, railwatch.observations, railwatch.exceptions, railwatch.balances,
                    railwatch.detections, railwatch.checkpoints;
                alter table railwatch.transitions enable always trigger append_only;
                alter table railwatch.observations enable always trigger append_only;
                update railwatch.feed_position set last_seq = 0;
                update railwatch.invoices set state = 'created', version = 1, exceptions_checked_version = 1, settled_at
                = null; update railwatch.destinations set seen_amount = 0, confirmed_amount = 0, late_amount = 0;
                update railwatch.rails set cursor_height = null, cursor_hash = null, finalized_height = null,
                    finalized_hash = null, covered_until = null"""
            )
        finally:
            await connection.close()


async def until(condition: Callable[[], Any], limit: float = 120.0) -> float:
    """Wait for a condition, closely; return the seconds until then."""
    started = time.perf_counter()
    while not await condition():
        if time.perf_counter() - started > limit:
            raise TimeoutError(f"a benchmark waited {limit:.0f} s in vain")
        await asyncio.sleep(0.002)
    return time.perf_counter() - started


def decoys(index: AddressIndex, count: int) -> None:
    """Fill an index with addresses without payments."""
    for _ in range(count):
        index.add(secrets.token_bytes(20))

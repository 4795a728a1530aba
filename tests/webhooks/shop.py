"""A shop's side of these stories: a database whose feed grows as it is told to, and a deliverer over it."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID

import asyncpg

from railwatch.config import Config
from railwatch.core.policy import Policy
from railwatch.ops.webhook_metrics import DeliveryMetrics
from railwatch.rail import AssetSpec, ChainId
from railwatch.store.config_sync import PolicyRow, RailMirror, sync_config
from railwatch.store.database import Database
from railwatch.store.deliverer_lock import DelivererLock
from railwatch.store.endpoints import list_endpoints
from railwatch.store.read_models import Record
from railwatch.webhooks.deliverer import deliver
from railwatch.webhooks.leadership import Leadership
from railwatch_fake import Rules
from railwatch_fake.adapter import traits_of
from tests.webhooks.receiver import SECRET, Receiver

PATIENCE = 20.0
RAIL = {"name": "story", "adapter": "fake", "chain_id": "fake:story", "nodes": [{"chain": "story"}]}
_copies = count(1)
HERE = ["127.0.0.0/8", "::1/128"]

TELL = """
with place as (update railwatch.feed_position set last_seq = last_seq + 1 returning last_seq)
insert into railwatch.transitions (seq, event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause)
select last_seq, gen_random_uuid(), $4, $1, $1, 'created', $2, $3, 'chain' from place returning seq
"""

IS_LOCK_FREE = (
    "select token is null or not railwatch.is_backend_alive(pid, backend_start) from railwatch.deliverer_lease"
)


def webhook(to: Receiver | str, name: str = "shop", **more: Any) -> dict[str, Any]:
    """One endpoint as in the configuration, quick to try again."""
    url = to if isinstance(to, str) else to.url
    return {"name": name, "url": url, "events": ["*"], "secret": SECRET, "begin": "start", "first_pause": 0.02, **more}


@dataclass(slots=True)
class Shop:
    """``orders`` are invoices; events of the feed are made by `tell`, as the daemon would have written them."""

    database: Database
    orders: list[UUID] = field(default_factory=list)
    _numbers: Any = field(default_factory=count)

    async def order(self) -> UUID:
        number = next(self._numbers)
        request = {
            "merchant_id": "shop",
            "order_id": str(number),
            "expires_in": 3600,
            "fiat_amount": "49.90",
            "fiat_currency": "EUR",
            "destinations": [{"rail": "story", "asset": "COIN", "amount": str(2**200), "address": f"address-{number}"}],
        }
        made: UUID = await self.database.value("select railwatch.create_invoice($1)", request)
        self.orders.append(made)
        return made

    async def tell(
        self, invoice: UUID, to_state: str = "confirming", reason: str = "included", subject: str = "invoice"
    ) -> int:
        seq: int = await self.database.value(TELL, invoice, to_state, reason, subject)
        await self.database.value("select pg_notify('railwatch', $1)", str(seq))
        return seq

    def config(self, *webhooks: dict[str, Any], allow: Sequence[str] = HERE, proxy: str | None = None) -> Config:
        return Config.model_validate(
            {
                "database": {"url": self.database.dsn},
                "rail": [RAIL],
                "webhook": list(webhooks),
                "deliver": {"allow": list(allow), **({"proxy": proxy} if proxy else {})},
            }
        )

    @asynccontextmanager
    async def delivering(self, *webhooks: dict[str, Any], **more: Any) -> AsyncIterator["Delivering"]:
        """Run a deliverer in this process until the end of the block."""
        running = Delivering(DeliveryMetrics(), asyncio.Event())
        config, leadership = self.config(*webhooks, **more), Leadership(DelivererLock(self.database.dsn))
        task = asyncio.create_task(deliver(config, self.database, leadership, running, running.end, once=False))
        try:
            yield running
            running.end.set()
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            leadership.release()

    async def once(self, *webhooks: dict[str, Any], **more: Any) -> dict[str, Record]:
        """Deliver until nothing is due; the endpoints as they are left."""
        leadership = Leadership(DelivererLock(self.database.dsn))
        await leadership.acquire_nowait()
        silent = Delivering(DeliveryMetrics(), asyncio.Event())
        await deliver(self.config(*webhooks, **more), self.database, leadership, silent, silent.end, once=True)
        leadership.release()
        # Postgres ends the session of the lock a moment later. The next deliverer would be refused until then.
        await until(self._is_lock_free)
        return await self.endpoints()

    async def _is_lock_free(self) -> bool:
        return bool(await self.database.value(IS_LOCK_FREE))

    async def endpoints(self) -> dict[str, Record]:
        return {each["name"]: each for each in await list_endpoints(self.database)}

    async def owes_nothing(self, name: str = "shop") -> bool:
        found = (await self.endpoints()).get(name)
        return found is not None and (found["lag"], found["pending"]) == (0, 0)


@dataclass(slots=True)
class Delivering:
    """`railwatch.webhooks.deliverer.Reporter` that keeps what it is told."""

    metrics: DeliveryMetrics
    end: asyncio.Event
    held: bool = False
    broken: Counter[str] = field(default_factory=Counter)

    def ready(self) -> None:
        pass

    def heartbeat(self, endpoints: Sequence[Record], *, held: bool) -> None:
        self.held = held
        self.metrics.endpoints(endpoints, held=held)

    def worker_crashed(self, task: str) -> None:
        self.broken[task] += 1
        self.metrics.broke(task)

    def stopping(self) -> None:
        pass

    def delivered(self, endpoint: str, seconds: float) -> None:
        self.metrics.delivered(endpoint, seconds)

    def failed(self, endpoint: str, *, dead: bool) -> None:
        self.metrics.failed(endpoint, dead=dead)


async def until(condition: Callable[[], Awaitable[bool] | bool], patience: float = PATIENCE) -> None:
    """Wait until it holds."""
    ends = time.monotonic() + patience
    while True:
        answer = condition()
        if answer if isinstance(answer, bool) else await answer:
            return
        if time.monotonic() > ends:
            raise AssertionError("waited in vain")
        await asyncio.sleep(0.01)


async def furnish(database: Database) -> None:
    """One rail with one asset, so that orders can be registered."""
    traits = traits_of(Rules())
    default = PolicyRow(None, None, Policy(1), "default")
    rail = RailMirror("story", ChainId("fake:story"), traits, (AssetSpec("COIN", None, 8),), (default,))
    async with database.connection() as connection:
        await sync_config(connection, [rail], {"closes_in": 1000})


async def copied(database: Database) -> str:
    """Return the DSN of a copy of the database, as a replica that is promoted now would have it."""
    await database.close()
    name, dsn = re.search(r"/(\w+)\?", database.dsn)[1], database.dsn  # type: ignore[index]
    copy = f"copy_{next(_copies)}"
    connection = await asyncpg.connect(dsn, database="postgres")
    try:
        await connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name)
        await connection.execute(f"create database {copy} template {name}")
    finally:
        await connection.close()
    await database.open()
    return dsn.replace(f"/{name}?", f"/{copy}?")

"""Webhooks: how many a second to a receiver on this machine, and how long after the commit the last of a hundred comes.

The deliverer is a process of its own. The receiver answers without a check, so that its cost is small; the floor posts
as many bodies to it with the same client, unsigned, from this process, and without a database.
"""

import asyncio
import base64
import json
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from railwatch.core.policy import Policy
from railwatch.rail import AssetSpec, ChainId
from railwatch.store.config_sync import PolicyRow, RailMirror, sync_config
from railwatch.store.database import Database
from railwatch_fake import Rules
from railwatch_fake.adapter import traits_of
from tests.bench.bench_env import until
from tests.bench.feed import database
from tests.bench.report import Row, median, percentile

EVENTS = 10_000
INVOICES = 2_000
SINGLE = 1_000
CONCURRENCY = 16

CONFIG = """
[database]
url = "{dsn}"
[log]
level = "warning"
[[rail]]
name = "bench"
adapter = "fake"
chain_id = "fake:bench"
nodes = [{{ chain = "bench" }}]
[deliver]
allow = ["127.0.0.0/8"]
[[webhook]]
name = "bench"
url = "{url}"
events = ["invoice.*"]
secret_file = "secret"
concurrency = {concurrency}
"""

TELL = """
with place as (update railwatch.feed_position set last_seq = last_seq + $1::bigint returning last_seq),
emitted as (
    insert into railwatch.transitions
        (seq, event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause, seen_amount,
         confirmed_amount)
    select last_seq - $1 + n, gen_random_uuid(), 'invoice', i.id, i.id, 'confirming', 'paid', 'confirmed', 'chain', 5, 5
    from place, generate_series(1, $1) n, lateral (
        select $2::uuid[] as ids) x, lateral (select ids[1 + (n % cardinality(ids))] as id) i
    returning event_id
)
select array_agg(event_id::text) as ids, pg_notify('railwatch', '') from emitted
"""


class Receiver:
    """Notes when which event came, and says 200."""

    def __init__(self) -> None:
        self.came: dict[str, float] = {}
        self.url = ""

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """As aiohttp's low-level server calls it."""
        await request.read()
        self.came[request.headers["webhook-id"]] = time.perf_counter()
        return web.Response()

    async def has(self, count: int) -> bool:
        """Whether so many events came."""
        return len(self.came) >= count


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on loopback."""
    receiver = Receiver()
    runner = web.ServerRunner(web.Server(receiver))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()


@asynccontextmanager
async def deliverer(opened: Database, url: str) -> AsyncIterator[None]:
    """`railwatch deliver`, until the block is left."""
    with tempfile.TemporaryDirectory(prefix="railwatch-bench-") as name:
        file = Path(name) / "railwatch.toml"
        file.write_text(CONFIG.format(dsn=opened.dsn, url=url, concurrency=CONCURRENCY))
        (file.parent / "secret").write_text("whsec_" + base64.b64encode(secrets.token_bytes(32)).decode())
        command = [sys.executable, "-m", "railwatch", "deliver", "--config", str(file)]
        process = await asyncio.create_subprocess_exec(*command)
        try:
            await until(lambda: _has_begun(opened))
            yield
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.wait()


async def _has_begun(opened: Database) -> bool:
    return bool(await opened.value("select count(*) from railwatch.consumers where name = 'webhook:bench'"))


async def _invoices(opened: Database) -> list[object]:
    default = PolicyRow(None, None, Policy(1), "default")
    assets = (AssetSpec("COIN", None, 8),)
    rail = RailMirror("bench", ChainId("fake:bench"), traits_of(Rules()), assets, (default,))
    async with opened.connection() as connection:
        await sync_config(connection, [rail], {"closes_in": 1000})
    made = []
    for number in range(INVOICES):
        way = {"rail": "bench", "asset": "COIN", "amount": "5", "address": f"address-{number}"}
        request = {"merchant_id": "bench", "order_id": str(number), "expires_in": 3600, "destinations": [way]}
        made.append(await opened.value("select railwatch.create_invoice($1)", request))
    return made


async def _floor(receiver: Receiver, body: bytes) -> float:
    """Posts a second of a bare client with as many at once."""
    left = iter(range(EVENTS))
    connector = aiohttp.TCPConnector(limit=CONCURRENCY)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def post() -> None:
            for number in left:
                headers = {"webhook-id": f"floor-{number}"}
                async with session.post(receiver.url, data=body, headers=headers) as response:
                    await response.read()

        started = time.perf_counter()
        await asyncio.gather(*(post() for _ in range(CONCURRENCY)))
    return EVENTS / (time.perf_counter() - started)


async def rows() -> list[Row]:
    """Rate and delay."""
    async with database() as opened, receiving() as receiver:
        print(f"registering {INVOICES:,} invoices for webhooks", flush=True)
        invoices = await _invoices(opened)
        async with deliverer(opened, receiver.url):
            rate = await _rate(opened, receiver, invoices)
            delays = await _delays(opened, receiver, invoices)
        floor = await _floor(receiver, json.dumps({"type": "invoice.paid", "data": "x" * 800}).encode())
    return [
        Row(
            f"webhooks to a receiver on this machine, {EVENTS:,} events of {INVOICES:,} invoices",
            f"{rate:,.0f} /s",
            f"{floor:,.0f} /s",
            "-",
            None,
        ),
        Row(
            "webhook after its commit, one at a time, p50 / p99",
            f"{median(delays) * 1e3:.1f} / {percentile(delays, 0.99) * 1e3:.1f} ms",
            "-",
            "-",
            None,
        ),
    ]


async def _rate(opened: Database, receiver: Receiver, invoices: list[object]) -> float:
    started = time.perf_counter()
    await opened.row(TELL, EVENTS, invoices)
    await until(lambda: receiver.has(EVENTS))
    return EVENTS / (max(receiver.came.values()) - started)


async def _delays(opened: Database, receiver: Receiver, invoices: list[object]) -> list[float]:
    found = []
    for number in range(SINGLE):
        row = await opened.row(TELL, 1, [invoices[number % INVOICES]])
        assert row is not None
        committed, [name] = time.perf_counter(), row["ids"]

        async def has_come(name: str = name) -> bool:
            return name in receiver.came

        await until(has_come)
        found.append(receiver.came[name] - committed)
    return found

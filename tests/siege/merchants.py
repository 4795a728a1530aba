"""The honest merchants: orders by a seed, paid in every way, and what the ledger says of them in the end."""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from tests.siege.grounds import LEAST, LIVE, NATIVE, RAILS, UNIT, Grounds

WAYS: dict[str, tuple[float, ...]] = {
    "exactly": (1.0,),
    "in two parts": (0.4, 0.6),
    "too little": (0.7,),
    "too much": (1.5,),
    "twice": (1.0, 1.0),
    "not at all": (),
}
"""How an order is paid: shares of its amount, one transaction each."""
PATIENCE = 60.0
"""Seconds that an order waits to be watched, or within which the ledger must come to rest."""

LEDGER = """
select i.order_id, i.state,
       (select array_agg(x.amount::text order by x.amount) from railwatch.detections x
        where x.invoice_id = i.id and x.kind = 'payment' and x.state in ('confirmed', 'final')
          and x.amount >= $1::numeric) as paid,
       (select array_agg(distinct e.kind order by e.kind) from railwatch.exceptions e
        where e.invoice_id = i.id and e.resolved_at is null) as open
from railwatch.invoices i join railwatch.destinations d on d.invoice_id = i.id
where i.merchant_id = 'honest' and d.rail = $2 order by i.order_id
"""


@dataclass(slots=True)
class Merchants:
    """``waits``: seconds from an order's registration to its being watched. ``addresses`` by rail, for the spammer."""

    ground: Grounds
    seed: int
    waits: list[float] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)
    """Of each of ``waits``, how long ``create_invoice`` itself took: it waits for the feed's row."""
    addresses: dict[str, list[str]] = field(default_factory=lambda: {rail: [] for rail in RAILS})

    async def sell(self, orders: int, seconds: float) -> None:
        """Register and pay so many orders, spread over that time."""
        async with asyncpg.create_pool(self.ground.dsns["service"], min_size=2, max_size=4) as pool:
            begun = time.monotonic()
            running: set[asyncio.Task[None]] = set()
            for number in range(orders):
                await asyncio.sleep(max(0.0, begun + number * seconds / orders - time.monotonic()))
                task = asyncio.create_task(self._order(pool, number))
                running.add(task)
            await asyncio.gather(*running)

    async def _order(self, pool: asyncpg.Pool[Any], number: int) -> None:
        dice = random.Random(f"{self.seed}/{number}")
        rail, way = dice.choice(RAILS), dice.choice(list(WAYS))
        amount = UNIT[rail] * dice.randint(1, 9)
        sim = self.ground.sims[rail]
        address = await sim.new_address()
        begun = time.monotonic()
        try:
            invoice = await pool.fetchval(
                "select railwatch.create_invoice($1::text::jsonb)",
                _request(number, rail, address, amount),
                timeout=PATIENCE,
            )
        except TimeoutError:
            self.ground.failed.append(f"order {number} on {rail} could not be registered within {PATIENCE:.0f} s")
            return
        called = time.monotonic() - begun
        while await pool.fetchval(
            "select watch_state = 'registered' from railwatch.destinations where invoice_id = $1", invoice
        ):
            if time.monotonic() - begun > PATIENCE:
                self.ground.failed.append(f"order {number} on {rail} was not watched within {PATIENCE:.0f} s")
                return
            await asyncio.sleep(0.02)
        self.waits.append(time.monotonic() - begun)
        self.calls.append(called)
        for place, share in enumerate(WAYS[way]):
            if way == "twice" and place:
                # Whether the second payment was expected depends on when the first one settled the order.
                await self._is_paid(pool, invoice, number)
            async with self.ground.turning:
                await sim.pay(address, int(amount * share))
            await asyncio.sleep(dice.uniform(0, 2))
        self.addresses[rail].append(address)

    async def _is_paid(self, pool: asyncpg.Pool[Any], invoice: Any, number: int) -> None:
        for _ in range(int(PATIENCE / 0.2)):
            if await pool.fetchval("select state = 'paid' from railwatch.invoices where id = $1", invoice):
                return
            await asyncio.sleep(0.2)
        self.ground.failed.append(f"order {number} was paid, and the feed does not say so within {PATIENCE:.0f} s")

    async def ledger(self) -> dict[str, tuple[Any, ...]]:
        """What is written of each order, once two readings agree that all that was paid is settled."""
        connection = await asyncpg.connect(self.ground.dsns["owner"])
        try:
            deadline, before = time.monotonic() + PATIENCE, None
            while True:
                await asyncio.sleep(3)
                now = {
                    row["order_id"]: (row["state"], tuple(row["paid"] or ()), tuple(row["open"] or ()))
                    for rail in RAILS
                    for row in await connection.fetch(LEDGER, str(LEAST[rail]), rail)
                }
                if (now == before and await self._rests(connection)) or time.monotonic() > deadline:
                    return now
                before = now
        finally:
            await connection.close()

    async def _rests(self, connection: asyncpg.Connection[Any]) -> bool:
        """Whether every rail is live, and every payment of an honest order that is no dust is confirmed."""
        waiting = await connection.fetchval(
            "select count(*) from railwatch.detections x join railwatch.invoices i on i.id = x.invoice_id "
            "where i.merchant_id = 'honest' and x.state in ('seen', 'included')"
        )
        return not waiting and await connection.fetchval(LIVE) == len(RAILS)


def _request(number: int, rail: str, address: str, amount: int) -> str:
    return json.dumps(
        {
            "merchant_id": "honest",
            "order_id": f"{number:05}",
            "expires_in": 86_400,
            "destinations": [{"rail": rail, "asset": NATIVE[rail], "amount": str(amount), "address": address}],
        }
    )

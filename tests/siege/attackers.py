"""Attackers in addition to the nodes: a spammer, a service and a reader, each with no more than his own rights."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from tests.siege.grounds import DUST, EVM, FAKE, NATIVE, RAILS, Grounds
from tests.siege.merchants import Merchants

ODD: tuple[Any, ...] = (
    *(None, "", "x" * 100_000, "a\u202eb", "\x1b[31m", -1, 0, 2**63, 10**90, 1e308, True, [], {}, [[[]]]),
    *("9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00", "infinity", {"a": {"b": [None] * 2_000}}),
)
LOCKS = ("railwatch/mirror", "railwatch/deliver", "railwatch/order/honest/00001", "railwatch/lease/local-evm")
MIGRATING = 0x7261696C
LOCK = "select pg_try_advisory_lock(hashtextextended($1, 0)), pg_try_advisory_lock($2::bigint)"
HELD = 1.5
"""Seconds for which the service holds the feed's row, once a minute: for so long no session can write."""


@dataclass(slots=True)
class Attackers:
    """``done`` counts what each of them did, ``refused`` what Postgres said no to."""

    ground: Grounds
    merchants: Merchants
    seed: int
    done: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def all(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """Each is to be run for as long as the siege lasts."""
        return [self.spam, self.serve_badly, self.hold_feed, self.lock, self.snapshot]

    async def spam(self) -> None:
        """Dust, to honest merchants' addresses and by inner calls."""
        dice = random.Random(f"{self.seed}/spam")
        while True:
            for rail in RAILS:
                known = self.merchants.addresses[rail][-50:]
                for address in dice.sample(known, min(len(known), 4)):
                    async with self.ground.turning:
                        await self.ground.sims[rail].pay(address, DUST[rail])
                    self.done["dust"] += 1
            known = self.merchants.addresses[EVM][-20:]
            if known:
                many = [dice.choice(known) for _ in range(150)]
                sim = self.ground.sims[EVM]
                async with self.ground.turning:
                    await sim.call(sim.multisender, "send(address[],uint256[])", many, [1] * len(many), value=len(many))
                self.done["inner calls"] += len(many)
            await asyncio.sleep(dice.uniform(0.5, 2))

    async def serve_badly(self) -> None:
        """Odd arguments, floods of registrations, rescans, acknowledgements in others' names."""
        dice = random.Random(f"{self.seed}/service")
        connection = await asyncpg.connect(self.ground.dsns["service"])
        try:
            number = 0
            while True:
                number += 1
                statement, arguments = self._odd_call(dice, number)
                self.done["odd calls"] += 1
                try:
                    async with asyncio.timeout(10):
                        await connection.execute(statement, *arguments)
                except (asyncpg.PostgresError, asyncpg.InterfaceError, OverflowError, ValueError) as error:
                    self.refused[getattr(error, "sqlstate", None) or type(error).__name__] += 1
                except TimeoutError:
                    self.refused["timeout"] += 1
                await asyncio.sleep(0.05)
        finally:
            await connection.close()

    def _odd_call(self, dice: random.Random, number: int) -> tuple[str, tuple[Any, ...]]:
        rail = dice.choice(RAILS)
        request = {
            "merchant_id": "hostile",
            "order_id": f"{number}",
            "expires_in": 3_600,
            "destinations": [{"rail": rail, "asset": NATIVE[rail], "amount": "1", "address": f"nobody-{number}"}],
        }
        key = dice.choice([*request, "metadata", "closes_in", "policy", "rate_locked_at", "tolerance_bps"])
        calls: list[tuple[str, tuple[Any, ...]]] = [
            ("select railwatch.create_invoice($1::text::jsonb)", (json.dumps(request),)),
            ("select railwatch.create_invoice($1::text::jsonb)", (json.dumps({**request, key: dice.choice(ODD)}),)),
            ("select railwatch.request_rescan($1, $2)", (rail, dice.choice((0, 1, 5)))),
            ("select railwatch.ack($1, $2)", (dice.choice(("webhook:shop", "other", "x" * 5_000, f"c{number}")), 1)),
            (
                "select railwatch.hold_invoice(id, $1, $2) from railwatch.invoices where order_id = '7'",
                (str(dice.choice(ODD)), str(dice.choice(ODD))),
            ),
            (
                "select railwatch.record_settlement(id, 'x', $1, $2) from railwatch.invoices "
                "where merchant_id = 'hostile' limit 1",
                (str(dice.choice(ODD)), str(dice.choice(ODD))),
            ),
            ("update railwatch.consumers set updated_at = '20000-01-01'", ()),
            (
                "select railwatch.cancel_invoice(id, '') from railwatch.invoices where merchant_id = 'hostile'",
                (),
            ),
        ]
        return dice.choice(calls)

    async def hold_feed(self) -> None:
        """Keep a transaction open that holds the feed's row."""
        connection = await asyncpg.connect(self.ground.dsns["service"])
        try:
            while True:
                await asyncio.sleep(15)
                with suppress(asyncpg.PostgresError):
                    async with connection.transaction():
                        request = {
                            "merchant_id": "hostile",
                            "order_id": f"held {self.done['holds']}",
                            "expires_in": 60,
                            "destinations": [
                                {"rail": FAKE, "asset": "COIN", "amount": "1", "address": f"held-{self.done['holds']}"}
                            ],
                        }
                        await connection.execute(
                            "select railwatch.create_invoice($1::text::jsonb)", json.dumps(request)
                        )
                        await asyncio.sleep(HELD)
                self.done["holds"] += 1
                await asyncio.sleep(45)
        finally:
            await connection.close()

    async def lock(self) -> None:
        """Acquire every advisory lock whose name can be known, and keep it."""
        connection = await asyncpg.connect(self.ground.dsns["reader"])
        try:
            while True:
                for name in LOCKS:
                    with suppress(asyncpg.PostgresError):
                        await connection.fetch(LOCK, name, MIGRATING)
                        self.done["locks"] += 1
                await asyncio.sleep(5)
        finally:
            await connection.close()

    async def snapshot(self) -> None:
        """Read everything in one long transaction, again and again."""
        connection = await asyncpg.connect(self.ground.dsns["reader"])
        try:
            while True:
                with suppress(asyncpg.PostgresError):
                    async with connection.transaction(isolation="repeatable_read"):
                        for _ in range(30):
                            await connection.fetch("select * from railwatch.transitions order by seq desc limit 2000")
                            await connection.fetch("select count(*) from railwatch.order_transfers")
                            await asyncio.sleep(1)
                self.done["snapshots"] += 1
        finally:
            await connection.close()

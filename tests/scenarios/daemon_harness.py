"""A stage for stories: a real daemon in this process, real Postgres, and chains that do as they are told."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from railwatch.config import Config
from railwatch.daemon.supervisor import NullReporter, Reporter, serve
from railwatch.store.database import Database
from railwatch_fake import FakeChain, Rules, node_of, register
from railwatch_fake.dev.simulator import FakeSimulator

PATIENCE = 45.0
"""Seconds that a story waits for something before it says what it saw instead."""

POLL_SECONDS = (0.01, 0.03)
"""The first pause between two checks of a condition, and the longest. Each check is a query."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An invoice on the stage, and the address of its first destination."""

    id: UUID
    address: str


@dataclass(slots=True)
class DaemonHarness:
    """One daemon over some fake chains. Rails are named after their chains."""

    database: Database
    chains: Sequence[FakeChain]
    confirmations: int = 2
    options: dict[str, Any] = field(default_factory=dict)
    tokens: Sequence[str] = ()
    """Tokens that the operator configured; none named: all that the chain has."""
    daemon_dsn: str | None = None
    """How the daemon reaches the database, if not as the story does."""
    reporter: Reporter = field(default_factory=NullReporter)
    """Whoever outside hears how the daemon is."""
    _daemon: asyncio.Task[None] | None = None
    _orders: int = 0

    def __post_init__(self) -> None:
        for chain in self.chains:
            register(chain)

    @property
    def config(self) -> Config:
        """What an operator would have written."""
        rails = [
            {
                "name": chain.name,
                "adapter": "fake",
                "chain_id": chain.chain_id,
                "nodes": [{"chain": chain.name, "timeout": 0.5}],
                "asset": [
                    {"symbol": "COIN"},
                    *(
                        {"symbol": each.upper(), "contract": each, "decimals": 6}
                        for each in self.tokens or chain.rules.tokens
                    ),
                ],
                "poll_interval": 0.05,
                **self.options,
            }
            for chain in self.chains
        ]
        policies = [{"rail": chain.name, "confirmations": self.confirmations} for chain in self.chains]
        database = {"url": self.daemon_dsn or self.database.dsn}
        return Config.model_validate({"database": database, "rail": rails, "policy": policies})

    @property
    def chain(self) -> FakeChain:
        """The first chain, which most stories are about."""
        return self.chains[0]

    @property
    def sim(self) -> FakeSimulator:
        """Drives the first chain."""
        return self.simulator(self.chain)

    def simulator(self, chain: FakeChain) -> FakeSimulator:
        """Drives a chain, through the node that the daemon asks."""
        return FakeSimulator(chain=chain, node=node_of(chain.name))

    async def __aenter__(self) -> "DaemonHarness":
        for chain in self.chains:
            if len(chain.line) == 1:
                chain.mine()
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, *, wait: bool = True) -> None:
        """Start the daemon, and wait until its rails are followed."""
        self._daemon = asyncio.create_task(serve(self.config, None, self.reporter))
        if wait:
            await self.follows()

    async def stop(self) -> None:
        """Stop the daemon, as SIGTERM would."""
        if self._daemon is not None:
            daemon, self._daemon = self._daemon, None
            daemon.cancel()
            with suppress(asyncio.CancelledError):
                await daemon

    async def invoice(self, amount: int = 100, *, to: Sequence[dict[str, Any]] | None = None, **terms: Any) -> Placed:
        """Register an invoice (COIN on the first chain, unless ``to`` says otherwise) and wait until it is watched."""
        self._orders += 1
        to = to or [{"rail": self.chain.name, "asset": "COIN", "amount": amount}]
        address = await self.sim.new_address()
        request = {
            "merchant_id": "shop",
            "order_id": str(self._orders),
            "destinations": [{"address": address, **each} for each in to],
            **({} if "expires_at" in terms else {"expires_in": 3600}),
            **terms,
        }
        made = await self.database.value("select railwatch.create_invoice($1)", request)
        await self.until(lambda: self._is_taken_in(made))
        return Placed(made, request["destinations"][0]["address"])

    async def order(self, address: str, amount: int = 100, **terms: Any) -> Placed:
        """Register an invoice for COIN on the first chain at ``address``, and wait for nothing."""
        self._orders += 1
        way = {"rail": self.chain.name, "asset": "COIN", "amount": amount, "address": address}
        request = {
            "merchant_id": "shop",
            "order_id": f"{self.chain.name} {self._orders}",
            "expires_in": 3600,
            "destinations": [way],
            **terms,
        }
        return Placed(await self.database.value("select railwatch.create_invoice($1)", request), address)

    async def _is_taken_in(self, invoice: UUID) -> bool:
        waiting = "select count(*) from railwatch.destinations where invoice_id = $1 and watch_state = 'registered'"
        return await self.database.value(waiting, invoice) == 0

    async def follows(self) -> None:
        """Wait until every rail's committed cursor is its chain's head."""
        await self.until(self._is_at_tip)

    async def _is_at_tip(self) -> bool:
        rows = await self.database.rows("select name, cursor_hash, state from railwatch.rails where enabled")
        seen = {row["name"]: (row["cursor_hash"], row["state"]) for row in rows}
        return all(seen.get(chain.name) == (chain.tip.hash, "live") for chain in self.chains)

    async def mine(self, blocks: int = 1) -> None:
        """Mine on the first chain, and wait until that is committed."""
        await self.sim.mine(blocks)
        await self.follows()

    async def pay(self, invoice: Placed, amount: int = 100, asset: str | None = None) -> str:
        """Pay the invoice on the first chain; returns the transaction's id."""
        return await self.sim.pay(invoice.address, amount, asset)  # type: ignore[arg-type]

    async def state(self, invoice: Placed) -> str:
        """The invoice's state."""
        return str(await self.database.value("select state from railwatch.invoices where id = $1", invoice.id))

    async def wait_for_state(self, invoice: Placed, state: str) -> None:
        """Wait until the invoice is in that state."""

        async def is_so() -> bool:
            return await self.state(invoice) == state

        await self.until(is_so, lambda: self.path(invoice))

    async def path(self, invoice: Placed, subject: str = "invoice") -> list[tuple[str, str]]:
        """(state, reason) of everything that the feed told about the invoice, in order."""
        rows = await self.database.rows(
            "select to_state, reason from railwatch.transitions where invoice_id = $1 and subject = $2 order by seq",
            invoice.id,
            subject,
        )
        return [(row["to_state"], row["reason"]) for row in rows]

    async def open_cases(self, invoice: Placed) -> set[str]:
        """Kinds of exceptions that are open."""
        rows = await self.database.rows(
            "select kind from railwatch.exceptions where invoice_id = $1 and resolved_at is null", invoice.id
        )
        return {row["kind"] for row in rows}

    async def until(
        self, condition: Callable[[], Awaitable[bool]], told: Callable[[], Awaitable[Any]] | None = None
    ) -> None:
        """Wait for a condition. Fails loudly with what the tables say, and with what killed the daemon."""
        deadline = time.monotonic() + PATIENCE
        pause = POLL_SECONDS[0]
        while not await condition():
            if self._daemon is not None and self._daemon.done():
                await self._daemon
            if time.monotonic() > deadline:
                rails = await self.database.rows("select name, state, reason, cursor_height from railwatch.rails")
                seen = await told() if told else None
                raise AssertionError(f"waited {PATIENCE:.0f} s in vain; saw {seen}; rails: {[dict(r) for r in rails]}")
            await asyncio.sleep(pause)
            pause = min(pause * 1.3, POLL_SECONDS[1])

    async def rescanned(self) -> None:
        """Wait until every rescan that was asked for is done."""

        async def is_done() -> bool:
            return await self.database.value("select count(*) from railwatch.rescans where finished_at is null") == 0

        await self.until(is_done)

    async def all_taken_in(self) -> None:
        """Wait until nothing that was registered still waits."""

        async def is_so() -> bool:
            waiting = "select count(*) from railwatch.destinations where watch_state = 'registered'"
            return await self.database.value(waiting) == 0

        await self.until(is_so)

    async def rail(self, name: str | None = None) -> dict[str, Any]:
        """The row of a rail, by default the first one's."""
        row = await self.database.row("select * from railwatch.rails where name = $1", name or self.chain.name)
        assert row is not None
        return dict(row)

    async def rail_is(self, state: str, name: str | None = None) -> str:
        """Wait until a rail is in that state; returns the reason that it gives."""

        async def is_so() -> bool:
            row = await self.database.row("select state from railwatch.rails where name = $1", name or self.chain.name)
            return row is not None and row["state"] == state

        await self.until(is_so)
        return str((await self.rail(name))["reason"])

    async def watch_states(self, invoice: Placed) -> list[str]:
        """How far the invoice's destinations are, in their order."""
        rows = await self.database.rows(
            "select watch_state from railwatch.destinations where invoice_id = $1 order by position", invoice.id
        )
        return [row["watch_state"] for row in rows]

    async def audit(self) -> None:
        """What must hold after every story: a gapless feed, connected histories, sums that add up."""
        holes = "select count(*) from (select seq - lag(seq, 1, 0::bigint) over (order by seq) as step"
        assert await self.database.value(f"{holes} from railwatch.transitions) t where step <> 1") == 0
        torn = """
            select count(*) from (
                select from_state, lag(to_state) over (partition by subject, subject_id order by seq) as before,
                       subject, to_state
                from railwatch.transitions) t
            where from_state is distinct from before"""
        assert await self.database.value(torn) == 0
        wrong = """
            select count(*) from railwatch.destinations d where confirmed_amount is distinct from (
                select least(coalesce(sum(amount), 0), 10::numeric ^ 78 - 1) from railwatch.detections x
                where x.destination_id = d.id and x.kind = 'payment' and x.in_time
                  and x.state in ('confirmed', 'final'))"""
        assert await self.database.value(wrong) == 0
        drifted = """
            with kept as (
                select d.id, t.tally from railwatch.destinations d, jsonb_array_elements(d.tallies) as t (tally)
            ), found as (
                select destination_id as id,
                       jsonb_build_array(rail, asset, kind, state, in_time, sum(amount)::text, count(*)) as tally
                from railwatch.detections group by destination_id, rail, asset, kind, state, in_time
            )
            select count(*) from kept full join found using (id, tally) where kept.id is null or found.id is null"""
        assert await self.database.value(drifted) == 0
        miscounted = """
            select count(*) from railwatch.exceptions e
            cross join lateral (
                select count(*) as transfers, coalesce(sum(t.amount), 0) as amount from railwatch.exception_transfers t
                join railwatch.detections x on x.id = t.detection_id and x.amount = t.amount
                where t.exception_id = e.id and t.left_at is null) held
            where e.ended_at is null and e.destination_id is not null
              and (e.transfers, e.amount) is distinct from (held.transfers, held.amount)"""
        assert await self.database.value(miscounted) == 0
        crowded = """
            select count(*) from (
                select from railwatch.exceptions where destination_id is not null and resolved_at is null
                group by kind, destination_id, rail, asset having count(*) > 1) several"""
        assert await self.database.value(crowded) == 0


def chain_named(name: str = "story", rules: Rules | None = None, **more: Any) -> FakeChain:
    """A fake chain that the daemon can find by its name. Its blocks carry the time at which they were mined."""
    return FakeChain(name, rules or Rules(), **{"clock": lambda: datetime.now(UTC), **more})

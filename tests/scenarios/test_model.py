"""Random stories, and the exact ledger at the end of each: the daemon against an oracle that sees only the chain."""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from decimal import Decimal

import pytest

from railwatch.store.database import Database
from railwatch.store.errors import Refused
from railwatch_fake import Rules, node_of
from tests.scenarios import oracle
from tests.scenarios.daemon_harness import DaemonHarness, Placed, chain_named

SEEDS = [int(each) for each in os.environ.get("RAILWATCH_SEEDS", "1 2 3 4 5 6 7 8").split()]
STEPS = 70
RULES = [
    Rules(lookback=5),
    Rules(mempool=False, finality=8, safe=4, lookback=5, span_max=7),
    Rules(horizon=12, lookback=5, span_max=3),
    Rules(mempool=False, lookback=5),
]


class Story:
    """One random story: each verb is a thing that happens in the world, never one that the daemon does."""

    def __init__(self, stage: DaemonHarness, seed: int) -> None:
        self.stage, self.chain, self.node = stage, stage.chain, node_of(stage.chain.name)
        self.dice = random.Random(seed)
        self.placed: dict[Placed, int] = {}
        self.unregistered: list[str] = []
        self.dropped: list[str] = []
        self.closed: list[Placed] = []
        """Invoices that a test cancelled or refunded, or tried to."""
        self.verbs: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (10, self.pay),
            (2, self.pay_many),
            (3, self.pay_before_registration),
            (4, self.register),
            (9, self.mine),
            (4, self.reorg),
            (2, self.replace),
            (2, self.drop),
            (1, self.come_back),
            (2, self.fall_behind),
            (2, self.go_down),
            (1, self.hang),
            (3, self.heal),
            (1, self.restart),
            (1, self.rescan),
            (3, self.hold),
            (2, self.release),
            (2, self.cancel),
            (2, self.refund),
        ]

    async def play(self) -> None:
        weights, verbs = zip(*self.verbs, strict=True)
        await self.register()
        for _ in range(STEPS):
            [verb] = self.dice.choices(verbs, weights)
            await verb()
            if self.dice.random() < 0.6:
                await asyncio.sleep(self.dice.random() * 0.02)
        await self.heal()
        for address in self.unregistered:
            await self.register(address)
        await self.stage.all_taken_in()
        await self.stage.follows()
        await self.rescan()
        await self.stage.rescanned()
        await self.lose_under_a_hold()
        await oracle.settles(self.stage, self.placed)
        self.chain.mine(self.stage.confirmations)
        await oracle.settles(self.stage, self.placed)
        for invoice in self.placed:
            await self.act("select railwatch.release_invoice($1, actor => 'ann')", invoice)
        await oracle.settles(self.stage, self.placed)

    async def register(self, address: str | None = None) -> None:
        amount = self.dice.choice([60, 100])
        self.placed[await self.stage.order(address or await self.stage.sim.new_address(), amount)] = amount

    async def pay(self) -> None:
        invoice = self.dice.choice(list(self.placed))
        await self.stage.sim.pay(invoice.address, self.dice.choice([40, 60, 100]))

    async def pay_many(self) -> None:
        some = self.dice.choices(list(self.placed), k=3)
        self.chain.send(*(self.stage.sim.output(each.address, 20) for each in some))

    async def pay_before_registration(self) -> None:
        """Now a payment without an invoice, now an invoice for one of those: looked back for, or left to the rescan."""
        if self.unregistered and self.dice.random() < 0.7:
            await self.register(self.unregistered.pop())
        else:
            self.unregistered.append(await self.stage.sim.new_address())
            await self.stage.sim.pay(self.unregistered[-1], 100)

    async def mine(self) -> None:
        self.chain.mine(self.dice.choice([1, 1, 1, 2, 3]))

    async def reorg(self) -> None:
        depth = min(self.dice.choice([1, 1, 2, 3, 4]), len(self.chain.line) - 1)
        self.chain.reorg(depth, keep=self.dice.random() < 0.6)

    async def replace(self) -> None:
        if self.chain.waiting:
            self.chain.replace(self.dice.choice(list(self.chain.waiting)))

    async def drop(self) -> None:
        if self.chain.waiting:
            self.dropped.append(self.dice.choice(list(self.chain.waiting)))
            self.chain.drop(self.dropped[-1])

    async def come_back(self) -> None:
        if self.dropped:
            self.chain.resend(self.dropped.pop())

    async def fall_behind(self) -> None:
        self.node.lag = self.dice.randint(1, 4)

    async def go_down(self) -> None:
        self.node.down = True

    async def hang(self) -> None:
        self.node.hangs = True

    async def heal(self) -> None:
        self.node.lag, self.node.down, self.node.hangs = 0, False, False
        self.node.latency = self.dice.choice([0, 0, 0.003])
        if self.dice.random() < 0.2:
            self.node.restart()

    async def restart(self) -> None:
        await self.stage.stop()
        await self.stage.start(wait=False)

    async def act(self, call: str, invoice: Placed, *more: object) -> None:
        """What a person does, unless the contract refuses it: what has not come cannot be given back."""
        try:
            await self.stage.database.value(call, invoice.id, *more)
        except Refused as refused:
            if refused.code not in ("RW010", "RW013"):
                raise

    async def hold(self) -> None:
        """Any invoice, and more often one that people have closed before: that is where a hold can hide most."""
        among = self.closed if self.closed and self.dice.random() < 0.5 else list(self.placed)
        call = "select railwatch.hold_invoice($1, actor => 'ann', reason => 'looks odd')"
        await self.act(call, self.dice.choice(among))

    async def lose_under_a_hold(self) -> None:
        """The newest payments count, most invoices are held, and those payments are lost."""
        for _ in range(3):
            await self.pay()
        self.chain.mine(self.stage.confirmations)
        await self.stage.follows()
        for _ in self.placed:
            await self.hold()
        self.chain.reorg(self.stage.confirmations, keep=False)

    async def release(self) -> None:
        await self.act("select railwatch.release_invoice($1, actor => 'ann')", self.dice.choice(list(self.placed)))

    async def cancel(self) -> None:
        invoice = self.dice.choice(list(self.placed))
        await self.act("select railwatch.cancel_invoice($1)", invoice)
        self.closed.append(invoice)

    async def refund(self) -> None:
        """Now and then all that came, more often a part of it, or what one of several people has given back already."""
        invoice, amount = self.dice.choice(list(self.placed)), Decimal(self.dice.choice([40, 60, 100]))
        call = "select railwatch.record_refund($1, $2, $3, actor => 'ann')"
        await self.act(call, invoice, amount, f"back {self.dice.random()}")
        self.closed.append(invoice)

    async def rescan(self) -> None:
        row = await self.stage.database.row(
            "select cursor_height from railwatch.rails where name = $1", self.chain.name
        )
        if row is not None and row["cursor_height"] is not None:
            await self.stage.database.value("select railwatch.request_rescan($1, 0)", self.chain.name)


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_happens_the_ledger_is_exact_in_the_end(database: Database, seed: int) -> None:
    chain = chain_named(f"story{seed}", RULES[seed % len(RULES)])
    async with DaemonHarness(database, [chain], options={"nodes": [{"chain": chain.name, "timeout": 0.1}]}) as stage:
        await Story(stage, seed).play()

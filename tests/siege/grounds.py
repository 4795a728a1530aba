"""Where the siege takes place: a Postgres with three logins, three rails of three nodes each, and a daemon."""

from __future__ import annotations

import asyncio
import random
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from railwatch.config import Config
from railwatch.daemon.supervisor import NullReporter, serve
from railwatch.store.embedded.server import EmbeddedPostgres
from railwatch.store.migrate import migrate
from railwatch_evm.dev.simulator import EvmSimulator
from railwatch_fake import FakeChain, Rules, node_of, register
from railwatch_fake.dev.simulator import FakeSimulator
from railwatch_solana.dev.simulator import SolanaSimulator
from tests.fuzz.nodes.run import hostile_nodes

FAKE, EVM, SOLANA = "siege-fake", "local-evm", "local-solana"
RAILS = (FAKE, EVM, SOLANA)
UNIT = {FAKE: 100, EVM: 10**6, SOLANA: 10**7}
"""What an order's amount is a multiple of, in base units."""
LEAST = {FAKE: 10, EVM: 1_000, SOLANA: 1_000_000}
"""The rails' ``min_amount``: what is smaller is dust."""
DUST = {FAKE: 1, EVM: 1, SOLANA: 900_000}
"""A Solana account cannot hold less than its rent."""
NATIVE = {FAKE: "COIN", EVM: "ETH", SOLANA: "SOL"}
LOGINS = ("daemon", "service", "reader")
LIVE = "select count(*) from railwatch.rails where state = 'live'"
TURNS = (0.0, 0.1, 0.5)
"""How often the hostile nodes' answers are changed: for some seconds each."""


@dataclass(slots=True)
class Grounds:
    """What is there once everything has started. ``dsns`` by login; the owner's is ``owner``."""

    dsns: dict[str, str]
    sims: dict[str, Any]
    hostile: dict[str, list[tuple[int, int]]]
    failed: list[str] = field(default_factory=list)
    turning: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def config(self) -> Config:
        """The hostile node is the first of each rail: it is asked before the honest ones."""
        rails, policies = [], []
        for rail in RAILS:
            rails.append(
                {
                    "name": rail,
                    "adapter": {FAKE: "fake", EVM: "evm", SOLANA: "solana"}[rail],
                    "chain_id": self._chain_id(rail),
                    "nodes": self._nodes(rail),
                    "asset": [{"symbol": NATIVE[rail], "min_amount": LEAST[rail]}],
                    "poll_interval": 0.2,
                }
            )
            # A node of Solana reports what is confirmed, and knows no other depth.
            policies.append({"rail": rail, "confirmations": 1 if rail == SOLANA else 2})
        return Config.model_validate({"database": {"url": self.dsns["daemon"]}, "rail": rails, "policy": policies})

    def _chain_id(self, rail: str) -> str:
        sim = self.sims[rail]
        return str(sim.chain.chain_id if rail == FAKE else sim.chain_id)

    def _nodes(self, rail: str) -> list[dict[str, Any]]:
        if rail == FAKE:
            names = ("hostile", "main", "second") if self.hostile else ("third", "main", "second")
            return [{"chain": FAKE, "node": name, "timeout": 1.0} for name in names]
        honest = {**self.sims[rail].node, "timeout": 5.0}
        if rail not in self.hostile:
            return [honest] * 3
        http, ws = self.hostile[rail][0]
        return [
            {"http": f"http://127.0.0.1:{http}", "ws": f"ws://127.0.0.1:{ws}", "timeout": 2.0},
            honest,
            {"http": honest["http"], "timeout": 5.0},
        ]

    async def keep_daemon(self) -> None:
        """Run the daemon; its end is a failure of the siege, whatever the reason."""
        try:
            await serve(self.config, None, NullReporter())
        except Exception as error:  # noqa: BLE001 (whatever it dies of is what is asked for)
            self.failed.append(f"the daemon ended: {type(error).__name__}: {error}")

    async def ready(self) -> None:
        """Wait until every rail is followed. Raises RuntimeError that says what is not."""
        connection = await asyncpg.connect(self.dsns["owner"])
        try:
            for _ in range(300):
                if await connection.fetchval(LIVE) == len(RAILS):
                    return
                await asyncio.sleep(0.1)
            rails = await connection.fetch("select name, state, reason from railwatch.rails")
        finally:
            await connection.close()
        raise RuntimeError(f"not ready: {self.failed} {[tuple(each) for each in rails]}")

    async def turn_nodes(self, seed: int) -> None:
        """The hostile nodes change what they do, for ever."""
        dice = random.Random(f"{seed}/nodes")
        async with aiohttp.ClientSession() as session:
            while True:
                for rail, ports in self.hostile.items():
                    plan = {"seed": str(dice.random()), "rate": dice.choice(TURNS), "heavy": dice.random() < 0.2}
                    with suppress(aiohttp.ClientError, TimeoutError):
                        url = f"http://127.0.0.1:{ports[0][0]}/plan"
                        async with session.post(url, json=plan, timeout=aiohttp.ClientTimeout(total=5)):
                            pass
                    if rail == EVM:
                        _spoil(node_of(FAKE, "hostile"), dice)
                await asyncio.sleep(dice.uniform(0.5, 4))


def _spoil(node: Any, dice: random.Random) -> None:
    """Give the fake chain's hostile node one fault, or none."""
    for name in ("down", "hangs", "silent", "undecodable", "misshapen", "truncates"):
        setattr(node, name, False)
    node.lag, node.ahead, node.latency, node.breaks, node.finality = 0, 0, 0.0, None, None
    fault = dice.choice(
        ("", "down", "hangs", "silent", "undecodable", "misshapen", "truncates", "lag", "ahead", "breaks", "finality")
    )
    if fault in ("lag", "ahead", "finality"):
        setattr(node, fault, dice.randint(1, 9))
    elif fault == "breaks":
        node.breaks = dice.choice((KeyError("hash"), ValueError("a\0b"), RecursionError(), MemoryError()))
    elif fault:
        setattr(node, fault, True)


@asynccontextmanager
async def grounds(*, hostile: bool) -> AsyncIterator[Grounds]:
    """Start everything but the daemon."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="railwatch-siege-")))
        # The server runs as another user when we are root.
        await asyncio.to_thread(folder.chmod, 0o711)
        server = EmbeddedPostgres(folder / "data")
        dsn = await server.start()
        stack.push_async_callback(server.stop)
        connection = await asyncpg.connect(dsn)
        try:
            await migrate(connection)
            for login in LOGINS:
                await connection.execute(f"create role siege_{login} login in role railwatch_{login}")
        finally:
            await connection.close()
        dsns = {login: re.sub(r"//[^@/]*@", f"//siege_{login}@", dsn) for login in LOGINS}
        chain = register(FakeChain(FAKE, Rules(finality=4), clock=lambda: datetime.now(UTC)))
        chain.mine(3)
        sims: dict[str, Any] = {
            FAKE: FakeSimulator(chain=chain, node=node_of(FAKE)),
            EVM: await stack.enter_async_context(EvmSimulator(epoch=4)),
            SOLANA: await stack.enter_async_context(SolanaSimulator(root_lag=4)),
        }
        bad: dict[str, list[tuple[int, int]]] = {}
        if hostile:
            for rail in (EVM, SOLANA):
                nodes = hostile_nodes(sims[rail].node["http"], "--live")
                bad[rail] = await stack.enter_async_context(nodes)
        yield Grounds({**dsns, "owner": dsn}, sims, bad)

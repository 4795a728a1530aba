"""One example of the fuzzer: some posts by one sender to one hostile receiver, and what must not happen."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from railwatch.config import DeliverConfig, WebhookConfig
from railwatch.rail.printable import printable
from railwatch.store.webhooks import PendingDelivery
from railwatch.webhooks.sender import Attempt, Sender
from tests.fuzz.nodes.monitor import LoopWatch, resident_mib
from tests.fuzz.receivers.acts import ACTS, COSTLY, bomb
from tests.fuzz.receivers.server import HostileReceiver, hostile_receiver
from tests.webhooks.receiver import SECRET

PATIENCE = 0.4
"""Seconds within which an attempt of these endpoints must end."""
POSTS = 8
TEXT_MOST = 200
"""Characters of a failure: it is a row of a table, a line of the log, and a cell on a terminal."""
NEVER_ENDED = 30.0
"""Seconds after which an attempt counts as one without an end, however busy the machine is."""
LATE = 1.0
"""Seconds beyond its patience that an attempt may last, where times are compared."""
MEMORY_MOST = 96.0
"""MiB over the start, where memory is compared: examples that run at once each have a socket's buffers."""


@dataclass(slots=True)
class Report:
    """What some examples came to. ``memory``: the most MiB over the start. ``stall``: seconds without a turn."""

    examples: int = 0
    posts: int = 0
    accepted: int = 0
    longest: float = 0.0
    memory: float = 0.0
    stall: float = 0.0
    acts: dict[str, int] = field(default_factory=dict)
    failures: set[str] = field(default_factory=set)
    findings: list[str] = field(default_factory=list)


def endpoint(url: str, **more: Any) -> tuple[WebhookConfig, DeliverConfig]:
    """Return the configuration of one endpoint on loopback."""
    webhook = {"name": "shop", "url": url, "events": ["*"], "secret": SECRET, "timeout": PATIENCE, **more}
    return WebhookConfig.model_validate(webhook), DeliverConfig.model_validate({"allow": ["127.0.0.0/8"]})


def event(note: str = "") -> PendingDelivery:
    """Return an event that could be owed; ``note`` makes its body long."""
    identity = uuid4()
    facts: dict[str, Any] = {
        **dict.fromkeys(("from_state", "tx_id", "block_height", "block_hash", "confirmations", "chain_time", "rail")),
        **dict.fromkeys(("seen_amount", "confirmed_amount", "refund", "invoice_id", "generation")),
        "type": "invoice.paid",
        "recorded_at": datetime.now(UTC),
        "seq": 1,
        "event_id": identity,
        "subject": "invoice",
        "subject_id": UUID(int=1),
        "to_state": "paid",
        "reason": "confirmed",
        "cause": "chain",
        "settlement": {"reference": "x", "note": note, "actor": "y"},
    }
    return PendingDelivery(1, identity, UUID(int=1), 0, facts)


async def fuzz(first: int, *, examples: int, at_once: int = 8, strict: bool = False) -> Report:
    """Play examples from the seed ``first`` on. ``strict``: time and memory are findings as well."""
    bomb()  # made before anything is measured
    report, start = Report(), resident_mib()
    places = asyncio.Semaphore(at_once)

    async def one(seed: int) -> None:
        async with places:
            await _example(str(seed), report, strict=strict)
            report.memory = max(report.memory, resident_mib() - start)

    async with LoopWatch() as watch:
        await asyncio.gather(*(one(first + number) for number in range(examples)))
    report.stall = watch.longest
    if strict and report.memory > MEMORY_MOST:
        report.findings.append(f"{report.memory:.0f} MiB over the start")
    return report


async def _example(seed: str, report: Report, *, strict: bool) -> None:
    dice = random.Random(seed)
    acts = [each for each in ACTS if each not in COSTLY] if dice.random() < 0.6 else ACTS
    async with hostile_receiver(seed, acts) as receiver:
        webhook, deliver = endpoint(receiver.url, concurrency=dice.randint(1, 3))
        async with Sender(webhook, deliver) as sender:
            for _ in range(POSTS):
                await _post(sender, receiver, dice, report, strict=strict)
    report.examples += 1
    for name, times in receiver.done.items():
        report.acts[name] = report.acts.get(name, 0) + times


async def _post(
    sender: Sender, receiver: HostileReceiver, dice: random.Random, report: Report, *, strict: bool
) -> None:
    """Post one event and judge how that ended. An answer that came before its question lies in wait by then."""
    delivery = event("n" * dice.choice((0, 10, 4_000, 900_000)))
    began = time.monotonic()
    try:
        async with asyncio.timeout(NEVER_ENDED):
            attempt = await sender.post(delivery)
    except Exception as error:  # noqa: BLE001 (that is what is asked for)
        attempt = Attempt(f"{type(error).__name__} left the sender: {error!r}"[:TEXT_MOST])
        report.findings.append(_finding(receiver, attempt.failure or ""))
    took = time.monotonic() - began
    await receiver.settled()
    report.posts += 1
    report.longest = max(report.longest, took)
    if strict and took > PATIENCE + LATE:
        report.findings.append(_finding(receiver, f"an attempt lasted {took:.1f} s"))
    if attempt.failure is None:
        report.accepted += 1
        if not receiver.has_accepted(str(delivery.event_id)):
            report.findings.append(_finding(receiver, "marked delivered without a 2xx to that request"))
    else:
        report.failures.add(attempt.failure)
        if attempt.failure != printable(attempt.failure) or not 0 < len(attempt.failure) <= TEXT_MOST:
            report.findings.append(_finding(receiver, f"this failure is no text for people: {attempt.failure[:300]!r}"))
    if attempt.retry_after is not None and not 0 <= attempt.retry_after < 10**7:
        report.findings.append(_finding(receiver, f"it asks to wait for {attempt.retry_after}"))


def _finding(receiver: HostileReceiver, what: str) -> str:
    return f"--seed {receiver.seed}, request {receiver.asked} ({receiver.last}): {what}"

"""Orders that are registered without waiting, and what was written of them."""

from collections.abc import Callable
from typing import Any

from railwatch_fake import FakeChain
from tests.scenarios.daemon_harness import DaemonHarness, Placed


async def written(stage: DaemonHarness) -> tuple[Any, ...]:
    """Everything that a step could have moved."""
    row = await stage.rail()
    tables = ("transitions", "detections", "checkpoints")
    counts = [
        await stage.database.value(f"select count(*) from railwatch.{table} where rail = $1", stage.chain.name)
        for table in tables
    ]
    return (row["cursor_hash"], row["finalized_hash"], row["covered_until"], row["rewinds"], *counts)


def raw_invoice(stage: DaemonHarness, order: str, address: str, **terms: Any) -> dict[str, Any]:
    way = {"rail": stage.chain.name, "asset": "COIN", "amount": 100, "address": address}
    return {"merchant_id": "shop", "order_id": order, "expires_in": 3600, "destinations": [way], **terms}


async def register(stage: DaemonHarness, request: dict[str, Any]) -> Placed:
    """Register without waiting for anything."""
    made = await stage.database.value("select railwatch.create_invoice($1)", request)
    return Placed(made, request["destinations"][0]["address"])


async def detections(stage: DaemonHarness) -> int:
    return int(await stage.database.value("select count(*) from railwatch.detections"))


def dice(chain: FakeChain) -> Callable[[], float]:
    """A source of small delays that is the same in every run."""
    return lambda: int(chain.fresh_name("dice")[:4], 16) / 0xFFFF

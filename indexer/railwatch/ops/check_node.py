"""One node's part of `railwatch check`: its chain, its methods, and the configured tokens."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from railwatch.config import NodeConfig, RailConfig
from railwatch.ops.findings import Daemon, Finding, NodeReport
from railwatch.ops.formatting import format_age
from railwatch.rail import Heads, MethodsMissing, RailAdapter, RailError, SupportsAbilities, SupportsAssetCheck, Traits
from railwatch.store.read_models import Record

NODE_SECONDS = 30.0
"""Seconds that one node has for all queries of the check."""


async def check_node(
    rail: RailConfig, name: str, node: NodeConfig, daemon: Daemon, stored: Record | None
) -> tuple[list[Finding], NodeReport | None]:
    """Return findings, and the methods that the node serves; None for a node that cannot be queried."""
    subject = f"{rail.name} at {name}"
    begun = time.monotonic()
    try:
        async with asyncio.timeout(NODE_SECONDS), daemon.open_node(rail, node) as adapter:
            heads = await adapter.heads()
            abilities = await adapter.abilities() if isinstance(adapter, SupportsAbilities) else ()
            wrong = await adapter.check_assets() if isinstance(adapter, SupportsAssetCheck) else ()
            conflict = await _finality_conflict(adapter, heads, stored)
            traits = adapter.traits
    except ValueError as error:
        return [Finding("fail", subject, str(error), f"Correct nodes of rail {rail.name} in the configuration.")], None
    except MethodsMissing as error:
        hint = "The table above says what needs each method, and how to enable it at the node."
        return [Finding("fail", subject, str(error), hint)], NodeReport(rail.name, name, list(error.abilities))
    except RailError as error:
        return [
            Finding(
                "fail",
                subject,
                str(error),
                "Check that the node runs, that its url is right, and that it follows this chain.",
            )
        ], None
    except TimeoutError:
        return [
            Finding(
                "fail",
                subject,
                f"no answer within {NODE_SECONDS:.0f} s",
                "Check the node's load, or raise `timeout` in its table.",
            )
        ], None
    took = (time.monotonic() - begun) * 1000
    findings = [Finding("ok", subject, f"{rail.chain_id}, {_heads_text(heads)}, answered in {took:.0f} ms")]
    if conflict:
        findings = [Finding("fail", subject, conflict, "Follow docs/runbooks/rail-halted.md.")]
    hint = f"Correct the [[rail.asset]] tables of rail {rail.name}."
    findings += [Finding("fail", subject, text, hint) for text in wrong]
    findings += _warnings(rail, subject, heads, traits)
    return findings, NodeReport(rail.name, name, list(abilities))


async def _finality_conflict(adapter: RailAdapter, heads: Heads, stored: Record | None) -> str | None:
    """Return why this node would halt the rail: its chain lacks our finalized block. None if it has it."""
    if stored is None:
        return None
    height, ours = stored["finalized_height"], stored["finalized_hash"]
    if height is None or ours is None or height > heads.latest.height:
        return None
    theirs = await adapter.block_at(height)
    if theirs.height == height and theirs.hash != ours:
        return (
            f"its block {height} is {theirs.hash}, but {ours} was final: the node follows another or a rewritten chain"
        )
    return None


def _heads_text(heads: Heads) -> str:
    final = "no finality reported" if heads.finalized is None else f"final to {heads.finalized.height}"
    return f"at block {heads.latest.height}, {final}"


def _warnings(rail: RailConfig, subject: str, heads: Heads, traits: Traits) -> Iterator[Finding]:
    """Return warnings about a node that works."""
    age = (datetime.now(UTC) - heads.latest.time).total_seconds()
    if rail.stall_after is None:
        yield Finding(
            "warn",
            subject,
            f"{rail.chain_id} is not a known chain, so a node that stops receiving blocks is detected late or never",
            "Set stall_after: seconds without a new block until the rail is stalled, or 0 for never.",
        )
    if traits.has_finalized and rail.finality_stall_after is None:
        yield Finding(
            "warn",
            subject,
            "finality that stops advancing is not detected",
            "Set finality_stall_after: seconds that finality may be behind the newest block, or 0 for no limit.",
        )
    if rail.stall_after and age > rail.stall_after:
        yield Finding(
            "warn",
            subject,
            f"its newest block is {format_age(age)} old",
            "Check that the node is synchronized and has peers; stall_after sets the limit.",
        )
    if rail.start_height is not None and rail.start_height > heads.latest.height:
        yield Finding(
            "warn",
            subject,
            f"start_height {rail.start_height} is above its newest block, so the rail waits",
            "Set a lower start_height, or wait for that block.",
        )
    watches_native = any(asset.contract is None for asset in rail.assets)
    if watches_native and not traits.native_complete:
        yield Finding("warn", subject, traits.native_gap, "The daemon does not detect such payments.")
    if not rail.assets:
        yield Finding("warn", subject, "has no assets, so no invoice can be paid on it", "Add [[rail.asset]] tables.")

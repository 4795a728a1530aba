"""One node's part of `railwatch check`: which chain, which abilities, whether its tokens are what is configured."""

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
"""How long one node may take for everything that is asked of it."""


async def check_node(
    rail: RailConfig, name: str, node: NodeConfig, daemon: Daemon, stored: Record | None
) -> tuple[list[Finding], NodeReport | None]:
    """What was found, and what the node serves; no report of a node that cannot be asked."""
    subject = f"{rail.name} at {name}"
    begun = time.monotonic()
    try:
        async with asyncio.timeout(NODE_SECONDS), daemon.open_node(rail, node) as adapter:
            heads = await adapter.heads()
            abilities = await adapter.abilities() if isinstance(adapter, SupportsAbilities) else ()
            wrong = await adapter.check_assets() if isinstance(adapter, SupportsAssetCheck) else ()
            contradiction = await _contradiction(adapter, heads, stored)
            traits = adapter.traits
    except ValueError as error:
        return [Finding("fail", subject, str(error), f"Correct the table of rail {rail.name}.")], None
    except MethodsMissing as error:
        hint = "The table says what each method is needed for."
        return [Finding("fail", subject, str(error), hint)], NodeReport(rail.name, name, list(error.abilities))
    except RailError as error:
        return [Finding("fail", subject, str(error), "Is the node running, reachable, and of this chain?")], None
    except TimeoutError:
        return [Finding("fail", subject, f"no answer within {NODE_SECONDS:.0f} s", "Is the node overloaded?")], None
    took = (time.monotonic() - begun) * 1000
    findings = [Finding("ok", subject, f"{rail.chain_id}, {_heads_words(heads)}, answered in {took:.0f} ms")]
    if contradiction:
        findings = [Finding("fail", subject, contradiction, "See docs/runbooks/rail-halted.md.")]
    todo = f"Correct the [[rail.asset]] tables of rail {rail.name}."
    findings += [Finding("fail", subject, words, todo) for words in wrong]
    findings += _doubts(rail, subject, heads, traits)
    return findings, NodeReport(rail.name, name, list(abilities))


async def _contradiction(adapter: RailAdapter, heads: Heads, stored: Record | None) -> str | None:
    """What would halt the rail at this node: our final block is not on its chain."""
    if stored is None:
        return None
    height, ours = stored["finalized_height"], stored["finalized_hash"]
    if height is None or ours is None or height > heads.latest.height:
        return None
    theirs = await adapter.block_at(height)
    if theirs.height == height and theirs.hash != ours:
        return f"its block {height} is {theirs.hash}, and {ours} was final: another chain, or a rewritten one"
    return None


def _heads_words(heads: Heads) -> str:
    final = "no finality told" if heads.finalized is None else f"final to {heads.finalized.height}"
    return f"at block {heads.latest.height}, {final}"


def _doubts(rail: RailConfig, subject: str, heads: Heads, traits: Traits) -> Iterator[Finding]:
    """What works, and should be known all the same."""
    age = (datetime.now(UTC) - heads.latest.time).total_seconds()
    if rail.stall_after is None:
        yield Finding(
            "warn",
            subject,
            f"nothing is known of {rail.chain_id}: a node that hears no more blocks is noticed late, if at all",
            "Set stall_after: the seconds without a block after which the node is suspected, or 0 for never.",
        )
    if traits.has_finalized and rail.finality_stall_after is None:
        yield Finding(
            "warn",
            subject,
            "finality that stands is not noticed",
            "Set finality_stall_after: the seconds that finality may be behind the head, or 0 for any.",
        )
    if rail.stall_after and age > rail.stall_after:
        yield Finding(
            "warn", subject, f"its newest block is {format_age(age)} old", "Is it synchronised? See stall_after."
        )
    if rail.start_height is not None and rail.start_height > heads.latest.height:
        yield Finding(
            "warn", subject, f"start_height {rail.start_height} is above its head", "Nothing is followed yet."
        )
    watches_native = any(asset.contract is None for asset in rail.assets)
    if watches_native and not traits.native_complete:
        yield Finding("warn", subject, traits.native_gap, "Payments that arrive so are not seen.")
    if not rail.assets:
        yield Finding("warn", subject, "no assets are configured", "Add [[rail.asset]] tables, or nothing can be paid.")

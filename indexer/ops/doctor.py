"""`railwatch check`: everything that the daemon needs, looked at once, each with what to do about it."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from indexer.config import Config, NodeConfig, RailConfig
from indexer.ops.access import is_made, open_database
from indexer.ops.migration import ROLES_TODO
from indexer.ops.words import STYLES, ago, clean
from indexer.rail import Heads, RailAdapter, RailError, Traits
from indexer.store.embedded import EmbeddedPostgresError
from indexer.store.errors import SchemaMismatch, StoreError, StoreUnavailable
from indexer.store.migrate import missing_roles
from indexer.store.mirror import RailMirror, check_stored, check_traits
from indexer.store.reads import Record, read_status, server_version

OLDEST_POSTGRES, NEWEST_POSTGRES = 15, 18
"""Major versions that are tested."""

NODE_SECONDS = 30.0
"""How long one node may take for everything that is asked of it."""

OpenNode = Callable[[RailConfig, NodeConfig], RailAdapter]
MirrorOf = Callable[[RailConfig], RailMirror]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``todo`` is empty where there is nothing to do."""

    level: Literal["ok", "warn", "fail"]
    subject: str
    text: str
    todo: str = ""


async def examine(config: Config, open_node: OpenNode, mirror_of: MirrorOf) -> list[Finding]:
    """Look at configuration, database and every node, by what `railwatch run` asks too. Changes nothing.

    ``mirror_of``: what the daemon would mirror of a rail; it raises ValueError where its adapter refuses the table.
    """
    mirrors, findings = _mirrors(config, mirror_of)
    if not findings:
        names = ", ".join(each.name for each in config.rails)
        findings = [Finding("ok", "configuration", f"is right; its rails: {names}")]
    stored, found = await _database(config, mirrors if len(mirrors) == len(config.rails) else ())
    findings += found
    broken = {each.name for each in config.rails} - {each.name for each in mirrors}
    nodes = [(rail, node) for rail in config.rails for node in rail.nodes if rail.name not in broken]
    looked = (_node(rail, node, open_node, stored.get(rail.name)) for rail, node in nodes)
    for found in await asyncio.gather(*looked):
        findings += found
    return findings


def _mirrors(config: Config, mirror_of: MirrorOf) -> tuple[list[RailMirror], list[Finding]]:
    """What would be mirrored, and which rails cannot be: no adapter, a policy that cannot be met, one asset twice."""
    mirrors, findings = list[RailMirror](), list[Finding]()
    for rail in config.rails:
        try:
            made = mirror_of(rail)
            check_traits(made)
        except (ValueError, StoreError) as error:
            findings.append(Finding("fail", f"rail {rail.name}", str(error), "`railwatch run` would not start."))
        else:
            mirrors.append(made)
    return mirrors, findings


def render_findings(findings: Sequence[Finding]) -> RenderableType:
    """A line for each, and what to do below it."""
    table = Table.grid(padding=(0, 2))
    for each in findings:
        table.add_row(Text(each.level, STYLES[each.level]), Text(f"{clean(each.subject)}: {clean(each.text)}"))
        if each.todo:
            table.add_row("", Text(clean(each.todo), "dim"))
    return table


async def _database(config: Config, mirrors: Sequence[RailMirror]) -> tuple[dict[str, Record], list[Finding]]:
    """What is stored of each rail, and what was found; whether it fits to ``mirrors``."""
    stored: dict[str, Record] = {}
    findings = await _look_at_database(config, mirrors, stored)
    for name, rail in stored.items():
        if config.rail(name) is not None and rail["state"] == "halted":
            findings.append(
                Finding("fail", f"rail {name}", f"is halted: {rail['reason']}", "See docs/runbooks/rail-halted.md.")
            )
    return stored, findings


async def _look_at_database(config: Config, mirrors: Sequence[RailMirror], stored: dict[str, Record]) -> list[Finding]:
    folder = config.database.data_dir
    if config.database.embedded and not is_made(folder):
        return [Finding("ok", "database", f"will be made in {folder} by the first `railwatch run`")]
    try:
        async with open_database(config) as database:
            major = await server_version(database)
            stored.update({row["name"]: row for row in (await read_status(database)).rails})
            async with database.connection() as connection:
                missing = await missing_roles(connection)
                if mirrors:
                    await check_stored(connection, mirrors, only=False, unfollowed=config.invoices.unfollowed_rails)
    except SchemaMismatch as error:
        return [Finding("fail", "database", str(error))]
    except (StoreUnavailable, EmbeddedPostgresError) as error:
        return [Finding("fail", "database", str(error), "Is it running, and is database.url right?")]
    except StoreError as error:
        return [Finding("fail", "database", str(error), "`railwatch run` would not start.")]
    if major < OLDEST_POSTGRES:
        return [Finding("fail", "database", f"Postgres {major} is too old", f"Use {OLDEST_POSTGRES} or newer.")]
    if major > NEWEST_POSTGRES:
        return [Finding("warn", "database", f"Postgres {major} is newer than what was tested", "Mind what it says.")]
    known = Finding("ok", "database", f"Postgres {major}, the schema is up to date")
    if missing:
        return [known, Finding("warn", "roles", f"nobody has made {', '.join(missing)}", ROLES_TODO)]
    return [known]


async def _node(rail: RailConfig, node: NodeConfig, open_node: OpenNode, stored: Record | None) -> list[Finding]:
    subject = f"{rail.name} at {node.name}"
    begun = time.monotonic()
    try:
        async with asyncio.timeout(NODE_SECONDS), open_node(rail, node) as adapter:
            heads = await adapter.heads()
            traits = adapter.traits
            if stored is not None and (contradiction := await _contradiction(adapter, heads, stored)):
                return [Finding("fail", subject, contradiction, "See docs/runbooks/rail-halted.md.")]
    except ValueError as error:
        return [Finding("fail", subject, str(error), f"Mend the table of rail {rail.name}.")]
    except RailError as error:
        return [Finding("fail", subject, str(error), "Is the node running, reachable, and of this chain?")]
    except TimeoutError:
        return [Finding("fail", subject, f"no answer within {NODE_SECONDS:.0f} s", "Is the node overloaded?")]
    took = (time.monotonic() - begun) * 1000
    return [
        Finding("ok", subject, f"{rail.chain_id}, {_heads_words(heads)}, answered in {took:.0f} ms"),
        *_doubts(rail, subject, heads, traits),
    ]


async def _contradiction(adapter: RailAdapter, heads: Heads, stored: Record) -> str | None:
    """What would halt the rail at this node: our final block is not on its chain."""
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
        yield Finding("warn", subject, f"its newest block is {ago(age)} old", "Is it synchronised? See stall_after.")
    if rail.start_height is not None and rail.start_height > heads.latest.height:
        yield Finding(
            "warn", subject, f"start_height {rail.start_height} is above its head", "Nothing is followed yet."
        )
    watches_native = any(asset.contract is None for asset in rail.assets)
    if watches_native and not traits.native_complete:
        yield Finding("warn", subject, traits.native_gap, "Payments that arrive so are not seen.")
    if not rail.assets:
        yield Finding("warn", subject, "no assets are configured", "Add [[rail.asset]] tables, or nothing can be paid.")

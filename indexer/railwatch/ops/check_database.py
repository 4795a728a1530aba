"""The database's part of `railwatch check`: whether the daemon could work with it, and what is stored there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from railwatch.config import Config
from railwatch.ops.database import is_made, open_database
from railwatch.ops.findings import Finding
from railwatch.ops.migrate_command import ROLES_TODO
from railwatch.store.config_sync import RailMirror, WantedAsset
from railwatch.store.database import Database
from railwatch.store.embedded.server import EmbeddedPostgresError, require_makeable
from railwatch.store.errors import SchemaMismatch, StoreError, StoreUnavailable
from railwatch.store.migrate import missing_roles
from railwatch.store.rails import ResumePoint, load_resume_point
from railwatch.store.read_models import Record, notification_queue, read_status, server_version
from railwatch.store.rehearsal import rehearse_mirror

OLDEST_POSTGRES, NEWEST_POSTGRES = 15, 18
"""Major versions that are tested."""

QUEUE_SUSPECT = 0.1
"""Share of the queue of notifications (8 GB by default) that stays taken only while a session which listens rests."""


@dataclass(slots=True)
class Stored:
    """What the database knows of rails, by name. ``wanted``: assets that open orders ask for, configured or not."""

    rails: dict[str, Record] = field(default_factory=dict)
    left: dict[str, ResumePoint] = field(default_factory=dict)
    wanted: dict[str, list[WantedAsset]] = field(default_factory=dict)

    @property
    def holders(self) -> list[str]:
        """The daemons that follow a rail now."""
        return sorted({str(row["holder"]) for row in self.rails.values() if row["holder"] is not None})


async def check_database(
    config: Config, mirrors: Sequence[RailMirror], settings: Mapping[str, Any]
) -> tuple[Stored, list[Finding]]:
    """What is stored, and what was found. ``mirrors`` are rehearsed unless they are not all of the configuration's."""
    stored = Stored()
    findings = await _check(config, mirrors, settings, stored)
    for name, rail in stored.rails.items():
        if config.rail(name) is not None and rail["state"] == "halted":
            findings.append(
                Finding("fail", f"rail {name}", f"is halted: {rail['reason']}", "See docs/runbooks/rail-halted.md.")
            )
    for name, assets in stored.wanted.items():
        for asset, _ in assets:
            findings.append(
                Finding(
                    "warn",
                    f"rail {name}",
                    f"open orders ask for {asset.symbol} ({asset.contract or 'the native asset'}), "
                    "which is not configured any more",
                    "It is looked for until they are closed. Put its [[rail.asset]] table back to sell in it again.",
                )
            )
    return stored, findings


async def _check(
    config: Config, mirrors: Sequence[RailMirror], settings: Mapping[str, Any], stored: Stored
) -> list[Finding]:
    folder = config.database.data_dir
    try:
        if config.database.embedded and not is_made(folder):
            require_makeable(folder)
            return [Finding("ok", "database", f"will be made in {folder} by the first `railwatch run`")]
        async with open_database(config) as database:
            return await _look(config, database, mirrors, settings, stored)
    except SchemaMismatch as error:
        return [Finding("fail", "database", str(error))]
    except (StoreUnavailable, EmbeddedPostgresError) as error:
        return [Finding("fail", "database", str(error), "Is it running, and is database.url right?")]
    except StoreError as error:
        return [Finding("fail", "database", str(error), "`railwatch run` would not start.")]


async def _look(
    config: Config,
    database: Database,
    mirrors: Sequence[RailMirror],
    settings: Mapping[str, Any],
    stored: Stored,
) -> list[Finding]:
    """Read what is stored into ``stored``, and rehearse the start. Raises what the store raises."""
    major = await server_version(database)
    stored.rails.update({row["name"]: row for row in (await read_status(database)).rails})
    for name in stored.rails:
        stored.left[name] = await load_resume_point(database, name)
    async with database.connection() as connection:
        missing = await missing_roles(connection)
    if mirrors:
        wanted = await rehearse_mirror(database, mirrors, settings, config.invoices.unfollowed_rails)
        stored.wanted.update({name: assets for name, assets in wanted.items() if assets})
    if major < OLDEST_POSTGRES:
        return [Finding("fail", "database", f"Postgres {major} is too old", f"Use {OLDEST_POSTGRES} or newer.")]
    if major > NEWEST_POSTGRES:
        hint = f"Use {NEWEST_POSTGRES}, or try this version before it holds real orders."
        return [Finding("warn", "database", f"Postgres {major} is newer than what was tested", hint)]
    findings = [Finding("ok", "database", f"Postgres {major}, the schema is up to date")]
    if missing:
        findings.append(Finding("warn", "roles", f"nobody has made {', '.join(missing)}", ROLES_TODO))
    if (taken := await notification_queue(database)) >= QUEUE_SUSPECT:
        findings.append(
            Finding(
                "warn",
                "database",
                f"the queue of notifications is {taken:.0%} full: a session that listens rests in a transaction",
                "From half on no notification is sent, and everybody polls. End that session: "
                "docs/runbooks/feed-blocked.md, `The queue of notifications`.",
            )
        )
    return findings

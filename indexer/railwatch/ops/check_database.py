"""The database's part of `railwatch check`: the daemon's requirements, and the stored rails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from railwatch.config import Config
from railwatch.ops.database import is_made, open_database
from railwatch.ops.findings import Finding
from railwatch.ops.migrate_command import ROLES_HINT
from railwatch.store.config_sync import RailMirror, WantedAsset
from railwatch.store.database import Database
from railwatch.store.embedded.server import EmbeddedPostgresError, require_makeable
from railwatch.store.errors import SchemaMismatch, StoreError, StoreUnavailable
from railwatch.store.migrate import missing_roles
from railwatch.store.rails import ResumePoint, load_resume_point
from railwatch.store.read_models import Record, notification_queue, read_status, server_version
from railwatch.store.rehearsal import rehearse_mirror

OLDEST_POSTGRES, NEWEST_POSTGRES = 15, 18
"""The oldest and newest major version that the tests run on."""

QUEUE_SUSPECT = 0.1
"""Share of the notification queue (8 GB by default) that only a listener with an open transaction keeps full."""


@dataclass(slots=True)
class Stored:
    """The database's rails, by name. ``wanted``: assets that open orders ask for and the configuration lacks."""

    rails: dict[str, Record] = field(default_factory=dict)
    left: dict[str, ResumePoint] = field(default_factory=dict)
    wanted: dict[str, list[WantedAsset]] = field(default_factory=dict)

    @property
    def holders(self) -> list[str]:
        """The daemons that hold the lease of a rail."""
        return sorted({str(row["holder"]) for row in self.rails.values() if row["holder"] is not None})


async def check_database(
    config: Config, mirrors: Sequence[RailMirror], settings: Mapping[str, Any]
) -> tuple[Stored, list[Finding]]:
    """Return the stored rails, and findings. ``mirrors``: all rails of the configuration, else none."""
    stored = Stored()
    findings = await _check(config, mirrors, settings, stored)
    for name, rail in stored.rails.items():
        if config.rail(name) is not None and rail["state"] == "halted":
            findings.append(
                Finding("fail", f"rail {name}", f"is halted: {rail['reason']}", "Follow docs/runbooks/rail-halted.md.")
            )
    for name, assets in stored.wanted.items():
        for asset, _ in assets:
            findings.append(
                Finding(
                    "warn",
                    f"rail {name}",
                    f"open orders ask for {asset.symbol} ({asset.contract or 'the native asset'}), "
                    "which the configuration no longer has; the daemon watches for it until these orders close",
                    "Add its [[rail.asset]] table again to accept new orders in it.",
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
            return [Finding("ok", "database", f"does not exist yet; the first `railwatch run` creates it in {folder}")]
        async with open_database(config) as database:
            return await _inspect(config, database, mirrors, settings, stored)
    except SchemaMismatch as error:
        return [Finding("fail", "database", str(error), "Follow docs/runbooks/schema-mismatch.md.")]
    except (StoreUnavailable, EmbeddedPostgresError) as error:
        return [
            Finding(
                "fail",
                "database",
                str(error),
                "Start Postgres, and check [database] url: docs/runbooks/postgres-unavailable.md.",
            )
        ]
    except StoreError as error:
        return [Finding("fail", "database", str(error), "Until this is fixed `railwatch run` does not start.")]


async def _inspect(
    config: Config,
    database: Database,
    mirrors: Sequence[RailMirror],
    settings: Mapping[str, Any],
    stored: Stored,
) -> list[Finding]:
    """Read the database into ``stored``, and rehearse a start of the daemon. Raises the store's errors."""
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
        return [
            Finding(
                "fail", "database", f"Postgres {major} is too old", f"Upgrade Postgres to {OLDEST_POSTGRES} or newer."
            )
        ]
    if major > NEWEST_POSTGRES:
        hint = (
            f"Railwatch is tested on Postgres {OLDEST_POSTGRES} to {NEWEST_POSTGRES}. "
            f"Use {NEWEST_POSTGRES}, or test this version before production."
        )
        return [Finding("warn", "database", f"Postgres {major} is newer than the tested versions", hint)]
    findings = [Finding("ok", "database", f"Postgres {major}, the schema is current")]
    if missing:
        findings.append(
            Finding(
                "warn",
                "roles",
                f"the database lacks {', '.join(missing)}, so services cannot log in with the rights of the contract",
                ROLES_HINT,
            )
        )
    if (used := await notification_queue(database)) >= QUEUE_SUSPECT:
        findings.append(
            Finding(
                "warn",
                "database",
                f"the notification queue is {used:.0%} full, because a listening session keeps a transaction open",
                "From 50% on Railwatch sends no notifications, and every reader polls. End that session: "
                "docs/runbooks/feed-blocked.md, section `The notification queue`.",
            )
        )
    return findings

"""Every way in which rows are read: relations through the driver, our readers with their renderers, and commands."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
from click.testing import CliRunner

from railwatch.cli import main
from railwatch.cli.evidence import feed_line
from railwatch.cli.output import to_json
from railwatch.daemon.exception_monitor import ExceptionMonitor
from railwatch.ops.explain import render_dossier, render_invoice
from railwatch.ops.list_tables import render_exceptions, render_invoices, render_rescans
from railwatch.ops.status import render_status
from railwatch.ops.webhooks import render_dead, render_endpoints
from railwatch.rail.printable import is_visible
from railwatch.store import read_models
from railwatch.store.clock import ClockStore
from railwatch.store.database import Database
from railwatch.store.endpoints import list_dead, list_endpoints
from railwatch.terminal import make_console

RELATIONS = """
select oid::regclass::text as name from pg_class
where relkind in ('r', 'v') and relnamespace = 'railwatch'::regnamespace order by 1"""
ALL = 10_000
SHOWN_INVOICES = 300


async def show_everything(database: Database, seen: set[Any]) -> None:
    """Read and draw all there is. Invoices that are in ``seen``, and have not moved since, are not drawn again."""
    for row in await database.rows(RELATIONS):
        for each in await database.rows(f"select * from {row['name']}"):
            tuple(each)
    await read_models.read_counts(database)
    status = await read_models.read_status(database)
    drawn: list[Any] = [render_status(status), to_json(status)]
    invoices = await read_models.list_invoices(database, state=None, merchant=None, limit=ALL)
    exceptions = await read_models.list_exceptions(database, resolved=True, kind=None, limit=ALL)
    rescans = await read_models.list_rescans(database, limit=ALL)
    endpoints, dead = await list_endpoints(database), await list_dead(database, None, ALL)
    drawn += [render_invoices(invoices), render_exceptions(exceptions), render_rescans(rescans)]
    drawn += [render_endpoints(endpoints), render_dead(dead)]
    drawn += [to_json(each) for each in (invoices, exceptions, rescans, endpoints, dead)]
    versions = await database.rows(
        "select i.id, i.version, (select max(seq) from railwatch.transitions t where t.invoice_id = i.id) as last "
        "from railwatch.invoices i"
    )
    fresh = [row for row in versions if tuple(row) not in seen][:SHOWN_INVOICES]
    seen |= {tuple(row) for row in fresh}
    for row in fresh:
        dossier = await read_models.read_dossier(database, row["id"])
        assert dossier is not None
        drawn += [render_dossier(dossier), render_invoice(dossier), to_json(dossier)]
        await read_models.find_invoices(database, f"{dossier.invoice['merchant_id']}/{dossier.invoice['order_id']}")
        await asyncio.sleep(0)  # a daemon shares this loop
    for line in await read_models.read_feed(database, max(0, status.last_seq - ALL), ALL):
        drawn.append(feed_line(line))
    out = io.StringIO()
    console = make_console()
    console.file = out
    for each in drawn:
        console.print(each)
        await asyncio.sleep(0)
    for shown in out.getvalue().splitlines():
        assert all(map(is_visible, shown)), f"a terminal would obey {shown!r:.300}"
    failed: list[str] = []
    await ExceptionMonitor(ClockStore(database), failed.append).check()
    assert not failed, "the exceptions of an order cannot be compared with the facts"


COMMANDS: tuple[tuple[str, ...], ...] = (
    *(("status",), ("invoice", "list"), ("exceptions", "list", "--all"), ("rescan", "list"), ("feed", "--limit", "50")),
    *(("webhook", "list"), ("webhook", "dead", "list"), ("check",)),
)


class Shell:
    """Runs commands next to the daemon in this process, each with an event loop of its own."""

    def __init__(self, dsn: str, folder: Path, url: str) -> None:
        self._config = folder / "railwatch.toml"
        self._config.write_text(
            f"""
            [database]
            url = "{dsn}"
            [[rail]]
            name = "story"
            adapter = "fake"
            chain_id = "fake:story"
            nodes = [{{ chain = "story" }}]
            [[rail.asset]]
            symbol = "COIN"
            [[rail.asset]]
            symbol = "GOLD"
            contract = "gold"
            decimals = 6
            [[webhook]]
            name = "shop"
            url = "{url}"
            events = ["*"]
            secret = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"
            [deliver]
            allow = ["127.0.0.0/8"]
            """
        )
        self._config.chmod(0o600)

    async def shows(self, *words: str) -> None:
        """Run a command in both forms; it must succeed (or, as `check` does, find something)."""
        for more in ((), ("--json",)):
            result = await asyncio.to_thread(CliRunner().invoke, main, [*words, *more, "--config", str(self._config)])
            expected = (0, 1) if words[0] == "check" else (0,)
            assert result.exit_code in expected, (
                f"{' '.join(words)[:200]} ended with {result.exit_code}: {result.output[:1000]}"
            )
            assert "Traceback" not in result.output, result.output[:2000]
            assert all(each == "\n" or is_visible(each) for each in result.output), (
                f"{words[0]} shows {result.output!r:.300}"
            )
            if more:
                for document in result.stdout.splitlines() if words[0] == "feed" else [result.stdout]:
                    json.loads(document)

    async def shows_all(self, names: list[str]) -> None:
        """Every command that lists, and those that show one order for each of ``names``."""
        for words in COMMANDS:
            await self.shows(*words)
        for name in names:
            await self.shows("invoice", "show", name)
            await self.shows("explain", name)


@asynccontextmanager
async def quiet_logs() -> AsyncIterator[None]:
    """Keep the daemon's logs in this process out of a command's output."""
    kept = structlog.get_config()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(io.StringIO()))
    try:
        yield
    finally:
        structlog.configure(**kept)

"""`railwatch run`, `migrate` and `check`: what an operator does with the daemon itself."""

import asyncio

import click

from railwatch.cli.errors import LONGEST_TOLD, Exit, UnusableConfig
from railwatch.cli.options import config_option, json_option
from railwatch.cli.output import complain, emit, say, show
from railwatch.cli.resolve_args import rail_config
from railwatch.config import Config
from railwatch.rail.printable import printable


@click.command()
@config_option
@click.option("--rail", metavar="NAME", help="Follow this rail only; other processes may follow the others.")
def run(config: Config, rail: str | None) -> None:
    """Follow the configured rails until SIGTERM or Ctrl-C."""
    # Adapters and their libraries are only needed here; every other command is quicker without them.
    from railwatch.cli.daemon_reporter import serve_daemon

    if rail is not None:
        rail_config(config, rail)
    try:
        # Not uvloop: on large answers it takes twice the processor time of Python's own loop, on small ones the same.
        with asyncio.Runner() as runner:
            code = runner.run(serve_daemon(config, rail))
    except ValueError as error:
        why = printable(error, LONGEST_TOLD)
        raise UnusableConfig(
            f"the daemon cannot start: {why}\n`railwatch check` looks at everything that it needs"
        ) from error
    click.get_current_context().exit(code)


@click.command()
@config_option
@json_option
def migrate(config: Config, as_json: bool) -> None:
    """Bring the database's schema up to date. Doing it again is harmless."""
    from railwatch.ops.migrate_command import ROLES_TODO, bring_up_to_date

    done = asyncio.run(bring_up_to_date(config))
    if done.missing_roles:
        complain(f"railwatch: nobody has made {', '.join(done.missing_roles)}. {ROLES_TODO}")
    if as_json:
        emit({"applied": [{"version": each.version, "name": each.name} for each in done.applied]})
        return
    for each in done.applied:
        say(f"applied {each.version:04} ({each.name})")
    if not done.applied:
        say("the schema is up to date")


@click.command()
@config_option
@json_option
def check(config: Config, as_json: bool) -> None:
    """Look at the configuration, the database and each node, and say what to do. Changes nothing."""
    from railwatch.daemon.preview import preview_rail
    from railwatch.daemon.registry import create_adapter, named_nodes, open_rail
    from railwatch.daemon.supervisor import mirror_settings, rail_mirror
    from railwatch.ops.doctor import examine
    from railwatch.ops.findings import Daemon, render_report
    from railwatch.ops.logs import configure_logging

    daemon = Daemon(
        create_adapter,
        named_nodes,
        lambda rail: rail_mirror(config, rail, open_rail(rail).traits),
        preview_rail,
        mirror_settings(config),
    )
    # What the daemon's own code would log is told as findings.
    configure_logging(config.log.format, "error", config.secrets())
    report = asyncio.run(examine(config, daemon))
    if as_json:
        emit({"ok": not report.failed, "findings": report.findings, "nodes": report.nodes})
    else:
        show(render_report(report))
    click.get_current_context().exit(Exit.REJECTED if report.failed else Exit.OK)

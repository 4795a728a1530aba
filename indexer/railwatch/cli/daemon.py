"""`railwatch run`, `migrate` and `check`: the operation of the daemon itself."""

import asyncio

import click

from railwatch.cli.errors import ERROR_MAX, Exit, UnusableConfig
from railwatch.cli.options import config_option, json_option
from railwatch.cli.output import complain, emit, say, show
from railwatch.cli.resolve_args import rail_config
from railwatch.config import Config
from railwatch.rail.printable import printable


@click.command()
@config_option
@click.option(
    "--rail", metavar="NAME", help="Follow only this rail; other processes may follow the others. Default: all rails."
)
def run(config: Config, rail: str | None) -> None:
    """Follow the configured rails until SIGTERM or Ctrl-C.

    Run `railwatch check` first. A second daemon on the same database is a standby for each rail.

    Example: railwatch run --config /etc/railwatch/railwatch.toml
    """
    # Only this command imports adapters and their libraries; every other command is faster without them.
    from railwatch.cli.daemon_reporter import serve_daemon

    if rail is not None:
        rail_config(config, rail)
    try:
        # Not uvloop: on large answers it needs twice the CPU time of Python's own loop, on small ones the same.
        with asyncio.Runner() as runner:
            code = runner.run(serve_daemon(config, rail))
    except ValueError as error:
        reason = printable(error, ERROR_MAX)
        raise UnusableConfig(
            f"the daemon cannot start: {reason}\nCheck everything that it needs: railwatch check"
        ) from error
    click.get_current_context().exit(code)


@click.command()
@config_option
@json_option
def migrate(config: Config, as_json: bool) -> None:
    """Create or upgrade the database's schema. A second run changes nothing.

    `railwatch run` does this at its start too; use this command to upgrade at a time of your choice.
    """
    from railwatch.ops.migrate_command import ROLES_HINT, bring_up_to_date

    done = asyncio.run(bring_up_to_date(config))
    if done.missing_roles:
        complain(f"railwatch: the server lacks the roles {', '.join(done.missing_roles)}. {ROLES_HINT}")
    if as_json:
        emit({"applied": [{"version": each.version, "name": each.name} for each in done.applied]})
        return
    for each in done.applied:
        say(f"applied {each.version:04} ({each.name})")
    if not done.applied:
        say("the schema is current")


@click.command()
@config_option
@json_option
def check(config: Config, as_json: bool) -> None:
    """Check configuration, database and each node, with a fix for each finding. Changes nothing.

    Exit code 0: the daemon can start and follow every rail. 1: a finding prevents that.
    """
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
    # Findings report what the daemon's own code would log.
    configure_logging(config.log.format, "error", config.secrets())
    report = asyncio.run(examine(config, daemon))
    if as_json:
        emit({"ok": not report.failed, "findings": report.findings, "nodes": report.nodes})
    else:
        show(render_report(report))
    click.get_current_context().exit(Exit.REJECTED if report.failed else Exit.OK)

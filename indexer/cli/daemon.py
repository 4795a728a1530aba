"""`railwatch run`, `migrate` and `check`: what an operator does with the daemon itself."""

import asyncio

import click

from indexer.cli.exits import Exit, Unusable
from indexer.cli.lookup import rail_config
from indexer.cli.options import config_option, json_option
from indexer.cli.output import emit, show
from indexer.config import Config


@click.command()
@config_option
@click.option("--rail", metavar="NAME", help="Follow this rail only; other processes may follow the others.")
def run(config: Config, rail: str | None) -> None:
    """Follow the configured rails until SIGTERM or Ctrl-C."""
    # Adapters and their libraries are only needed here; every other command is quicker without them.
    from indexer.cli.serving import serve_daemon

    if rail is not None:
        rail_config(config, rail)
    try:
        # Not uvloop: on large answers it takes twice the processor time of Python's own loop, on small ones the same.
        with asyncio.Runner() as runner:
            code = runner.run(serve_daemon(config, rail))
    except ValueError as error:
        raise Unusable(
            f"the daemon cannot start: {error}\n`railwatch check` looks at everything that it needs"
        ) from error
    click.get_current_context().exit(code)


@click.command()
@config_option
@json_option
def migrate(config: Config, as_json: bool) -> None:
    """Bring the database's schema up to date. Doing it again is harmless."""
    from indexer.ops.migration import ROLES_TODO, bring_up_to_date

    done = asyncio.run(bring_up_to_date(config))
    if done.missing_roles:
        click.echo(f"railwatch: nobody has made {', '.join(done.missing_roles)}. {ROLES_TODO}", err=True)
    if as_json:
        emit({"applied": [{"version": each.version, "name": each.name} for each in done.applied]})
        return
    for each in done.applied:
        click.echo(f"applied {each.version:04} ({each.name})")
    if not done.applied:
        click.echo("the schema is up to date")


@click.command()
@config_option
@json_option
def check(config: Config, as_json: bool) -> None:
    """Look at the configuration, the database and each node, and say what to do. Changes nothing."""
    from indexer.daemon.registry import open_node, open_rail
    from indexer.daemon.supervisor import rail_mirror
    from indexer.ops.doctor import examine, render_findings

    findings = asyncio.run(examine(config, open_node, lambda rail: rail_mirror(config, rail, open_rail(rail).traits)))
    failed = any(each.level == "fail" for each in findings)
    if as_json:
        emit({"ok": not failed, "findings": findings})
    else:
        show(render_findings(findings))
    click.get_current_context().exit(Exit.WRONG if failed else Exit.OK)

"""The command line: one file for each group of commands. Everything heavy is imported by the command that needs it."""

import click

from indexer.cli.audit import audit
from indexer.cli.daemon import check, migrate, run
from indexer.cli.deliver import deliver
from indexer.cli.demo import demo
from indexer.cli.evidence import explain, feed
from indexer.cli.exits import EPILOG, Railwatch
from indexer.cli.invoice import invoice
from indexer.cli.operate import exceptions, rescan
from indexer.cli.rail import rail
from indexer.cli.recording import record, replay
from indexer.cli.status import status
from indexer.cli.webhook import webhook


@click.group(cls=Railwatch, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="railwatch")
def main() -> None:
    """Watches payment rails for payments to per-invoice addresses and tells Postgres the truth, reorgs included."""


COMMANDS = (
    *(run, migrate, check, demo, status, invoice, explain, feed, exceptions),
    *(rescan, audit, rail, record, replay, deliver, webhook),
)

for command in COMMANDS:
    main.add_command(command)

"""The command line: one file for each group of commands. Each command imports its heavy dependencies itself."""

import click

from railwatch.cli.audit import audit
from railwatch.cli.daemon import check, migrate, run
from railwatch.cli.deliver import deliver
from railwatch.cli.demo import demo
from railwatch.cli.errors import EPILOG, Railwatch
from railwatch.cli.evidence import explain, feed
from railwatch.cli.exceptions import exceptions, rescan
from railwatch.cli.invoice import invoice
from railwatch.cli.manual import config, docs
from railwatch.cli.rail import rail
from railwatch.cli.recording import record, replay
from railwatch.cli.status import status
from railwatch.cli.unallocated import unallocated
from railwatch.cli.webhook import webhook


@click.group(cls=Railwatch, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="railwatch")
def main() -> None:
    """Watch blockchains for payments to the addresses of invoices, and record them in Postgres.

    \b
    Start here:
      railwatch check      checks configuration, database and nodes
      railwatch run        follows the configured rails
      railwatch status     shows rails, exceptions and readers
    """


COMMANDS = (
    *(run, migrate, check, demo, status, invoice, explain, feed, exceptions, unallocated),
    *(rescan, audit, rail, record, replay, deliver, webhook, docs, config),
)

for command in COMMANDS:
    main.add_command(command)

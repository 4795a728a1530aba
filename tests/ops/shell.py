"""Commands in their own event loop, as a shell runs them, with the configuration of a daemon harness."""

import asyncio
import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from railwatch.cli import main
from railwatch.cli.errors import Exit
from tests.scenarios.daemon_harness import DaemonHarness


class Shell:
    """Runs commands with the stage's configuration, each with an event loop of its own, as in a shell."""

    def __init__(self, stage: DaemonHarness, folder: Path) -> None:
        self.rail = stage.chain.name
        self.config = folder / "railwatch.toml"
        self.config.write_text(
            f"""
            [database]
            url = "{stage.database.dsn}"
            [[rail]]
            name = "{self.rail}"
            adapter = "fake"
            chain_id = "{stage.chain.chain_id}"
            nodes = [{{ chain = "{self.rail}" }}]
            [[rail.asset]]
            symbol = "COIN"
            """
        )

    async def run(self, *words: object, stdin: str | None = None) -> Result:
        args = [*map(str, words), "--config", str(self.config)]
        result = await asyncio.to_thread(CliRunner().invoke, main, args, input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    async def output(self, *words: object) -> str:
        """Return the output of a command that must succeed, within 80 columns."""
        result = await self.run(*words)
        assert result.exit_code == Exit.OK, result.output
        assert max(map(len, result.stdout.splitlines()), default=0) <= 80, result.stdout
        return result.stdout

    async def data(self, *words: object) -> Any:
        """Return the JSON document of a command that must succeed."""
        result = await self.run(*words, "--json")
        assert result.exit_code == Exit.OK, result.output
        return json.loads(result.stdout)

    def create(self, order: object, address: str, *more: object) -> list[object]:
        return [
            *("invoice", "create", "--merchant", "shop", "--order", order, "--rail", self.rail),
            *("--asset", "COIN", "--address", address, "--expires-in", "15m", *more),
        ]

"""`railwatch deliver` as an operator runs it: a process, with secrets in files, and its log kept."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.webhooks.shop import HERE, RAIL

CONFIG = """
[database]
url = {dsn}
[log]
level = "debug"
[[rail]]
name = "{rail[name]}"
adapter = "{rail[adapter]}"
chain_id = "{rail[chain_id]}"
nodes = [{{ chain = "story" }}]
[deliver]
allow = {allow}
{webhooks}
"""

BY_REFERENCE = ("url", "secret", "old_secret")


def write_config(folder: Path, dsn: str, *webhooks: dict[str, Any]) -> Path:
    """Write the configuration to a file, and its secrets to files next to it."""
    tables = []
    for webhook in webhooks:
        lines = ["[[webhook]]"]
        for key, value in webhook.items():
            if key in BY_REFERENCE:
                file = folder / f"{webhook['name']}.{key}"
                file.write_text(value)
                lines.append(f"{key}_file = {json.dumps(file.name)}")
            else:
                lines.append(f"{key} = {json.dumps(value)}")
        tables.append("\n".join(lines))
    path = folder / "railwatch.toml"
    text = CONFIG.format(dsn=json.dumps(dsn), rail=RAIL, allow=json.dumps(HERE), webhooks="\n".join(tables))
    path.write_text(text)
    return path


@dataclass(slots=True)
class Process:
    """A running deliverer. ``log`` is its whole stderr, as far as it is read."""

    process: asyncio.subprocess.Process
    file: Path

    @property
    def log(self) -> str:
        return self.file.read_text()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    def has_said(self, event: str) -> bool:
        return any(each["event"] == event for each in self.events())

    async def kill(self) -> None:
        """As SIGKILL does: at any moment, without a word."""
        self.process.kill()
        await self.process.wait()

    async def end(self) -> int:
        self.process.terminate()
        async with asyncio.timeout(20):
            return await self.process.wait()


@asynccontextmanager
async def deliverer(config: Path, *words: str) -> AsyncIterator[Process]:
    file = config.with_suffix(f".{len(list(config.parent.glob('*.log')))}.log")
    with file.open("w") as log:
        command = [sys.executable, "-m", "railwatch", "deliver", "--config", str(config), *words]
        process = await asyncio.create_subprocess_exec(*command, stderr=log)
    try:
        yield Process(process, file)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()

"""Run `railwatch check` on a node of the tiny rail, in the environment of the Python that runs this file."""

import asyncio
import sys
from pathlib import Path

from railwatch_tiny.dev.simulator import CHAIN_ID, TinySimulator

CONFIG = """
[database]
url = "embedded"
data_dir = "postgres"

[[rail]]
name = "tiny"
adapter = "tiny"
chain_id = "{chain_id}"
nodes = [{{ http = "{url}" }}]
start_height = 0

[[rail.asset]]
symbol = "TINY"
"""


async def main(folder: Path) -> int:
    """Serve a chain, check a configuration in ``folder`` that names it, and return the exit code of the command."""
    async with TinySimulator() as simulator:
        await simulator.mine(20)
        config = folder / "railwatch.toml"
        config.write_text(CONFIG.format(chain_id=CHAIN_ID, url=simulator.url))
        command = (sys.executable, "-m", "railwatch", "check", "--config", str(config))
        process = await asyncio.create_subprocess_exec(*command)
        return await process.wait()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(mode=0o711)
    sys.exit(asyncio.run(main(folder)))

"""The daemon as an operator runs it: a process of its own."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.bench.bench_env import RAIL, BenchEnv, until

CONFIG = """
[database]
url = "{dsn}"
[log]
level = "warning"
[[rail]]
name = "{rail}"
adapter = "evm"
chain_id = "{chain}"
nodes = [{{ http = "{http}"{ws} }}]
{more}
[[rail.asset]]
symbol = "TST"
contract = "{token}"
decimals = 6
[[policy]]
rail = "{rail}"
confirmations = 1
"""


@asynccontextmanager
async def daemon(stand: BenchEnv, folder: Path, *, more: str = "", ws: str | None = None) -> AsyncIterator[int]:
    """Run it until the block is left; gives its pid once the rail is live."""
    simulator = stand.simulator
    push = simulator.node["ws"] if ws is None else ws
    file = folder / "bench.toml"
    file.write_text(
        CONFIG.format(
            dsn=stand.database.dsn,
            rail=RAIL,
            chain=simulator.chain_id,
            http=simulator.node["http"],
            ws=f', ws = "{push}"' if push else "",
            more=more,
            token=simulator.token,
        )
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "railwatch", "run", "--config", str(file))
    try:
        await until(stand.is_live)
        yield process.pid
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


def resident_megabytes(pid: int) -> float:
    """Resident memory of a process, from the kernel."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise LookupError(f"process {pid} has no resident memory")

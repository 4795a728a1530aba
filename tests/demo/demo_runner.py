"""Where demos are run in tests, and what is asked about what they left."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 60.0


@dataclass
class DemoRunner:
    """Where demos run: a temporary folder of their own, and packages that bring more of them."""

    tmp: Path
    site: Path

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`railwatch ...`, its two streams captured."""
        environment = {**os.environ, "TMPDIR": str(self.tmp), "PYTHONPATH": str(self.site), "COLUMNS": "80"}
        return subprocess.Popen(
            [sys.executable, "-m", "railwatch", *arguments],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """The same to its end: exit code, stdout, stderr."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=2 * PATIENCE)
        return process.returncode, out, err

    @property
    def folders(self) -> list[Path]:
        """What demos have left."""
        return list(self.tmp.glob("railwatch-demo-*"))


def rail_status(house: DemoRunner, config: str) -> dict[str, Any]:
    """The one rail, as `railwatch status` shows it."""
    code, out, err = house.run("status", "--json", "--config", config)
    assert code == 0, err
    [rail] = json.loads(out)["rails"]
    assert isinstance(rail, dict)
    return rail


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)


def pids_in(text: str) -> list[int]:
    """What the demo said that it had started."""
    return [int(pid) for pid in re.findall(r"\(pid (\d+)\)", text)]


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"

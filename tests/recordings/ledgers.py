"""The ledger that a recording is expected to lead to, beside it in a file of its own."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from railwatch.cli.output import jsonable
from railwatch.replay.recording import read_recording
from railwatch.replay.replay import Outcome, replay
from railwatch.store.scratch import scratch_database

TIMES = ("at", "opened_at", "resolved_at")


def played(file: Path, server: str | None = None, **options: Any) -> Outcome:
    """Play a recording into a scratch database on ``server``, or on one of its own."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        dsn = runner.run(stack.enter_async_context(scratch_database(server, clock=True)))
        try:
            return replay(read_recording(file), dsn, **options)
        finally:
            runner.run(stack.aclose())


def expected_of(outcome: Outcome) -> Any:
    """What a test compares: everything but the moments, which another pace may change by a poll."""
    return _without_times(json.loads(json.dumps(jsonable(outcome.ledger))))


def expected_file(file: Path) -> Path:
    """Where that is kept."""
    return file.with_name(file.name.replace(".rec.gz", ".ledger.json"))


def write_expected(file: Path, ledger: Any) -> None:
    """Write it down."""
    expected_file(file).write_text(json.dumps(ledger, indent=1) + "\n")


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(each) for key, each in value.items() if key not in TIMES}
    return [_without_times(each) for each in value] if isinstance(value, list) else value


def expected_ledger(file: Path) -> Any:
    """Read it again."""
    return json.loads(expected_file(file).read_text())

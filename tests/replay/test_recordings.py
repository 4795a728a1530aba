"""Each recording that is kept leads to the ledger that is kept with it, and to the same text each time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from railwatch.core.chain_sync import Idle, Scan, next_step
from railwatch.daemon.follow import planner
from tests.recordings.ledgers import expected_file, expected_ledger, expected_of, played

FOLDER = Path(__file__).parents[1] / "recordings"
FILES = sorted(FOLDER.glob("*.rec.gz"))
SIZE_MAX = 200_000


def test_there_are_recordings_and_they_are_small() -> None:
    names = {file.name.removesuffix(".rec.gz") for file in FILES}
    assert {"evm-reorg", "bitcoin-reorg", "solana-payment"} <= names
    assert all(file.stat().st_size < SIZE_MAX and expected_file(file).exists() for file in FILES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.removesuffix(".rec.gz"))
def test_a_recording_leads_to_its_ledger(file: Path, server: str) -> None:
    outcome = played(file, server)
    assert outcome.missing is None
    assert expected_of(outcome) == expected_ledger(file)


@pytest.mark.parametrize("name", ["evm-reorg", "bitcoin-reorg"])
def test_two_replays_print_the_same_bytes(name: str, server: str) -> None:
    """Two processes, in which sets and dicts of texts have another order."""
    printed = [_printed(FOLDER / f"{name}.rec.gz", server, seed) for seed in ("1", "2")]
    assert printed[0] == printed[1]
    assert b"(reversed)" in printed[0]


def _printed(file: Path, server: str, seed: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", "railwatch", "replay", str(file), "--database", server],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["evm-reorg", "bitcoin-reorg"])
def test_a_daemon_that_ignores_reorgs_is_found_out(name: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof that these tests can fail: the core's decision to rewind is dropped on its way."""

    def never_rewind(*args: object) -> object:
        step = next_step(*args)  # type: ignore[arg-type]
        return step if isinstance(step, Idle | Scan) else Idle()

    monkeypatch.setattr(planner, "next_step", never_rewind)
    file = FOLDER / f"{name}.rec.gz"
    outcome = played(file, server)
    assert outcome.missing is not None or expected_of(outcome) != expected_ledger(file)

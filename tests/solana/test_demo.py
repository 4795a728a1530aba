"""`railwatch demo --rail solana`, as people run it."""

import json
import os
import subprocess
import sys
import tempfile

import pytest

from railwatch_solana.dev.demo import SolanaDemo
from tests.folders import database_folder

pytestmark = pytest.mark.solana


@pytest.mark.long
def test_every_story_is_as_expected() -> None:
    """On a real daemon and a real Postgres; and nothing is left behind."""
    with tempfile.TemporaryDirectory(prefix="railwatch-tests-", dir=database_folder()) as folder:
        # For root, Postgres runs as another user, who has to get through.
        os.chmod(folder, 0o711)
        done = subprocess.run(
            [sys.executable, "-m", "railwatch", "demo", "--rail", "solana", "--json"],
            env={**os.environ, "TMPDIR": folder},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        outcome = json.loads(done.stdout)
        assert [each["story"] for each in outcome["stories"]] == [each.name for each in SolanaDemo().scenarios]
        assert all(each["seen"] == each["expected"] for each in outcome["stories"])
        assert os.listdir(folder) == []

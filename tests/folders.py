"""Where tests keep the data of their Postgres servers: in memory, where this machine has room for it."""

import shutil
import tempfile
from pathlib import Path

IN_MEMORY = Path("/dev/shm")
ROOM = 2 << 30
"""Bytes that must be free. A database of a test takes 10 MB, and lives as long as the test."""


def database_folder() -> str | None:
    """Return where a server's folder is made; None: in the usual place for temporary files.

    Each test has a database of its own. Measured with Postgres 18: made on a disk it takes 80 to 320 ms, nearly all of
    it processor time for the copying of 600 files; made in memory it takes 20 ms.
    """
    try:
        has_room = shutil.disk_usage(IN_MEMORY).free >= ROOM
        with tempfile.TemporaryFile(dir=IN_MEMORY):
            return str(IN_MEMORY) if has_room else None
    except OSError:
        return None

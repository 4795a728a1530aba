"""What a running Postgres says of itself: its `postmaster.pid`, and whether to believe it."""

import os
from pathlib import Path
from urllib.parse import quote, urlencode

from railwatch.store.embedded.binaries import SUPERUSER, EmbeddedPostgresError

DATABASE = "railwatch"


def dsn_for(sockets: Path, port: int) -> str:
    return f"postgresql://{SUPERUSER}@/{DATABASE}?{urlencode({'host': str(sockets), 'port': port}, quote_via=quote)}"


def reported_dsn(lines: list[str]) -> str | None:
    """Where the server listens; None for the moment of its start in which its file does not say so yet."""
    return dsn_for(Path(lines[4]), int(lines[3])) if len(lines) >= 5 and lines[4] else None


def read_pid_file(cluster: Path) -> list[str] | None:
    """Lines of postmaster.pid: pid, cluster, start, port, socket folder, address, shared memory key and id, status."""
    try:
        return (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unusable(cluster.parent, error) from error


def is_postmaster(lines: list[str], cluster: Path) -> bool:
    """Whether the pid file's process lives and is the server of this cluster, not a zombie or a reused number."""
    try:
        process = Path("/proc") / str(int(lines[0]))
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        words = (process / "cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError, IndexError):
        return False
    return state not in "ZX" and os.fsencode(cluster) in words


def memory_in_use(lines: list[str]) -> bool:
    """Whether processes of a killed postmaster still hold its memory: a second server would then destroy data."""
    table = Path("/proc/sysvipc/shm")
    if len(lines) < 7 or not table.exists():
        return False
    key, identifier = (int(word) & 0xFFFFFFFF for word in lines[6].split())
    rows = (line.split() for line in table.read_text().splitlines()[1:])
    return any(int(row[0]) & 0xFFFFFFFF == key and int(row[1]) == identifier and int(row[6]) > 0 for row in rows)


def unusable(home: Path, error: OSError) -> EmbeddedPostgresError:
    return EmbeddedPostgresError(
        f"The embedded database's folder {home} cannot be used by uid {os.geteuid()}: {error}. "
        "Run as the user who owns it, or name another folder."
    )

"""Files with a secret that too many users can read."""

import os
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

GROUP_HINT = "Restrict it to the service's account: chmod 600, or 640 with root as owner and the service's group."


def exposed_files(config_file: Path, secret_files: Iterable[Path], secrets: Collection[str]) -> Iterator[str]:
    """Return a sentence for each file with a secret that its group or others can read.

    The configuration counts only if it contains a secret itself. A file of another owner that our own group may read
    does not count: root gives files to services in this way.
    """
    for path in sorted(set(secret_files)):
        if who := _who_else_reads(path):
            yield f"{path} contains a secret, and {who} can read it. {GROUP_HINT}"
    who = _who_else_reads(config_file)
    if who and any(secret in _text(config_file) for secret in secrets):
        hint = "Move the secret to a separate file (`_file` instead of the value), or run chmod 600."
        yield f"{config_file} contains a secret, and {who} can read it. {hint}"


def _who_else_reads(path: Path) -> str | None:
    try:
        found = path.stat()
    except OSError:
        return None
    if found.st_mode & stat.S_IROTH:
        return "every user of this machine"
    ours = found.st_uid == os.geteuid() or found.st_gid != os.getegid()
    return "its group" if found.st_mode & stat.S_IRGRP and ours else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""

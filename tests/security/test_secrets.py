"""No secret leaves the process, whatever form the DSN or the URL has, and wherever an error is shown."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from railwatch.cli import main
from railwatch.cli.errors import format_error
from railwatch.config import load_config
from railwatch.config.parsing import url_secrets
from railwatch.dsn import dsn_secrets, read_dsn
from railwatch.ops.http import HealthServer
from railwatch.ops.metrics import Metrics
from railwatch.reasons import describe, one_line
from railwatch.redaction import HIDDEN, hidden, hide
from railwatch.store.database import Database, public_url, translated
from railwatch.store.errors import StoreUnavailable

SECRET = "S3CRET+pw"
ENCODED = "S3CRET%2Bpw"
DSNS = {
    f"postgresql://run:{ENCODED}@db:5433/railwatch": "postgresql://db:5433/railwatch",
    f"postgres://run:{SECRET}@db/railwatch": "postgresql://db/railwatch",
    f"postgresql:///railwatch?host=/run/pg&user=run&password={ENCODED}": "postgresql:///railwatch?host=/run/pg",
    f"postgresql://db/railwatch?user=run&password={ENCODED}": "postgresql://db/railwatch",
    f"postgresql://run:{ENCODED}@%2Frun%2Fpg/railwatch": "postgresql:///railwatch?host=/run/pg",
    f"postgresql://run:{ENCODED}@[2001:db8::1]:5433/railwatch": "postgresql://[2001:db8::1]:5433/railwatch",
    f"postgresql://run:{ENCODED}@a:5432,b:5433/railwatch": "postgresql://a:5432,b:5433/railwatch",
    f"postgresql://run:{ENCODED}@a,b/railwatch?port=1,2": "postgresql://a:1,b:2/railwatch",
    f"postgresql://db/railwatch?sslpassword={ENCODED}&sslkey=/k": "postgresql://db/railwatch",
    f"host=db port=5433 user=run password={SECRET} dbname=railwatch": "postgresql://db:5433/railwatch",
    f"host=/run/pg password='{SECRET}' dbname='railwatch'": "postgresql:///railwatch?host=/run/pg",
    # Not to be understood: nothing is shown.
    f"postgresql://run:{SECRET}/x@db/railwatch": "an address that cannot be read",
    f"postgresql://run:{SECRET}#x@db/railwatch": "an address that cannot be read",
    f"postgresql://run:1?{SECRET}@db/railwatch": "an address that cannot be read",
    f"postgresql://run:{SECRET}": "an address that cannot be read",
    f"mysql://run:{SECRET}@db/x": "an address that cannot be read",
    f"postgresql://run:{SECRET}@[::1/x": "an address that cannot be read",
    f"password={SECRET} host": "an address that cannot be read",
    SECRET: "an address that cannot be read",
}


@pytest.mark.parametrize("dsn", DSNS)
def test_a_place_is_built_from_parts_and_holds_no_password(dsn: str) -> None:
    assert public_url(dsn) == DSNS[dsn]


@pytest.mark.parametrize("dsn", DSNS)
def test_the_password_of_any_form_is_hidden_in_any_text(dsn: str) -> None:
    hide(dsn_secrets(dsn, {"HOME": "/nowhere"}) or read_dsn(dsn).secrets)
    if not read_dsn(dsn).is_clear:  # it is refused in its place; nothing repeats it
        assert hidden(f"at {dsn}!") == f"at {HIDDEN}!"
        return
    for text in (dsn, f"failed for {SECRET}", f"GET /?password={ENCODED}", repr([SECRET]), f"({SECRET!r})"):
        if SECRET in text or ENCODED in text:
            assert SECRET not in hidden(text)
            assert ENCODED not in hidden(text)


def test_a_password_that_holds_an_at_is_hidden_however_it_is_cut() -> None:
    hide(dsn_secrets("postgresql://run:S3C@RET@db/x", {"HOME": "/nowhere"}))
    assert public_url("postgresql://run:S3C@RET@db/x") == "postgresql://db/x"
    assert "RET" not in hidden("invalid host 'RET@db', password 'S3C@RET'").replace("RET@db", "")


def test_passwords_of_the_environment_and_of_libpqs_files_are_known(tmp_path: Path) -> None:
    (tmp_path / ".pgpass").write_text("# host:port:db:user:password\n*:*:*:run:from\\:pgpass\n")
    (tmp_path / "other").write_text("db:5432:x:run:from-other\n")
    (tmp_path / "service").write_text("[pay]\nhost=db\npassword=from-service\n[else]\npassword=not-this\n")
    home = {"HOME": str(tmp_path)}
    assert dsn_secrets("postgresql://db/x", home) == {"from:pgpass"}
    assert dsn_secrets("postgresql://db/x", {**home, "PGPASSWORD": "from-env"}) >= {"from-env"}
    assert dsn_secrets(f"postgresql://db/x?passfile={tmp_path}/other", home) == {"from-other"}
    assert dsn_secrets("postgresql://db/x", {**home, "PGPASSFILE": f"{tmp_path}/other"}) == {"from-other"}
    service = {**home, "PGSERVICEFILE": f"{tmp_path}/service"}
    assert dsn_secrets("postgresql:///x?service=pay", service) == {"from:pgpass", "from-service"}


@pytest.mark.parametrize(
    "url",
    [
        f"https://{SECRET}@node.example",
        f"https://user:{ENCODED}@node.example/",
        f"https://node.example/v3/{SECRET}",
        f"wss://node.example/ws?apikey={ENCODED}&x=1",
        f"https://node.example/#{SECRET}",
        f"https://[::1/{SECRET}",
    ],
)
def test_credentials_are_hidden_wherever_they_occur_in_a_url(url: str) -> None:
    hide(url_secrets(url))
    for text in (f"cannot reach {url}", f"cannot GET {url.partition('example')[2]}"):
        assert SECRET not in hidden(text)
        assert ENCODED not in hidden(text)


def configuration(folder: Path, dsn: str, more: str = "") -> Path:
    path = folder / "railwatch.toml"
    path.write_text(
        f"""
        [database]
        url = '{dsn}'
        [[rail]]
        name = "story"
        adapter = "fake"
        chain_id = "fake:story"
        nodes = [{{ chain = "story", headers = {{ "x-api-key" = "HEADER-key-1" }}, password = "NODE-pw-2" }}]
        {more}
        """
    )
    path.chmod(0o600)
    return path


AWAY = [each for each, place in DSNS.items() if place != "an address that cannot be read" and "://" in each]


@pytest.mark.parametrize("dsn", AWAY)
def test_every_command_hides_it_when_the_database_is_unreachable(
    tmp_path: Path, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for host in ("@db:5433", "@db", "//db", "@a:5432,b:5433", "@a,b", "@[2001:db8::1]:5433"):
        dsn = dsn.replace(host, host.replace(host.lstrip("@/"), "127.0.0.1:9"), 1)
    path = configuration(tmp_path, dsn.replace("/run/pg", str(tmp_path)).replace("%2Frun%2Fpg", "127.0.0.1:9"))
    for words in (["status"], ["status", "--json"], ["invoice", "list"], ["check"], ["feed"]):
        result = CliRunner().invoke(main, [*words, "--config", str(path)])
        assert result.exit_code != 0
        assert "Postgres at " in result.output or "postgresql://" in result.output, result.output
        assert SECRET not in result.output
        assert ENCODED not in result.output


async def test_every_place_where_an_error_is_shown_hides_it(tmp_path: Path) -> None:
    dsn = next(iter(DSNS))
    load_config(configuration(tmp_path, dsn))
    error = OSError(f"cannot connect with {dsn}, HEADER-key-1, NODE-pw-2 and {SECRET}")
    with pytest.raises(StoreUnavailable) as away, translated(dsn):
        raise error

    health = SimpleNamespace(alive=True, unready={"story": f"stalled: {error}"})
    page = HealthServer(Metrics(), health).answer("/readyz").body.decode()
    for text in (str(away.value), one_line(str(error)), describe(error), format_error(away.value), page):
        assert not any(each in text for each in (SECRET, ENCODED, "HEADER-key-1", "NODE-pw-2")), text
        assert HIDDEN in text


def test_a_defects_traceback_hides_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError(f"defect with {SECRET} \x1b[2J")

    monkeypatch.setattr(sys.modules["railwatch.cli.status"], "open_database", broken)
    result = CliRunner().invoke(main, ["status", "--config", str(configuration(tmp_path, next(iter(DSNS))))])
    assert result.exit_code == 1
    assert "Traceback" in result.output
    assert SECRET not in result.output
    assert "\x1b" not in result.output


async def test_a_wrong_role_is_reported_in_words(dsn: str) -> None:
    wrong = dsn.replace("postgres@", "nobody_such@")
    with pytest.raises(StoreUnavailable, match="nobody_such"):
        async with Database(wrong) as database:
            await database.value("select 1")


def test_a_file_with_a_secret_that_others_can_read_is_reported(tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text("postgresql://u:p4ssword@127.0.0.1/x")
    path = configuration(tmp_path, "x")
    path.write_text(path.read_text().replace("url = 'x'", 'url_file = "dsn"'))
    for mode, who in ((0o600, None), (0o640, "its group"), (0o644, "every user of this machine")):
        (tmp_path / "dsn").chmod(mode)
        found = load_config(path).exposed
        assert len(found) == (who is not None), found
        assert all(str(who) in each for each in found), found
    (tmp_path / "dsn").chmod(0o600)
    path.chmod(0o644)  # and it holds a node's password itself
    (sentence,) = load_config(path).exposed
    assert sentence.startswith(f"{path} contains a secret, and every user of this machine can read it.")
    text = path.read_text().replace(', password = "NODE-pw-2"', "")
    path.write_text(text.replace(', headers = { "x-api-key" = "HEADER-key-1" }', ""))
    assert load_config(path).exposed == ()


def test_roots_file_that_our_group_may_read_is_as_it_should_be(tmp_path: Path) -> None:
    from railwatch.config import exposure

    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0o640)
    if os.geteuid() == 0:
        os.chown(tmp_path / "secret", 12345, os.getegid())
        assert list(exposure.exposed_files(tmp_path / "none", [tmp_path / "secret"], ())) == []

"""The file: what a crash leaves of it, what is refused, and what must never be in it."""

import asyncio
import gzip
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from railwatch.config import NodeConfig, RailConfig
from railwatch.rail.transport import open_session, through
from railwatch.replay.cleaning import Cleaner, clean_node
from railwatch.replay.nodes import NodeNames
from railwatch.replay.recorder import Recorder
from railwatch.replay.recording import Header, Http, NotARecording, Writer, read_recording

HEADER = Header(made_by="0", started_at=datetime(2026, 1, 1, tzinfo=UTC), rail={})


def _exchange(at: float) -> Http:
    return Http(at=at, took=0.1, node="node-1", calls=[("eth_chainId", [])], ids=[1], status=200, body="{}")


def test_what_was_written_before_a_crash_is_read_and_said_to_be_cut(tmp_path: Path) -> None:
    file = tmp_path / "it.rec.gz"
    writer = Writer(file, HEADER, 10**6)
    writer.add(_exchange(1))
    writer.flush()
    writer.add(_exchange(2))  # The process ends here: this one was not handed on.
    found = read_recording(file)
    assert [event.at for event in found.events] == [1]
    assert found.cut == "the writer died"
    writer.end(3, "time")
    whole = read_recording(file)
    assert (len(whole.events), whole.cut, whole.length) == (2, None, 3)


@pytest.mark.parametrize("keep", [60, 120, 200])
def test_a_file_that_was_cut_anywhere_is_read_as_far_as_it_goes(tmp_path: Path, keep: int) -> None:
    file = tmp_path / "it.rec.gz"
    writer = Writer(file, HEADER, 10**6)
    for at in range(50):
        writer.add(_exchange(at))
        writer.flush()
    writer.end(60, "time")
    torn = tmp_path / "torn.rec.gz"
    torn.write_bytes(file.read_bytes()[: 150 + keep])
    found = read_recording(torn)
    assert found.cut == "the writer died"
    assert len(found.events) < 50


@pytest.mark.parametrize(
    "content", [b"", b"text", gzip.compress(b"[]\n", mtime=0), gzip.compress(b'{"kind":"end","at":1}\n', mtime=0)]
)
def test_another_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "other"
    file.write_bytes(content)
    with pytest.raises(NotARecording, match="other"):
        read_recording(file)


def test_a_full_file_accepts_no_more(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "it.rec.gz", HEADER, 1)
    writer.add(_exchange(1))
    writer.flush()
    writer.add(_exchange(2))
    writer.add(_exchange(3))
    assert writer.is_full
    writer.end(4, "full")
    assert read_recording(tmp_path / "it.rec.gz").cut == "full"


SECRETS = {
    "user in the URL": "plantedUser1",
    "password in the URL": "plantedPassword2",
    "key in the path": "plantedPath3abcdef",
    "key in the query": "plantedQuery4",
    "header": "plantedHeader5",
    "bearer": "plantedBearer6",
    "password": "plantedPassword7",
    "cookie": "plantedCookie8",
    "proxy": "plantedProxy9",
    "set-cookie": "plantedSession10",
    "host": "planted11.example.org",
}


async def test_no_secret_gets_into_the_file_whatever_the_node_repeats(tmp_path: Path) -> None:
    """The node answers with all that it was sent, and with every secret once more, as text, in JSON and in a URL."""
    cookie = tmp_path / "cookie"
    cookie.write_text(f"__cookie__:{SECRETS['cookie']}")

    async def echo(request: web.Request) -> web.Response:
        words = " ".join([*SECRETS.values(), str(request.url), str(dict(request.headers))])
        return web.Response(
            text=words, headers={"Set-Cookie": f"s={SECRETS['set-cookie']}", "X-Key": SECRETS["header"]}
        )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    url = (
        f"http://{SECRETS['user in the URL']}:{SECRETS['password in the URL']}@127.0.0.1:{port}"
        f"/v2/{SECRETS['key in the path']}?apikey={SECRETS['key in the query']}"
    )
    node = NodeConfig(
        {
            "http": url,
            "ws": f"wss://{SECRETS['host']}/x",
            "user": "someone",
            "password": SECRETS["password"],
            "cookie_path": str(cookie),
            "proxy": f"socks5://me:{SECRETS['proxy']}@127.0.0.1:9050",
            "headers": {"x-api-key": SECRETS["header"], "authorization": f"Bearer {SECRETS['bearer']}"},
            "timeout": 5,
        }
    )
    rail = RailConfig.model_validate(
        {"name": "r", "adapter": "evm", "chain_id": "eip155:1", "nodes": [node], "asset": [{"symbol": "ETH"}]}
    )
    header = Header(made_by="0", started_at=datetime.now(UTC), rail={"nodes": [clean_node(node, 1)]})
    file = tmp_path / "it.rec.gz"
    recorder = Recorder(Writer(file, header, 10**7), NodeNames([node.reveal()]), Cleaner(rail.nodes))
    with through(recorder):
        session = open_session(
            lambda: aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
        )
    async with session.post(
        url, data=b'{"id":1,"method":"m","params":[]}', headers={"X-Api-Key": SECRETS["header"]}
    ) as got:
        answered = b"".join([chunk async for chunk in got.content.iter_chunked(1000)])
    await session.close()
    await runner.cleanup()
    recorder.writer.end(1, "time")
    assert all(secret.encode() in answered for secret in SECRETS.values())
    kept = await asyncio.to_thread(lambda: gzip.decompress(file.read_bytes()).decode())
    assert '"method' not in kept
    assert '"m"' in kept
    # The session's cookie is the node's own and was in its words only because of this test; its header is not kept.
    found = {name for name, secret in SECRETS.items() if secret in kept} - {"set-cookie"}
    assert not found
    assert "Set-Cookie" not in kept
    assert file.stat().st_mode & 0o077 == 0

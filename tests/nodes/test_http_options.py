"""How a node is reached, on every rail: keys in headers, proxies, a private authority, pauses, IPv6."""

import asyncio
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from websockets.asyncio.server import serve

from railwatch.config import load_config
from railwatch.rail import AdapterDefect, ChainId, RailAdapter, RailSettings, RailUnavailable
from railwatch_bitcoin import create_adapter as open_bitcoin
from railwatch_bitcoin.chains import BITCOIN_REGTEST
from railwatch_evm import create_adapter as open_evm
from railwatch_solana import create_adapter as open_solana
from tests.nodes import bitcoin_node, solana_node
from tests.nodes.proxies import http_proxy, make_authority, socks5
from tests.nodes.solana_node import CHAIN_ID, Backend
from tests.nodes.test_bitcoin_mempool import node_with, waiting

HEADER = {
    "number": "0x0",
    "hash": "0x" + "11" * 32,
    "parentHash": "0x" + "00" * 32,
    "timestamp": "0x6553f100",
    "logsBloom": "0x" + "00" * 256,
    "transactions": [],
}
EVM_METHODS: dict[str, Callable[..., Any]] = {
    "eth_chainId": lambda: "0x539",
    "eth_getBlockByNumber": lambda *_: HEADER,
    "eth_getBlockByHash": lambda *_: HEADER,
    "eth_getLogs": lambda *_: [],
    "eth_getTransactionReceipt": lambda *_: None,
    "eth_getBlockReceipts": lambda *_: None,
}
SOLANA = Backend(35)
BITCOIN = node_with(waiting(3))


def answer(rail: str, method: str, params: list[Any]) -> Any:
    """Return the result of a method; raises KeyError for one that is not served."""
    if rail == "solana":
        return SOLANA.answer(method, params)
    return (BITCOIN.methods if rail == "bitcoin" else EVM_METHODS)[method](*params)


@dataclass
class Node:
    """A node of any rail behind whatever address, with ``pause`` as its next answer where there is one."""

    rail: str
    port: int = 0
    headers: list[dict[str, str]] = field(default_factory=list)
    pause: tuple[int, str] | None = None

    async def serve(self, request: web.Request) -> web.Response:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if self.pause is not None:
            status, after = self.pause
            return web.Response(status=status, text="slow down", headers={"Retry-After": after})
        if request.method != "POST":
            return web.Response(status=404)
        calls = json.loads(await request.read())
        replies = [self._reply(call) for call in (calls if isinstance(calls, list) else [calls])]
        return web.json_response(replies if isinstance(calls, list) else replies[0])

    def _reply(self, call: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"jsonrpc": "2.0", "id": call["id"], "result": answer(self.rail, call["method"], call["params"])}
        except (KeyError, bitcoin_node.Refusal, solana_node.Refusal):
            return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32601, "message": "Method not found"}}


@asynccontextmanager
async def node_at(rail: str, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[Node]:
    node = Node(rail)
    app = web.Application()
    app.router.add_route("*", "/{key:.*}", node.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, host, 0, ssl_context=tls).start()
    node.port = runner.addresses[0][1]
    try:
        yield node
    finally:
        await runner.cleanup()


def opened(rail: str, url: str, **more: Any) -> RailAdapter:
    """Return an adapter of that rail for a node at ``url``."""
    if rail == "bitcoin":
        return open_bitcoin(RailSettings("r", BITCOIN_REGTEST.id), {"rpc": url, "timeout": 5, **more})
    if rail == "solana":
        return open_solana(RailSettings("r", ChainId(CHAIN_ID)), {"http": url, "timeout": 5, **more})
    return open_evm(RailSettings("r", ChainId("eip155:1337")), {"http": url, "timeout": 5, **more})


RAILS = ["evm", "bitcoin", "solana"]
each_rail = pytest.mark.parametrize("rail", RAILS)


@each_rail
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("kind", ["http", "socks5", "socks5 with a password"])
async def test_a_proxy_is_between(rail: str, kind: str, scheme: str, tmp_path: Path) -> None:
    """The proxy gets the name, and resolves it: an .onion address works, and no name shows elsewhere."""
    ca, tls = make_authority(tmp_path, "DNS:node.onion")
    async with node_at(rail, tls=tls if scheme == "https" else None) as node:
        made = http_proxy(node.port) if kind == "http" else socks5(node.port, "pw" if "password" in kind else "")
        async with made as proxy:
            url = f"{scheme}://node.onion:9000"
            async with opened(rail, url, proxy=proxy.url, ca=ca) as adapter:
                assert (await adapter.heads()).latest.height >= 0
            assert proxy.asked
            assert all("node.onion" in asked for asked in proxy.asked)
            proxy.refuses = True
            with pytest.raises(RailUnavailable) as caught:
                await opened(rail, url, proxy=proxy.url, ca=ca).__aenter__()
            assert "pw" not in str(caught.value)
    with pytest.raises(RailUnavailable) as caught:
        await opened(rail, url, proxy=proxy.url).__aenter__()
    # An unreachable proxy is a trouble of the network; a defect would halt the rail when it goes on.
    assert not isinstance(caught.value, AdapterDefect)


@each_rail
async def test_a_private_authority_is_trusted_and_no_other(rail: str, tmp_path: Path) -> None:
    ca, tls = make_authority(tmp_path, "IP:127.0.0.1")
    (tmp_path / "other").mkdir()
    other, _ = make_authority(tmp_path / "other", "IP:127.0.0.1")
    async with node_at(rail, tls=tls) as node:
        url = f"https://127.0.0.1:{node.port}"
        async with opened(rail, url, ca=ca) as adapter:
            await adapter.heads()
        for wrong in ({}, {"ca": other}):
            with pytest.raises(RailUnavailable, match="Certificate"):
                await opened(rail, url, **wrong).__aenter__()


@each_rail
async def test_a_node_has_an_ipv6_address(rail: str) -> None:
    async with node_at(rail, "::1") as node, opened(rail, f"http://[::1]:{node.port}") as adapter:
        assert (await adapter.heads()).latest.height >= 0
    with pytest.raises(RailUnavailable, match=rf"http://\[::1\]:{node.port} "):
        await opened(rail, f"http://[::1]:{node.port}").__aenter__()


@each_rail
async def test_a_key_in_a_header_comes_by_reference(rail: str, tmp_path: Path) -> None:
    """So does the authority, and a proxy with its password; none of them shows."""
    (tmp_path / "api.key").write_text("s3cret\n")
    ca, _ = make_authority(tmp_path, "IP:127.0.0.1")
    (tmp_path / "proxy").write_text("socks5://me:pr0xy@127.0.0.1:9050")
    chain = {"bitcoin": BITCOIN_REGTEST.id, "solana": CHAIN_ID, "evm": "eip155:1337"}[rail]
    key = "rpc" if rail == "bitcoin" else "http"
    file = tmp_path / "railwatch.toml"
    file.write_text(
        f'[[rail]]\nname = "r"\nadapter = "{rail}"\nchain_id = "{chain}"\nnodes = [{{ {key} = "http://127.0.0.1:1", '
        'headers = { "api-key_file" = "api.key" }, ca_file = "ca.pem", proxy_file = "proxy" }]\n'
    )
    (node,) = load_config(file).rails[0].nodes
    revealed = node.reveal()
    assert revealed["headers"] == {"api-key": "s3cret"}
    assert revealed["ca"].strip() == ca.strip()
    assert "pr0xy" in revealed["proxy"]
    assert {"s3cret", revealed["proxy"]} <= set(node.secrets())
    assert "pr0xy" not in repr(node)
    async with node_at(rail) as served, opened(rail, f"http://127.0.0.1:{served.port}", headers=revealed["headers"]):
        assert {headers.get("api-key") for headers in served.headers} == {"s3cret"}


@pytest.mark.parametrize("rail", RAILS)
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"proxy": "127.0.0.1:9050"}, "proxy must be a URL"),
        ({"proxy": "ftp://127.0.0.1:9050"}, "proxy must be a URL"),
        ({"proxy": "socks5://s3cret@host"}, "proxy must be a URL"),
        ({"ca": "s3cret"}, "ca must hold certificates"),
        ({"ca": "-----BEGIN CERTIFICATE-----\ns3cret\n-----END CERTIFICATE-----"}, "ca holds certificates that cannot"),
        ({"headers": {"Host": "s3cret"}}, "no header that may be set"),
    ],
)
def test_a_wrong_option_is_named_by_its_key(rail: str, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        opened(rail, "http://127.0.0.1:1", **wrong)
    assert "s3cret" not in str(caught.value)


def later(seconds: int) -> str:
    """Return an HTTP date."""
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + seconds))


@each_rail
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("after", ["30", "date"])
async def test_a_pause_that_a_node_asks_for_is_kept_and_outlives_the_connection(
    rail: str, status: int, after: str
) -> None:
    async with node_at(rail) as node:
        url = f"http://127.0.0.1:{node.port}"
        async with opened(rail, url) as adapter:
            node.pause = (status, "30" if after == "30" else later(30))
            with pytest.raises(RailUnavailable):
                await adapter.heads()
            asked = len(node.headers)
            for _ in range(3):
                with pytest.raises(RailUnavailable, match=r"asked for a pause, (2\d|30) s of it are left.*HTTP"):
                    await adapter.heads()
        node.pause = None
        with pytest.raises(RailUnavailable, match="asked for a pause"):
            await opened(rail, url).__aenter__()
        assert len(node.headers) == asked


@pytest.mark.parametrize("way", ["socks5", "http", "straight", "ipv6"])
async def test_the_websocket_goes_the_same_way(way: str, tmp_path: Path) -> None:
    """With the same headers, over TLS with the same authority."""
    ca, tls = make_authority(tmp_path, "DNS:node.onion", "IP:127.0.0.1", "IP:::1")
    seen: list[str | None] = []
    came = asyncio.Event()

    async def push(client: Any) -> None:
        came.set()
        seen.append(client.request.headers.get("api-key"))
        async for message in client:
            call = json.loads(message)
            result = "0x539" if call["method"] == "eth_chainId" else "0x1"
            await client.send(json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": result}))

    host = "::1" if way == "ipv6" else "127.0.0.1"
    async with node_at("evm", host, tls) as node, serve(push, host, 0, ssl=tls) as pushing:
        port = next(iter(pushing.sockets)).getsockname()[1]
        names = {"ipv6": "[::1]", "straight": "127.0.0.1"}
        name = names.get(way, "node.onion")
        tables = {"ca": ca, "headers": {"api-key": "k"}, "ws": f"wss://{name}:{port}"}
        if way in names:
            await heard(f"https://{name}:{node.port}", tables, seen)
            return
        async with (http_proxy if way == "http" else socks5)(node.port) as proxy:
            adapter = opened("evm", f"https://{name}:{node.port}", proxy=proxy.url, **tables)
            async with adapter:
                proxy.upstream = port
                waiting = asyncio.create_task(swallow(adapter.wait_for_change()))
                async with asyncio.timeout(10):
                    await came.wait()
                proxy.upstream = node.port
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
            assert all("node.onion" in asked for asked in proxy.asked)
    assert set(seen) == {"k"}


async def heard(url: str, tables: dict[str, Any], seen: list[str | None]) -> None:
    async with opened("evm", url, **tables) as adapter:
        await adapter.wait_for_change()
    assert set(seen) == {"k"}


async def swallow(waits: Awaitable[None]) -> None:
    """Swallow the stall timer's failure: the proxy leads its HTTP request elsewhere."""
    try:
        await waits
    except RailUnavailable:
        return


def test_ipv6_is_there() -> None:
    """Without it the tests above say nothing."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6):
        pass

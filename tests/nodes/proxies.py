"""Proxies and an authority for tests: SOCKS5, an HTTP proxy, and certificates that no system trusts."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Proxy:
    """One proxy. ``asked`` names the hosts that it was asked to connect to; each leads to ``upstream``, a port."""

    upstream: int
    url: str = ""
    asked: list[str] = field(default_factory=list)
    refuses: bool = False
    credentials: list[str] = field(default_factory=list)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, first: bytes = b"") -> None:
    up, down = await asyncio.open_connection("127.0.0.1", port)
    if first:
        down.write(first)
    await asyncio.gather(_pipe(reader, down), _pipe(up, writer))


@asynccontextmanager
async def socks5(upstream: int, password: str = "") -> AsyncIterator[Proxy]:
    """Yield a SOCKS5 proxy (RFC 1928, RFC 1929 with a password) that gets names and resolves none."""
    proxy = Proxy(upstream)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, count = await reader.readexactly(2)
        await reader.readexactly(count)
        writer.write(b"\x05\x02" if password else b"\x05\x00")
        if password:
            _, length = await reader.readexactly(2)
            user = await reader.readexactly(length)
            given = await reader.readexactly((await reader.readexactly(1))[0])
            proxy.credentials.append(f"{user.decode()}:{given.decode()}")
            writer.write(b"\x01\x00" if given.decode() == password else b"\x01\x01")
        _, _, _, kind = await reader.readexactly(4)
        size = {1: 4, 4: 16}.get(kind) or (await reader.readexactly(1))[0]
        host = await reader.readexactly(size)
        await reader.readexactly(2)
        proxy.asked.append(host.decode() if kind == 3 else host.hex())
        writer.write((b"\x05\x05" if proxy.refuses else b"\x05\x00") + b"\x00\x01" + bytes(6))
        if proxy.refuses:
            await writer.drain()
            writer.close()
        else:
            await _join(reader, writer, proxy.upstream)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    sign = f"me:{password}@" if password else ""
    proxy.url = f"socks5://{sign}127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield proxy


@asynccontextmanager
async def http_proxy(upstream: int) -> AsyncIterator[Proxy]:
    """Yield a proxy for HTTP: absolute URLs for http, CONNECT for the rest (RFC 9110, 9112)."""
    proxy = Proxy(upstream)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            verb, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            proxy.asked.append(target)
            if proxy.refuses:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
                writer.close()
            elif verb == "CONNECT":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                await _join(reader, writer, proxy.upstream)
            else:
                # To the server in origin form (RFC 9112, 3.2.1), as a proxy sends it on.
                path = "/" + target.partition("://")[2].partition("/")[2]
                once = head.replace(target.encode(), path.encode(), 1).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
                await _join(reader, writer, proxy.upstream, once)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield proxy


def make_authority(folder: Path, *names: str) -> tuple[str, ssl.SSLContext]:
    """Return the certificate of an authority of our own in PEM, and a server's context for ``names`` that it signed."""
    extensions = folder / "names"
    extensions.write_text("subjectAltName=" + ",".join(names))

    def openssl(*words: object) -> None:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, cwd=folder)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj")
    openssl(*new, "/CN=authority", "-x509", "-days", 2, "-keyout", "ca.key", "-out", "ca.pem")
    openssl(*new, "/CN=node", "-keyout", "node.key", "-out", "node.csr")
    sign = ("x509", "-req", "-in", "node.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", 2)
    openssl(*sign, "-extfile", extensions, "-out", "node.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "node.pem", folder / "node.key")
    return (folder / "ca.pem").read_text(), context

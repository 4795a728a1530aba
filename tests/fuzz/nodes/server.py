"""Three hostile nodes in a process of their own: honest answers of a development node, changed as a plan says.

Each honest answer is recorded, so that the same question has the same answer, and a plan's dice fall by the question
and how often it was put: what was found can be found again, and with fewer changes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import WebSocketException

from tests.fuzz.nodes.mutations import NASTY, Hostile, change_bytes, change_json, make_hostile

NODES = 3
FOCUSED = 0.6
"""How often an answer of the method that a plan is about is changed."""
Request = tuple[str, str, dict[str, str], bytes]


@dataclass(slots=True)
class Plan:
    """``rate``: how often any answer is changed. ``focus``: the method that is changed more. ``only``: these."""

    seed: str = ""
    rate: float = 0.0
    focus: str = ""
    heavy: bool = False
    only: list[str] | None = None


@dataclass(slots=True)
class Node:
    """One hostile node."""

    upstream: str
    live: bool
    """Ask the development node each time: its chain moves."""
    session: aiohttp.ClientSession
    records: dict[str, tuple[int, str, bytes]] = field(default_factory=dict)
    plan: Plan = field(default_factory=Plan)
    asked: Counter[str] = field(default_factory=Counter)
    done: dict[str, str] = field(default_factory=dict)
    ports: tuple[int, int] = (0, 0)

    async def start(self) -> None:
        """Listen on two ports: for HTTP, and for websockets."""
        http = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 26)
        pushes = await serve(self._push, "127.0.0.1", 0, max_size=None)
        self.ports = (http.sockets[0].getsockname()[1], next(iter(pushes.sockets)).getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection. The end of the process ends it without a word."""
        with suppress(OSError, asyncio.IncompleteReadError, ValueError, aiohttp.ClientError, asyncio.CancelledError):
            while await self._respond(await _read(reader), writer):
                pass
        writer.close()

    async def _respond(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        verb, path, headers, body = request
        if path == "/plan":
            self.plan, self.asked, self.done = Plan(**json.loads(body)), Counter(), {}
            return await _send(writer, Hostile("", b"{}"))
        if path == "/done":
            return await _send(writer, Hostile("", json.dumps(self.done).encode()))
        status, kind, honest = await self._honest(verb, path, headers, body)
        hostile = self._hostile(_name_of(path, body), honest)
        if hostile is None:
            return await _send(writer, Hostile("", honest, status, {"Content-Type": kind}))
        hostile.headers.setdefault("Content-Type", kind)
        return await _send(writer, hostile)

    def _hostile(self, name: str, honest: bytes) -> Hostile | None:
        plan = self.plan
        self.asked[name] += 1
        key = f"{name} #{self.asked[name]}"
        dice = random.Random(f"{plan.seed}/{key}")
        rate = FOCUSED if plan.focus and plan.focus in name else plan.rate
        chosen = dice.random() < rate
        if plan.only is not None:
            chosen = key in plan.only
        if not chosen:
            return None
        hostile = make_hostile(honest, dice, heavy=plan.heavy)
        self.done[key] = hostile.words
        return hostile

    async def _honest(self, verb: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        """Return what the development node answers, under the ids of this very request."""
        if verb == "GET":
            return await self._recorded(path, "GET", path, headers, None)
        if self.live:
            return await self._upstream("POST", path, headers, body)
        calls = json.loads(body)
        many = calls if isinstance(calls, list) else [calls]
        replies = []
        for call in many:
            text = json.dumps([call["method"], call.get("params", [])])
            one = json.dumps({**call, "id": 1}).encode()
            status, kind, raw = await self._recorded(text, "POST", path, headers, one)
            if not raw.lstrip().startswith(b"{"):
                return status, kind, raw
            replies.append({**json.loads(raw), "id": call["id"]})
        return 200, "application/json", json.dumps(replies if isinstance(calls, list) else replies[0]).encode()

    async def _recorded(
        self, key: str, verb: str, path: str, headers: dict[str, str], body: bytes | None
    ) -> tuple[int, str, bytes]:
        if self.live:
            return await self._upstream(verb, path, headers, body)
        if key not in self.records:
            self.records[key] = await self._upstream(verb, path, headers, body)
        return self.records[key]

    async def _upstream(
        self, verb: str, path: str, headers: dict[str, str], body: bytes | None
    ) -> tuple[int, str, bytes]:
        passed = {"Content-Type": "application/json"}
        if "authorization" in headers:
            passed["Authorization"] = headers["authorization"]
        async with self.session.request(verb, self.upstream + path, data=body, headers=passed) as response:
            return response.status, response.content_type, await response.read()

    async def _push(self, socket: ServerConnection) -> None:
        """Answer as a websocket of either chain does, and then push heads, some of them odd."""
        with suppress(WebSocketException, OSError, ValueError, KeyError):
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await self._say(socket, json.loads(await socket.recv()))
                        continue
                await self._say(socket, None)

    async def _say(self, socket: ServerConnection, call: dict[str, Any] | None) -> None:
        if call is None:
            honest: dict[str, Any] = {
                "method": "eth_subscription",
                "params": {"subscription": "0x1", "result": {"number": hex(self.asked["push"] + 9), "hash": "0x1"}},
            }
        elif call["method"] == "eth_chainId":
            _, _, raw = await self._recorded(
                json.dumps(["eth_chainId", []]), "POST", "/", {}, json.dumps(call).encode()
            )
            honest = {**json.loads(raw), "id": call["id"]}
        else:
            honest = {"id": call["id"], "result": "0x1" if call["method"].startswith("eth") else 1}
        text = json.dumps({"jsonrpc": "2.0", **honest}).encode()
        name = "push" if call is None else f"ws {call['method']}"
        hostile = self._hostile(name, text)
        if hostile is None:
            await socket.send(text, text=True)
            return
        dice = random.Random(hostile.words)
        made = dice.choice((hostile, change_json(text, dice, heavy=True), change_bytes(text, dice)))
        await socket.send(made.body or str(dice.choice(NASTY)).encode(), text=dice.random() < 0.8)


def _name_of(path: str, body: bytes) -> str:
    if not body:
        return "rest/" + path.split("/")[2] if path.startswith("/rest/") else path
    calls = json.loads(body)
    methods = [call["method"] for call in calls] if isinstance(calls, list) else [calls["method"]]
    return ",".join(dict.fromkeys(methods))


async def _read(reader: asyncio.StreamReader) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    verb, path, _ = first.split(" ", 2)
    return verb, path, headers, await reader.readexactly(int(headers.get("content-length", "0")))


async def _send(writer: asyncio.StreamWriter, hostile: Hostile) -> bool:
    """Send it; whether the connection can be used again."""
    if hostile.hangs:
        await asyncio.sleep(30)
        return False
    if hostile.raw is not None:
        writer.write(hostile.raw)
        await writer.drain()
        while hostile.endless:
            writer.write(hostile.raw[-100_000:])
            await writer.drain()
        return False
    lines = [f"HTTP/1.1 {hostile.status} X", *(f"{name}: {value}" for name, value in hostile.headers.items())]
    if not hostile.endless:
        lines.append(f"Content-Length: {len(hostile.body)}")
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1", "replace"))
    while hostile.endless:
        writer.write(hostile.body)
        await writer.drain()
    step = 1_024 if hostile.slow else 1 << 20
    for at in range(0, len(hostile.body), step):
        await asyncio.sleep(hostile.slow)
        writer.write(hostile.body[at : at + step])
        await writer.drain()
    return True


async def main(upstream: str, live: bool) -> None:
    """Serve until the standard input ends; the ports are printed on the first line of the standard output."""
    async with aiohttp.ClientSession() as session:
        nodes = [Node(upstream, live, session) for _ in range(NODES)]
        for node in nodes:
            await node.start()
        print(json.dumps([node.ports for node in nodes]), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("upstream")
    parser.add_argument("--live", action="store_true", help="ask the development node each time")
    options = parser.parse_args()
    asyncio.run(main(options.upstream, options.live))

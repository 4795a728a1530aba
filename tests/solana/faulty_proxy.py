"""A node that lies: a proxy before the development node that passes calls on, and answers some of them its own way."""

import asyncio
import json
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

Lie = Callable[[list[Any], dict[str, Any]], dict[str, Any]]
"""From the parameters and the honest reply to the reply that is given."""


def refuse(code: int, message: str = "no") -> Lie:
    """Return a lie that always answers with this error."""
    return lambda _, reply: {"jsonrpc": "2.0", "id": reply["id"], "error": {"code": code, "message": message}}


def answer(value: Any) -> Lie:
    """Return a lie that always answers with ``value``."""
    return lambda _, reply: {"jsonrpc": "2.0", "id": reply["id"], "result": value}


def change(tamper: Callable[[Any], Any]) -> Lie:
    """Answer with what ``tamper`` makes of the honest result."""
    return lambda _, reply: {**reply, "result": tamper(reply["result"])} if "result" in reply else reply


class Liar:
    """``lies`` by method; ``body``, ``status`` and ``hang`` spoil whole responses. ``calls`` is what was asked."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self.lies: dict[str, Lie] = {}
        self.body: bytes | None = None
        self.status = 200
        self.hang = False
        self.calls: list[tuple[str, list[Any]]] = []

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/{key:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.http = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _serve(self, request: web.Request) -> web.Response:
        calls = json.loads(await request.read())
        many = calls if isinstance(calls, list) else [calls]
        self.calls += [(call["method"], call["params"]) for call in many]
        if self.hang:
            await asyncio.sleep(60)
        if self.body is not None or self.status != 200:
            return web.Response(body=self.body, status=self.status)
        async with self._session.post(self._upstream, json=many) as response:
            honest = {reply["id"]: reply for reply in await response.json()}
        replies = [self._altered(call, honest[call["id"]]) for call in many]
        return web.json_response(replies if isinstance(calls, list) else replies[0])

    def _altered(self, call: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any]:
        lie = self.lies.get(call["method"])
        return reply if lie is None else lie(call["params"], reply)

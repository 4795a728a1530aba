"""A node that lies: a proxy before bitcoind that passes RPC and REST on, and answers some of it its own way."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Lie = Callable[[list[Any], dict[str, Any]], dict[str, Any]]
"""From the parameters and the honest reply to the reply that is given."""


def refuse(code: int, message: str) -> Lie:
    """Say no, with one of Core's codes."""
    return lambda _, reply: {"id": reply["id"], "result": None, "error": {"code": code, "message": message}}


def answer(value: Any) -> Lie:
    """Return a lie that always answers with ``value``."""
    return lambda _, reply: {"id": reply["id"], "result": value, "error": None}


def change(tamper: Callable[[Any], Any]) -> Lie:
    """Answer with what ``tamper`` makes of the honest result."""
    return lambda _, reply: {**reply, "result": tamper(reply["result"])}


class Liar:
    """``lies`` by method; ``statuses`` answer every request with a method by that HTTP status and no body.

    ``body``, ``kind``, ``status`` and ``hang`` spoil all responses, REST's too.

    ``rest`` tampers with what REST gives. ``requests`` is what was asked: lists of methods, and paths; ``most`` is how
    many of them were on their way at once.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self.heal()
        self.requests: list[list[str] | str] = []
        self.most = self._now = 0

    def heal(self) -> None:
        """Answer truly again."""
        self.lies: dict[str, Lie] = {}
        self.statuses: dict[str, int] = {}
        self.rest: Callable[[bytes], bytes] | None = None
        self.body: bytes | None = None
        self.kind, self.status, self.hang = "application/json", 200, False

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/{key:.*}", self._counted(self._serve))
        app.router.add_get("/{path:rest/.*}", self._counted(self._serve_rest))
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        await self._session.close()

    def _counted(self, serve: Handler) -> Handler:
        async def counted(request: web.Request) -> web.StreamResponse:
            self._now += 1
            self.most = max(self.most, self._now)
            try:
                return await serve(request)
            finally:
                self._now -= 1

        return counted

    async def _serve(self, request: web.Request) -> web.Response:
        calls = json.loads(await request.read())
        many = calls if isinstance(calls, list) else [calls]
        self.requests.append([call["method"] for call in many])
        if (spoilt := await self._spoilt()) is not None:
            return spoilt
        for call in many:
            if call["method"] in self.statuses:
                return web.Response(status=self.statuses[call["method"]])
        passed = {"Authorization": request.headers.get("Authorization", ""), "Content-Type": "application/json"}
        try:
            async with self._session.post(self._upstream, json=many, headers=passed) as response:
                if response.status != 200:
                    return web.Response(status=response.status, body=await response.read())
                honest = {reply["id"]: reply for reply in json.loads(await response.read(), parse_float=Decimal)}
        except aiohttp.ClientError:
            return web.Response(status=502)
        replies = [self._altered(call, honest[call["id"]]) for call in many]
        return web.json_response(replies if isinstance(calls, list) else replies[0], dumps=_dumps)

    async def _serve_rest(self, request: web.Request) -> web.Response:
        self.requests.append(request.path)
        if (spoilt := await self._spoilt()) is not None:
            return spoilt
        async with self._session.get(self._upstream + request.path) as response:
            body, kind = await response.read(), response.content_type
            if self.rest is not None and response.status == 200:
                body = self.rest(body)
            return web.Response(status=response.status, body=body, content_type=kind)

    async def _spoilt(self) -> web.Response | None:
        if self.hang:
            await asyncio.sleep(60)
        if self.body is None and self.status == 200:
            return None
        return web.Response(body=self.body, status=self.status, content_type=self.kind)

    def _altered(self, call: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any]:
        lie = self.lies.get(call["method"])
        return reply if lie is None else lie(call["params"], reply)


def _dumps(value: Any) -> str:
    return json.dumps(value, default=float)

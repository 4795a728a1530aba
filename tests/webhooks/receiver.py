"""A shop's server that verifies what it gets with the library, keeps it, and misbehaves on demand."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook

SECRET = "whsec_" + "c2VjcmV0" * 4
OLD_SECRET = "whsec_" + "b2xkb2xk" * 4

Behaviour = Callable[["Got"], Awaitable[int | web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Got:
    """One post as it came. ``event`` is what the library gave after verifying it."""

    id: str
    event: dict[str, Any]
    body: bytes
    headers: dict[str, str]

    @property
    def seq(self) -> int:
        return int(self.event["data"]["seq"])

    @property
    def invoice(self) -> str:
        return str(self.event["data"]["invoice"]["id"])


async def accept(_: Got) -> int:
    return 200


@dataclass
class Receiver:
    """Listens on loopback. ``behave`` decides the answer: a status, or a whole response."""

    secret: str = SECRET
    behave: Behaviour = accept
    got: list[Got] = field(default_factory=list)
    """Every post, in the order of arrival, accepted or not."""
    accepted: list[Got] = field(default_factory=list)
    port: int = 0
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/hook", self._hook)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _hook(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        Webhook(self.secret).verify(body, dict(request.headers))
        event = json.loads(body)
        got = Got(request.headers["webhook-id"], event, body, dict(request.headers))
        self.got.append(got)
        answer = await self.behave(got)
        if isinstance(answer, int):
            answer = web.Response(status=answer)
        if answer.status < 300:
            self.accepted.append(got)
        return answer


@asynccontextmanager
async def receiver(secret: str = SECRET, behave: Behaviour = accept) -> AsyncIterator[Receiver]:
    made = Receiver(secret, behave)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def never(_: Got) -> int:
    await asyncio.Event().wait()
    return 200

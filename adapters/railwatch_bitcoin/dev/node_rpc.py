"""Commands to a development node, in the words of its own JSON-RPC: for simulators and demos, not for adapters."""

import asyncio
import time
from collections.abc import Sequence
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from railwatch_bitcoin.dev.node_process import CALL_SECONDS, LOOK_SECONDS, START_SECONDS, DaemonNode, NodeError

REPLIES = msgspec.json.Decoder(float_hook=Decimal)
"""Nodes write amounts as fractions."""


class DevNodeRpc:
    """Commands to a running node over JSON-RPC. It reads the node's cookie with every command."""

    def __init__(self, node: DaemonNode) -> None:
        self.node = node
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # A connection for each command: a node closes idle ones whenever it likes, and loses them when it restarts.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True), timeout=aiohttp.ClientTimeout(CALL_SECONDS)
        )
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def wait(self) -> None:
        """Wait until a node that another process has started answers. Raises `NodeError`."""
        until = time.monotonic() + START_SECONDS
        while not await asyncio.to_thread(self.node.answers):
            if time.monotonic() > until:
                raise NodeError(f"nothing answers at {self.node.url} after {START_SECONDS:.0f} s")
            await asyncio.sleep(LOOK_SECONDS)

    async def rpc(self, method: str, *params: Any, wallet: str | None = None) -> Any:
        """One command. Raises `NodeError` if the node refuses it or is down."""
        (result,) = await self.batch([(method, params)], wallet=wallet)
        return result

    async def batch(self, calls: Sequence[tuple[str, Sequence[Any]]], wallet: str | None = None) -> list[Any]:
        """Many commands in one request; their results in order. Raises `NodeError` for the first that was refused."""
        if not calls:
            return []
        if self._session is None:
            raise NodeError(f"{self.node.program} is not running: enter the console first")
        body = msgspec.json.encode(
            [{"id": number, "method": method, "params": params} for number, (method, params) in enumerate(calls)]
        )
        path = "/" if wallet is None else f"/wallet/{wallet}"
        try:
            headers = {"Content-Type": "application/json", "Authorization": self.node.authorization()}
            async with self._session.post(self.node.url + path, data=body, headers=headers) as response:
                text = await response.read()
        except (OSError, aiohttp.ClientError) as away:
            raise NodeError(f"{calls[0][0]}: {self.node.program} does not answer: {away!r}") from away
        try:
            replies = {reply["id"]: reply for reply in REPLIES.decode(text)}
        except (msgspec.DecodeError, TypeError, KeyError) as odd:
            raise NodeError(f"{calls[0][0]}: {response.status}: {text[:200]!r}") from odd
        return [_result(method, replies[number]) for number, (method, _) in enumerate(calls)]


def _result(method: str, reply: dict[str, Any]) -> Any:
    if reply.get("error"):
        raise NodeError(f"{method}: {reply['error'].get('message')} ({reply['error'].get('code')})")
    return reply.get("result")

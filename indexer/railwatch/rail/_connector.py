"""Connections on which only answers to what was asked count.

aiohttp hands out a kept connection although bytes came in while it was idle, and reads those as the answer of the next
request. A server that sends two answers, or a proxy in front of it that is out of step, would so accept an event that
it has never seen. In HTTP/1.1 the order alone says which answer belongs to which request (RFC 9112, 9.3.2).
"""

import asyncio
from typing import Any
from weakref import WeakSet

import aiohttp
from aiohttp.client import ClientTimeout
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

TURNS = 2
"""Of the loop, after which it has read what lies in a socket: in the first it finds out, in the second it reads."""


class SpokeUnasked(aiohttp.ClientConnectionError):
    """The server sent something before it was asked."""


class AskedOnly(aiohttp.BaseConnector):
    """Mixed into a connector: it gives out connections on which nothing has come in.

    ``turns``: how many turns of the loop to wait for unread bytes in the socket; 0: check what was read by now.
    """

    def __init__(self, *args: Any, turns: int = 0, **more: Any) -> None:
        super().__init__(*args, **more)
        self._turns = turns
        self._used: WeakSet[ResponseHandler] = WeakSet()

    async def connect(self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:
        """Return a silent connection. A kept one that has ended, or has spoken, is left for another one.

        Raises `SpokeUnasked` or `aiohttp.ServerDisconnectedError` if a new one did so, and what connecting raises.
        """
        while True:
            connection = await super().connect(req, traces, timeout)
            try:
                for _ in range(self._turns):
                    await asyncio.sleep(0)
            except BaseException:
                connection.close()
                raise
            protocol = connection.protocol
            assert protocol is not None, "a connection has its protocol until it is released"
            if protocol.is_connected() and not protocol.should_close:
                self._used.add(protocol)
                return connection
            is_kept, has_ended = protocol in self._used, not protocol.is_connected()
            connection.close()
            if not is_kept:
                raise aiohttp.ServerDisconnectedError if has_ended else SpokeUnasked


class TcpConnector(AskedOnly, aiohttp.TCPConnector):
    """aiohttp's own."""

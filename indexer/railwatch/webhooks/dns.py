"""Name lookups on threads of each endpoint: a name server that hangs delays only that endpoint."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from aiohttp.abc import AbstractResolver, ResolveResult

THREADS = 2
"""Threads of one endpoint. A lookup cannot be cancelled: one that hangs blocks a thread, and the next attempt uses the
other."""


class Lookup(AbstractResolver):
    """The system's resolver with the interface of aiohttp."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="lookup")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return every address of ``host``. Raises OSError if there is none."""
        ask = partial(socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        except UnicodeError as error:  # an invalid name, such as one with an empty label
            raise OSError(str(error)) from error
        return [
            ResolveResult(
                hostname=host,
                host=str(place[0]),
                port=int(place[1]),
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, place in found
        ]

    async def close(self) -> None:
        """Shut down the threads; one that hangs ends with its lookup."""
        self._threads.shutdown(wait=False, cancel_futures=True)

"""Name lookups on threads of an endpoint's own: a name server that hangs holds up nobody else's endpoint."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from aiohttp.abc import AbstractResolver, ResolveResult

THREADS = 2
"""A lookup cannot be cancelled: one that hangs keeps its thread, and the next attempt gets the other."""


class Lookup(AbstractResolver):
    """The system's resolver, as aiohttp asks it."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="lookup")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Every address of ``host``. Raises OSError if there is none."""
        ask = partial(socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        except UnicodeError as error:  # a name that no name can be, such as one with an empty label
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
        """Let the threads go; one that hangs ends with its lookup."""
        self._threads.shutdown(wait=False, cancel_futures=True)

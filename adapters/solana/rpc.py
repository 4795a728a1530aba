"""JSON-RPC over HTTP: one session, one post a call, errors in the seam's words. Nothing is tried twice."""

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import Any, TypeAlias, TypeVar

import aiohttp
import msgspec

from adapters.solana.node import SolanaNode
from adapters.solana.wire import Decoder, Reply
from indexer.rail import RailUnavailable

Call: TypeAlias = tuple[str, Sequence[Any]]
"""A method and its parameters."""

T = TypeVar("T")

BLOCK_CLEANED_UP = -32001
UNSUPPORTED_VERSION = -32015
NO_INDEX = (-32010, -32011, -32601)
"""What a node says that keeps no index of this kind, or no history, or does not serve the method at all."""
MISSING = (-32004, -32007, -32009, -32014)
"""What a node says of a slot that it has no block for: skipped, lost and not yet there look the same (HAZARDS S11)."""


class Refused(RailUnavailable):
    """The node answered with an error; ``code`` is its own."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Unreadable(RailUnavailable):
    """An answer came, and it has not the shape that was asked for; ``raw`` is its JSON."""

    def __init__(self, message: str, raw: bytes) -> None:
        super().__init__(message)
        self.raw = raw


class Nothing(Unreadable):
    """The node answered null where something was asked for."""


_parts: "msgspec.json.Decoder[list[msgspec.Raw]]" = msgspec.json.Decoder(list[msgspec.Raw])


class Rpc:
    """One node's endpoint. Every call is bounded by the node's timeout."""

    def __init__(self, node: SolanaNode) -> None:
        self.name = node.name
        self._url, self._timeout = node.http, node.timeout
        self._numbers = count(1)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the session, which keeps its connections. Without I/O."""
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        self._session = aiohttp.ClientSession(timeout=timeout, headers={"Content-Type": "application/json"})

    async def close(self) -> None:
        """Let go of all connections. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(self, decoder: "Decoder[T]", method: str, *params: Any) -> T:
        """One call. Raises `Refused` for an error of the node, `Unreadable` for another shape, `RailUnavailable`."""
        _, body = self._request(method, params)
        raw = await self._post(method, msgspec.json.encode(body))
        return self.read(decoder, raw, method)

    async def batch(self, calls: Sequence[Call]) -> list[bytes]:
        """Many calls in one request, so that one node behind the endpoint answers them all (HAZARDS E19).

        Replies are in the order of ``calls``, to be taken apart by `read`. Raises `Refused` if the batch as a whole was
        refused and `RailUnavailable` if any reply is missing.
        """
        requests = [self._request(method, params) for method, params in calls]
        what = f"batch of {len(calls)} from {calls[0][0]}"
        raw = await self._post(calls[0][0], msgspec.json.encode([body for _, body in requests]))
        if not raw.lstrip().startswith(b"["):
            # One object for the whole batch is how a node says that it takes none.
            self.read(msgspec.json.Decoder(Reply[Any]), raw, what)
            raise RailUnavailable(f"{self.name} {what}: one answer for many calls")
        try:
            replies = {msgspec.json.decode(part, type=Reply[Any]).id: part for part in _parts.decode(raw)}
            return [bytes(replies[number]) for number, _ in requests]
        except msgspec.DecodeError as error:
            raise RailUnavailable(f"{self.name} {what}: not a JSON-RPC answer: {error}") from error
        except KeyError as error:
            raise RailUnavailable(f"{self.name} {what}: {len(calls) - len(replies)} answers are missing") from error

    def read(self, decoder: "Decoder[T]", raw: bytes, method: str) -> T:
        """One reply's result. Raises as `call`; a null where something was asked for has the wrong shape as well."""
        try:
            reply = decoder.decode(raw)
        except msgspec.DecodeError as error:
            raise Unreadable(f"{self.name} {method}: not the answer that was asked for: {error}", raw) from error
        if reply.error is not None:
            message = reply.error.message[:200]
            raise Refused(f"{self.name} {method} refused: {message} ({reply.error.code})", reply.error.code)
        if reply.result is None:
            raise Nothing(f"{self.name} {method}: an answer of nothing", raw)
        return reply.result

    def _request(self, method: str, params: Sequence[Any]) -> tuple[int, dict[str, Any]]:
        number = next(self._numbers)
        return number, {"jsonrpc": "2.0", "id": number, "method": method, "params": params}

    async def _post(self, method: str, body: bytes) -> bytes:
        """Post and read, once. Raises `RailUnavailable` for whatever a network or a gateway can do."""
        if self._session is None:
            raise RailUnavailable(f"{self.name}: not connected")
        try:
            async with self._session.post(self._url, data=body, allow_redirects=False) as response:
                answer = await response.read()
                status = response.status
        except TimeoutError as error:
            raise RailUnavailable(f"{self.name} {method}: no answer within {self._timeout:g} s") from error
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            # The error's own words could hold the URL, and with it an API key.
            raise RailUnavailable(f"{self.name} {method}: {type(error).__name__}") from error
        if status >= 400 and not answer.lstrip().startswith((b"{", b"[")):
            raise RailUnavailable(f"{self.name} {method}: HTTP {status}")
        return answer

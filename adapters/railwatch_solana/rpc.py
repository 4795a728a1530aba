"""JSON-RPC over HTTP: one session, one post a call, errors in the seam's words. Nothing is tried twice."""

from collections.abc import Sequence
from itertools import count
from typing import Any, TypeAlias, TypeVar

import aiohttp
import msgspec

from railwatch.rail import RailUnavailable
from railwatch.rail.again import OTHERS
from railwatch.rail.decoding import (
    ERROR_STATUS,
    IDENTITY,
    SMALL_MOST,
    VALUES_AT_ONCE,
    VALUES_MOST,
    AnswerTooLarge,
    decode,
    decode_beside,
    printable,
    read_body,
)
from railwatch.rail.http import NETWORK_ERRORS, http_session
from railwatch.rail.pacing import TOO_MANY, pace_of, pushed_back_by
from railwatch.rail.refusals import Refusal, holds_error, is_refusal, read_no_reply, read_refusal, will_pass
from railwatch.rail.transport import Session, open_session
from railwatch_solana.options import SolanaOptions
from railwatch_solana.wire import Decoder, RpcEnvelope

Call: TypeAlias = tuple[str, Sequence[Any]]
"""A method and its parameters."""

T = TypeVar("T")

BLOCK_CLEANED_UP = -32001
UNSUPPORTED_VERSION = -32015
BEHIND = -32016
"""The node has not reached the slot that it was asked to have reached (HAZARDS S15)."""
MISSING = (-32004, -32007, -32009, -32014)
"""What a node says of a slot that it has no block for: skipped, lost and not yet there look the same (HAZARDS S11)."""
PASSING = frozenset({BEHIND, -32005, -32003, -32603, -32019, -32029, -32429, TOO_MANY})
"""Codes of what will pass: behind, unhealthy, an error within, a store that is away, the limits of hosted endpoints."""


class RpcRejected(RailUnavailable):
    """The node answered with an error; ``code`` is its own, or the HTTP status.

    ``passes``: it says so for now only. Otherwise it does not serve what it was asked for, in whatever words.
    """

    def __init__(self, message: str, code: int, words: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.passes = will_pass(Refusal(code, message if words is None else words), PASSING)


class MalformedResponse(RailUnavailable):
    """An answer came, and it has not the shape that was asked for; ``raw`` is its JSON."""

    def __init__(self, message: str, raw: bytes) -> None:
        super().__init__(message)
        self.raw = raw


class NullResult(MalformedResponse):
    """The node answered null where something was asked for."""


BLOCK_MOST, LIST_MOST = 32 * 1024 * 1024, 8 * 1024 * 1024
"""Bytes of a block, of which four may be on their way at once, and of a list: 500,000 slots have five megabytes. A full
block of 2025 has some ten with its accounts."""
MOST = {
    "getBlock": BLOCK_MOST,
    "getBlocks": LIST_MOST,
    "getTransaction": LIST_MOST,
    "getSignaturesForAddress": LIST_MOST,
    "getTokenAccountsByOwner": LIST_MOST,
}
"""Bytes of an answer by its method; `SMALL_MOST` for all others."""

_parts: "msgspec.json.Decoder[list[msgspec.Raw]]" = msgspec.json.Decoder(list[msgspec.Raw])
_any: "msgspec.json.Decoder[RpcEnvelope[Any]]" = msgspec.json.Decoder(RpcEnvelope[Any])


class Rpc:
    """One node's endpoint. Every call is bounded by the node's timeout, and every answer in bytes."""

    def __init__(self, node: SolanaOptions) -> None:
        self.name = node.name
        self._url, self._timeout, self._options = node.http, node.timeout, node.options
        self._pace = pace_of(node.http)
        self._limit = aiohttp.ClientTimeout(total=node.timeout)
        self._numbers = count(1)
        self._takes_batches = True
        self._session: Session | None = None

    async def open(self) -> None:
        """Make the session, which keeps its connections. Without I/O."""
        headers = {"Content-Type": "application/json", **IDENTITY}
        self._session = open_session(http_session(self._options, headers=headers))

    async def close(self) -> None:
        """Let go of all connections. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(self, decoder: "Decoder[T]", method: str, *params: Any) -> T:
        """One call. Raises `RpcRejected` for an error of the node, `MalformedResponse` for another shape,
        `RailUnavailable`.

        An endpoint that says that it is behind is asked a few times more: where several nodes stand behind it, another
        one answers (HAZARDS S15).
        """
        for _ in range(OTHERS):
            try:
                return await self._call(decoder, method, params)
            except RpcRejected as refused:
                if refused.code != BEHIND:
                    raise
        return await self._call(decoder, method, params)

    async def _call(self, decoder: "Decoder[T]", method: str, params: Sequence[Any]) -> T:
        _, body = self._request(method, params)
        raw = await self._post(method, msgspec.json.encode(body), MOST.get(method, SMALL_MOST))
        return await self.read_beside(decoder, raw, method)

    async def batch(self, calls: Sequence[Call]) -> list[bytes]:
        """Many small calls in one request, so that one node behind the endpoint answers them all (HAZARDS E19).

        An endpoint that takes no batches is asked one by one: then several nodes may have answered. Replies are in the
        order of ``calls``, to be taken apart by `read`. Raises `RailUnavailable` if any reply is missing.
        """
        if self._takes_batches:
            try:
                return await self._together(calls)
            except RpcRejected as refused:
                if refused.passes:
                    raise
                self._takes_batches = False
        return [
            await self._post(method, msgspec.json.encode(self._request(method, params)[1]), SMALL_MOST)
            for method, params in calls
        ]

    async def _together(self, calls: Sequence[Call]) -> list[bytes]:
        """One request. Raises `RpcRejected` if the batch as a whole was refused."""
        requests = [self._request(method, params) for method, params in calls]
        what = f"batch of {len(calls)} from {calls[0][0]}"
        raw = await self._post(what, msgspec.json.encode([body for _, body in requests]), SMALL_MOST)
        if not raw.lstrip().startswith(b"["):
            # One object for the whole batch is how a node says that it takes none.
            self.read(_any, raw, what)
            raise RpcRejected(f"{self.name} {what}: one answer for many calls", 0)
        parts = decode(raw, _parts, f"{self.name} {what}")
        replies = {decode(part, _any, f"{self.name} {what}").id: bytes(part) for part in parts}
        missing = [number for number, _ in requests if number not in replies]
        if missing and len(parts) == 1:
            self.read(_any, bytes(parts[0]), what)
        if missing:
            raise RailUnavailable(f"{self.name} {what}: {len(missing)} answers are missing")
        return [replies[number] for number, _ in requests]

    def read(self, decoder: "Decoder[T]", raw: bytes, method: str) -> T:
        """One small reply's result. Raises as `call`; a null where something was asked for is a wrong shape as well."""
        try:
            reply = decode(raw, decoder, f"{self.name} {method}")
        except RailUnavailable as error:
            raise MalformedResponse(str(error), raw) from error
        return self._result(reply, raw, method)

    async def read_beside(self, decoder: "Decoder[T]", raw: bytes, method: str) -> T:
        """The same for any reply: a large one is decoded beside the loop. Raises `AnswerTooLarge` as well."""
        most = VALUES_MOST if method == "getBlock" else VALUES_AT_ONCE
        try:
            reply = await decode_beside(raw, decoder, f"{self.name} {method}", most)
        except AnswerTooLarge:
            raise
        except RailUnavailable as error:
            raise MalformedResponse(str(error), raw) from error
        return self._result(reply, raw, method)

    def _result(self, reply: RpcEnvelope[T], raw: bytes, method: str) -> T:
        refusal = read_refusal(reply.error)
        if refusal is None and isinstance(reply.result, msgspec.UnsetType):
            refusal = Refusal(0, read_no_reply(raw))
        if refusal is not None:
            said = f"{printable(refusal.words)} ({printable(refusal.code, 40)})"
            raise RpcRejected(f"{self.name} {method} refused: {said}", refusal.code, refusal.words)
        if reply.result is None or isinstance(reply.result, msgspec.UnsetType):
            raise NullResult(f"{self.name} {method}: an answer of nothing", raw)
        return reply.result

    def _request(self, method: str, params: Sequence[Any]) -> tuple[int, dict[str, Any]]:
        number = next(self._numbers)
        return number, {"jsonrpc": "2.0", "id": number, "method": method, "params": params}

    async def _post(self, method: str, body: bytes, most: int) -> bytes:
        """Post and read at most so many bytes, once.

        Raises `RpcRejected` for a no by status, `RailUnavailable` for what else can happen.
        """
        if self._session is None:
            raise RailUnavailable(f"{self.name}: not connected")
        what = f"{self.name} {method}"
        await self._pace.turn(self.name)
        try:
            async with self._session.post(self._url, data=body, allow_redirects=False, timeout=self._limit) as response:
                answer = await read_body(response, most, what)
                status, retry = response.status, response.headers.get("Retry-After")
        except TimeoutError as error:
            raise RailUnavailable(f"{what}: no answer within {self._timeout:g} s") from error
        except NETWORK_ERRORS as error:
            # The error's own words could hold the URL, and with it an API key.
            raise RailUnavailable(f"{what}: {type(error).__name__}") from error
        if pushed_back_by(self._pace, status, retry, f"HTTP {status}"):
            raise RpcRejected(f"{what} refused: HTTP {status}, too many requests", TOO_MANY)
        self._pace.answered()
        if is_refusal(status) and not holds_error(answer):
            words = printable(answer[:100].decode(errors="replace").strip())
            raise RpcRejected(f"{what} refused: HTTP {status}{words and ', ' + words}", status, words)
        if status >= ERROR_STATUS and not answer.lstrip().startswith((b"{", b"[")):
            raise RailUnavailable(f"{what}: HTTP {status}")
        return answer

"""A JSON-RPC client over HTTP for every rail: one session, bounded answers, the endpoint's pace, batches that halve.

A rail adds its dialect by a subclass: what an error means (`JsonRpcClient.rejected`), how many bytes a method may
answer with (`JsonRpcClient.bytes_max`), and what its clients and gateways do differently.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import aiohttp
import msgspec

from railwatch.rail._rpc_response import R, RpcEnvelope, RpcRejected, RpcResponse
from railwatch.rail.decoding import (
    ANSWER_MOST,
    ERROR_STATUS,
    IDENTITY,
    Decodes,
    decode_beside,
    printable,
    read_body,
)
from railwatch.rail.errors import RailUnavailable
from railwatch.rail.http import NETWORK_ERRORS, http_session
from railwatch.rail.options import HttpOptions
from railwatch.rail.pacing import Batching, RequestPace, pace_of, pushed_back_by
from railwatch.rail.refusals import Refusal, holds_error, is_refusal, read_no_reply, read_refusal
from railwatch.rail.transport import Session, open_session

__all__ = ["Call", "HttpAnswer", "JsonRpcClient", "NodeTimeout", "RpcEnvelope", "RpcRejected", "RpcResponse"]

Call: TypeAlias = tuple[str, Sequence[Any]]
"""A method and its parameters."""

T = TypeVar("T")
CONCURRENCY = 100
"""Requests to one endpoint at once, unless the rail's nodes serve fewer."""
WORDS_MAX = 100
"""Bytes of an HTTP error's body that an error message quotes."""
UNAUTHORIZED = 401
UNBOUNDED = aiohttp.ClientTimeout(total=None)
"""aiohttp's own bound is five minutes. `JsonRpcClient.exchange` bounds each request by the node's timeout."""


class NodeTimeout(RailUnavailable):
    """The node did not answer in time. A smaller request, or a longer timeout, may help."""


class HttpAnswer(NamedTuple):
    """An HTTP response, read whole. ``kind`` is the media type, ``retry_after`` the header of that name."""

    status: int
    kind: str
    retry_after: str | None
    body: bytes

    @property
    def looks_like_json(self) -> bool:
        """Whether the body begins as a JSON-RPC reply or a list of them does."""
        return self.body[:64].lstrip().startswith((b"{", b"["))

    @property
    def is_list(self) -> bool:
        """Whether the body begins as the reply to a batch does."""
        return self.body[:64].lstrip().startswith(b"[")

    @property
    def words(self) -> str:
        """The beginning of the body as one printable line."""
        return printable(self.body[:WORDS_MAX].decode(errors="replace").strip())


_one = msgspec.json.Decoder(RpcEnvelope)
_many = msgspec.json.Decoder(list[RpcEnvelope])


class JsonRpcClient(ABC, Generic[R]):
    """One JSON-RPC endpoint. The timeout bounds every request; the client sends each request once.

    ``timeout`` in seconds. ``concurrency``: requests that may be under way at once. ``pace`` and ``batching`` hold what
    the endpoint taught us; an adapter may keep them over its connections.
    """

    singles = 1
    """Requests at once in place of a batch that the endpoint refuses."""

    def __init__(
        self,
        name: str,
        url: str,
        options: HttpOptions,
        timeout: float,
        *,
        concurrency: int = CONCURRENCY,
        pace: RequestPace | None = None,
        batching: Batching | None = None,
    ) -> None:
        self.name, self.timeout = name, timeout
        self.pace = pace_of(url) if pace is None else pace
        self.batching = batching or Batching()
        self._http_url, self._options = url, options
        self._concurrency = asyncio.Semaphore(concurrency)
        self._ids = count(1)
        self._session: Session | None = None

    async def open(self) -> None:
        """Make the session, which keeps its connections. Without I/O to the node."""
        # The semaphore limits requests, not the connector: a request that waits in a connector does not learn that the
        # session was closed.
        self._session = open_session(http_session(self._options, limit=0))

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # Requests

    async def call(self, method: str, *params: Any, timeout: float | None = None) -> RpcResponse[R]:
        """Call one method. ``timeout``: seconds, the node's own by default.

        Raises `RailUnavailable` if no reply comes back, and `RpcRejected` if the endpoint refuses the request in place
        of a reply. The reply itself may still carry an error.
        """
        what = f"{self.name} {method}"
        body = msgspec.json.encode(self.request(method, params))
        answer = await self.post(what, body, self.bytes_max([method]), timeout)
        reply, extra = await self.unpack(answer.body, _one, what)
        self.note_replies([reply], what)
        if not self.is_reply(reply):
            raise self.no_reply(what, answer.body)
        return self._respond(what, reply, extra)

    async def batch(self, calls: Sequence[Call], most: int | None = None) -> list[RpcResponse[R]]:
        """Call many methods in one request, so that one node behind the endpoint answers all of them (HAZARDS E19).

        Responses are in the order of ``calls``. An endpoint that refuses the batch is asked in halves, in the end one
        by one. ``most``: bytes of each answer at most. Raises `RpcRejected` if that is refused as well, and
        `RailUnavailable` if any reply is missing.
        """
        responses: list[RpcResponse[R]] = []
        while (done := len(responses)) < len(calls):
            if (size := self.batching.size()) > 1:
                responses += await self._halve(calls[done : done + size], most)
            else:
                responses += await self._one_by_one(calls[done : done + self.singles])
        return responses

    async def _one_by_one(self, calls: Sequence[Call]) -> list[RpcResponse[R]]:
        """Send a few calls, each in a request of its own. The first one that fails cancels the others."""
        tasks = [asyncio.ensure_future(self.call(method, *params)) for method, params in calls]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _halve(self, calls: Sequence[Call], most: int | None) -> list[RpcResponse[R]]:
        try:
            return await self._together(calls, most)
        except RpcRejected as refused:
            if len(calls) == 1 or not self.halves(refused, len(calls)):
                raise
        middle = len(calls) // 2
        return [*await self.batch(calls[:middle], most), *await self.batch(calls[middle:], most)]

    async def _together(self, calls: Sequence[Call], most: int | None) -> list[RpcResponse[R]]:
        """Send one request. Raises `RpcRejected` if the endpoint refused the batch as a whole, in any form."""
        if len(calls) == 1:
            return [await self.call(calls[0][0], *calls[0][1])]
        requests = [self.request(method, params) for method, params in calls]
        what = f"{self.name} batch of {len(calls)} from {calls[0][0]}"
        bytes_max = min(self.bytes_max([method for method, _ in calls]), most or ANSWER_MOST)
        answer = await self.post(what, msgspec.json.encode(requests), bytes_max)
        if not answer.is_list:
            raise await self._one_for_many(what, answer.body)
        many, extra = await self.unpack(answer.body, _many, what)
        if len(many) > len(calls):
            raise RailUnavailable(f"{what}: {len(many):,} answers to {len(calls)} calls")
        self.note_replies(many, what)
        replies = {str(reply.id): reply for reply in many}
        missing = sum(str(request["id"]) not in replies for request in requests)
        if (whole := self.whole_refusal(many, missing)) is not None:
            raise self.reject(what, whole.error)
        if missing:
            raise RailUnavailable(f"{what}: {missing} answers are missing")
        return [
            self._respond(f"{self.name} {method}", replies[str(request["id"])], extra)
            for request, (method, _) in zip(requests, calls, strict=True)
        ]

    async def _one_for_many(self, what: str, body: bytes) -> RpcRejected:
        """Return the refusal of a batch that the endpoint answered with one object."""
        reply, _ = await self.unpack(body, _one, what)
        self.note_replies([reply], what)
        if reply.failed:
            return self.reject(what, reply.error)
        if reply.has_result:
            return self.rejected(what, Refusal(0, "one answer for many calls"))
        return self.no_reply(what, body)

    def _respond(self, what: str, reply: RpcEnvelope, extra: object) -> RpcResponse[R]:
        reject: Callable[[], R] | None = None
        if reply.failed:
            reject = partial(self.reject, what, reply.error)
        elif not self.is_reply(reply):
            reject = partial(self.no_reply, what, b"")
        return RpcResponse(what, reply.result, reject, extra)

    async def post(self, what: str, body: bytes, most: int, timeout: float | None = None) -> HttpAnswer:
        """Post ``body`` once and return the answer, of at most ``most`` bytes, that holds JSON-RPC.

        Raises as `exchange` and `check_status` do.
        """
        answer = await self.exchange(what, body, most, timeout)
        if answer.status == UNAUTHORIZED and self.renew_credentials():
            answer = await self.exchange(what, body, most, timeout)
        self.check_status(what, answer)
        return answer

    async def exchange(
        self, what: str, body: bytes | None, most: int, timeout: float | None = None, *, path: str = ""
    ) -> HttpAnswer:
        """Send one request at the endpoint's pace and read the answer: POST, or GET at ``path`` without a body.

        Raises `RailUnavailable` for every failure of a network, `NodeTimeout` after ``timeout`` seconds,
        `AnswerTooLarge` for more than ``most`` bytes, and `Paused` during a pause that the endpoint asked for.
        """
        seconds = timeout or self.timeout
        await self.pace.turn(self.name)
        try:
            async with asyncio.timeout(seconds), self._concurrency:
                return await self._send(what, body, most, path)
        except TimeoutError as error:
            raise NodeTimeout(f"{what}: no answer within {seconds:g} s") from error
        except NETWORK_ERRORS as error:
            # The error's own words may hold the URL, and with it an API key.
            raise RailUnavailable(f"{what}: {type(error).__name__}") from error

    async def _send(self, what: str, body: bytes | None, most: int, path: str) -> HttpAnswer:
        if self._session is None:
            raise RailUnavailable(f"{self.name}: not connected, enter the adapter first")
        verb = "GET" if body is None else "POST"
        headers = self.headers()
        async with self._session.request(
            verb, self._http_url + path, data=body, headers=headers, allow_redirects=False, timeout=UNBOUNDED
        ) as response:
            content = await read_body(response, most, what)
            return HttpAnswer(response.status, response.content_type, response.headers.get("Retry-After"), content)

    # The dialect: what a rail's clients do differently

    @abstractmethod
    def rejected(self, what: str, refusal: Refusal) -> R:
        """Return the rail's error for a refusal: its code (0: none) and its words. ``what`` names node and method."""

    def bytes_max(self, methods: Sequence[str]) -> int:
        """Return the bytes that the answer to these methods may have together."""
        return ANSWER_MOST

    def headers(self) -> Mapping[str, str]:
        """Return the headers of the next request."""
        return {"Content-Type": "application/json", **IDENTITY}

    def renew_credentials(self) -> bool:
        """Read the credentials again after HTTP 401; return whether they have changed."""
        return False

    def request(self, method: str, params: Sequence[Any]) -> Mapping[str, Any]:
        """Return the request object of one call."""
        return {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}

    async def unpack(self, raw: bytes, decoder: Decodes[T], what: str) -> tuple[T, object]:
        """Return the envelopes in an answer, and what the responses carry as ``extra``. Raises `RailUnavailable`."""
        return await decode_beside(raw, decoder, what), None

    def note_replies(self, replies: Sequence[RpcEnvelope], what: str) -> None:
        """Learn from replies before they are read, for instance that the rate was too high."""

    def is_reply(self, reply: RpcEnvelope) -> bool:
        """Return whether an object is a reply: a gateway's own object has neither a result nor an error."""
        return reply.failed or reply.has_result

    def reject(self, what: str, error: msgspec.Raw) -> R:
        """Return the rail's error for an ``error`` member."""
        return self.rejected(what, read_refusal(error) or Refusal(0, ""))

    def no_reply(self, what: str, body: bytes) -> R:
        """Return the rail's error for an object that is no reply, in the object's own words."""
        return self.rejected(what, Refusal(0, read_no_reply(body)))

    def whole_refusal(self, replies: Sequence[RpcEnvelope], missing: int) -> RpcEnvelope | None:
        """Return the reply that refuses a batch as a whole. ``missing``: how many calls have no reply."""
        if not missing:
            return None
        return next((reply for reply in replies if reply.failed and (reply.id is None or len(replies) == 1)), None)

    def halves(self, refused: RpcRejected, calls: int) -> bool:
        """Return whether to send a refused batch of so many ``calls`` in halves, and learn from the refusal."""
        if refused.passes:
            return False
        self.batching.refused(calls)
        return True

    def check_status(self, what: str, answer: HttpAnswer) -> None:
        """Raise for an answer that holds no JSON-RPC, and slow down if it says that the rate was too high.

        Raises `RpcRejected` for a status that says no, `RailUnavailable` for all others.
        """
        slower = self.note_pace(answer)
        if slower or (is_refusal(answer.status) and not holds_error(answer.body)):
            raise self.rejected(what, Refusal(answer.status, f"HTTP {answer.status}, {answer.words}".rstrip(", ")))
        if answer.status >= ERROR_STATUS and not answer.looks_like_json:
            raise RailUnavailable(f"{what}: HTTP {answer.status}")

    def note_pace(self, answer: HttpAnswer, words: str = "") -> bool:
        """Slow down if the endpoint said that the rate was too high, else speed up; return whether it said so."""
        if pushed_back_by(self.pace, answer.status, answer.retry_after, f"HTTP {answer.status}{words}"):
            return True
        self.pace.answered()
        return False

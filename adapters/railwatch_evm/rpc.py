"""JSON-RPC over HTTP: web3's provider without its formatters, its retries and its session.

Three parts of the provider are replaced, for measured reasons (README.md, "What of web3 is used"): the formatters take
70 times as long as typed decoding, retries belong to the caller, and its session opens a connection for every request.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import aiohttp
import msgspec
from eth_typing import URI
from web3.providers.rpc import AsyncHTTPProvider
from web3.types import RPCEndpoint, RPCRequest

from railwatch.rail import RailUnavailable
from railwatch.rail.decoding import (
    ANSWER_MOST,
    IDENTITY,
    LARGE,
    NESTING_MOST,
    SMALL_MOST,
    VALUES_MOST,
    AnswerTooLarge,
    Decodes,
    TooDeep,
    bound_recursion,
    check_nesting,
    decode,
    decode_each,
    off_loop,
    printable,
    read_body,
)
from railwatch.rail.http import NETWORK_ERRORS, http_session
from railwatch.rail.pacing import Batching, Paused, RequestPace, pushed_back_by, retry_after
from railwatch.rail.refusals import own_words
from railwatch.rail.transport import Session, open_session
from railwatch_evm import wire
from railwatch_evm.fold import Folded, fold
from railwatch_evm.options import EvmOptions
from railwatch_evm.rpc_errors import MISSING_STATUS, Meaning, RpcRejected, UnknownBlock, meaning_of, read_error

bound_recursion()

Call: TypeAlias = tuple[str, Sequence[Any]]
"""A method and its parameters."""

T = TypeVar("T")

CONTENT = ("eth_getBlock", "eth_getLogs", "eth_getTransactionReceipt", "trace_", "debug_")
"""How methods begin that answer with content, up to `ANSWER_MOST` bytes; others give a few values (`SMALL_MOST`)."""
TOO_LARGE = 413
NOTHING = msgspec.Raw(b"null")
REDIRECTS, ERRORS = 300, 400
"""The first of HTTP's statuses that send on, and the first that are errors."""


class NodeTimeout(RailUnavailable):
    """The node did not answer in time. Asking for less, or waiting longer, may help."""


class RpcEnvelope(msgspec.Struct):
    """One reply. Result and error stay bytes until somebody knows their type."""

    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def failed(self) -> bool:
        """Whether it carries an error."""
        return bytes(self.error) != b"null"

    @property
    def is_one(self) -> bool:
        """Whether it is a reply at all: a gateway's own object has neither a result nor an error."""
        return self.failed or bytes(self.result) != b"" or self.id is not None


_one = msgspec.json.Decoder(RpcEnvelope)
_many = msgspec.json.Decoder(list[RpcEnvelope])


@dataclass(slots=True)
class Endpoint:
    """What was learned about an endpoint, and outlives a connection to it."""

    pace: RequestPace = field(default_factory=RequestPace)
    batching: Batching = field(default_factory=Batching)


class RpcResponse:
    """What one call came back with; reading it is where an error of the node is raised."""

    __slots__ = ("_folded", "_reply", "_what")

    def __init__(self, what: str, reply: RpcEnvelope, folded: Folded | None = None) -> None:
        self._what, self._reply, self._folded = what, reply, folded

    @property
    def size(self) -> int:
        """Bytes of the result."""
        return len(self._reply.result)

    @property
    def refused(self) -> bool:
        """Whether the node answered with an error."""
        return self._reply.failed

    @property
    def check_payment(self) -> RpcRejected | None:
        """The error that the node answered with, if it did."""
        return read_error(self._reply.error, self._what) if self._reply.failed else None

    def read(self, decoder: Decodes[T]) -> T:
        """The typed result. Raises `RpcRejected` for an error, `RailUnavailable` for another shape."""
        return decode(self._result(), decoder, self._what)

    def read_block(self, decoder: "msgspec.json.Decoder[wire.B | None]") -> "wire.B | None":
        """The typed block, or None, which some nodes say by an error. Raises as `read`, naming a broken block."""
        if isinstance(self.check_payment, UnknownBlock):
            return None
        with refused_if_large():
            return wire.decode_block(self._result(), decoder, self._what)

    async def read_each(self, items: "wire.Items[T]") -> list[T]:
        """The items of a list: at once, or if they are many, one by one beside the loop. Raises as `read`.

        Null is an empty list, as some nodes write one; that it should not be empty is for the caller to notice.
        """
        raw = self._result()
        if len(raw) == len(b"null") and bytes(raw) == b"null":
            return []
        with refused_if_large():
            if len(raw) < LARGE:
                return decode(raw, items.many, self._what)
            return await off_loop(len(raw), lambda: decode_each(raw, items.one, self._what))

    def read_deep(self) -> tuple[msgspec.Raw | bytes, Folded, str]:
        """The bare result, which may be folded (`railwatch_evm.fold`), its folds, and what to call it."""
        raw = self._result()
        return raw, self._folded or Folded(), self._what

    def _result(self) -> msgspec.Raw:
        if (refusal := self.check_payment) is not None:
            raise refusal
        return self._reply.result or NOTHING


class Rpc(AsyncHTTPProvider):
    """One node's endpoint. Every call is bounded by the node's timeout; nothing is tried twice."""

    def __init__(self, node: EvmOptions, endpoint: Endpoint | None = None) -> None:
        super().__init__(URI(node.http), exception_retry_configuration=None)
        self.name = node.name
        self.timeout = node.timeout
        self._options = node.options
        self.endpoint = endpoint or Endpoint()
        self._headers = {"Content-Type": "application/json", **IDENTITY}
        self._session: Session | None = None

    async def open(self) -> None:
        """Make the session, which keeps its connections. Without I/O."""
        self._session = open_session(http_session(self._options))

    async def disconnect(self) -> None:
        """Let go of all connections. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(self, method: str, *params: Any, timeout: float | None = None) -> RpcResponse:
        """One call. Raises `RailUnavailable` if no reply comes back; the reply itself may still be an error."""
        body = self.encode_rpc_request(RPCEndpoint(method), params)
        what = f"{self.name} {method}"
        raw = await self._post(what, body, timeout or self.timeout, _most([method]))
        reply, folded = await off_loop(len(raw), lambda: _envelope(raw, _one, what))
        self._heed([reply], what)
        if not reply.is_one:
            raise self._gateway_said(raw, what)
        return RpcResponse(what, reply, folded)

    def _gateway_said(self, raw: bytes, what: str) -> RpcRejected:
        """What a gateway answers with status 200 in place of a reply. Slows down where it means the rate."""
        said = _words(raw, what)
        refusal = RpcRejected(str(said), meaning_of(0, str(said)))
        if refusal.meaning is Meaning.PASSING:
            self.endpoint.pace.pushed_back(str(refusal), None)
        return refusal

    async def batch(self, calls: Sequence[Call], most: int | None = None) -> list[RpcResponse]:
        """Many calls in one request, so that one node behind the endpoint answers them all (HAZARDS E19).

        ``most``: bytes of the whole answer, where the caller has several of them on their way. Answers are in the order
        of ``calls``. An endpoint that takes smaller batches only gets several, one after the other. Raises
        `RpcRejected` if it refuses them as well, and `RailUnavailable` if any reply is missing.
        """
        size = self.endpoint.batching.size()
        if len(calls) > size:
            return [*await self.batch(calls[:size], most), *await self.batch(calls[size:], most)]
        if not calls:
            return []
        try:
            return await self._batch(calls, most)
        except RpcRejected as refused:
            if len(calls) == 1 or refused.meaning in (Meaning.PASSING, Meaning.MISSING):
                raise
            if refused.meaning is not Meaning.LARGE:
                self.endpoint.batching.refused(len(calls))
        middle = len(calls) // 2
        return [*await self.batch(calls[:middle], most), *await self.batch(calls[middle:], most)]

    async def _batch(self, calls: Sequence[Call], most: int | None) -> list[RpcResponse]:
        """One request. Raises `RpcRejected` if the batch as a whole was refused, in any of the forms of that."""
        if len(calls) == 1:
            return [await self.call(calls[0][0], *calls[0][1])]
        requests = [self.form_request(RPCEndpoint(method), params) for method, params in calls]
        what = f"{self.name} batch of {len(calls)} from {calls[0][0]}"
        most = min(_most([method for method, _ in calls]), most or ANSWER_MOST)
        raw = await self._post(what, msgspec.json.encode(requests), self.timeout, most)
        if not raw[:64].lstrip().startswith(b"["):
            # One object for the whole batch is how a node says that it takes no batch, or none of this size.
            reply, _ = _envelope(raw, _one, what)
            self._heed([reply], what)
            raise read_error(reply.error, what) if reply.failed else self._gateway_said(raw, what)
        many, folded = await off_loop(len(raw), lambda: _envelope(raw, _many, what))
        if len(many) > len(calls):
            raise RailUnavailable(f"{what}: {len(many):,} answers to {len(calls)} calls")
        self._heed(many, what)
        if len(many) < len(calls) and (failed := next((reply for reply in many if reply.failed), None)):
            # geth answers an array with one error, under the first call's id, for a batch that is too large.
            raise read_error(failed.error, what)
        if all(reply.failed for reply in many) and b"batch" in bytes(many[0].error).lower():
            # Others give every call the same error.
            raise read_error(many[0].error, what)
        replies = {str(reply.id): reply for reply in many}
        try:
            return [
                RpcResponse(f"{self.name} {method}", replies[str(request["id"])], folded)
                for request, (method, _) in zip(requests, calls, strict=True)
            ]
        except KeyError as error:
            raise RailUnavailable(f"{what}: {len(calls) - len(replies)} answers are missing") from error

    def _heed(self, replies: Sequence[RpcEnvelope], what: str) -> None:
        """Slow down where a reply says that the rate was too high: some endpoints say it with status 200."""
        for reply in replies:
            if reply.failed and (refusal := read_error(reply.error, what)).meaning is Meaning.PASSING:
                self.endpoint.pace.pushed_back(str(refusal), refusal.pause)
                return

    @staticmethod
    def encode_rpc_dict(rpc_dict: RPCRequest) -> bytes:
        """The request as JSON. web3's own encoder takes 5 us a call, 18 times as long."""
        return msgspec.json.encode(rpc_dict)

    async def _post(self, what: str, body: bytes, timeout: float, most: int) -> bytes:
        """Post and read at most so many bytes, once, at the endpoint's pace.

        Raises `RailUnavailable` for whatever a network can do.
        """
        if self._session is None or self.endpoint_uri is None:
            raise RailUnavailable(f"{self.name}: not connected")
        try:
            await self.endpoint.pace.turn(self.name)
        except Paused as paused:
            raise RpcRejected(str(paused), Meaning.PASSING, paused.pause) from paused
        limit = aiohttp.ClientTimeout(total=timeout)
        try:
            async with self._session.post(
                self.endpoint_uri, data=body, headers=self._headers, allow_redirects=False, timeout=limit
            ) as response:
                with refused_if_large():
                    answer = await read_body(response, most, what)
                status, retry = response.status, response.headers.get("Retry-After")
        except TimeoutError as error:
            raise NodeTimeout(f"{what}: no answer within {timeout:g} s") from error
        except NETWORK_ERRORS as error:
            # The error's own words could hold the URL, and with it an API key.
            raise RailUnavailable(f"{what}: {type(error).__name__}") from error
        self._check_status(what, status, answer, retry)
        return answer

    def _check_status(self, what: str, status: int, body: bytes, retry: str | None) -> None:
        """Raise for a status that is no answer, with the words of its body: they say which limit, or which key."""
        pace = self.endpoint.pace
        if status < REDIRECTS:
            pace.answered()
            return
        if status < ERRORS:
            # Where to could hold an API key.
            raise RailUnavailable(f"{what}: HTTP {status}: it sends on to another address; configure that one")
        told = _words(body, f"{what}: HTTP {status}")
        if status == TOO_LARGE:
            raise RpcRejected(f"{told}, too large", Meaning.LARGE)
        asked = retry if retry_after(retry) is not None or told.pause is None else str(int(told.pause))
        if pushed_back_by(pace, status, asked, str(told)):
            raise RpcRejected(str(told), Meaning.PASSING, retry_after(asked))
        if status in MISSING_STATUS:
            raise RpcRejected(str(told), Meaning.MISSING)
        if not body[:64].lstrip().startswith((b"{", b"[")):
            raise RailUnavailable(str(told))
        if not _is_reply(body):
            raise RpcRejected(str(told), meaning_of(status, str(told)))


def _most(methods: Sequence[str]) -> int:
    """How many bytes the answers to these methods may have together."""
    if any(method.startswith(CONTENT) for method in methods):
        return ANSWER_MOST
    return min(ANSWER_MOST, SMALL_MOST * len(methods))


def _words(body: bytes, what: str) -> RpcRejected:
    """Return what a body says beside its status, as far as it is JSON; HTML and the like say nothing to a person."""
    try:
        many = _many.decode(body) if body[:64].lstrip().startswith(b"[") else [_one.decode(body)]
        failed = next((reply for reply in many if reply.failed), None)
        if failed is not None:
            return read_error(failed.error, what)
    except (ValueError, RecursionError):
        pass
    # A gateway answers with an object of its own: AWS's and Kong's have a `message`, others' a `detail`.
    said = own_words(body)
    return RpcRejected(f"{what}, {printable(said)}" if said else what)


def _is_reply(body: bytes) -> bool:
    """Whether a body is JSON-RPC whatever its status says: some nodes answer errors with 400 or 500."""
    try:
        if body[:64].lstrip().startswith(b"["):
            return bool(_many.decode(body))
        reply = _one.decode(body)
    except (ValueError, RecursionError):
        return False
    return reply.failed or bytes(reply.result) not in (b"", b"null")


def _envelope(raw: bytes, decoder: Decodes[T], what: str) -> tuple[T, Folded | None]:
    """The envelope, folded if it is nested deeper than a recursive decoder may follow. Raises `RailUnavailable`."""
    with refused_if_large():
        return unfold_if_deep(
            raw, lambda text: decode(text, decoder, f"{what}: not a JSON-RPC answer", VALUES_MOST), what
        )


@contextlib.contextmanager
def refused_if_large() -> Iterator[None]:
    """What is larger than we read is as good as refused: who asked for much asks for less."""
    try:
        yield
    except AnswerTooLarge as error:
        raise RpcRejected(str(error), Meaning.LARGE) from error


def unfold_if_deep(
    raw: bytes | msgspec.Raw, read: Callable[[bytes | msgspec.Raw], T], what: str
) -> tuple[T, Folded | None]:
    """What ``read`` makes of ``raw``, which is folded first if it is too deep and within what the EVM allows."""
    try:
        return read(raw), None
    except TooDeep:
        text = bytes(raw)
        check_nesting(text, NESTING_MOST, what)
        outer, folded = fold(text, what)
        return read(outer), folded


__all__ = ["Call", "Endpoint", "NodeTimeout", "Rpc", "RpcRejected", "RpcResponse"]

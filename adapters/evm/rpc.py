"""JSON-RPC over HTTP: web3's provider without its formatters, its retries and its session.

Three parts of the provider are replaced, for measured reasons (README.md, "What of web3 is used"): the formatters take
70 times as long as typed decoding, retries belong to the caller, and its session opens a connection for every request.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar

import aiohttp
import msgspec
from eth_typing import URI
from web3.providers.rpc import AsyncHTTPProvider
from web3.types import RPCEndpoint, RPCRequest

from adapters.evm import wire
from adapters.evm.node import EvmNode
from indexer.rail import RailUnavailable

Call: TypeAlias = tuple[str, Sequence[Any]]
"""A method and its parameters."""

T = TypeVar("T")

TOO_LARGE = 413
TOO_MANY = 429


class NodeRefused(RailUnavailable):
    """The node is there and says no: asking for less may help (HAZARDS E21), asking again may not."""


class RpcError(msgspec.Struct):
    """The ``error`` object of a reply."""

    code: int = 0
    message: str = ""


class Reply(msgspec.Struct):
    """One reply. The result stays bytes until somebody knows its type."""

    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: RpcError | None = None


_one = msgspec.json.Decoder(Reply)
_many = msgspec.json.Decoder(list[Reply])


class Answer:
    """What one call came back with; reading it is where an error of the node is raised."""

    __slots__ = ("_reply", "_what")

    def __init__(self, what: str, reply: Reply) -> None:
        self._what, self._reply = what, reply

    @property
    def size(self) -> int:
        """Bytes of the result."""
        return len(self._reply.result)

    @property
    def refused(self) -> bool:
        """Whether the node answered with an error."""
        return self._reply.error is not None

    def read(self, decoder: "msgspec.json.Decoder[T]") -> T:
        """The typed result. Raises `NodeRefused` for an error, `RailUnavailable` for another shape."""
        return wire.decode(self._result(), decoder, self._what)

    def read_block(self, decoder: "msgspec.json.Decoder[T]") -> T:
        """The typed block. Raises as `read`, and `RailFault` for a block that cannot be decoded."""
        return wire.decode_block(self._result(), decoder, self._what)

    def _result(self) -> msgspec.Raw:
        if (error := self._reply.error) is not None:
            raise NodeRefused(f"{self._what} refused: {error.message[:200]} ({error.code})")
        return self._reply.result


class Rpc(AsyncHTTPProvider):
    """One node's endpoint. Every call is bounded by the node's timeout; nothing is tried twice."""

    def __init__(self, node: EvmNode) -> None:
        super().__init__(URI(node.http), exception_retry_configuration=None)
        self.name = node.name
        self._timeout = node.timeout
        self._headers = {"Content-Type": "application/json"}
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the session, which keeps its connections. Without I/O."""
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        self._session = aiohttp.ClientSession(timeout=timeout, auto_decompress=True)

    async def disconnect(self) -> None:
        """Let go of all connections. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(self, method: str, *params: Any) -> Answer:
        """One call. Raises `RailUnavailable` if no reply comes back; the reply itself may still be an error."""
        body = self.encode_rpc_request(RPCEndpoint(method), params)
        raw = await self._make_request(RPCEndpoint(method), body)
        return Answer(f"{self.name} {method}", _decode(raw, _one, f"{self.name} {method}"))

    async def batch(self, calls: Sequence[Call]) -> list[Answer]:
        """Many calls in one request, so that one node behind the endpoint answers them all (HAZARDS E19).

        Answers are in the order of ``calls``. Raises `NodeRefused` if the batch as a whole was refused and
        `RailUnavailable` if any reply is missing.
        """
        if not calls:
            return []
        requests = [self.form_request(RPCEndpoint(method), params) for method, params in calls]
        what = f"{self.name} batch of {len(calls)} from {calls[0][0]}"
        raw = await self._make_request(RPCEndpoint(calls[0][0]), msgspec.json.encode(requests))
        if not raw.lstrip().startswith(b"["):
            # One object for the whole batch is how a node says that it takes no batch, or none of this size.
            Answer(what, _decode(raw, _one, what)).read(wire.text_decoder)
            raise RailUnavailable(f"{what}: one answer for many calls")
        replies = {reply.id: reply for reply in _decode(raw, _many, what)}
        try:
            return [
                Answer(f"{self.name} {method}", replies[request["id"]])
                for request, (method, _) in zip(requests, calls, strict=True)
            ]
        except KeyError as error:
            raise RailUnavailable(f"{what}: {len(calls) - len(replies)} answers are missing") from error

    @staticmethod
    def encode_rpc_dict(rpc_dict: RPCRequest) -> bytes:
        """The request as JSON. web3's own encoder takes 5 us a call, 18 times as long."""
        return msgspec.json.encode(rpc_dict)

    async def _make_request(self, method: RPCEndpoint, request_data: bytes) -> bytes:
        """Post and read, once. Raises `RailUnavailable` for whatever a network or a gateway can do."""
        if self._session is None or self.endpoint_uri is None:
            raise RailUnavailable(f"{self.name}: not connected")
        try:
            async with self._session.post(
                self.endpoint_uri, data=request_data, headers=self._headers, allow_redirects=False
            ) as response:
                body = await response.read()
                status = response.status
        except TimeoutError as error:
            raise RailUnavailable(f"{self.name} {method}: no answer within {self._timeout:g} s") from error
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            # The error's own words could hold the URL, and with it an API key.
            raise RailUnavailable(f"{self.name} {method}: {type(error).__name__}") from error
        if status == TOO_LARGE:
            raise NodeRefused(f"{self.name} {method}: HTTP {status}, too large")
        if status == TOO_MANY or (status >= 400 and not body.lstrip().startswith((b"{", b"["))):
            raise RailUnavailable(f"{self.name} {method}: HTTP {status}")
        return body


def _decode(raw: bytes, decoder: "msgspec.json.Decoder[T]", what: str) -> T:
    """The envelope. Raises `RailUnavailable` for HTML, for half an answer, for anything that is not JSON-RPC."""
    try:
        return decoder.decode(raw)
    except msgspec.DecodeError as error:
        raise RailUnavailable(f"{what}: not a JSON-RPC answer: {error}") from error

"""JSON-RPC and REST of one node: bitcoinrpc's client without its transport, its parser and its timeouts.

What is replaced, for measured reasons (README.md, "What of bitcoinrpc is used"): httpx takes three times as long for a
call and ten times as long for eight at once, a busy node's words are no JSON, amounts are floats, there is no batch.
"""

import asyncio
import base64
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, TypeAlias, TypeVar

import aiohttp
import msgspec
from bitcoinrpc import BitcoinRPC

from adapters.bitcoin.node import BitcoinNode
from indexer.rail import RailUnavailable

Call: TypeAlias = tuple[str, Sequence[Any]]
"""A method and its parameters."""

T = TypeVar("T")

AT_ONCE = 3
"""Requests on their way to a node at once. Core answers with four threads unless told otherwise, and one may be held by
`waitfornewblock`; what its queue cannot hold it turns away."""

UNAUTHORIZED, FORBIDDEN = 401, 403
NOT_FOUND, OUT_OF_RANGE, MISC, WARMING_UP = -5, -8, -1, -28
"""Core's error codes (`rpc/protocol.h`): unknown block or transaction, unknown height, anything else, in warm-up."""


class NodeRefused(RailUnavailable):
    """The node is there and says no; ``code`` is one of Core's."""

    def __init__(self, what: str, code: int, message: str) -> None:
        words = f"is still starting: {message[:200]}" if code == WARMING_UP else f"refused: {message[:200]} ({code})"
        super().__init__(f"{what} {words}")
        self.code, self.message = code, message


class RpcError(msgspec.Struct):
    """The ``error`` object of a reply."""

    code: int = 0
    message: str = ""


class Reply(msgspec.Struct):
    """One reply, of any version of JSON-RPC. The result stays bytes until somebody knows its type."""

    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: RpcError | None = None


_one = msgspec.json.Decoder(Reply)
_many = msgspec.json.Decoder(list[Reply])
any_decoder = msgspec.json.Decoder(float_hook=Decimal)
"""Whatever it is, with exact numbers (HAZARDS B13)."""
text_decoder = msgspec.json.Decoder(str)


class Answer:
    """What one call came back with; reading it is where an error of the node is raised."""

    __slots__ = ("_reply", "_what")

    def __init__(self, what: str, reply: Reply) -> None:
        self._what, self._reply = what, reply

    @property
    def refusal(self) -> NodeRefused | None:
        """The node's error, if it answered with one."""
        error = self._reply.error
        return None if error is None else NodeRefused(self._what, error.code, error.message)

    def read(self, decoder: "msgspec.json.Decoder[T]") -> T:
        """The typed result. Raises `NodeRefused` for an error, `RailUnavailable` for another shape."""
        if (refusal := self.refusal) is not None:
            raise refusal
        return _decode(self._reply.result, decoder, self._what)

    def read_hex(self) -> bytes:
        """The bytes that the result spells. Raises as `read`."""
        try:
            return bytes.fromhex(self.read(text_decoder))
        except ValueError as error:
            raise RailUnavailable(f"{self._what}: the answer is no hex") from error


class Rpc(BitcoinRPC):
    """One node's endpoint. Every call is bounded by the node's timeout; nothing is tried twice.

    bitcoinrpc's named methods (``getblockcount`` ...) work as they are: each goes through `acall`.
    """

    def __init__(self, node: BitcoinNode) -> None:
        # Its httpx client is never made: `acall` and `aclose`, the only users, are replaced.
        super().__init__(node.rpc, client=None)  # type: ignore[arg-type]
        self.name = node.name
        self._node = node
        self._places = asyncio.Semaphore(AT_ONCE)
        self._session: aiohttp.ClientSession | None = None
        self._headers: dict[str, str] = {}

    async def open(self) -> None:
        """Read the credentials and make the session. Without I/O to the node. Raises `RailUnavailable`."""
        self._sign()
        # Its places are not the connector's limit: whoever waits there does not learn that the session was closed.
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def aclose(self) -> None:
        """Let go of all connections. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def acall(self, method: str, params: list[Any], **_: Any) -> Any:
        """One call, for bitcoinrpc's named methods; numbers with a point come as Decimal."""
        return (await self.call(method, *params)).read(any_decoder)

    async def call(self, method: str, *params: Any, longer: float = 0.0) -> Answer:
        """One call. ``longer``: seconds that the node was asked to take for it.

        Raises `RailUnavailable` if no reply comes back; the reply itself may still be an error.
        """
        what = f"{self.name} {method}"
        raw = await self._post(what, msgspec.json.encode(self._request(method, params)), longer)
        return Answer(what, _decode(raw, _one, what))

    async def batch(self, calls: Sequence[Call]) -> list[Answer]:
        """Many calls in one request, answered one after the other; the answers in the order of ``calls``.

        Raises `RailUnavailable` if any reply is missing.
        """
        if not calls:
            return []
        requests = [self._request(method, params) for method, params in calls]
        what = f"{self.name} batch of {len(calls)} from {calls[0][0]}"
        raw = await self._post(what, msgspec.json.encode(requests), 0.0)
        if not raw.lstrip().startswith(b"["):
            Answer(what, _decode(raw, _one, what)).read(any_decoder)
            raise RailUnavailable(f"{what}: one answer for many calls")
        replies = {reply.id: reply for reply in _decode(raw, _many, what)}
        if missing := sum(request["id"] not in replies for request in requests):
            raise RailUnavailable(f"{what}: {missing} answers are missing")
        return [
            Answer(f"{self.name} {method}", replies[request["id"]])
            for request, (method, _) in zip(requests, calls, strict=True)
        ]

    async def rest(self, path: str) -> bytes | None:
        """A resource of REST, such as ``block/HASH.bin``; None where there is none, or no REST at all."""
        what = f"{self.name} rest/{path.partition('/')[0]}"
        status, kind, body = await self._exchange(what, "GET", f"{self.url}/rest/{path}", None, 0.0)
        if status == 404 or (status == 200 and not kind.startswith("application/")):
            return None
        if status != 200:
            raise RailUnavailable(f"{what}: HTTP {status}{_words(kind, body)}")
        return body

    def _request(self, method: str, params: Sequence[Any]) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": self._counter(), "method": method, "params": params}

    async def _post(self, what: str, body: bytes, longer: float) -> bytes:
        """The JSON of one request's answer. Raises `RailUnavailable` for whatever is none."""
        status, kind, raw = await self._exchange(what, "POST", self.url, body, longer)
        if status == UNAUTHORIZED and self._sign():
            # The node was started again, and its cookie with it: this is the first that we hear of it.
            status, kind, raw = await self._exchange(what, "POST", self.url, body, longer)
        if status in (UNAUTHORIZED, FORBIDDEN):
            why = "it does not know our credentials" if status == UNAUTHORIZED else "rpcallowip leaves us out"
            raise RailUnavailable(f"{what}: HTTP {status}, {why}")
        # Errors come with status 500 and JSON; a busy node says "Work queue depth exceeded" with 503 and no JSON.
        if not kind.startswith("application/json"):
            raise RailUnavailable(f"{what}: HTTP {status}{_words(kind, raw)}")
        return raw

    async def _exchange(
        self, what: str, verb: str, url: str, body: bytes | None, longer: float
    ) -> tuple[int, str, bytes]:
        """Ask and read, once: status, content type, body. Raises `RailUnavailable` for what a network can do."""
        allowed = self._node.timeout + longer
        try:
            async with asyncio.timeout(allowed), self._places:
                if self._session is None:
                    raise RailUnavailable(f"{self.name}: not connected, enter the adapter first")
                async with self._session.request(
                    verb, url, data=body, headers=self._headers, allow_redirects=False
                ) as response:
                    return response.status, response.content_type, await response.read()
        except TimeoutError as error:
            raise RailUnavailable(f"{what}: no answer within {allowed:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            # The error's own words could hold the URL, and with it an access key.
            raise RailUnavailable(f"{what}: {type(error).__name__}") from error

    def _sign(self) -> bool:
        """Read the credentials; True if they are others than before. Raises `RailUnavailable`."""
        try:
            credentials = self._node.credentials()
        except (OSError, UnicodeDecodeError) as error:
            raise RailUnavailable(f"{self.name}: cookie_path cannot be read: {type(error).__name__}") from error
        headers = {"Content-Type": "application/json"}
        if credentials is not None:
            headers["Authorization"] = "Basic " + base64.b64encode(credentials.encode()).decode()
        changed, self._headers = headers != self._headers, headers
        return changed


def _words(kind: str, body: bytes) -> str:
    """What a node says in plain text; the pages of gateways in between are no help to anybody."""
    return f", {body[:100].decode(errors='replace').strip()}" if kind == "text/plain" and body else ""


def _decode(raw: bytes | msgspec.Raw, decoder: "msgspec.json.Decoder[T]", what: str) -> T:
    """Raises `RailUnavailable` for half an answer, and for anything of another shape."""
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RailUnavailable(f"{what}: not the answer that was asked for: {error}") from error

"""JSON-RPC and REST of one node: bitcoinrpc's client without its transport, its parser and its timeouts.

What is replaced, for measured reasons (README.md, "What of bitcoinrpc is used"): httpx takes three times as long for a
call and ten times as long for eight at once, a busy node's words are no JSON, amounts are floats, there is no batch.
"""

import asyncio
import base64
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, Self, TypeAlias, TypeVar

import msgspec
from bitcoinrpc import BitcoinRPC

from railwatch.rail import RailUnavailable
from railwatch.rail.decoding import (
    ANSWER_MOST,
    IDENTITY,
    SMALL_MOST,
    Decodes,
    decode,
    decode_beside,
    off_loop,
    printable,
    read_body,
)
from railwatch.rail.http import NETWORK_ERRORS, http_session
from railwatch.rail.pacing import pace_of, pushed_back_by
from railwatch.rail.refusals import (
    PASSING_STATUSES,
    Refusal,
    holds_error,
    is_refusal,
    read_no_reply,
    read_refusal,
    will_pass,
)
from railwatch.rail.transport import Session, open_session
from railwatch_bitcoin.options import BitcoinOptions

Call: TypeAlias = tuple[str, Sequence[Any]]
"""A method and its parameters."""

T = TypeVar("T")

CONCURRENCY = 3
"""Requests on their way to a node at once. Core answers with four threads unless told otherwise, and one may be held by
`waitfornewblock`; what its queue cannot hold it turns away."""

BATCH_MOST = 1_000
"""Calls in one request until a node has refused so many."""

CONTENT = frozenset({"getblock", "getrawtransaction", "getrawmempool", "getblockfilter", "getpeerinfo"})
"""Methods that answer with content, up to `ANSWER_MOST` bytes; all others with a few values (`SMALL_MOST`)."""

HEADERS_MOST = 16 * 1024 * 1024
"""Bytes of an answer with headers alone: a merge-mined one holds its parent's coinbase, which may have kilobytes."""

UNAUTHORIZED, FORBIDDEN, TOO_MANY = 401, 403, 429
NOT_FOUND, OUT_OF_RANGE, MISC, WARMING_UP = -5, -8, -1, -28
"""Core's error codes (`rpc/protocol.h`): unknown block or transaction, unknown height, anything else, in warm-up."""
PASSING = frozenset({WARMING_UP, -9, -10, -32005, -32029, -32603, TOO_MANY})
"""Codes of what will pass: warm-up, no peers yet, initial sync, limits of hosted endpoints, a full work queue."""
NO_CONTENT = re.compile(r"prune|not fully downloaded|not found on disk|read block from disk", re.IGNORECASE)
"""What is said of a block whose header is known and whose bytes are not there: pruned, below an assumed UTXO snapshot
(Core 26), lost. Its code is -1, in heirs of Core 0.14 -32603, and in other clients whatever they like (HAZARDS B16)."""
ITS_OWN = (NOT_FOUND, OUT_OF_RANGE, -3)
"""Codes that only the node itself gives, for what was asked of it: whatever its words, they are about that."""


class RpcRejected(RailUnavailable):
    """The node is there and says no; ``code`` is one of Core's, or the HTTP status.

    ``passes``: it says so for now only. Otherwise it does not serve the method, or not in this form, in whatever words
    (HAZARDS B20).
    """

    def __init__(self, what: str, code: int, message: str) -> None:
        said = printable(message)
        words = f"is still starting: {said}" if code == WARMING_UP else f"refused: {said} ({code})"
        super().__init__(f"{what} {words}")
        self.code, self.message = code, message
        self.lacks_content = code != NOT_FOUND and NO_CONTENT.search(message[:200]) is not None
        """It knows the block, and has not its bytes."""
        its_own = code in ITS_OWN or self.lacks_content
        self.passes = not its_own and will_pass(Refusal(code, message), PASSING)


class RpcEnvelope(msgspec.Struct):
    """One reply, of any version of JSON-RPC. What it holds stays bytes until somebody knows its type."""

    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"null")


_one = msgspec.json.Decoder(RpcEnvelope)
_many = msgspec.json.Decoder(list[RpcEnvelope])
Hash: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
"""A block's or a transaction's hash as every client writes it: it is a name, and has one form."""
Height: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
any_decoder = msgspec.json.Decoder(float_hook=Decimal)
"""Whatever it is, with exact numbers (HAZARDS B13)."""
text_decoder = msgspec.json.Decoder(str)
hash_decoder: "msgspec.json.Decoder[str]" = msgspec.json.Decoder(Hash)


class RpcResponse:
    """What one call came back with; reading it is where an error of the node is raised."""

    __slots__ = ("_refused", "_result", "_what")

    def __init__(self, what: str, result: msgspec.Raw | None, refused: Refusal | None = None) -> None:
        self._what = what
        self._result = msgspec.Raw(b"null") if result is None else result
        self._refused = refused

    @classmethod
    def of(cls, what: str, reply: RpcEnvelope, raw: bytes = b"") -> Self:
        """The answer that a reply is. One with neither a result nor an error is a no, in the words of ``raw``."""
        refused = read_refusal(reply.error)
        if refused is None and not len(reply.result):
            refused = Refusal(0, read_no_reply(raw))
        return cls(what, reply.result, refused)

    @property
    def check_payment(self) -> RpcRejected | None:
        """The node's error, if it answered with one."""
        return None if self._refused is None else RpcRejected(self._what, *self._refused)

    def read(self, decoder: Decodes[T]) -> T:
        """The typed result. Raises `RpcRejected` for an error, `RailUnavailable` for another shape."""
        if (refusal := self.check_payment) is not None:
            raise refusal
        return decode(self._result, decoder, self._what)

    async def read_beside(self, decoder: Decodes[T]) -> T:
        """The same, beside the loop where it is large."""
        return await off_loop(len(self._result), lambda: self.read(decoder))

    def read_hex(self) -> bytes:
        """The bytes that the result spells. Raises as `read`."""
        try:
            return bytes.fromhex(self.read(text_decoder))
        except ValueError as error:
            raise RailUnavailable(f"{self._what}: the answer is no hex") from error

    async def read_hex_beside(self) -> bytes:
        """The same, beside the loop where it is large. Raises as `read`."""
        return await off_loop(len(self._result), self.read_hex)


class BatchRefused(RailUnavailable):
    """The node does not take so many calls in one request, or not this mixture of them."""


class Rpc(BitcoinRPC):
    """One node's endpoint. Every call is bounded by the node's timeout; nothing is tried twice.

    bitcoinrpc's named methods (``getblockcount`` ...) work as they are: each goes through `acall`.
    """

    def __init__(self, node: BitcoinOptions) -> None:
        # Its httpx client is never made: `acall` and `aclose`, the only users, are replaced.
        super().__init__(node.rpc, client=None)  # type: ignore[arg-type]
        self.name = node.name
        self._node = node
        self._places = asyncio.Semaphore(CONCURRENCY)
        self._session: Session | None = None
        self._headers: dict[str, str] = {}
        self._batch_most = BATCH_MOST
        self._pace = pace_of(node.rpc)

    async def open(self) -> None:
        """Read the credentials and make the session. Without I/O to the node. Raises `RailUnavailable`."""
        self._sign()
        # Its places are not the connector's limit: whoever waits there does not learn that the session was closed.
        self._session = open_session(http_session(self._node.options, limit=0))

    async def aclose(self) -> None:
        """Let go of all connections. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def acall(self, method: str, params: list[Any], **_: Any) -> Any:
        """One call, for bitcoinrpc's named methods; numbers with a point come as Decimal."""
        return (await self.call(method, *params)).read(any_decoder)

    async def call(self, method: str, *params: Any, longer: float = 0.0) -> RpcResponse:
        """One call. ``longer``: seconds that the node was asked to take for it.

        Raises `RailUnavailable` if no reply comes back; the reply itself may still be an error.
        """
        what = f"{self.name} {method}"
        most = ANSWER_MOST if method in CONTENT else SMALL_MOST
        status, raw = await self._post(what, msgspec.json.encode(self._request(method, params)), longer, most)
        if is_refusal(status) and not holds_error(raw):
            return RpcResponse(what, None, Refusal(status, _words_of(status, raw)))
        return RpcResponse.of(what, await decode_beside(raw, _one, what), raw)

    async def batch(self, calls: Sequence[Call]) -> list[RpcResponse]:
        """Many calls, in one request if the node takes so many; the answers in the order of ``calls``.

        Gateways take none, or three, and a whitelist refuses all for one (HAZARDS B20): then they are asked for in
        smaller requests, in the end one by one. Raises `RailUnavailable` if any reply is missing.
        """
        answers: list[RpcResponse] = []
        while len(answers) < len(calls):
            most = self._batch_most
            some = calls[len(answers) : len(answers) + (most if most > 1 else CONCURRENCY)]
            if most == 1:
                answers += await self._one_by_one(some)
                continue
            try:
                answers += await self._together(some)
            except BatchRefused:
                self._batch_most = max(1, min(self._batch_most, len(some)) // 2)
        return answers

    async def rest(self, path: str) -> bytes | None:
        """A resource of REST, such as ``block/HASH.bin``; None where it is not served, in whatever words.

        Raises `RailUnavailable` for what will pass.
        """
        what = f"{self.name} rest/{path.partition('/')[0]}"
        status, kind, body = await self._exchange(what, "GET", f"{self.url}/rest/{path}", None, 0.0)
        if status == TOO_MANY or (status >= 500 and not is_refusal(status)):
            raise RailUnavailable(f"{what}: HTTP {status}{_words(kind, body)}")
        return body if status == 200 and kind.startswith("application/") else None

    async def _together(self, calls: Sequence[Call]) -> list[RpcResponse]:
        """One request. Raises `BatchRefused` if the node says no to it as a whole."""
        requests = [self._request(method, params) for method, params in calls]
        what = f"{self.name} batch of {len(calls)} from {calls[0][0]}"
        content = any(method in CONTENT for method, _ in calls)
        most = ANSWER_MOST if content else HEADERS_MOST
        status, raw = await self._post(what, msgspec.json.encode(requests), 0.0, most)
        if not raw.lstrip().startswith(b"["):
            if is_refusal(status) and not holds_error(raw):
                whole = RpcRejected(what, status, _words_of(status, raw))
                raise whole if status in PASSING_STATUSES else BatchRefused(str(whole))
            refusal = RpcResponse.of(what, await decode_beside(raw, _one, what), raw).check_payment
            if refusal is not None and refusal.passes:
                raise refusal
            raise BatchRefused(str(refusal) if refusal else f"{what}: one answer for many calls")
        many = await decode_beside(raw, _many, what)
        if len(many) > len(calls):
            raise RailUnavailable(f"{what}: {len(many):,} answers to {len(calls)} calls")
        replies = {reply.id: reply for reply in many}
        if missing := sum(request["id"] not in replies for request in requests):
            alone = RpcResponse.of(what, replies[None]).check_payment if None in replies else None
            if alone is not None:
                # One error in a list, for the batch as a whole.
                raise BatchRefused(str(alone))
            raise RailUnavailable(f"{what}: {missing} answers are missing")
        return [
            RpcResponse.of(f"{self.name} {method}", replies[request["id"]])
            for request, (method, _) in zip(requests, calls, strict=True)
        ]

    async def _one_by_one(self, calls: Sequence[Call]) -> list[RpcResponse]:
        """A few calls, each in a request of its own. The first that fails cancels the others."""
        tasks = [asyncio.ensure_future(self.call(method, *params)) for method, params in calls]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _request(self, method: str, params: Sequence[Any]) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": self._counter(), "method": method, "params": params}

    async def _post(self, what: str, body: bytes, longer: float, most: int) -> tuple[int, bytes]:
        """Status and body of one request's answer, which is JSON, or says no. Raises `RailUnavailable` for the rest."""
        status, kind, raw = await self._exchange(what, "POST", self.url, body, longer, most)
        if status == UNAUTHORIZED and self._sign():
            # The node was started again, and its cookie with it: this is the first that we hear of it.
            status, kind, raw = await self._exchange(what, "POST", self.url, body, longer, most)
        if is_refusal(status):
            return status, raw
        # Errors come with status 500 and JSON; a busy node says "Work queue depth exceeded" with 503 and no JSON.
        if status == TOO_MANY or not (kind.startswith("application/json") or (status == 200 and _is_json(raw))):
            raise RailUnavailable(f"{what}: HTTP {status}{_words(kind, raw)}")
        return status, raw

    async def _exchange(
        self, what: str, verb: str, url: str, body: bytes | None, longer: float, most: int = ANSWER_MOST
    ) -> tuple[int, str, bytes]:
        """Ask and read, once: status, content type, body. Raises `RailUnavailable` for what a network can do."""
        allowed = self._node.timeout + longer
        await self._pace.turn(self.name)
        try:
            async with asyncio.timeout(allowed), self._places:
                if self._session is None:
                    raise RailUnavailable(f"{self.name}: not connected, enter the adapter first")
                async with self._session.request(
                    verb, url, data=body, headers=self._headers, allow_redirects=False
                ) as response:
                    answer = await read_body(response, most, what)
                    status, kind = response.status, response.content_type
                    retry = response.headers.get("Retry-After")
        except TimeoutError as error:
            raise RailUnavailable(f"{what}: no answer within {allowed:g} s") from error
        except NETWORK_ERRORS as error:
            # The error's own words could hold the URL, and with it an access key.
            raise RailUnavailable(f"{what}: {type(error).__name__}") from error
        if not pushed_back_by(self._pace, status, retry, f"HTTP {status}{_words(kind, answer)}"):
            self._pace.answered()
        return status, kind, answer

    def _sign(self) -> bool:
        """Read the credentials; True if they are others than before. Raises `RailUnavailable`."""
        try:
            credentials = self._node.credentials()
        except (OSError, UnicodeDecodeError) as error:
            raise RailUnavailable(f"{self.name}: cookie_path cannot be read: {type(error).__name__}") from error
        headers = {"Content-Type": "application/json", **IDENTITY}
        if credentials is not None:
            headers["Authorization"] = "Basic " + base64.b64encode(credentials.encode()).decode()
        changed, self._headers = headers != self._headers, headers
        return changed


def _is_json(raw: bytes) -> bool:
    return raw.lstrip()[:1] in (b"{", b"[")


def _words_of(status: int, raw: bytes) -> str:
    """What a refusal by status says, and where its cause is to be looked for."""
    if status == UNAUTHORIZED:
        return "HTTP 401, it does not know our credentials"
    if status == FORBIDDEN:
        return "HTTP 403: a whitelist (rpcwhitelist) leaves the method out, or rpcallowip leaves us out"
    return f"HTTP {status}" + (f": {printable(raw[:100].decode(errors='replace').strip())}" if raw else "")


def _words(kind: str, body: bytes) -> str:
    """What a node says in plain text; the pages of gateways in between are no help to anybody."""
    return f", {printable(body[:100].decode(errors='replace').strip())}" if kind == "text/plain" and body else ""

"""The JSON-RPC dialect of EVM clients: web3's provider over Railwatch's transport.

`railwatch.rail.jsonrpc` replaces three parts of the provider for measured reasons (README.md, "What of web3 is used"):
its formatters take 70 times as long as typed decoding, it retries, and its session connects anew for every request.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from eth_typing import URI
from web3.providers.rpc import AsyncHTTPProvider
from web3.types import RPCEndpoint

from railwatch.rail import RailUnavailable, jsonrpc
from railwatch.rail.decoding import ANSWER_MOST, SMALL_MOST, Decodes, bound_recursion, off_loop, printable
from railwatch.rail.jsonrpc import HttpAnswer, JsonRpcClient, RpcEnvelope
from railwatch.rail.pacing import Batching, Paused, RequestPace, pushed_back_by, retry_after
from railwatch.rail.refusals import Refusal, own_words
from railwatch_evm.options import EvmOptions
from railwatch_evm.responses import refused_if_large, unpack
from railwatch_evm.rpc_errors import MISSING_STATUS, Meaning, RpcRejected, meaning_of, read_error

bound_recursion()

T = TypeVar("T")

CONTENT = ("eth_getBlock", "eth_getLogs", "eth_getTransactionReceipt", "trace_", "debug_")
"""How methods begin that answer with content, up to `ANSWER_MOST` bytes; others give a few values (`SMALL_MOST`)."""
TOO_LARGE = 413
REDIRECTS, ERRORS = 300, 400
"""The first of HTTP's statuses that redirect, and the first that are errors."""

_one = msgspec.json.Decoder(RpcEnvelope)
_many = msgspec.json.Decoder(list[RpcEnvelope])


@dataclass(slots=True)
class Endpoint:
    """What was learned about an endpoint, and outlives a connection to it."""

    pace: RequestPace = field(default_factory=RequestPace)
    batching: Batching = field(default_factory=Batching)


class Rpc(JsonRpcClient[RpcRejected], AsyncHTTPProvider):
    """One node's endpoint."""

    def __init__(self, node: EvmOptions, endpoint: Endpoint | None = None) -> None:
        AsyncHTTPProvider.__init__(self, URI(node.http), exception_retry_configuration=None)
        self.endpoint = endpoint or Endpoint()
        pace, batching = self.endpoint.pace, self.endpoint.batching
        JsonRpcClient.__init__(self, node.name, node.http, node.options, node.timeout, pace=pace, batching=batching)

    async def disconnect(self) -> None:
        """Close all connections. Idempotent."""
        await self.close()

    async def post(self, what: str, body: bytes, most: int, timeout: float | None = None) -> HttpAnswer:
        """Post as `JsonRpcClient.post` does. Raises `RpcRejected` as well for a pause, and for too large an answer."""
        try:
            with refused_if_large():
                return await super().post(what, body, most, timeout)
        except Paused as paused:
            raise RpcRejected(str(paused), Meaning.PASSING, paused.pause) from paused

    # The dialect

    def request(self, method: str, params: Sequence[Any]) -> Mapping[str, Any]:
        """Return web3's request object."""
        return self.form_request(RPCEndpoint(method), params)

    def bytes_max(self, methods: Sequence[str]) -> int:
        """Return the bytes that the answer to these methods may have together."""
        if any(method.startswith(CONTENT) for method in methods):
            return ANSWER_MOST
        return min(ANSWER_MOST, SMALL_MOST * len(methods))

    async def unpack(self, raw: bytes, decoder: Decodes[T], what: str) -> tuple[T, object]:
        """Return the envelopes, folded if they are nested deeper than a recursive decoder may follow, and the folds."""
        return await off_loop(len(raw), lambda: unpack(raw, decoder, what))

    def is_reply(self, reply: RpcEnvelope) -> bool:
        """Return whether an object is a reply; some clients leave out a result that is null."""
        return super().is_reply(reply) or reply.id is not None

    def reject(self, what: str, error: msgspec.Raw) -> RpcRejected:
        """Return the error that an ``error`` member is, with what its ``data`` says."""
        return read_error(error, what)

    def rejected(self, what: str, refusal: Refusal) -> RpcRejected:
        """Return the error that a refusal is."""
        return RpcRejected(f"{what} refused: {printable(refusal.words)}", meaning_of(*refusal))

    def no_reply(self, what: str, body: bytes) -> RpcRejected:
        """Return what a gateway answers with status 200 in place of a reply. Slow down if it means the rate."""
        said = str(_words(body, what))
        refusal = RpcRejected(said, meaning_of(0, said))
        self._slow_down(refusal)
        return refusal

    def note_replies(self, replies: Sequence[RpcEnvelope], what: str) -> None:
        """Slow down if a reply says that the rate was too high: some endpoints say it with status 200."""
        for reply in replies:
            if reply.failed and self._slow_down(read_error(reply.error, what)):
                return

    def _slow_down(self, refusal: RpcRejected) -> bool:
        if refusal.passes:
            self.pace.pushed_back(str(refusal), refusal.pause)
        return refusal.passes

    def whole_refusal(self, replies: Sequence[RpcEnvelope], missing: int) -> RpcEnvelope | None:
        """Return the reply that refuses a batch as a whole.

        geth answers a batch that is too large with one error, under the first call's id. Other clients give every call
        the same error.
        """
        failed = [reply for reply in replies if reply.failed]
        if not failed or not (missing or len(failed) == len(replies)):
            return None
        return failed[0] if missing or b"batch" in bytes(failed[0].error).lower() else None

    def halves(self, refused: jsonrpc.RpcRejected, calls: int) -> bool:
        """Return whether to send a refused batch in halves; a large answer says nothing against large batches."""
        assert isinstance(refused, RpcRejected), "only this client raises it"
        if refused.meaning in (Meaning.PASSING, Meaning.MISSING):
            return False
        if refused.meaning is not Meaning.LARGE:
            self.batching.refused(calls)
        return True

    def check_status(self, what: str, answer: HttpAnswer) -> None:
        """Raise for a status that is no answer, with the words of its body: they say which limit, or which key."""
        if answer.status < REDIRECTS:
            self.pace.answered()
            return
        if answer.status < ERRORS:
            # Where to could hold an API key.
            raise RailUnavailable(
                f"{what}: HTTP {answer.status}: the endpoint redirects to another address; set http to that one"
            )
        said = _words(answer.body, f"{what}: HTTP {answer.status}")
        if answer.status == TOO_LARGE:
            raise RpcRejected(f"{said}, too large", Meaning.LARGE)
        asked = _pause_asked(answer, said)
        if pushed_back_by(self.pace, answer.status, asked, str(said)):
            raise RpcRejected(str(said), Meaning.PASSING, retry_after(asked))
        if answer.status in MISSING_STATUS:
            raise RpcRejected(str(said), Meaning.MISSING)
        if not answer.looks_like_json:
            raise RailUnavailable(str(said))
        if not _is_reply(answer.body):
            raise RpcRejected(str(said), meaning_of(answer.status, str(said)))


def _pause_asked(answer: HttpAnswer, said: RpcRejected) -> str | None:
    """Return ``Retry-After``, or in its absence the pause that the body asks for."""
    if retry_after(answer.retry_after) is not None or said.pause is None:
        return answer.retry_after
    return str(int(said.pause))


def _words(body: bytes, what: str) -> RpcRejected:
    """Return what a body says in addition to its status, if it is JSON; HTML and the like say nothing to a person."""
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
    """Return whether a body is JSON-RPC whatever its status says: some nodes send errors with 400 or 500."""
    try:
        if body[:64].lstrip().startswith(b"["):
            return bool(_many.decode(body))
        reply = _one.decode(body)
    except (ValueError, RecursionError):
        return False
    return reply.failed or bytes(reply.result) not in (b"", b"null")

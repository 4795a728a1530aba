"""The JSON-RPC dialect of Bitcoin Core and its heirs, and REST: bitcoinrpc's client over Railwatch's transport.

`railwatch.rail.jsonrpc` replaces bitcoinrpc's transport, parser and timeouts for measured reasons (README.md, "What of
bitcoinrpc is used"): httpx takes three times as long for a call and ten times as long for eight at once, a busy node's
words are no JSON, amounts are floats, and there is no batch.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, TypeAlias

import msgspec
from bitcoinrpc import BitcoinRPC

from railwatch.rail import RailUnavailable, jsonrpc
from railwatch.rail.decoding import ANSWER_MOST, IDENTITY, SMALL_MOST
from railwatch.rail.jsonrpc import HttpAnswer, JsonRpcClient
from railwatch.rail.pacing import Batching
from railwatch.rail.refusals import Refusal, holds_error, is_refusal
from railwatch_bitcoin.options import BitcoinOptions
from railwatch_bitcoin.rpc_errors import FORBIDDEN, TOO_MANY, UNAUTHORIZED, RpcRejected

CONCURRENCY = 3
"""Requests under way to one node at once. Core answers with four threads by default, of which `waitfornewblock` may
hold one, and refuses what its queue cannot hold."""

BATCH_MOST = 1_000
"""Calls in one request until a node has refused so many."""

CONTENT = frozenset({"getblock", "getrawtransaction", "getrawmempool", "getblockfilter", "getpeerinfo"})
"""Methods that answer with content, up to `ANSWER_MOST` bytes; all others with a few values (`SMALL_MOST`)."""

HEADERS_MOST = 16 * 1024 * 1024
"""Bytes of a batch of headers: a merge-mined header holds its parent's coinbase, which may have kilobytes."""

Hash: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
"""A block's or a transaction's hash as every client writes it: it is a name, and has one form."""
Height: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
any_decoder = msgspec.json.Decoder(float_hook=Decimal)
"""Any JSON, with exact numbers (HAZARDS B13)."""
text_decoder = msgspec.json.Decoder(str)
hash_decoder: "msgspec.json.Decoder[str]" = msgspec.json.Decoder(Hash)


RpcResponse: TypeAlias = jsonrpc.RpcResponse[RpcRejected]


class Rpc(JsonRpcClient[RpcRejected], BitcoinRPC):
    """One node's endpoint. bitcoinrpc's named methods (``getblockcount`` ...) work: each goes through `acall`."""

    singles = CONCURRENCY

    def __init__(self, node: BitcoinOptions) -> None:
        # bitcoinrpc's httpx client is never made: `acall` and `aclose`, its only users, are replaced.
        BitcoinRPC.__init__(self, node.rpc, client=None)  # type: ignore[arg-type]
        batching = Batching(BATCH_MOST, BATCH_MOST, math.inf)
        JsonRpcClient.__init__(
            self, node.name, node.rpc, node.options, node.timeout, concurrency=CONCURRENCY, batching=batching
        )
        self._node = node
        self._headers: dict[str, str] = {}

    async def open(self) -> None:
        """Read the credentials and make the session. Without I/O to the node. Raises `RailUnavailable`."""
        self.renew_credentials()
        await super().open()

    async def aclose(self) -> None:
        """Close all connections. Idempotent."""
        await self.close()

    async def acall(self, method: str, params: list[Any], **_: Any) -> Any:
        """Call one method for bitcoinrpc's named methods; return numbers with a point as Decimal."""
        return (await self.call(method, *params)).read(any_decoder)

    async def call(self, method: str, *params: Any, timeout: float | None = None) -> RpcResponse:
        """Call one method. A refusal in any form, an HTTP status too, is the response's `error`.

        ``timeout`` in seconds, the node's own by default. Raises `RailUnavailable` if no reply comes back.
        """
        try:
            return await super().call(method, *params, timeout=timeout)
        except RpcRejected as refused:
            return RpcResponse.of_error(f"{self.name} {method}", refused)

    async def rest(self, path: str) -> bytes | None:
        """Return a resource of REST, such as ``block/HASH.bin``, or None where the node does not serve it.

        Raises `RailUnavailable` for what will pass.
        """
        what = f"{self.name} rest/{path.partition('/')[0]}"
        answer = await self.exchange(what, None, ANSWER_MOST, path=f"/rest/{path}")
        self.note_pace(answer, _plain_words(answer))
        if answer.status == TOO_MANY or (answer.status >= 500 and not is_refusal(answer.status)):
            raise RailUnavailable(f"{what}: HTTP {answer.status}{_plain_words(answer)}")
        return answer.body if answer.status == 200 and answer.kind.startswith("application/") else None

    # The dialect

    def rejected(self, what: str, refusal: Refusal) -> RpcRejected:
        """Return the error that a refusal is."""
        return RpcRejected(what, *refusal)

    def bytes_max(self, methods: Sequence[str]) -> int:
        """Return the bytes that the answer to these methods may have together."""
        if not CONTENT.isdisjoint(methods):
            return ANSWER_MOST
        return SMALL_MOST if len(methods) == 1 else HEADERS_MOST

    def request(self, method: str, params: Sequence[Any]) -> Mapping[str, Any]:
        """Return the request object, under bitcoinrpc's number."""
        return {"jsonrpc": "2.0", "id": self._counter(), "method": method, "params": params}

    def headers(self) -> Mapping[str, str]:
        """Return the headers, with the credentials that were read last."""
        return self._headers

    def renew_credentials(self) -> bool:
        """Read the credentials; return whether they changed, as a cookie does when the node is started again.

        Raises `RailUnavailable` if the cookie file cannot be read.
        """
        try:
            credentials = self._node.credentials()
        except (OSError, UnicodeDecodeError) as error:
            raise RailUnavailable(
                f"{self.name}: cookie_path cannot be read: {type(error).__name__}. Start the node, or let the user "
                "that runs Railwatch read the file"
            ) from error
        headers = {"Content-Type": "application/json", **IDENTITY}
        if credentials is not None:
            headers["Authorization"] = "Basic " + base64.b64encode(credentials.encode()).decode()
        changed, self._headers = headers != self._headers, headers
        return changed

    def check_status(self, what: str, answer: HttpAnswer) -> None:
        """Raise `RpcRejected` for a status that says no, `RailUnavailable` for an answer that is no JSON-RPC.

        Core sends errors with status 500 and JSON; a busy node says "Work queue depth exceeded" with 503 and no JSON.
        """
        self.note_pace(answer, _plain_words(answer))
        if is_refusal(answer.status):
            if not holds_error(answer.body):
                raise RpcRejected(what, answer.status, _status_words(answer))
            return
        is_json = answer.kind.startswith("application/json") or (answer.status == 200 and answer.looks_like_json)
        if answer.status == TOO_MANY or not is_json:
            raise RailUnavailable(f"{what}: HTTP {answer.status}{_plain_words(answer)}")


def _status_words(answer: HttpAnswer) -> str:
    """Return what a refusal by status says, and which setting causes it."""
    if answer.status == UNAUTHORIZED:
        return "HTTP 401, it does not know our credentials: set user and password, or cookie_path"
    if answer.status == FORBIDDEN:
        return "HTTP 403: a whitelist (rpcwhitelist) leaves the method out, or rpcallowip leaves us out"
    return f"HTTP {answer.status}" + (f": {answer.words}" if answer.words else "")


def _plain_words(answer: HttpAnswer) -> str:
    """Return what a node says in plain text; the HTML pages of gateways are of no help."""
    return f", {answer.words}" if answer.kind == "text/plain" and answer.words else ""

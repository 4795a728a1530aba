"""The JSON-RPC dialect of Solana nodes, over `railwatch.rail.jsonrpc`."""

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from railwatch.rail import RailUnavailable, jsonrpc
from railwatch.rail.again import OTHERS
from railwatch.rail.decoding import SMALL_MOST, VALUES_AT_ONCE, VALUES_MOST, AnswerTooLarge, decode_beside
from railwatch.rail.jsonrpc import JsonRpcClient
from railwatch.rail.pacing import Batching
from railwatch.rail.refusals import Refusal, read_no_reply, read_refusal
from railwatch_solana.options import SolanaOptions
from railwatch_solana.rpc_errors import BEHIND, MalformedResponse, NullResult, RpcRejected
from railwatch_solana.wire import Decoder, RpcEnvelope

T = TypeVar("T")

BLOCK_MOST, LIST_MOST = 32 * 1024 * 1024, 8 * 1024 * 1024
"""Bytes of a block, of which four may be under way at once, and of a list: 500,000 slots have five megabytes. A full
block of 2025 has some ten with its accounts."""
MOST = {
    "getBlock": BLOCK_MOST,
    "getBlocks": LIST_MOST,
    "getTransaction": LIST_MOST,
    "getSignaturesForAddress": LIST_MOST,
    "getTokenAccountsByOwner": LIST_MOST,
}
"""Bytes of an answer by its method; `SMALL_MOST` for all others."""


class Rpc(JsonRpcClient[RpcRejected]):
    """One node's endpoint."""

    def __init__(self, node: SolanaOptions) -> None:
        super().__init__(node.name, node.http, node.options, node.timeout, batching=Batching(retry_seconds=math.inf))

    async def read(self, decoder: "Decoder[T]", method: str, *params: Any) -> T:
        """Call one method and return its typed result, decoded in one pass: a block has megabytes.

        An endpoint that says that it is behind is asked a few times more: if it balances several nodes, another
        one answers (HAZARDS S15). Raises `RpcRejected` for an error, `MalformedResponse` for another shape, and
        `RailUnavailable` if no reply comes back.
        """
        for _ in range(OTHERS):
            try:
                return await self._read(decoder, method, params)
            except RpcRejected as refused:
                if refused.code != BEHIND:
                    raise
        return await self._read(decoder, method, params)

    async def _read(self, decoder: "Decoder[T]", method: str, params: Sequence[Any]) -> T:
        what = f"{self.name} {method}"
        body = msgspec.json.encode(self.request(method, params))
        raw = (await self.post(what, body, self.bytes_max([method]))).body
        most = VALUES_MOST if method == "getBlock" else VALUES_AT_ONCE
        try:
            return self._result(await decode_beside(raw, decoder, what, most), raw, what)
        except (AnswerTooLarge, RpcRejected, MalformedResponse):
            raise
        except RailUnavailable as error:
            raise MalformedResponse(str(error), raw) from error

    def _result(self, reply: RpcEnvelope[T], raw: bytes, what: str) -> T:
        refusal = read_refusal(reply.error)
        if refusal is None and isinstance(reply.result, msgspec.UnsetType):
            refusal = Refusal(0, read_no_reply(raw))
        if refusal is not None:
            raise self.rejected(what, refusal)
        if reply.result is None or isinstance(reply.result, msgspec.UnsetType):
            raise NullResult(f"{what}: an answer of nothing", raw)
        return reply.result

    # The dialect

    def rejected(self, what: str, refusal: Refusal) -> RpcRejected:
        """Return the error that a refusal is."""
        return RpcRejected(what, refusal)

    def bytes_max(self, methods: Sequence[str]) -> int:
        """Return the bytes that the answer may have; a batch is of small answers only."""
        return MOST.get(methods[0], SMALL_MOST) if len(methods) == 1 else SMALL_MOST

    def halves(self, refused: jsonrpc.RpcRejected, calls: int) -> bool:
        """Return whether to send the calls of a refused batch one by one: the batches here are too small to halve."""
        return super().halves(refused, 1)

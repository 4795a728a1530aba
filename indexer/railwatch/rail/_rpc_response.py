"""What a call of JSON-RPC came back with: a result that a decoder reads, or the rail's error."""

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from railwatch.rail.decoding import Decodes, decode, off_loop
from railwatch.rail.errors import RailUnavailable
from railwatch.rail.refusals import NULL

__all__ = ["RpcEnvelope", "RpcRejected", "RpcResponse"]

T = TypeVar("T")

_text: "msgspec.json.Decoder[str]" = msgspec.json.Decoder(str)


class RpcRejected(RailUnavailable):
    """The node is there and answered with an error. A rail derives its own, which says what the error means.

    ``passes``: the node would accept the same request at another time. Otherwise it does not serve the method, or not
    in this form (HAZARDS B20).
    """

    passes = False


R = TypeVar("R", bound=RpcRejected)


class RpcEnvelope(msgspec.Struct):
    """One reply of any version of JSON-RPC. Result and error stay bytes until a decoder reads them."""

    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = NULL

    @property
    def failed(self) -> bool:
        """Whether the reply carries an error."""
        return bytes(self.error).strip() not in (b"", b"null")

    @property
    def has_result(self) -> bool:
        """Whether the reply carries a result, which may be null."""
        return bytes(self.result) != b""


class RpcResponse(Generic[R]):
    """The outcome of one call. The `read` methods raise the node's error, if it answered with one.

    ``what`` names node and method in error messages; ``extra`` is what the rail's `JsonRpcClient.unpack` returned.
    """

    __slots__ = ("_reject", "extra", "result", "what")

    def __init__(
        self, what: str, result: msgspec.Raw, reject: Callable[[], R] | None = None, extra: object = None
    ) -> None:
        self.what = what
        self.result = result if len(result) else NULL
        self.extra = extra
        self._reject = reject

    @classmethod
    def of_error(cls, what: str, error: R) -> "RpcResponse[R]":
        """Return the response that is this error."""
        return cls(what, NULL, lambda: error)

    @property
    def size(self) -> int:
        """The bytes of the result."""
        return len(self.result)

    @property
    def refused(self) -> bool:
        """Whether the node answered with an error."""
        return self._reject is not None

    @property
    def error(self) -> R | None:
        """The node's error, or None if it answered with a result."""
        return None if self._reject is None else self._reject()

    def raw(self) -> msgspec.Raw:
        """Return the JSON of the result. Raises `RpcRejected` for an error."""
        if (error := self.error) is not None:
            raise error
        return self.result

    def read(self, decoder: Decodes[T]) -> T:
        """Return the typed result. Raises `RpcRejected` for an error, `RailUnavailable` for another shape."""
        return decode(self.raw(), decoder, self.what)

    async def read_beside(self, decoder: Decodes[T]) -> T:
        """Return what `read` returns; decode a large result in a thread."""
        return await off_loop(self.size, lambda: self.read(decoder))

    def read_hex(self) -> bytes:
        """Return the bytes that a hex text spells. Raises as `read` does."""
        try:
            return bytes.fromhex(self.read(_text))
        except ValueError as error:
            raise RailUnavailable(f"{self.what}: the answer is no hex") from error

    async def read_hex_beside(self) -> bytes:
        """Return what `read_hex` returns; decode a large result in a thread."""
        return await off_loop(self.size, self.read_hex)

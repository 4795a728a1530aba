"""Reads what an EVM node answered with: blocks, lists, and trees deeper than a recursive decoder may follow."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeAlias, TypeVar

import msgspec

from railwatch.rail import jsonrpc
from railwatch.rail.decoding import (
    LARGE,
    NESTING_MOST,
    VALUES_MOST,
    AnswerTooLarge,
    Decodes,
    TooDeep,
    check_nesting,
    decode,
    decode_each,
    off_loop,
)
from railwatch_evm import wire
from railwatch_evm.fold import Folded, fold
from railwatch_evm.rpc_errors import Meaning, RpcRejected, UnknownBlock

T = TypeVar("T")

RpcResponse: TypeAlias = jsonrpc.RpcResponse[RpcRejected]


def read_block(answer: RpcResponse, decoder: "msgspec.json.Decoder[wire.B | None]") -> "wire.B | None":
    """Return the typed block, or None, which some nodes say by an error.

    Raises as `RpcResponse.read` does, and names a broken block.
    """
    if isinstance(answer.error, UnknownBlock):
        return None
    with refused_if_large():
        return wire.decode_block(answer.raw(), decoder, answer.what)


async def read_each(answer: RpcResponse, items: "wire.Items[T]") -> list[T]:
    """Return the items of a list; decode a long list in a thread, one by one. Raises as `RpcResponse.read` does.

    Null is an empty list, as some nodes write one. Whether it may be empty is for the caller to check.
    """
    raw = answer.raw()
    if len(raw) == len(b"null") and bytes(raw) == b"null":
        return []
    with refused_if_large():
        if len(raw) < LARGE:
            return decode(raw, items.many, answer.what)
        return await off_loop(len(raw), lambda: decode_each(raw, items.one, answer.what))


def read_deep(answer: RpcResponse) -> tuple[msgspec.Raw | bytes, Folded, str]:
    """Return the bare result, which may be folded (`railwatch_evm.fold`), its folds, and its name."""
    folded = answer.extra if isinstance(answer.extra, Folded) else Folded()
    return answer.raw(), folded, answer.what


def unpack(raw: bytes, decoder: Decodes[T], what: str) -> tuple[T, Folded | None]:
    """Return the envelopes in an answer, folded if they are nested too deep, and the folds."""
    with refused_if_large():
        return unfold_if_deep(
            raw, lambda text: decode(text, decoder, f"{what}: not a JSON-RPC answer", VALUES_MOST), what
        )


@contextlib.contextmanager
def refused_if_large() -> Iterator[None]:
    """Raise `RpcRejected` for `AnswerTooLarge`: a caller that asked for much asks for less."""
    try:
        yield
    except AnswerTooLarge as error:
        raise RpcRejected(str(error), Meaning.LARGE) from error


def unfold_if_deep(
    raw: bytes | msgspec.Raw, read: Callable[[bytes | msgspec.Raw], T], what: str
) -> tuple[T, Folded | None]:
    """Return what ``read`` makes of ``raw``, folded first if it is too deep and within what the EVM allows."""
    try:
        return read(raw), None
    except TooDeep:
        text = bytes(raw)
        check_nesting(text, NESTING_MOST, what)
        outer, folded = fold(text, what)
        return read(outer), folded

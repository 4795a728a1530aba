"""JSON-RPC as recordings keep it: calls without their ids, and answers that can be given to other ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

Reply: TypeAlias = dict[str, msgspec.Raw]
"""One reply of JSON-RPC, its values as they came."""

_requests = msgspec.json.Decoder(list[dict[str, Any]])
_replies: "msgspec.json.Decoder[list[Reply] | Reply]" = msgspec.json.Decoder(list[Reply] | Reply)
_id = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class Request:
    """The calls of one body, each with method and parameters, and their ids. Not JSON-RPC: no calls."""

    calls: Sequence[tuple[str, Any]] = ()
    ids: Sequence[Any] = ()
    is_batch: bool = False


def read_request(body: Any) -> Request:
    """Return what a body asks."""
    if not isinstance(body, bytes | str) or not body:
        return Request()
    raw = body.encode() if isinstance(body, str) else body
    is_batch = raw.lstrip().startswith(b"[")
    try:
        asked = _requests.decode(raw if is_batch else b"[" + raw + b"]")
    except (msgspec.DecodeError, RecursionError):
        return Request()
    calls = [(str(each.get("method")), each.get("params")) for each in asked]
    return Request(calls, [each.get("id") for each in asked], is_batch)


def split_replies(body: bytes, ids: Sequence[Any]) -> list[Reply] | None:
    """Return one reply for each of ``ids``, in their order; None if the body is anything else."""
    found = _decoded(body)
    if found is None or (isinstance(found, dict) and len(ids) != 1):
        return None
    listed = [found] if isinstance(found, dict) else found
    by_id = {_key(reply.get("id")): reply for reply in listed}
    wanted = [msgspec.json.encode(each) for each in ids]
    if len(listed) != len(ids) or any(each not in by_id for each in wanted):
        return None
    return [by_id[each] for each in wanted]


def with_ids(body: bytes, recorded: Sequence[Any], asked: Sequence[Any]) -> bytes:
    """Return ``body`` with the ids that were recorded replaced by those that are asked with now."""
    found = _decoded(body)
    if found is None:
        return body
    now = {msgspec.json.encode(old): msgspec.json.encode(new) for old, new in zip(recorded, asked, strict=False)}
    listed = [found] if isinstance(found, dict) else found
    renamed = [
        {**reply, "id": msgspec.Raw(now.get(_key(reply["id"]), bytes(reply["id"])))} if "id" in reply else reply
        for reply in listed
    ]
    return msgspec.json.encode(renamed[0] if isinstance(found, dict) else renamed)


def joined(replies: Sequence[Reply], request: Request) -> bytes:
    """Return the body that gives each call of the request its reply."""
    named: list[Mapping[str, Any]] = [{**reply, "id": each} for reply, each in zip(replies, request.ids, strict=True)]
    return msgspec.json.encode(named if request.is_batch else named[0])


def _decoded(body: bytes) -> list[Reply] | Reply | None:
    try:
        return _replies.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None


def _key(raw: msgspec.Raw | None) -> bytes:
    """Return an id in the form that allows comparison."""
    return b"null" if raw is None else msgspec.json.encode(_id.decode(raw))

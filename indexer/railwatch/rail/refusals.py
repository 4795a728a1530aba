"""A refusal over JSON-RPC, whatever its shape: what it says, and whether the node would say it again (HAZARDS B20).

A node refuses with an error object. A gateway or a hosted plan before it refuses in forms of its own: a
status with any body, an error that is a mere sentence, an object that is no reply. Each is a no to what was asked, and
a rail has a fall-back for it; none of them may pass for an answer, or for an unavailable node.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import NamedTuple

import msgspec

__all__ = [
    "LOCKED_OUT",
    "NULL",
    "PASSING_STATUSES",
    "Refusal",
    "holds_error",
    "is_refusal",
    "own_words",
    "read_no_reply",
    "read_refusal",
    "read_text",
    "will_pass",
]

NO_REPLY = "an answer without a result and without an error, which is none of JSON-RPC"
"""What is said of an object that is no reply, and has no words of its own."""

LOCKED_OUT = frozenset(
    {
        *(HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.FOUND, HTTPStatus.SEE_OTHER),
        *(HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT, HTTPStatus.UNAUTHORIZED),
    }
)
"""Statuses of an endpoint that does not know who asks. To one method among others that are answered, they are a plan's
way to refuse it."""
PASSING_STATUSES = LOCKED_OUT | {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
"""Statuses that may be another one next time."""

WORDS_MOST = 300
"""Characters of a refusal that are read: a node's own help, which some send instead, has pages of other words."""

MISSING_CODES = frozenset({-32601, -32604})
"""JSON-RPC's "method not found", and EIP-1474's "method not supported"."""

_LATER = re.compile(r"try again|retry (?:later|in|after)|temporar", re.IGNORECASE)
_MISSING = re.compile(
    r"method\b.{0,80}\bnot (?:found|enabled|supported|allowed|available|included|permitted|whitelisted)"
    r"|(?:unsupported|unknown|no such|disabled|restricted) method|not whitelisted"
    r"|method (?:is )?(?:disabled|blocked|restricted|forbidden|unsupported)"
    r"|not (?:available|included|supported|allowed|enabled|part) .{0,40}\b(?:plan|tier|subscription|package)"
    r"|(?:plan|tier|subscription) does(?: not|n't) (?:include|support|allow|cover)"
    r"|(?:requires?|only (?:available|supported|allowed)|upgrade to) .{0,60}\b(?:plan|tier|subscription)",
    re.IGNORECASE,
)
_PASSING = re.compile(
    r"rate.?limit|requests? limit|too many (?:concurrent )?(?:requests|connections)|throttl|overload|timed? ?out"
    r"|credits|quota|(?:daily|monthly|hourly) .{0,20}limit|\bbusy\b|over capacity|capacity exceeded|per second",
    re.IGNORECASE,
)

_BATCH = re.compile(r"\bbatch", re.IGNORECASE)
"""Too many calls at once are too many tomorrow as well."""


NULL = msgspec.Raw(b"null")


class _Reply(msgspec.Struct):
    error: msgspec.Raw = NULL


_reply = msgspec.json.Decoder(_Reply)
_replies = msgspec.json.Decoder(list[_Reply])
_sentence = msgspec.json.Decoder(str)
_code = msgspec.json.Decoder(int | str)


class _Said(msgspec.Struct):
    """What of an error's members is read. A hostile node may send many others: their values are not built."""

    code: msgspec.Raw = NULL
    message: msgspec.Raw = NULL
    error: msgspec.Raw = NULL
    msg: msgspec.Raw = NULL
    detail: msgspec.Raw = NULL

    @property
    def words(self) -> str:
        """The first member that says something: as text, or as the beginning of what else it is."""
        said = (raw for raw in (self.message, self.error, self.msg, self.detail) if bytes(raw) not in (b"null", b'""'))
        first = next(said, None)
        return "" if first is None else read_text(first) or bytes(first)[:WORDS_MOST].decode(errors="replace")


_said = msgspec.json.Decoder(_Said)


class Refusal(NamedTuple):
    """What an error says: its code (0 where it has none that is a number), and its words."""

    code: int
    words: str


def read_refusal(error: bytes | msgspec.Raw) -> Refusal | None:
    """Return what the JSON of an ``error`` member says, whatever its shape; None if it is null, or there is none."""
    if bytes(error).strip() in (b"", b"null"):
        return None
    try:
        return Refusal(0, _sentence.decode(error))
    except (ValueError, RecursionError):
        pass
    try:
        said = _said.decode(error)
    except (ValueError, RecursionError):
        return Refusal(0, "an error in a form that is none of JSON-RPC")
    return Refusal(_number(said.code), said.words)


def read_text(raw: bytes | msgspec.Raw) -> str:
    """Return a JSON text; empty for any other value."""
    try:
        return _sentence.decode(raw)
    except (ValueError, RecursionError):
        return ""


def own_words(body: bytes | msgspec.Raw) -> str:
    """Return what an object that is no reply says in a member of its own; empty where it says nothing."""
    try:
        return _said.decode(body).words
    except (ValueError, RecursionError):
        return ""


def read_no_reply(body: bytes | msgspec.Raw) -> str:
    """Return the words of an object that is no reply: its own, where it has any."""
    return own_words(body) or NO_REPLY


def holds_error(body: bytes) -> bool:
    """Return whether a body is one or several replies, an error among them: a node sends those with any status."""
    try:
        replies = _replies.decode(body) if body.lstrip()[:1] == b"[" else [_reply.decode(body)]
    except (ValueError, RecursionError):
        return False
    return any(read_refusal(each.error) is not None for each in replies)


def is_refusal(status: int) -> bool:
    """Return whether this status refuses the request; all others from 400 on mean an unavailable node."""
    told_no = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return (told_no and status != HTTPStatus.TOO_MANY_REQUESTS) or status == HTTPStatus.NOT_IMPLEMENTED


def will_pass(refusal: Refusal, codes: frozenset[int]) -> bool:
    """Return whether the node says no for now only. ``codes``: those that pass, unless the words say otherwise.

    Words decide over codes but for `MISSING_CODES`: hosted endpoints refuse a method with the code of an error within,
    and a rate with the code of a wrong request.
    """
    code, words = refusal.code, refusal.words[:WORDS_MOST]
    if code in MISSING_CODES or _BATCH.search(words):
        return False
    if _LATER.search(words):
        return True
    if _MISSING.search(words):
        return False
    return code in codes or code in PASSING_STATUSES or _PASSING.search(words) is not None


def _number(code: msgspec.Raw) -> int:
    """Return a code that is a number, or a text that spells one; 0 for any other."""
    try:
        return int(_code.decode(code))
    except (ValueError, OverflowError, RecursionError):
        return 0

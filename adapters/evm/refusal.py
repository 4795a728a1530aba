"""A node that is there and says no: what its words mean (HAZARDS E21, E26).

Every client has words of its own, and hosted endpoints more. Six meanings matter, because each has another next step.
The words are matched in lower case; their sources are in docs/nodes.md.
"""

from __future__ import annotations

import enum
import re

import msgspec

from indexer.rail import NotYet, RailUnavailable
from indexer.rail.decoding import printable


class Meaning(enum.Enum):
    """What a refusal means for the next question."""

    MISSING = "missing"
    """The node does not serve the method at all, or not to us. Asking again is of no use."""
    PASSING = "passing"
    """The node would answer at another time: a limit of rate, a quota, an overload. Ask later, and ask the same."""
    STATELESS = "stateless"
    """The node has no state of that block any more. It will answer for newer ones (E26)."""
    UNKNOWN = "unknown"
    """The node knows no such block or transaction. Another one behind its address may, or the same one soon (E19)."""
    LARGE = "large"
    """The answer would be too large, whoever's limit that is. Ask for less."""
    OTHER = "other"
    """Anything else: a range, a batch, a bug at this block. Ask for less, or in another way."""


MISSING_CODES = frozenset({-32601, -32604})
"""JSON-RPC's "method not found", and EIP-1474's "method not supported" (Besu: "Method not enabled")."""
MISSING_STATUS = frozenset({401, 403, 404, 405, 501})
RATE_CODES = frozenset({429, -32029, -32097})

_MISSING = re.compile(
    r"method (?:\S+ )?(?:(?:is )?not (?:found|enabled|supported|allowed|available|whitelisted)|does not exist)"
    r"|unsupported method|unknown method|method not|namespace .*(?:disabled|not enabled)|not whitelisted"
    r"|not available on .*(?:plan|tier)"
    r"|(?:plan|tier) does(?: not|n't) (?:include|support)"
    r"|tracer not found|does not support tracing|tracing is (?:disabled|not enabled|not supported)"
)
_PASSING = re.compile(
    r"rate.?limit|^(?:error: )?limit exceeded|(?:request|daily|monthly|credit|call) (?:count |limit )exceeded|quota"
    r"|credits|too many (?:concurrent )?requests|(?:requests?|calls) per|compute units|throughput|over capacity"
    r"|capacity exceeded|overload|concurren|is busy|temporar|(?:try again|retry) (?:later|in|after)|throttl"
)
_LARGE = re.compile(r"(?:response|result|body|payload|answer)\S* .*(?:too (?:large|big)|exceed|limit)|larger than")
_STATELESS = re.compile(
    r"historical state|missing trie node|state (?:is )?(?:not available|unavailable|not found|pruned)|state at block"
    r"|state \S+ is not available"
    r"|world state|no state available|required historical|pruned|pruning|old data not available|ancient|history is not"
    r"|distance to target block|not an archive|archive"
)
_UNKNOWN = re.compile(
    r"(?:block|header|transaction|tx)s?\b[^.;]{0,120}\bnot (?:be )?found|not found:? (?:block|header|transaction)"
    r"|(?:unknown|no such|cannot find|could not find) (?:the )?(?:block|header|transaction)"
    r"|beyond (?:the )?(?:current )?head|not (?:yet )?indexed|indexing (?:is )?in progress"
)


class NodeRefused(RailUnavailable):
    """The node answered with an error. ``meaning`` says what may help; ``pause`` is what it asked for, in seconds."""

    def __init__(self, words: str, meaning: Meaning = Meaning.OTHER, pause: float | None = None) -> None:
        super().__init__(words)
        self.meaning, self.pause = meaning, pause


class UnknownBlock(NodeRefused, NotYet):
    """The refusal `Meaning.UNKNOWN`: one of those that are asked again, for another node may answer (E19)."""


class _Rate(msgspec.Struct):
    backoff_seconds: float | None = None


class _Data(msgspec.Struct):
    rate: _Rate | None = None


class _Error(msgspec.Struct):
    code: int = 0
    message: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


_error = msgspec.json.Decoder(_Error)
_data = msgspec.json.Decoder(_Data | None)
_sentence = msgspec.json.Decoder(str)


def read_error(raw: bytes | msgspec.Raw, what: str) -> NodeRefused:
    """Return the refusal that an ``error`` member tells, whatever its shape: nodes are free with it."""
    try:
        error = _error.decode(raw)
    except (ValueError, RecursionError):
        try:
            error = _Error(0, _sentence.decode(raw))
        except (ValueError, RecursionError):
            error = _Error(0, "in a form that is no error of JSON-RPC")
    try:
        data = _data.decode(error.data)
    except (ValueError, RecursionError):
        data = None
    pause = data.rate.backoff_seconds if data and data.rate else None
    words = f"{what} refused: {printable(error.message)} ({error.code})"
    meaning = meaning_of(error.code, error.message)
    kind = UnknownBlock if meaning is Meaning.UNKNOWN else NodeRefused
    return kind(words, meaning, pause)


def meaning_of(code: int, words: str) -> Meaning:
    """Return what a refusal means. "Missing" and "passing" follow only from codes or words that mean it."""
    lower = words[:1_000].lower()
    if code in MISSING_CODES or _MISSING.search(lower):
        return Meaning.MISSING
    if code in RATE_CODES or _PASSING.search(lower):
        return Meaning.PASSING
    if _STATELESS.search(lower):
        return Meaning.STATELESS
    if _UNKNOWN.search(lower):
        return Meaning.UNKNOWN
    if _LARGE.search(lower):
        return Meaning.LARGE
    return Meaning.OTHER

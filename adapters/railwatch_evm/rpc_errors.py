"""A node that is there and says no: what its words mean (HAZARDS E21, E26).

Every client has words of its own, and hosted endpoints more. Six meanings matter, because each has another next step.
The words are matched in lower case; their sources are in docs/nodes.md.
"""

from __future__ import annotations

import enum
import re

import msgspec

from railwatch.rail import NotYet, jsonrpc
from railwatch.rail.decoding import printable
from railwatch.rail.refusals import Refusal, read_refusal, read_text


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
    """The answer would be too large, for the node or for us. Ask for less."""
    OTHER = "other"
    """Anything else: a range, a batch, a bug at this block. Ask for less, or in another way."""


MISSING_CODES = frozenset({-32601, -32604, -32004})
"""JSON-RPC's "method not found", EIP-1474's "method not supported", and Besu's "Method not enabled"."""
MISSING_STATUS = frozenset({401, 403, 404, 405, 501})
RATE_CODES = frozenset({429, -32029, -32090, -32097})
LIMIT_CODE = -32005
"""EIP-1474's "limit exceeded": of a rate, unless the words speak of something else."""

_LINK = re.compile(r"https?://\S*")
"""Many refusals end with a link, whose words are about all limits of a plan."""
_BATCH = re.compile(r"\bbatch")
_TRACES = re.compile(
    r"(?:debug|trac)\S*\b.{0,60}\b(?:not (?:available|enabled|allowed|supported|included)|disabled|forbidden)"
    r"|tracer not found|does not support tracing"
)
_AHEAD = re.compile(
    r"unfinalized|future (?:block|epoch)|not (?:yet available|been executed yet)|after (?:the )?last accepted"
    r"|less than or equal to the current|beyond (?:the )?(?:current )?head"
)
_STATELESS = re.compile(
    r"historical state|missing trie node|state (?:is )?(?:not available|unavailable|not found|pruned)|state at block"
    r"|state \S+ is not available|no state (?:available|found)|missing state|state histor"
    r"|world state|required historical|pruned|pruning|old data not available|ancient|history is not"
    r"|distance to target block|not an archive|archive|(?:block|state)\b.{0,40} too old|recreate state|depth limit"
)
_UNKNOWN = re.compile(
    r"(?:block|header|transaction|tx|receipt)s?\b[^.;]{0,120}(?:\bnot|\bcannot|\bcan't) (?:be )?found"
    r"|not found:? (?:block|header|transaction)"
    r"|(?:unknown|no such|cannot find|could not find|missing) (?:the )?(?:block|header|transaction)\b(?! range)"
    r"|block\b.{0,60}does(?: not|n't) exist|not currently canonical|not (?:yet )?indexed|indexing (?:is )?in progress"
)
_RANGE = re.compile(
    r"\branges?\b"
    r"|(?:more than|too many|maximum|most|exceeds? max|less number of).{0,30}(?:results|logs|blocks|address|topics)"
)
_MISSING = re.compile(
    r"method (?:\S+ )?(?:(?:is )?not (?:found|enabled|supported|allowed|available|whitelisted|implemented|included)"
    r"|does not (?:exist|support)|is (?:disabled|blocked|forbidden|restricted|unsupported))"
    r"|(?:unsupported|unknown|unrecognized|invalid|no such) method|method not|namespace .*(?:disabled|not enabled)"
    r"|not whitelisted|not (?:yet )?implemented|\bunsupported$"
    r"|not (?:available|included|supported|allowed) (?:on|in|by|for|with) .*(?:plan|tier)|not allowed to (?:access|use)"
    r"|(?:plan|tier) does(?: not|n't) (?:include|support)"
    r"|(?:only available|requires?) (?:on |in |for |a |an |with )*(?:paid|premium|growth|business|enterprise|dedicated)"
)
_PASSING = re.compile(
    r"rate.?limit|request rate|^(?:error: )?limit exceeded"
    r"|(?:request|daily|monthly|credit|call|capacity|usage) (?:count |limit )?(?:exceeded|reached|exhausted)|quota"
    r"|credits|ran out of|too many (?:concurrent )?(?:requests|connections)|(?:requests?|calls) per|\brps\b"
    r"|compute units|throughput|over capacity|reached the .{0,20}(?:limit|tier)|too much load|overload|concurren"
    r"|is busy|temporar|(?:try again|retry) (?:later|in|after)|throttl|sync is still in progress"
    r"|no (?:available |healthy )?(?:nodes?|upstreams?|providers?) (?:is |are )?available|can't route"
)
_LARGE = re.compile(
    r"(?:response|result|body|payload|answer)\S* .*(?:too (?:large|big)|exceed|limit|not greater)|larger than"
)

MEANINGS = (
    (_BATCH, Meaning.OTHER),
    (_TRACES, Meaning.MISSING),
    (_AHEAD, Meaning.UNKNOWN),
    (_STATELESS, Meaning.STATELESS),
    (_UNKNOWN, Meaning.UNKNOWN),
    (_LARGE, Meaning.LARGE),
    (_RANGE, Meaning.OTHER),
    (_MISSING, Meaning.MISSING),
    (_PASSING, Meaning.PASSING),
)
"""In this order, because plans and limits are named in refusals of every kind: what was asked for comes first."""
_NO_RATE = re.compile(r"gas|returned|query|results?|logs|blocks|exceeds? (?:the )?max")


class RpcRejected(jsonrpc.RpcRejected):
    """A node's error. ``meaning`` says what may help; ``pause`` is what the node asked for, in seconds."""

    def __init__(self, words: str, meaning: Meaning = Meaning.OTHER, pause: float | None = None) -> None:
        super().__init__(words)
        self.meaning, self.pause = meaning, pause
        self.passes = meaning is Meaning.PASSING


class UnknownBlock(RpcRejected, NotYet):
    """The refusal `Meaning.UNKNOWN`: one of those that are asked again, for another node may answer (E19)."""


class _Rate(msgspec.Struct):
    backoff_seconds: float | None = None


class _Data(msgspec.Struct):
    rate: _Rate | None = None


class _Error(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw(b"null")


_error = msgspec.json.Decoder(_Error)
_data = msgspec.json.Decoder(_Data | None)
_DETAIL = 300
"""Characters of ``data`` that are read as words: some nodes give the reason there."""


def read_error(raw: bytes | msgspec.Raw, what: str) -> RpcRejected:
    """Return the refusal in an ``error`` member of any shape: clients differ in it."""
    code, said = read_refusal(raw) or Refusal(0, "")
    detail, pause = _read_data(raw)
    if detail and not detail.startswith("0x"):
        said = f"{said}: {detail[:_DETAIL]}" if said else detail[:_DETAIL]
    words = f"{what} refused: {printable(said)} ({code})"
    meaning = meaning_of(code, said)
    kind = UnknownBlock if meaning is Meaning.UNKNOWN else RpcRejected
    return kind(words, meaning, pause)


def _read_data(raw: bytes | msgspec.Raw) -> tuple[str, float | None]:
    """Return what an error's ``data`` says in words, and for how many seconds it asks us to wait."""
    try:
        given = _error.decode(raw).data
    except (ValueError, RecursionError):
        return "", None
    try:
        data = _data.decode(given)
    except (ValueError, RecursionError):
        data = None
    return read_text(given), data.rate.backoff_seconds if data and data.rate else None


def meaning_of(code: int, words: str) -> Meaning:
    """Return what a refusal means. "Missing" and "passing" follow only from codes or words that mean it."""
    lower = _LINK.sub("", words[:1_000].lower()).strip()
    if code in MISSING_CODES:
        return Meaning.MISSING
    if code in RATE_CODES:
        return Meaning.PASSING
    for pattern, meaning in MEANINGS:
        if pattern.search(lower):
            return meaning
    if code == LIMIT_CODE and not _NO_RATE.search(lower):
        return Meaning.PASSING
    return Meaning.OTHER

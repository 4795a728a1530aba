"""A node's errors by Agave's codes, and which of them will pass (HAZARDS S11, S14, S15)."""

from railwatch.rail import RailUnavailable, jsonrpc
from railwatch.rail.decoding import printable
from railwatch.rail.pacing import TOO_MANY
from railwatch.rail.refusals import Refusal, will_pass

BLOCK_CLEANED_UP = -32001
UNSUPPORTED_VERSION = -32015
BEHIND = -32016
"""The node has not reached the slot that the request required (HAZARDS S15)."""
MISSING = (-32004, -32007, -32009, -32014)
"""Codes for a slot without a block: skipped, lost and not yet there are indistinguishable (HAZARDS S11)."""
PASSING = frozenset({BEHIND, -32005, -32003, -32603, -32019, -32029, -32429, TOO_MANY})
"""Codes of what will pass: behind, unhealthy, internal errors, lost storage, the limits of hosted endpoints."""


class RpcRejected(jsonrpc.RpcRejected):
    """A node's error; ``code`` is its own, or the HTTP status."""

    def __init__(self, what: str, refusal: Refusal) -> None:
        super().__init__(f"{what} refused: {printable(refusal.words)} ({printable(refusal.code, 40)})")
        self.code = refusal.code
        self.passes = will_pass(refusal, PASSING)


class MalformedResponse(RailUnavailable):
    """An answer of another shape than its method gives; ``raw`` is its JSON."""

    def __init__(self, message: str, raw: bytes) -> None:
        super().__init__(message)
        self.raw = raw


class NullResult(MalformedResponse):
    """An answer of null to a method that gives a value."""

"""A node's errors in the words of Bitcoin Core and its heirs, and which of them will pass (HAZARDS B16, B20)."""

import re

from railwatch.rail import jsonrpc
from railwatch.rail.decoding import printable
from railwatch.rail.refusals import Refusal, will_pass

UNAUTHORIZED, FORBIDDEN, TOO_MANY = 401, 403, 429
NOT_FOUND, OUT_OF_RANGE, MISC, WARMING_UP = -5, -8, -1, -28
"""Core's error codes (`rpc/protocol.h`): unknown block or transaction, unknown height, anything else, in warm-up."""
PASSING = frozenset({WARMING_UP, -9, -10, -32005, -32029, -32603, TOO_MANY})
"""Codes of what will pass: warm-up, no peers yet, initial sync, limits of hosted endpoints, a full work queue."""
NO_CONTENT = re.compile(r"prune|not fully downloaded|not found on disk|read block from disk", re.IGNORECASE)
"""What clients say of a block whose header they know and whose bytes they lack: pruned, below an assumed UTXO snapshot
(Core 26), lost. The code is -1, in heirs of Core 0.14 -32603, and arbitrary in other clients (HAZARDS B16)."""
ITS_OWN = (NOT_FOUND, OUT_OF_RANGE, -3)
"""Codes that only the node itself gives, for what was asked of it: whatever its words, they are about that."""


class RpcRejected(jsonrpc.RpcRejected):
    """A node's error; ``code`` is one of Core's, or the HTTP status. ``lacks_content``: see `NO_CONTENT`."""

    def __init__(self, what: str, code: int, message: str) -> None:
        said = printable(message)
        words = f"is still starting: {said}" if code == WARMING_UP else f"refused: {said} ({code})"
        super().__init__(f"{what} {words}")
        self.code, self.message = code, message
        self.lacks_content = code != NOT_FOUND and NO_CONTENT.search(message[:200]) is not None
        its_own = code in ITS_OWN or self.lacks_content
        self.passes = not its_own and will_pass(Refusal(code, message), PASSING)

"""What to ask of blocks: as little as the watches allow (DESIGN, "Ask for less")."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from railwatch.rail.jsonrpc import Call
from railwatch_evm.bloom import mask, may_hold
from railwatch_evm.decode import PADDING, TRANSFER
from railwatch_evm.integrity import check_bloom, check_branch, check_logs, check_once
from railwatch_evm.wire import FullBlock, Header, Log, has_bloom


class Tracing(enum.Enum):
    """How a node shows what happened inside transactions; the value is the method's name."""

    FLAT = "trace_block"
    TREE = "debug_traceBlockByHash"
    NONE = ""

    def call(self, height: str, block_hash: str) -> Call:
        """Return the request for one block. ``trace_block`` knows heights only; its frames name their block's hash."""
        if self is Tracing.FLAT:
            return self.value, (height,)
        return self.value, (block_hash, {"tracer": "callTracer"})


@dataclass(frozen=True, slots=True)
class BlockQuery:
    """What is requested of each block in addition to its header.

    All logs and not only Transfer's: then a set bloom without logs proves that the node has not indexed the block, a
    log's place in its receipt can be counted, and a payment in a token that is not configured is seen as well.
    ``native``: what moves the chain's own asset as well, by frames where the node traces (`railwatch_evm.tracing`).
    ``recipients`` narrows to token transfers to these keys, for look-backs; then neither of the three holds by itself.
    """

    logs: bool = True
    bodies: bool = False
    native: bool = False
    recipients: tuple[bytes, ...] | None = None

    def filter(self, where: Mapping[str, str]) -> dict[str, Any]:
        """Return the parameter of eth_getLogs."""
        if self.recipients is None:
            return dict(where)
        return {**where, "topics": [TRANSFER, None, [PADDING + key.hex() for key in self.recipients]]}

    def missing_logs(self, headers: Mapping[str, Header | FullBlock], logs: Sequence[Log]) -> list[str]:
        """Return the blocks (by hash) that may hold logs of this kind by their bloom and have none among ``logs``.

        With ``recipients`` they may be false positives. Raises `BlockGone` or `RailUnavailable` as `whole` does.
        """
        if self.recipients is None:
            return check_logs(headers, logs)
        seen = check_branch(headers, logs)
        check_once(logs)
        topic = mask(bytes.fromhex(TRANSFER[2:]))
        masks = [topic | mask(bytes(12) + key) for key in self.recipients]
        return [
            each
            for each, header in headers.items()
            if each not in seen and has_bloom(header) and may_hold(header.logs_bloom, masks)
        ]

    def check_block(self, block: Header | FullBlock, logs: Sequence[Log]) -> None:
        """Prove one block's logs, asked for by its hash. Raises `RailUnavailable` if any are missing (E20).

        With ``recipients`` the answer settles what the bloom could only suspect, and nothing is left to compare.
        """
        if self.recipients is None:
            check_logs({block.hash: block}, logs)
            check_bloom(block, logs)
        else:
            check_branch({block.hash: block}, logs)
            check_once(logs)

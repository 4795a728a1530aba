"""Call trees deeper than a recursive decoder may follow, cut into pieces that it can.

The EVM allows 1,024 calls within calls, which is 2,048 levels of JSON, and CPython's C recursion has limits between
1,000 and 10,000 by version. A ``calls`` array that lies deep is cut out, and a frame that names the piece replaces its
place; `railwatch_evm.traces` puts the tree together again, without recursion.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field

from railwatch.rail import RailUnavailable

LEVELS = 200
"""Levels of nesting after which an array becomes a piece of its own."""

MARK = f"folded-{secrets.token_hex(8)}"
"""The type of a frame that represents a piece: no one outside this process can write one."""

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Folded:
    """The pieces that were cut out of an answer, each a JSON array of frames."""

    pieces: list[bytes] = field(default_factory=list)


def fold(raw: bytes, what: str) -> tuple[bytes, Folded]:
    """Return ``raw`` with its deep arrays cut out, and these. One pass. Raises `RailUnavailable` for broken JSON."""
    pieces: list[bytes] = []
    texts: list[list[bytes]] = [[]]
    bases = [0]
    depth = begin = 0
    for token in _TOKEN.finditer(raw):
        char = raw[token.start()]
        if char in b"[{":
            if char == 0x5B and depth - bases[-1] >= LEVELS:
                texts[-1].append(raw[begin : token.start()])
                begin = token.start()
                texts.append([])
                bases.append(depth)
            depth += 1
        elif char in b"]}":
            depth -= 1
            if len(bases) > 1 and depth == bases[-1]:
                texts[-1].append(raw[begin : token.end()])
                begin = token.end()
                pieces.append(b"".join(texts.pop()))
                bases.pop()
                texts[-1].append(b'[{"type":"%s","to":"%d"}]' % (MARK.encode(), len(pieces) - 1))
    if len(texts) != 1:
        raise RailUnavailable(f"{what}: not a JSON-RPC answer: its brackets are not closed")
    return b"".join([*texts[0], raw[begin:]]), Folded(pieces)

"""What is known of public EVM chains: their first blocks, blocks that tell forks apart, and faces of the native asset.

A chain id is a number that anybody may give to a chain of their own. A genesis hash is not. Sources: docs/nodes.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from indexer.rail import ChainId


@dataclass(frozen=True, slots=True)
class KnownChain:
    """The hashes by which a chain is told apart: of block 0, and of later blocks that a fork does not share."""

    genesis: str
    landmarks: Mapping[int, str] = field(default_factory=dict)


KNOWN: Mapping[str, KnownChain] = {
    "eip155:1": KnownChain(
        "0xd4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3",
        # The DAO fork: Ethereum Classic has the same genesis block and another block at this height.
        {1_920_000: "0x4985f5ca3d2afbec36529aa96f74de3cc10a2a4a6c44f2157a57d2c6059a11bb"},
    ),
    "eip155:61": KnownChain(
        "0xd4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3",
        {1_920_000: "0x94365e3a8c0b35089c1d1195081fe7489b528a84b22199c916180db8b28ade7f"},
    ),
    "eip155:10": KnownChain("0x7ca38a1916c42007829c55e69d3e9a73265554b586a499015373241b8a3fa48b"),
    "eip155:56": KnownChain("0x0d21840abff46b96c84b2ac9e10e4f5cdaeb5693cb665db62a2f3b02d2d57b5b"),
    "eip155:137": KnownChain("0xa9c28ce2141b56c474f1dc504bee9b01eb1bd7d1a507580d5519d4437a97de1b"),
    "eip155:8453": KnownChain("0xf712aa9241cc24369b143cf6dce85f0902a9731e70d66818a3a5845b296c73dd"),
    "eip155:42161": KnownChain("0x7ee576b35482195fc49205cec9af72ce14f003b9ae69f6ba0faef4514be8b442"),
}

DEVELOPMENT = frozenset({"eip155:1337", "eip155:31337"})
"""Chains whose clock a person moves; anywhere else a block of tomorrow is a lie."""

SYSTEM_FACES = frozenset(
    {
        "0xfffffffffffffffffffffffffffffffffffffffe",  # EIP-7708: ether's own transfers, logged by the system
        "0x0000000000000000000000000000000000001010",  # Polygon: MRC20, POL
        "0x000000000000000000000000000000000000800a",  # ZK Stack: L2BaseToken
    }
)
"""Contracts whose Transfer is a movement of the native asset, at addresses where nobody can deploy (E5, E27)."""

FACES: Mapping[str, frozenset[str]] = {
    "eip155:42220": frozenset({"0x471ece3750da237f93b8e339c536989b8978a438"}),  # CELO
}
"""Further ones, at addresses that mean this on that chain only."""


@lru_cache(maxsize=64)
def native_faces(chain_id: ChainId) -> frozenset[str]:
    """Return the contracts, in lower case, that log the native asset's own movements: they are no tokens."""
    return SYSTEM_FACES | FACES.get(chain_id, frozenset())

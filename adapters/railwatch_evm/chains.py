"""What is known of public EVM chains: their first blocks, blocks that distinguish forks, and faces of the native asset.

A chain id is a number that any operator may give to a chain. A genesis hash is not. Sources: docs/nodes.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from railwatch.rail import ChainId


@dataclass(frozen=True, slots=True)
class KnownChain:
    """The hashes that identify a chain: of block 0, and of later blocks that a fork does not share."""

    genesis: str
    landmarks: Mapping[int, str] = field(default_factory=dict)


KNOWN: Mapping[str, KnownChain] = {
    "eip155:1": KnownChain(
        "0xd4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3",
        {
            # The DAO fork: Ethereum Classic has the same genesis block and another block at this height.
            1_920_000: "0x4985f5ca3d2afbec36529aa96f74de3cc10a2a4a6c44f2157a57d2c6059a11bb",
            # The Merge: the forks that went on with proof of work have another block at this height.
            15_537_394: "0x56a9bb0302da44b8c0b3df540781424684c3af04d0b7a38d72842b762076a664",
        },
    ),
    "eip155:61": KnownChain(
        "0xd4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3",
        {1_920_000: "0x94365e3a8c0b35089c1d1195081fe7489b528a84b22199c916180db8b28ade7f"},
    ),
    "eip155:10": KnownChain("0x7ca38a1916c42007829c55e69d3e9a73265554b586a499015373241b8a3fa48b"),
    "eip155:56": KnownChain("0x0d21840abff46b96c84b2ac9e10e4f5cdaeb5693cb665db62a2f3b02d2d57b5b"),
    "eip155:97": KnownChain("0x6d3c66c5357ec91d5c43af47e234a939b22557cbb552dc45bebbceeed90fbe34"),
    "eip155:100": KnownChain("0x4f1dd23188aab3a76b463e4af801b52b1248ef073c648cbdc4c9333d3da79756"),
    "eip155:137": KnownChain("0xa9c28ce2141b56c474f1dc504bee9b01eb1bd7d1a507580d5519d4437a97de1b"),
    "eip155:8453": KnownChain("0xf712aa9241cc24369b143cf6dce85f0902a9731e70d66818a3a5845b296c73dd"),
    "eip155:10200": KnownChain("0xada44fd8d2ecab8b08f256af07ad3e777f17fb434f8f8e678b312f576212ba9a"),
    "eip155:17000": KnownChain("0xb5f7f912443c940f21fd611f12828d75b534364ed9e95ca4e307729a4661bde4"),
    "eip155:42161": KnownChain("0x7ee576b35482195fc49205cec9af72ce14f003b9ae69f6ba0faef4514be8b442"),
    "eip155:42220": KnownChain("0x19ea3339d3c8cda97235bc8293240d5b9dadcdfbb5d4b0b90ee731cac1bd11c3"),
    "eip155:43114": KnownChain(
        "0x31ced5b9beb7f8782b014660da0cb18cc409f121f408186886e1ca3e8eeca96b",
        # Fuji, Flare and Songbird have the same genesis block, and other blocks at this height, or none.
        {96_532_775: "0x02c689a396a990ac0acfbcfcce9b4ed52bf41f1b9d1d8aa3d0540c6631de0dbc"},
    ),
    "eip155:43113": KnownChain(
        "0x31ced5b9beb7f8782b014660da0cb18cc409f121f408186886e1ca3e8eeca96b",
        {1: "0x738639479dc82d199365626f90caa82f7eafcfe9ed354b456fb3d294597ceb53"},
    ),
    "eip155:59144": KnownChain("0xb6762a65689107b2326364aefc18f94cda413209fab35c00d4af51eaa20ffbc6"),
    "eip155:80002": KnownChain("0x7202b2b53c5a0836e773e319d18922cc756dd67432f9a1f65352b61f4406c697"),
    "eip155:84532": KnownChain("0x0dcc9e089e30b90ddfc55be9a37dd15bc551aeee999d2e2b51414c54eaf934e4"),
    "eip155:421614": KnownChain("0x77194da4010e549a7028a9c3c51c3e277823be6ac7d138d0bb8a70197b5c004c"),
    "eip155:534352": KnownChain("0xbbc05efd412b7cd47a2ed0e5ddfcf87af251e414ea4c801d78b6784513180a80"),
    "eip155:560048": KnownChain("0xbbe312868b376a3001692a646dd2d7d1e4406380dfd86b98aa8a34d1557c971b"),
    "eip155:11155111": KnownChain("0x25a5cc106eea7138acab33231d7160d69cb777ee0c2c553fcddf5138993e6dd9"),
    "eip155:11155420": KnownChain("0x102de6ffb001480cc9b8b548fd05c34cd4f46ae4aa91759393db90ea0409887d"),
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
"""Contracts whose Transfer moves the native asset, at addresses where no contract can be deployed (E5, E27)."""

FACES: Mapping[str, frozenset[str]] = {
    "eip155:42220": frozenset({"0x471ece3750da237f93b8e339c536989b8978a438"}),  # CELO
    "eip155:44787": frozenset({"0xf194afdf50b03e69bd7d057c1aa9e10c9954e4c9"}),  # CELO on Alfajores
}
"""Further ones, at addresses that mean this on that chain only. They move the native asset by a precompile: no call
shows a value, so that only their logs show it (celo-org/op-geth, core/vm/celo_contracts.go)."""


@lru_cache(maxsize=64)
def native_faces(chain_id: ChainId) -> frozenset[str]:
    """Return the contracts, in lower case, that log the native asset's own movements: they are no tokens."""
    return SYSTEM_FACES | moved_by_precompile(chain_id)


def moved_by_precompile(chain_id: ChainId) -> frozenset[str]:
    """Return those of them whose movements no call shows."""
    return FACES.get(chain_id, frozenset())

"""The public seam: all that an adapter may import."""

from indexer.rail.abilities import Ability, Method, TellsAbilities
from indexer.rail.adapter import ChecksAssets, OpenNode, RailAdapter, RefusesPayments, TellsBalances
from indexer.rail.errors import (
    AdapterDefect,
    BadAddress,
    BlockGone,
    NotKept,
    PendingUnknown,
    RailError,
    RailFault,
    RailUnavailable,
)
from indexer.rail.simulator import Simulator
from indexer.rail.types import (
    NOBODY,
    Address,
    AssetId,
    AssetSpec,
    BlockRef,
    ChainId,
    Heads,
    RailSettings,
    Scanned,
    Span,
    Traits,
    Transfer,
    Watches,
)

__all__ = [
    "NOBODY",
    "Ability",
    "AdapterDefect",
    "Address",
    "AssetId",
    "AssetSpec",
    "BadAddress",
    "BlockGone",
    "BlockRef",
    "ChainId",
    "ChecksAssets",
    "Heads",
    "Method",
    "NotKept",
    "OpenNode",
    "PendingUnknown",
    "RailAdapter",
    "RailError",
    "RailFault",
    "RailSettings",
    "RailUnavailable",
    "RefusesPayments",
    "Scanned",
    "Simulator",
    "Span",
    "TellsAbilities",
    "TellsBalances",
    "Traits",
    "Transfer",
    "Watches",
]

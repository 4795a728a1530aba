"""Solana over JSON-RPC: the adapter, and a development node to try it on."""

from collections.abc import Mapping
from typing import Any

from railwatch.rail import RailAdapter, RailSettings
from railwatch_solana.adapter import SolanaAdapter
from railwatch_solana.options import SolanaOptions

__all__ = ["SolanaAdapter", "create_adapter"]


def create_adapter(rail: RailSettings, node: Mapping[str, Any]) -> RailAdapter:
    """Return an adapter for one node, without I/O (`railwatch.rail.AdapterFactory`).

    Raises ValueError that names the wrong key.
    """
    return SolanaAdapter(rail, SolanaOptions.from_table(node))

"""EVM chains over JSON-RPC. This package is light: web3 is imported only when a node is entered."""

from collections.abc import Mapping
from typing import Any

from railwatch.rail import RailAdapter, RailSettings
from railwatch_evm.adapter import EvmAdapter
from railwatch_evm.options import EvmOptions

__all__ = ["EvmAdapter", "create_adapter"]


def create_adapter(rail: RailSettings, node: Mapping[str, Any]) -> RailAdapter:
    """Return an adapter for one node, without I/O (`railwatch.rail.AdapterFactory`).

    Raises ValueError that names the wrong key.
    """
    return EvmAdapter(rail, EvmOptions.from_table(node))

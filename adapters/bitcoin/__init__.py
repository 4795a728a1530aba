"""Bitcoin, Litecoin and their kin over Core's RPC, ZMQ and REST. Light: clients are imported when a node is entered."""

from collections.abc import Mapping
from typing import Any

from adapters.bitcoin.adapter import BitcoinAdapter
from adapters.bitcoin.node import BitcoinNode
from indexer.rail import RailAdapter, RailSettings

__all__ = ["BitcoinAdapter", "open_node"]


def open_node(rail: RailSettings, node: Mapping[str, Any]) -> RailAdapter:
    """An adapter for one node, without I/O (`indexer.rail.OpenNode`). Raises ValueError, naming the wrong key."""
    return BitcoinAdapter(rail, BitcoinNode.from_table(node))

"""Bitcoin, Litecoin and their kin over Core's RPC, ZMQ and REST. Light: clients are imported when a node is entered."""

from collections.abc import Mapping
from typing import Any

from railwatch.rail import RailAdapter, RailSettings
from railwatch_bitcoin.adapter import BitcoinAdapter
from railwatch_bitcoin.options import BitcoinOptions

__all__ = ["BitcoinAdapter", "create_adapter"]


def create_adapter(rail: RailSettings, node: Mapping[str, Any]) -> RailAdapter:
    """Return an adapter for one node, without I/O (`railwatch.rail.AdapterFactory`).

    Raises ValueError that names the wrong key.
    """
    return BitcoinAdapter(rail, BitcoinOptions.from_table(node))

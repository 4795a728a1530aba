"""A rail of a third party, written from docs/adapters.md alone: one asset, no mempool, final after ten blocks."""

from collections.abc import Mapping
from typing import Any

from railwatch.rail import RailAdapter, RailSettings
from railwatch_tiny.adapter import TinyAdapter
from railwatch_tiny.options import TinyOptions

__all__ = ["TinyAdapter", "create_adapter"]


def create_adapter(rail: RailSettings, node: Mapping[str, Any]) -> RailAdapter:
    """Return an adapter for one node, without I/O. Raises ValueError that names the wrong key."""
    return TinyAdapter(rail, TinyOptions.from_table(node))

"""The fake rail: the reference adapter, and an in-memory chain for tests of everything above the seam.

The entry point ``railwatch.rails: fake`` names ``create_adapter``. A configuration cannot carry a chain that lives in
memory. So a test registers the chain under a name first, and the node's table refers to that name::

    chain = register(FakeChain("shop", Rules(finality=6)))
    create_adapter(rail, {"chain": "shop"})                      # its node "main"
    create_adapter(rail, {"chain": "shop", "node": "second"})    # another node, with faults of its own
"""

from collections.abc import Mapping
from typing import Any

from railwatch.rail import RailAdapter, RailSettings
from railwatch.rail.options import height_options
from railwatch_fake.adapter import FakeAdapter
from railwatch_fake.chain import FakeChain, Output, Rules
from railwatch_fake.node import FakeNode
from railwatch_fake.options import FakeOptions
from railwatch_fake.registry import forget, node_of, register

__all__ = [
    "FakeAdapter",
    "FakeChain",
    "FakeNode",
    "Output",
    "Rules",
    "create_adapter",
    "forget",
    "node_of",
    "register",
]


def create_adapter(rail: RailSettings, node: Mapping[str, Any]) -> RailAdapter:
    """Return an adapter for one node, without I/O (`railwatch.rail.AdapterFactory`).

    Raises ValueError that names the wrong key.
    """
    height_options(rail)  # A fake chain has its heights from its rules; unknown options are refused all the same.
    options = FakeOptions.from_table(node)
    return FakeAdapter(
        node_of(options.chain, options.node), rail.chain_id, timeout=options.timeout, silence=options.silence
    )

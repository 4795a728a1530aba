"""The fake rail: the reference adapter, and an in-memory chain for tests and demos of everything above the seam.

``create_adapter`` is what the entry point ``railwatch.rails: fake`` names. A configuration cannot carry a chain that
lives in memory, so a chain is registered here under its name first, and the node's table says that name::

    chain = register(FakeChain("shop", Rules(finality=6)))
    create_adapter(rail, {"chain": "shop"})                      # its node "main"
    create_adapter(rail, {"chain": "shop", "node": "second"})    # another node, with faults of its own
"""

from collections.abc import Mapping
from typing import Any

from railwatch.rail import RailAdapter, RailSettings
from railwatch.rail.options import height_options
from railwatch.rail.printable import quoted
from railwatch_fake.adapter import FakeAdapter
from railwatch_fake.chain import FakeChain, Output, Rules
from railwatch_fake.node import FakeNode
from railwatch_fake.simulator import FakeSimulator

__all__ = [
    "FakeAdapter",
    "FakeChain",
    "FakeNode",
    "FakeSimulator",
    "Output",
    "Rules",
    "create_adapter",
    "forget",
    "node_of",
    "register",
]

_chains: dict[str, FakeChain] = {}
_nodes: dict[tuple[str, str], FakeNode] = {}


def register(chain: FakeChain) -> FakeChain:
    """Let `create_adapter` find ``chain`` by its name, in the place of any that had the name before; returns it."""
    forget(chain.name)
    _chains[chain.name] = chain
    return chain


def forget(name: str) -> None:
    """Undo `register`. Unknown names are fine."""
    _chains.pop(name, None)
    for key in [key for key in _nodes if key[0] == name]:
        del _nodes[key]


def node_of(chain: str, node: str = "main") -> FakeNode:
    """The named node of a registered chain, the same one that `create_adapter` connects to. Raises KeyError."""
    if (chain, node) not in _nodes:
        _nodes[chain, node] = FakeNode(_chains[chain])
    return _nodes[chain, node]


def create_adapter(rail: RailSettings, node: Mapping[str, Any]) -> RailAdapter:
    """An adapter for ``{"chain": NAME, "node": NAME, "timeout": seconds, "silence": seconds}``; only chain is needed.

    Raises ValueError naming the key that is wrong.
    """
    unknown = sorted(set(node) - {"chain", "node", "timeout", "silence"})
    if unknown:
        raise ValueError(f"node: {quoted(unknown[0])}: a node of the fake rail has no such key")
    name = node.get("chain")
    if name not in _chains:
        raise ValueError(f"chain: no fake chain named {quoted(name)} was registered in this process")
    height_options(rail)  # A chain has its heights from its rules; an option that nobody knows is refused all the same.
    bounds = {key: _seconds(node, key) for key in ("timeout", "silence") if key in node}
    return FakeAdapter(node_of(str(name), str(node.get("node", "main"))), rail.chain_id, **bounds)


def _seconds(node: Mapping[str, Any], key: str) -> float:
    """A positive number of seconds. Raises ValueError naming ``key``."""
    value = node[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ValueError(f"{key}: a number of seconds above 0, not {value!r}")
    return float(value)

"""The chains that this process can name: a configuration cannot carry a chain that lives in memory."""

from railwatch_fake.chain import FakeChain
from railwatch_fake.node import FakeNode

_chains: dict[str, FakeChain] = {}
_nodes: dict[tuple[str, str], FakeNode] = {}


def register(chain: FakeChain) -> FakeChain:
    """Return ``chain``, which `create_adapter` now finds by its name. It replaces a chain of the same name."""
    forget(chain.name)
    _chains[chain.name] = chain
    return chain


def forget(name: str) -> None:
    """Undo `register`. An unknown name is no error."""
    _chains.pop(name, None)
    for key in [key for key in _nodes if key[0] == name]:
        del _nodes[key]


def is_registered(name: object) -> bool:
    """Return whether a chain of that name was registered."""
    return name in _chains


def node_of(chain: str, node: str = "main") -> FakeNode:
    """Return the named node of a registered chain, the one that `create_adapter` connects to. Raises KeyError."""
    if (chain, node) not in _nodes:
        _nodes[chain, node] = FakeNode(_chains[chain])
    return _nodes[chain, node]

"""Installed adapters, in-tree and third-party alike, by the entry-point group ``railwatch.rails``."""

from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points

from railwatch.config import NodeConfig, RailConfig
from railwatch.daemon.nodes.node import Node
from railwatch.daemon.nodes.node_set import NodeSet
from railwatch.known_chains import known_lookback
from railwatch.rail import AdapterFactory, RailAdapter, RailSettings
from railwatch.redaction import hidden

GROUP = "railwatch.rails"


class UnknownAdapter(ValueError):
    """An adapter that no installed package offers, or whose package fails."""


@cache
def _installed() -> tuple[EntryPoint, ...]:
    """Return the installed adapters, read once: that takes 10 ms, and each connection to a node asks for them."""
    return tuple(entry_points(group=GROUP))


def known_adapters() -> list[str]:
    """Return the names that a ``[[rail]]`` table can give as ``adapter``."""
    return sorted({point.name for point in _installed()})


def load_adapter(name: str) -> AdapterFactory:
    """Return the function that creates an adapter for a node. Raises `UnknownAdapter`."""
    found = [point for point in _installed() if point.name == name]
    if not found:
        raise UnknownAdapter(f'there is no adapter "{name}"; installed: {", ".join(known_adapters())}')
    try:
        opener: AdapterFactory = found[0].load()
    except Exception as error:  # a third-party package may raise anything while it is imported
        package = found[0].dist.name if found[0].dist else found[0].value
        raise UnknownAdapter(
            f'adapter "{name}" of package {package} cannot be loaded ({found[0].value}): '
            f"{type(error).__name__}: {error}. Install its dependencies next to railwatch, or remove its [[rail]] table"
        ) from error
    return opener


def rail_settings(rail: RailConfig) -> RailSettings:
    """Return a rail's configuration as the seam's settings."""
    assets = tuple(each.spec for each in rail.assets)
    return RailSettings(rail.name, rail.chain_id, assets, rail.options, known_lookback(rail.chain_id))


def create_adapter(rail: RailConfig, node: NodeConfig) -> RailAdapter:
    """Return the adapter of one node, unconnected. Raises `UnknownAdapter`, or ValueError that names the wrong key."""
    opener = load_adapter(rail.adapter)
    try:
        return opener(rail_settings(rail), node.reveal())
    except ValueError:
        raise
    except Exception as error:  # a third-party package may raise anything at a table
        raise UnknownAdapter(
            f'rail {rail.name}: adapter "{rail.adapter}" failed at its table with {type(error).__name__}: '
            f"{hidden(str(error))}. Report this to the maintainer of that adapter, or remove its [[rail]] table"
        ) from error


def open_rail(rail: RailConfig) -> NodeSet:
    """Return all nodes of a rail behind one seam, unconnected. Raises as `create_adapter` does."""
    return NodeSet([Node(name, partial(create_adapter, rail, node)) for name, node in named_nodes(rail).items()])


def named_nodes(rail: RailConfig) -> dict[str, NodeConfig]:
    """Return a rail's nodes in the order of the configuration, by their names in evidence and logs."""
    return dict(zip(_unique([node.name for node in rail.nodes]), rail.nodes, strict=True))


def _unique(names: list[str]) -> list[str]:
    """Return the names, with a number after each repeated one, so that evidence identifies a node."""
    return [
        f"{name} ({names[: place + 1].count(name)})" if name in names[:place] else name
        for place, name in enumerate(names)
    ]

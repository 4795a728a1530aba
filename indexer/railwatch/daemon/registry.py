"""Which rails there are: in-tree and third-party adapters alike, by the entry-point group ``railwatch.rails``."""

from functools import partial
from importlib.metadata import entry_points

from railwatch.config import NodeConfig, RailConfig
from railwatch.daemon.nodes.node import Node
from railwatch.daemon.nodes.node_set import NodeSet
from railwatch.known_chains import known_lookback
from railwatch.rail import AdapterFactory, RailAdapter, RailSettings
from railwatch.redaction import hidden

GROUP = "railwatch.rails"


class UnknownAdapter(ValueError):
    """No installed package offers that adapter, or the one that does cannot be used."""


def known_adapters() -> list[str]:
    """Names that a ``[[rail]]`` table can give as ``adapter``."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def load_adapter(name: str) -> AdapterFactory:
    """The function that opens a node of that adapter. Raises `UnknownAdapter`."""
    found = [point for point in entry_points(group=GROUP) if point.name == name]
    if not found:
        raise UnknownAdapter(f'there is no adapter "{name}"; installed: {", ".join(known_adapters())}')
    try:
        opener: AdapterFactory = found[0].load()
    except Exception as error:  # whatever a package of somebody else's does while it is imported
        package = found[0].dist.name if found[0].dist else found[0].value
        raise UnknownAdapter(
            f'adapter "{name}" of package {package} cannot be loaded ({found[0].value}): '
            f"{type(error).__name__}: {error}. Install what it needs beside railwatch, or take its rail out"
        ) from error
    return opener


def rail_settings(rail: RailConfig) -> RailSettings:
    """What the configuration says of a rail, in the seam's words."""
    assets = tuple(each.spec for each in rail.assets)
    return RailSettings(rail.name, rail.chain_id, assets, rail.options, known_lookback(rail.chain_id))


def create_adapter(rail: RailConfig, node: NodeConfig) -> RailAdapter:
    """One node of a rail, not asked yet. Raises `UnknownAdapter`, or ValueError that names the wrong key."""
    opener = load_adapter(rail.adapter)
    try:
        return opener(rail_settings(rail), node.reveal())
    except ValueError:
        raise
    except Exception as error:  # whatever a package of somebody else's does with a table
        raise UnknownAdapter(
            f'rail {rail.name}: adapter "{rail.adapter}" failed at its table with {type(error).__name__}: '
            f"{hidden(str(error))}. Tell whoever maintains that adapter, or take the rail out"
        ) from error


def open_rail(rail: RailConfig) -> NodeSet:
    """All nodes of a rail behind one seam, none of them asked yet. Raises as `create_adapter` does."""
    return NodeSet([Node(name, partial(create_adapter, rail, node)) for name, node in named_nodes(rail).items()])


def named_nodes(rail: RailConfig) -> dict[str, NodeConfig]:
    """Return a rail's nodes in the order of the configuration, by the names that evidence and logs give them."""
    return dict(zip(_told_apart([node.name for node in rail.nodes]), rail.nodes, strict=True))


def _told_apart(names: list[str]) -> list[str]:
    """The names, with a number where one is there twice: evidence says which node told what."""
    return [
        f"{name} ({names[: place + 1].count(name)})" if name in names[:place] else name
        for place, name in enumerate(names)
    ]

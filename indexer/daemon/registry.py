"""Which rails there are: in-tree and third-party adapters alike, by the entry-point group ``railwatch.rails``."""

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from indexer.daemon.nodeset import Node, NodeSet
from indexer.rail import AssetSpec, ChainId, OpenNode, RailSettings

if TYPE_CHECKING:
    from indexer.config import RailConfig

GROUP = "railwatch.rails"


class UnknownAdapter(ValueError):
    """No installed package offers that adapter."""


def known_adapters() -> list[str]:
    """Names that a ``[[rail]]`` table can give as ``adapter``."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def load_adapter(name: str) -> OpenNode:
    """The function that opens a node of that adapter. Raises `UnknownAdapter`."""
    found = [point for point in entry_points(group=GROUP) if point.name == name]
    if not found:
        raise UnknownAdapter(f'there is no adapter "{name}"; installed: {", ".join(known_adapters())}')
    opener: OpenNode = found[0].load()
    return opener


def rail_settings(rail: "RailConfig") -> RailSettings:
    """What the configuration says of a rail, in the seam's words."""
    assets = tuple(AssetSpec(each.symbol, each.contract, each.decimals) for each in rail.assets)
    return RailSettings(rail.name, ChainId(rail.chain_id), assets, rail.adapter_options)


def open_rail(rail: "RailConfig") -> NodeSet:
    """All nodes of a rail behind one seam, none of them asked yet. Raises `UnknownAdapter`, ValueError."""
    opener, settings = load_adapter(rail.adapter), rail_settings(rail)
    nodes = [
        Node(f"{rail.name}[{place}]", lambda node=node: opener(settings, node))  # type: ignore[misc]
        for place, node in enumerate(rail.nodes)
    ]
    return NodeSet(nodes)

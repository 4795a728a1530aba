"""What an adapter asks of its nodes, method by method, and what a node said to each (HAZARDS B20, "Nodes")."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Method:
    """One row of a rail's whitelist: a method that the adapter may ask, and no other is ever asked.

    ``needed_for`` and ``fallback`` are for the operator; an empty ``fallback`` says that the rail cannot do without.
    ``remedy`` names the node's own setting that allows the method.
    """

    name: str
    needed_for: str
    fallback: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Ability:
    """What one node said to one method. ``served`` None: it was not asked, or a refusal that passes left it open.

    ``answer`` holds the node's own words where it refused.
    """

    method: str
    needed_for: str
    served: bool | None
    answer: str
    fallback: str
    remedy: str


@runtime_checkable
class SupportsAbilities(Protocol):
    """An optional part of an adapter: the table of what its node serves, learned on entering."""

    async def abilities(self) -> Sequence[Ability]:
        """Return one row for each method of the rail's whitelist, in its order.

        Each method is asked at most once for it, with arguments that cost little and change nothing. Raises
        `RailUnavailable` while the node does not answer at all.
        """

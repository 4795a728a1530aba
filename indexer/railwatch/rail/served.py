"""What one node serves of its rail's whitelist, as it is learned on entering (HAZARDS B20, "Nodes")."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from railwatch.rail.abilities import Ability, Method
from railwatch.rail.errors import MethodsMissing

__all__ = ["Served"]


@dataclass(slots=True)
class Served:
    """What a node said to each method: True, False, or None for not known, and its words where it refused."""

    methods: Sequence[Method]
    said: dict[str, tuple[bool | None, str]] = field(default_factory=dict)

    def note(self, method: str, served: bool | None, words: str = "") -> None:
        """Keep what the node said."""
        self.said[method] = (served, words)

    def serves(self, method: str) -> bool:
        """Return whether the method may be asked: all but those that were refused."""
        return self.said.get(method, (None, ""))[0] is not False

    def table(self, unasked: str = "not asked") -> list[Ability]:
        """Return one row for each method, in the whitelist's order. ``unasked``: the answer of an unasked method."""
        return [_row(method, *self.said.get(method.name, (None, unasked))) for method in self.methods]

    def require(self, node: str, also: Iterable[str] = ()) -> None:
        """Raise `MethodsMissing` if the node refuses a method that has no fall-back, or one of ``also``.

        The one sentence for each says which method, in which words it was refused, and which setting allows it.
        """
        needed = {*also, *(method.name for method in self.methods if not method.fallback)}
        missing = [method for method in self.methods if method.name in needed and not self.serves(method.name)]
        if missing:
            words = "; ".join(
                f"{node} does not serve {method.name}, which the rail needs: {method.remedy} "
                f"(it said: {self.said[method.name][1]})"
                for method in missing
            )
            raise MethodsMissing(words, self.table())


def _row(method: Method, served: bool | None, answer: str) -> Ability:
    return Ability(method.name, method.needed_for, served, answer, method.fallback, method.remedy)

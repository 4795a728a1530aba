"""What a rail brings to `railwatch demo`: the programs of its development node, and stories that are lived on it.

An entry point of the group ``railwatch.demos`` names an `OpenDemo`. The demo's runner starts the programs, the daemon
and Postgres, runs every story, and compares what the feed said with what the story expected. A rail's stories know
nothing of the runner beyond `Shop`, and the runner nothing of the rail beyond `RailDemo`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

__all__ = ["DemoError", "NotInstalled", "OpenDemo", "Program", "RailDemo", "Scenario", "Shop"]


class DemoError(Exception):
    """The demo, or one story of it, cannot go on. The message says what happened, and which log to read."""


class NotInstalled(DemoError):
    """A rail's development node is not on this machine. The message says how to get it."""


class Shop(Protocol):
    """What one story may ask of a shop that uses Railwatch: register its one invoice, and read the feed."""

    async def invoice(self, address: str, asset: str, amount: int, *, expires_in: int = 3600) -> None:
        """Ask for ``amount`` base units of ``asset`` (a symbol of the rail's table) at ``address``.

        ``expires_in`` in seconds. Returns once the address is watched, which is when a shop would show it. Raises
        `DemoError` if the address is rejected.
        """

    async def wait_for_state(self, state: str) -> None:
        """Wait until the feed reports that the invoice has come to ``state``, after the last one waited for.

        Raises `DemoError` when the feed reports something that the story does not expect.
        """


@dataclass(frozen=True, slots=True)
class Scenario:
    """One thing that happens to shops, and all that the feed must report about it.

    ``run`` lives it, up to the last thing that the customer or the chain does. ``path`` is every line that the feed
    then holds about the invoice, in order: its state, with the reason in parentheses where that is not the one with
    which the state is usually reached (``"created (reversed)"``). ``exceptions`` are all that were ever opened:
    ``"overpaid"``, ``"underpaid (resolved)"``, ``"reversed (critical)"``, ``"reversed (critical, resolved)"``.
    """

    name: str
    run: Callable[[Shop], Awaitable[None]]
    path: tuple[str, ...]
    exceptions: frozenset[str] = frozenset()
    exclusive: bool = False
    """It rewrites the chain, and runs after the others and alone: they would notice."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program of the development node. It stays in the foreground; no other of the demo has its ``name``."""

    name: str
    command: tuple[str, ...]


class RailDemo(Protocol):
    """A development chain with stories. Entering connects to the programs, which the demo starts and ends.

    Any method that awaits raises `DemoError` when the node refuses or is unavailable.
    """

    def programs(self, folder: Path) -> Sequence[Program]:
        """Return what to run, in this order, before entering. ``folder`` exists and may hold a node's data."""

    async def __aenter__(self) -> Self:
        """Wait until the node answers, and furnish its chain: funds, contracts."""

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect. The programs run on until the runner ends them."""

    @property
    def rail(self) -> Mapping[str, Any]:
        """The ``[[rail]]`` table of the daemon's configuration. Known after entering."""

    @property
    def policies(self) -> Sequence[Mapping[str, Any]]:
        """``[[policy]]`` tables for that rail. Known after entering."""

    @property
    def scenarios(self) -> Sequence[Scenario]:
        """In the order in which they are shown; those that are not ``exclusive`` run all at once."""

    async def mine_blocks(self) -> None:
        """Produce a block every so often, until cancelled: the time that stories live in."""

    async def keep_mining(self) -> None:
        """Let the node produce blocks by itself from now on, without `mine_blocks`."""

    def produced_at(self, height: int) -> float | None:
        """`time.monotonic` of when the present block of that height was asked for; None if it was not by us."""


class OpenDemo(Protocol):
    """What an entry point of the group ``railwatch.demos`` names. Raises `NotInstalled` without its node."""

    def __call__(self) -> RailDemo:
        """Return a demo that has not begun; no process runs yet."""

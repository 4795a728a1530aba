"""The outside of an adapter that is the same on every rail: it connects on entering and delegates to its connection.

A rail derives its adapter from `AdapterShell` and writes a `NodeConnection`, which does the work. The shell keeps the
promises of the seam: idempotent leaving, no use without a connection, and three errors only.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from railwatch.rail.abilities import Ability
from railwatch.rail.boundary import only_rail_errors
from railwatch.rail.errors import RailUnavailable
from railwatch.rail.types import Address, BlockRef, ChainId, Heads, Scanned, Span, Traits, Transfer, Watches

__all__ = ["AdapterShell", "NodeConnection"]


class NodeConnection(Protocol):
    """One node, connected. The methods are those of `railwatch.rail.RailAdapter`, and raise as they do."""

    async def open(self) -> None:
        """Connect, and verify that the node is on the configured chain. Raises `RailUnavailable`."""

    async def close(self) -> None:
        """Close everything. Idempotent, also after an `open` that failed."""

    async def heads(self) -> Heads:
        """Return the latest, safe and finalized block."""

    async def block_at(self, height: int) -> BlockRef:
        """Return the canonical block at ``height``. Raises `BlockGone` above the head."""

    async def scan(self, span: Span, watches: Watches) -> Scanned:
        """Return all transfers of the span to watched addresses. Raises `BlockGone`."""

    async def pending(self, watches: Watches) -> Sequence[Transfer]:
        """Return a full snapshot of unconfirmed transfers; empty on a rail without a mempool."""

    async def wait_for_change(self) -> None:
        """Return when the node says that something changed. Raises `RailUnavailable` if it pushes nothing."""

    async def abilities(self) -> Sequence[Ability]:
        """Return what the node serves, one row for each method of the rail's whitelist."""


C = TypeVar("C", bound=NodeConnection)


class AdapterShell(ABC, Generic[C]):
    """One node of one rail (`railwatch.rail.RailAdapter`). Pure until entered.

    ``node_name`` is what logs and errors call the node: no credentials, no path, no query.
    """

    def __init__(self, chain_id: ChainId, node_name: str) -> None:
        self.chain_id = chain_id
        self._node_name = node_name
        self._connection: C | None = None

    @abstractmethod
    async def _connect(self) -> C:
        """Make the connection, without I/O to the node. Import here what is slow to import."""

    def _connected(self, connection: C) -> None:
        """Learn from an open connection, for instance traits that only the node knows."""

    @property
    @abstractmethod
    def traits(self) -> Traits:
        """What the rail can and cannot do."""

    @abstractmethod
    def parse_address(self, text: str) -> Address:
        """Return the canonical key and display form. Raises `BadAddress`."""

    @only_rail_errors
    async def __aenter__(self) -> Self:
        """Connect. Raises `RailUnavailable` if the node is unavailable or on another chain."""
        connection = await self._connect()
        try:
            await connection.open()
        except BaseException:
            # `async with` does not call the exit of what it could not enter, not even after a cancellation.
            await connection.close()
            raise
        self._connection = connection
        self._connected(connection)
        return self

    @only_rail_errors
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    @only_rail_errors
    async def heads(self) -> Heads:
        """Return the latest, safe and finalized block, from one node at one moment."""
        return await self._open.heads()

    @only_rail_errors
    async def block_at(self, height: int) -> BlockRef:
        """Return the canonical block. Raises `BlockGone` above the head."""
        return await self._open.block_at(height)

    @only_rail_errors
    async def scan(self, span: Span, watches: Watches) -> Scanned:
        """Return all transfers of the span to watched addresses."""
        return await self._open.scan(span, watches)

    @only_rail_errors
    async def pending(self, watches: Watches) -> Sequence[Transfer]:
        """Return a full snapshot of unconfirmed transfers."""
        return await self._open.pending(watches)

    @only_rail_errors
    async def wait_for_change(self) -> None:
        """Return when the node says that something changed."""
        await self._open.wait_for_change()

    @only_rail_errors
    async def abilities(self) -> Sequence[Ability]:
        """Return what the node serves (`railwatch.rail.SupportsAbilities`)."""
        return await self._open.abilities()

    @property
    def _open(self) -> C:
        if self._connection is None:
            raise RailUnavailable(f"{self._node_name}: not connected, enter the adapter first")
        return self._connection

"""What drives a development node in tests and demos: the other half of every adapter."""

from types import TracebackType
from typing import Protocol, Self

from railwatch.rail.adapter import RailAdapter
from railwatch.rail.types import AssetId


class Simulator(Protocol):
    """A development chain that obeys. Entering starts the node on loopback; leaving ends it, by pid.

    Blocks appear only through `mine`, so that a story says exactly what happened.
    """

    native: AssetId
    assets: tuple[AssetId, ...]
    """Every asset that `pay` can move, the native one first."""

    async def __aenter__(self) -> Self:
        """Start the node, empty but funded."""

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the node."""

    def open_adapter(self) -> RailAdapter:
        """Return a fresh adapter on this node."""

    async def new_address(self) -> str:
        """Return an address that has never been used."""

    async def pay(self, address: str, amount: int, asset: AssetId | None = None) -> str:
        """Send ``amount`` base units; return the transaction's id. `mine` puts it into a block."""

    async def mine(self, blocks: int = 1) -> None:
        """Produce blocks; the first holds everything that waits, unless `hold` keeps it back."""

    async def reorg(self, depth: int, *, keep: bool = True) -> None:
        """Replace the newest ``depth`` blocks by ``depth`` + 1 others.

        ``keep``: their transactions are in the first of the new blocks; otherwise they are in none, and gone.
        """

    async def replace(self, tx_id: str) -> str:
        """Replace a waiting transaction by a rival that pays a stranger; return the rival's id."""

    async def fail_next(self, address: str, amount: int) -> str:
        """Send a transaction that is included and fails, and therefore pays nothing."""

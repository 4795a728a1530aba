"""The outside of every adapter: it connects on entering, and only the three errors leave it."""

from collections.abc import Sequence

import pytest

from railwatch.rail import (
    Ability,
    AdapterDefect,
    Address,
    BlockGone,
    BlockRef,
    ChainId,
    Heads,
    RailUnavailable,
    Scanned,
    Span,
    Traits,
    Transfer,
    Watches,
)
from railwatch.rail.shell import AdapterShell


class Connection:
    """A connection that fails as it is set to."""

    def __init__(self, fails: Exception | None = None) -> None:
        self.fails, self.opened, self.closed = fails, 0, 0

    async def open(self) -> None:
        self.opened += 1
        if self.fails is not None:
            raise self.fails

    async def close(self) -> None:
        self.closed += 1

    async def heads(self) -> Heads:
        raise KeyError("http://user:secret@node")

    async def block_at(self, height: int) -> BlockRef:
        raise BlockGone("above the head")

    async def scan(self, span: Span, watches: Watches) -> Scanned:
        raise NotImplementedError

    async def pending(self, watches: Watches) -> Sequence[Transfer]:
        return ()

    async def wait_for_change(self) -> None:
        return

    async def abilities(self) -> Sequence[Ability]:
        return ()


class TinyAdapter(AdapterShell[Connection]):
    """An adapter that only has the shell."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(ChainId("tiny:main"), "http://node")
        self.made = connection

    @property
    def traits(self) -> Traits:
        return Traits(family="tiny", native_asset="slip44:1", native_decimals=8)

    def parse_address(self, text: str) -> Address:
        return Address(text.encode(), text)

    async def _connect(self) -> Connection:
        return self.made


async def test_it_connects_on_entering_and_leaves_twice() -> None:
    connection = Connection()
    adapter = TinyAdapter(connection)
    with pytest.raises(RailUnavailable, match="http://node: not connected, enter the adapter first"):
        await adapter.heads()
    async with adapter:
        assert (connection.opened, connection.closed) == (1, 0)
    await adapter.__aexit__(None, None, None)
    assert connection.closed == 1
    with pytest.raises(RailUnavailable, match="not connected"):
        await adapter.wait_for_change()


async def test_a_connection_that_does_not_open_is_closed() -> None:
    connection = Connection(RailUnavailable("another chain"))
    adapter = TinyAdapter(connection)
    with pytest.raises(RailUnavailable, match="another chain"):
        await adapter.__aenter__()
    assert connection.closed == 1


async def test_only_the_three_errors_leave_it_and_no_secret_does() -> None:
    async with TinyAdapter(Connection()) as adapter:
        with pytest.raises(BlockGone):
            await adapter.block_at(1)
        with pytest.raises(AdapterDefect, match=r"^TinyAdapter\.heads met an unexpected KeyError$"):
            await adapter.heads()

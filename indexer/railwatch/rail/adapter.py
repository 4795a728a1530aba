"""The seam: all that the daemon asks of a rail."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from railwatch.rail.types import (
    Address,
    AssetId,
    BlockRef,
    ChainId,
    Heads,
    RailSettings,
    Scanned,
    Span,
    Traits,
    Transfer,
    Watches,
)


class RailAdapter(Protocol):
    """One node of one rail.

    Every method that awaits raises `RailUnavailable`, `BlockGone` or `RailFault`, and nothing else. An adapter never
    retries; the daemon decides when to. No result depends on earlier calls (a cache may). Concurrent calls are safe.
    Every await is bounded in time.
    """

    @property
    def chain_id(self) -> ChainId:
        """The chain in CAIP-2, compared with the node's own on entering and at each reconnect (HAZARDS E23)."""

    @property
    def traits(self) -> Traits:
        """What the rail can do, known before entering. Entering may refine it, such as `native_complete`."""

    async def __aenter__(self) -> Self:
        """Connect and verify identity. Raises `RailUnavailable` if the node is down or on another chain."""

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything. Idempotent, and safe under cancellation."""

    def parse_address(self, text: str) -> Address:
        """Return the canonical key and display form, without a node. Raises `BadAddress` with the reason."""

    async def heads(self) -> Heads:
        """Return the latest, safe and finalized block, from one node at one moment."""

    async def block_at(self, height: int) -> BlockRef:
        """Return the canonical block at ``height``, or the nearest below where the rail skips heights.

        Raises `BlockGone` when ``height`` is above the node's head.
        """

    async def scan(self, span: Span, watches: Watches) -> Scanned:
        """Return every transfer to a watched address in ``span``: complete, exactly once, in chain order.

        A transfer of a token that is not configured is returned too, under its own asset id, if the adapter saw it
        without a further request. Failed transactions and zero amounts never appear. Raises `BlockGone` if
        ``span.after`` is not an ancestor of the canonical ``span.upto``; never a partial result.
        """

    async def pending(self, watches: Watches) -> Sequence[Transfer]:
        """Return all unconfirmed transfers to watched addresses: absence from this snapshot means dropped or replaced.

        A transaction that displaces one of ``watches.spends`` but pays no watched address is returned as one transfer
        of amount 0 to `NO_RECIPIENT`. Empty where ``traits.has_pending`` is False.
        """

    async def wait_for_change(self) -> None:
        """Return when the node says that something changed. A hint: it may come late, twice, or for nothing.

        Raises `RailUnavailable` when the node pushes nothing, or has been silent for longer than it should.
        """


@runtime_checkable
class SupportsPaymentCheck(Protocol):
    """An optional part of an adapter: the reason why a registration could never be paid.

    The daemon calls it once, after it has parsed the address and before it watches it. An adapter without it refuses
    only bad addresses.
    """

    async def check_payment(self, address: Address, asset: AssetId, amount: int, reference: str | None) -> str | None:
        """Return why ``amount`` base units of ``asset`` cannot arrive at ``address`` under ``reference``, or None.

        The reason is for the merchant's engineer: what is wrong, and what would work. Raises `RailUnavailable` if the
        check needs the node and the node is unavailable.
        """


@runtime_checkable
class SupportsBalances(Protocol):
    """An optional part of an adapter with ``traits.can_balance``: what addresses hold.

    The daemon compares balances with what `scan` found, so that money which no block shows is not a silent gap
    (HAZARDS E2, E14). It asks for at most 100 keys at a time. A balance never decides whether an invoice is paid.
    """

    async def balances(self, keys: Sequence[bytes], asset: AssetId, at: BlockRef) -> Mapping[bytes, int]:
        """Return what each key holds of ``asset`` after block ``at``, in base units: of all keys, 0 for an unused one.

        ``asset`` is a configured one, or the native. Ask by the block's hash, so that no other branch can answer.
        Raises `BlockGone` where the node does not have that block, or no longer its state, or cannot read this asset's
        balances; never another block's balance instead.
        """


@runtime_checkable
class SupportsAssetCheck(Protocol):
    """An optional part of an adapter: a comparison of the configured assets with the chain.

    `railwatch check` calls it on a connected adapter, and prints each sentence as a failure.
    """

    async def check_assets(self) -> Sequence[str]:
        """Return one sentence per configured asset that is not what the configuration says; empty if all are.

        A contract without code, and decimals other than the contract's own, are such. Raises `RailUnavailable` if the
        node does not answer.
        """


class AdapterFactory(Protocol):
    """The type of an entry point of the group ``railwatch.rails``: it makes an adapter for one node, without I/O.

    ``node`` is the node's table of the configuration, secrets resolved. Raises ValueError, naming the key that is
    wrong, when it makes no sense.
    """

    def __call__(self, rail: RailSettings, node: Mapping[str, Any]) -> RailAdapter:
        """Make the adapter; entering it connects."""

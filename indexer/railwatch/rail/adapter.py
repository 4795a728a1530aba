"""The seam: everything that a rail must answer, and nothing more."""

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
    """One node of one rail, asked and answering; it decides nothing.

    Raises `RailUnavailable`, `BlockGone` or `RailFault` from any method that awaits, and nothing else. It never
    retries: the caller knows better when to. No answer depends on earlier calls (caches may); concurrent calls are
    safe; every await is bounded in time.
    """

    @property
    def chain_id(self) -> ChainId:
        """CAIP-2. Compared with the node's own on entering and at each reconnect (HAZARDS E23)."""

    @property
    def traits(self) -> Traits:
        """Known before entering; entering may sharpen what only the node can tell (`native_complete`)."""

    async def __aenter__(self) -> Self:
        """Connect and verify identity. Raises `RailUnavailable` when the node is away or on another chain."""

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of everything. Idempotent, and safe under cancellation."""

    def parse_address(self, text: str) -> Address:
        """Canonical key and display form. Pure: works without a node. Raises `BadAddress` with the reason."""

    async def heads(self) -> Heads:
        """Latest, safe and finalized, from one node at one moment."""

    async def block_at(self, height: int) -> BlockRef:
        """Return the canonical block at ``height``, or the nearest below where the rail skips heights.

        Raises `BlockGone` when ``height`` is above the node's head.
        """

    async def scan(self, span: Span, watches: Watches) -> Scanned:
        """Every transfer to a watched address in ``span``: complete, exactly once, in chain order.

        Transfers of tokens that are not configured are given too, under their own asset id, where they were seen
        without asking for more. Failed transactions and zero amounts never appear. Raises `BlockGone` if
        ``span.after`` is not an ancestor of the canonical ``span.upto``; never a partial answer.
        """

    async def pending(self, watches: Watches) -> Sequence[Transfer]:
        """All unconfirmed transfers to watched addresses: a full snapshot, so that absence means dropped or replaced.

        A transaction that displaces one of ``watches.spends`` but pays no watched address is given as one transfer of
        amount 0 to `NOBODY`. Empty where ``traits.has_pending`` is False.
        """

    async def wait_for_change(self) -> None:
        """Return when the node says that something changed. A hint: it may come late, twice, or for nothing.

        Raises `RailUnavailable` when the node pushes nothing, or has been silent for longer than it should.
        """


@runtime_checkable
class SupportsPaymentCheck(Protocol):
    """What an adapter may offer beside `RailAdapter`: to say of a registration that it could never be paid.

    It is asked once the address is parsed and before it is watched, and never again. An adapter without it refuses
    nothing but bad addresses.
    """

    async def check_payment(self, address: Address, asset: AssetId, amount: int, reference: str | None) -> str | None:
        """Why ``amount`` base units of ``asset`` cannot arrive at ``address``, or not under ``reference``; else None.

        The words are for the merchant's engineer: what is wrong, and what would do. Raises `RailUnavailable` if the
        node has to be asked and is away.
        """


@runtime_checkable
class SupportsBalances(Protocol):
    """What an adapter may offer beside `RailAdapter`, and says by ``traits.can_balance``: what addresses hold.

    The daemon compares it with what `scan` has found, so that money which no block shows is not a silent gap (HAZARDS
    E2, E14). It is asked seldom, for at most 100 keys at a time, and never decides whether an invoice is paid.
    """

    async def balances(self, keys: Sequence[bytes], asset: AssetId, at: BlockRef) -> Mapping[bytes, int]:
        """Return what each key holds of ``asset`` after block ``at``, in base units: of all keys, 0 for an unused one.

        ``asset`` is a configured one, or the native. Ask by the block's hash, so that no other branch can answer.
        Raises `BlockGone` where the node does not have that block, or no longer its state, or cannot tell this asset's
        balances; never another block's balance instead.
        """


@runtime_checkable
class SupportsAssetCheck(Protocol):
    """What an adapter may offer beside `RailAdapter`: to compare the configured assets with what the chain says.

    `railwatch check` calls it on an entered adapter, and prints each sentence as a failure.
    """

    async def check_assets(self) -> Sequence[str]:
        """Return one sentence per configured asset that is not what the configuration says; empty if all are.

        A contract without code, and decimals other than the contract's own, are such. Raises `RailUnavailable` if the
        node does not answer.
        """


class AdapterFactory(Protocol):
    """What an entry point of the group ``railwatch.rails`` names: makes an adapter for one node, without I/O.

    ``node`` is the node's table of the configuration, secrets resolved. Raises ValueError, naming the key that is
    wrong, when it makes no sense.
    """

    def __call__(self, rail: RailSettings, node: Mapping[str, Any]) -> RailAdapter:
        """Make the adapter; entering it connects."""

"""The words that adapters, core and daemon share: plain, frozen values, no behaviour beyond themselves.

Heights are inclusive and count from the chain's own zero (slots on Solana). Amounts are whole numbers of the asset's
base unit. Times are timezone-aware UTC. Block hashes and transaction ids are the node's own text form.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NewType, Protocol

ChainId = NewType("ChainId", str)
"""CAIP-2, such as ``eip155:1``."""

AssetId = NewType("AssetId", str)
"""CAIP-19, such as ``eip155:1/slip44:60`` or ``eip155:1/erc20:0xdac1...``."""

NO_RECIPIENT = b""
"""The recipient of a transfer that pays no watched address and is reported only because it displaces one that does."""


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed address: ``key`` is what chains compare (bytes), ``text`` the form shown to people."""

    key: bytes
    text: str


@dataclass(frozen=True, slots=True)
class BlockRef:
    """One block, by name and by place. ``parent`` is the parent's hash, empty for the first block of a chain."""

    height: int
    hash: str
    parent: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Heads:
    """What a node calls its newest, its safe and its finalized block, asked in one breath.

    ``claimed_height``: only the daemon sets it, where a rail has several nodes. It is the height that may exist above
    ``latest``, although fewer than a majority of the nodes are known to have it; None where ``latest`` is all there is.
    """

    latest: BlockRef
    safe: BlockRef | None = None
    finalized: BlockRef | None = None
    claimed_height: int | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """The blocks above ``after`` (exclusive) up to and with ``upto`` (inclusive).

    ``finalized``: all of it is past finality, so that a node may be asked by height.
    ``sparse``: the asker needs no block of the span but those with transfers (look-back, rescan).
    """

    after: BlockRef
    upto: BlockRef
    finalized: bool = False
    sparse: bool = False

    def __len__(self) -> int:
        """How many heights the span covers."""
        return self.upto.height - self.after.height


@dataclass(frozen=True, slots=True)
class Transfer:
    """Value that reached a watched address.

    ``tx_index`` names the credit within its transaction and never depends on the block (HAZARDS, "Identity").
    ``spends`` is what the transaction consumes (outpoints, an account's nonce), and what its unconfirmed ancestors do:
    another that takes one of these displaces it. ``rivals`` names the transactions among ``Watches.spends`` that this
    one displaces. ``maturity`` is the least depth at which the credit may count, whatever the policy says (coinbase:
    100). ``reference`` is the payer's mark (memo, tag). Where any of many marks may be the reference,
    ``references`` holds them all, and any of them counts as the reference (account keys, for Solana Pay; HAZARDS
    S12). ``evidence`` holds the decoded facts that a person would ask for (sender, log position, node ...), and
    ``raw`` the piece of the node's answer that they were read from (a log, an output; None: not kept): JSON values
    only, bounded in size.
    """

    tx_id: str
    tx_index: str
    to: bytes
    asset: AssetId
    amount: int
    block: BlockRef | None
    reference: str | None = None
    spends: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    maturity: int = 1
    evidence: Mapping[str, Any] = field(default_factory=dict)
    raw: Any = None
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scanned:
    """A complete answer about one span: every transfer in chain order, and the blocks in ascending order.

    ``blocks`` ends with ``upto`` and is linked from ``after`` by parent hashes without a gap; of a sparse span it may
    hold only the blocks with transfers, and ``upto``. ``method`` says how the node was asked, for logs and evidence.
    """

    blocks: Sequence[BlockRef]
    transfers: Sequence[Transfer]
    method: str = "blocks"


@dataclass(frozen=True, slots=True)
class AssetSpec:
    """One configured asset. ``contract`` is None for the chain's native asset; ``decimals`` is for display only."""

    symbol: str
    contract: str | None
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class RailSettings:
    """What the operator says of a rail, as far as an adapter needs to know it."""

    name: str
    chain_id: ChainId
    assets: tuple[AssetSpec, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    lookback: int | None = None
    """Heights that cover an hour at the fastest pace that this chain is known for; None: nothing is known. The option
    ``lookback`` is the operator's own wish, and comes before it."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What a rail can and cannot do. The daemon and the conformance kit decide by these, never by a rail's name."""

    family: str
    """Rails of one family share an address space: a key means the same owner on each of them."""
    native_asset: str
    """The asset part of the native asset's CAIP-19 id, such as ``slip44:60``."""
    native_decimals: int
    token_namespace: str | None = None
    """The asset namespace of tokens, such as ``erc20``; None where the rail knows no tokens."""
    fold_case: bool = False
    """Addresses that differ only in case are the same address."""
    has_checksum: bool = True
    """A truncated address is detected. If not, it may be an address of another owner, undetected."""
    span_max: int = 1_000
    """The most heights that one scan may cover."""
    lookback_span: int | None = None
    """The most heights of one look-back for a few addresses, where a node's index is asked; None: ``span_max``."""
    lookback: int = 300
    """Heights that certainly cover an hour: how far a registration looks back."""
    poll_interval: float = 1.0
    """Seconds between two polls, unless the configuration says otherwise. Longer where an endpoint counts questions."""
    block_seconds: float | None = None
    """Seconds between two blocks as the node's own blocks show, once it was entered; None: not known."""
    horizon: int = 100
    """Depth at which a block counts as final on a rail without finality, and that a reorg may not pass."""
    has_pending: bool = False
    has_finalized: bool = False
    native_complete: bool = True
    """Every way in which the native asset can arrive is seen. If not, ``native_gap`` says what is missing."""
    native_gap: str = ""
    can_balance: bool = False
    """The adapter `SupportsBalances`, and a balance can hold what no scan shows: it is worth comparing."""
    has_references: bool = False
    """Several payers can share an address, distinguished by a reference (memo, tag, key)."""
    max_confirmations: int | None = None
    """The largest confirmation count that means anything on this rail; None: any."""


class Watches(Protocol):
    """The addresses that a scan searches for: a filter without false negatives and with rare false positives."""

    @property
    def assets(self) -> Mapping[str, AssetId]:
        """The rail's configured assets by canonical contract (lower case where the rail folds it); native is ``""``."""

    @property
    def spends(self) -> Mapping[str, Collection[str]]:
        """What live detections consume, each with the transactions that claim it (see ``Transfer.spends``)."""

    @property
    def version(self) -> int:
        """A number that changes whenever this object may watch other addresses.

        As long as it is the same, an adapter that matched a full snapshot only matches what is new in the next one.
        """

    def __len__(self) -> int:
        """How many addresses are watched."""

    def hits(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of ``keys`` that are watched. Constant cost a key, however many are watched."""

    def keys_up_to(self, limit: int) -> Sequence[bytes] | None:
        """All watched keys if there are at most ``limit``, else None: then a node's index is of no use."""

"""What tells one chain of the Bitcoin family from another. Pure; every number names the source it was read from.

A chain is found by its CAIP-2 id, ``bip122:`` and the first 32 hex digits of a block's hash: the genesis block, or,
where two chains share one (Bitcoin Cash kept Bitcoin's), the first block after they parted.
"""

from dataclasses import dataclass

from indexer.rail import ChainId


@dataclass(frozen=True, slots=True)
class Chain:
    """The rules of one chain, as far as reading it needs them. Heights, versions and depths are plain ints."""

    id: ChainId
    name: str
    """For people: ``Bitcoin``, ``Litecoin testnet``."""
    symbol: str
    slip44: int
    """SLIP-44's coin type; 1 is shared by the coins of all test networks."""
    landmarks: tuple[tuple[int, str], ...]
    """(height, block hash): a node that has the height and another hash there is on another chain."""
    spacing: int
    """Seconds between blocks, on average."""
    p2pkh: int
    """Base58 version byte."""
    p2sh: tuple[int, ...]
    """Base58 version bytes that are accepted; the first is the one shown."""
    hrp: str | None = None
    """Bech32 prefix; None where the chain has no segregated witness."""
    cash_prefix: str | None = None
    """CashAddr prefix; such chains also have CashTokens."""
    mweb_hrp: str | None = None
    """Bech32 prefix of MimbleWimble addresses, whose payments nobody but the parties can see."""
    coinbase_maturity: int = 100
    pegout_maturity: int = 1
    """Depth at which what a HogEx pays out of MWEB may be spent."""
    auxpow: bool = False
    """Blocks may be merge-mined: the parent chain's proof stands between the header and the transactions."""

    @property
    def native_asset(self) -> str:
        """The asset part of the native coin's CAIP-19 id."""
        return f"slip44:{self.slip44}"

    @property
    def lookback(self) -> int:
        """Heights that certainly cover an hour: blocks come at random, so three times the average and some."""
        return 3 * 3600 // self.spacing + 30


def chain_of(chain_id: str) -> Chain:
    """The parameters of a chain. Raises ValueError, naming the chains that are known."""
    raise NotImplementedError

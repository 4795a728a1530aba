"""What tells one chain of the Bitcoin family from another. Pure; every number names the source it was read from.

A chain is found by its CAIP-2 id, ``bip122:`` and the first 32 hex digits of a block's hash: the genesis block, or,
where two chains share one (Bitcoin Cash kept Bitcoin's), the first block after they parted (CAIP-4). Bitcoin Cash's
regtest has nothing at all that tells it from Bitcoin's, and is not here.
"""

from dataclasses import dataclass, replace

from indexer.rail import ChainId


@dataclass(frozen=True, slots=True)
class Chain:
    """The rules of one chain, as far as reading it needs them. Heights, versions and depths are plain ints."""

    name: str
    """For people: ``Bitcoin``, ``Litecoin testnet``."""
    symbol: str
    slip44: int
    """SLIP-44's coin type; 1 is shared by the coins of all test networks."""
    landmarks: tuple[tuple[int, str], ...]
    """(height, block hash): a node that has the height and another hash there is on another chain. The first of them
    names the chain."""
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
    """Depth at which a block's reward may be spent: Bitcoin Core, consensus.h, COINBASE_MATURITY."""
    pegout_maturity: int = 1
    """Depth at which what a HogEx pays out of MWEB may be spent: Litecoin Core, consensus.h, PEGOUT_MATURITY."""
    auxpow: bool = False
    """Blocks may be merge-mined: the parent chain's proof stands between the header and the transactions."""

    @property
    def id(self) -> ChainId:
        """CAIP-2."""
        return ChainId(f"bip122:{self.landmarks[0][1][:32]}")

    @property
    def native_asset(self) -> str:
        """The asset part of the native coin's CAIP-19 id."""
        return f"slip44:{self.slip44}"

    @property
    def lookback(self) -> int:
        """Heights that certainly cover an hour: blocks come at random, so three times the average and 30 more.

        Only a test network's storms of minimum-difficulty blocks are faster.
        """
        return 3 * 3600 // self.spacing + 30


# The first block that Bitcoin and Bitcoin Cash do not share (Bitcoin Cash Node, src/chainparams.cpp, checkpoints).
_WITHOUT_CASH = (478559, "00000000000000000019f112ec0a9982926f1258cdcc558dd7c3b7e5dc7fa148")
_CASH = (478559, "000000000000000000651ef99cb9fcbe0dadde1d424bd9f15ff20136191a5eec")


def _genesis(block_hash: str) -> tuple[tuple[int, str], ...]:
    return ((0, block_hash),)


# Bitcoin Core, src/kernel/chainparams.cpp.
BITCOIN = Chain(
    name="Bitcoin",
    symbol="BTC",
    slip44=0,
    landmarks=((0, "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"), _WITHOUT_CASH),
    spacing=600,
    p2pkh=0,
    p2sh=(5,),
    hrp="bc",
)
BITCOIN_TESTNET3 = Chain(
    name="Bitcoin testnet3",
    symbol="tBTC",
    slip44=1,
    landmarks=_genesis("000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943"),
    spacing=600,
    p2pkh=111,
    p2sh=(196,),
    hrp="tb",
)
BITCOIN_TESTNET4 = replace(
    BITCOIN_TESTNET3,
    name="Bitcoin testnet4",
    landmarks=_genesis("00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043"),
)
BITCOIN_SIGNET = replace(
    BITCOIN_TESTNET3,
    name="Bitcoin signet",
    landmarks=_genesis("00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6"),
)
BITCOIN_REGTEST = replace(
    BITCOIN_TESTNET3,
    name="Bitcoin regtest",
    landmarks=_genesis("0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"),
    hrp="bcrt",
)

# Litecoin Core, src/chainparams.cpp (SCRIPT_ADDRESS2 is the one shown) and src/consensus/consensus.h.
LITECOIN = Chain(
    name="Litecoin",
    symbol="LTC",
    slip44=2,
    landmarks=_genesis("12a765e31ffd4059bada1e25190f6e98c99d9714d334efa41a195a7e7e04bfe2"),
    spacing=150,
    p2pkh=48,
    p2sh=(50, 5),
    hrp="ltc",
    mweb_hrp="ltcmweb",
    pegout_maturity=6,
)
LITECOIN_TESTNET = replace(
    LITECOIN,
    name="Litecoin testnet",
    symbol="tLTC",
    slip44=1,
    landmarks=_genesis("4966625a4b2851d9fdee139e56211a0d88575f59ed816ff5e6a63deb4e3e29a0"),
    p2pkh=111,
    p2sh=(58, 196),
    hrp="tltc",
    mweb_hrp="tmweb",
)
LITECOIN_REGTEST = replace(
    LITECOIN_TESTNET,
    name="Litecoin regtest",
    landmarks=_genesis("530827f38f93b43ed12af0b3ad25a288dc02ed74d6d7857862df51fc56c416f9"),
    hrp="rltc",
)

# Dogecoin Core, src/chainparams.cpp: a maturity of 240 since DigiShield.
DOGECOIN = Chain(
    name="Dogecoin",
    symbol="DOGE",
    slip44=3,
    landmarks=_genesis("1a91e3dace36e2be3bf030a65679fe821aa1d6ef92e7c9902eb318182c355691"),
    spacing=60,
    p2pkh=30,
    p2sh=(22,),
    coinbase_maturity=240,
    auxpow=True,
)
DOGECOIN_TESTNET = replace(
    DOGECOIN,
    name="Dogecoin testnet",
    symbol="tDOGE",
    slip44=1,
    landmarks=_genesis("bb0a78264637406b6360aad926284d544d7049f45189db5664f3c4d07350559e"),
    p2pkh=113,
    p2sh=(196,),
)
DOGECOIN_REGTEST = replace(
    DOGECOIN_TESTNET,
    name="Dogecoin regtest",
    landmarks=_genesis("3d2160a3b5dc4a9d62e7e66a295f70313ac808440ef7400d6c0772171ce973a5"),
    p2pkh=111,
)

# Bitcoin Cash Node, src/chainparams.cpp.
BITCOIN_CASH = Chain(
    name="Bitcoin Cash",
    symbol="BCH",
    slip44=145,
    landmarks=(_CASH,),
    spacing=600,
    p2pkh=0,
    p2sh=(5,),
    cash_prefix="bitcoincash",
)
BITCOIN_CASH_TESTNET4 = replace(
    BITCOIN_CASH,
    name="Bitcoin Cash testnet4",
    symbol="tBCH",
    slip44=1,
    landmarks=_genesis("000000001dd410c49a788668ce26751718cc797474d3152a5fc073dd44fd9f7b"),
    p2pkh=111,
    p2sh=(196,),
    cash_prefix="bchtest",
)

CHAINS = (
    *(BITCOIN, BITCOIN_TESTNET3, BITCOIN_TESTNET4, BITCOIN_SIGNET, BITCOIN_REGTEST),
    *(LITECOIN, LITECOIN_TESTNET, LITECOIN_REGTEST),
    *(DOGECOIN, DOGECOIN_TESTNET, DOGECOIN_REGTEST),
    *(BITCOIN_CASH, BITCOIN_CASH_TESTNET4),
)


def chain_of(chain_id: str) -> Chain:
    """The parameters of a chain. Raises ValueError, naming the chains that are known."""
    for chain in CHAINS:
        if chain.id == chain_id:
            return chain
    known = ", ".join(f"{chain.id} ({chain.name})" for chain in CHAINS)
    raise ValueError(f"{chain_id} is no chain that is known here: it must be one of {known}")

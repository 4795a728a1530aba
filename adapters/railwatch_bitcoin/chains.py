"""What distinguishes the chains of the Bitcoin family. Pure; every number names the source it was read from.

A chain is found by its CAIP-2 id, ``bip122:`` and the first 32 hex digits of a block's hash: the genesis block, or,
where two chains share one (Bitcoin Cash kept Bitcoin's), the first block after they parted (CAIP-4). Bitcoin Cash's
regtest has nothing at all that distinguishes it from Bitcoin's, and is not here.

A chain is known by its genesis block and by landmarks above every block that it shares with another chain that is
known (HAZARDS B19). Bitcoin's last one lies above all chains that split off in 2017 and 2018, and signet's above what
a signet of one's own, which has the same genesis block, would hold.
"""

from dataclasses import dataclass, replace

from railwatch.rail import ChainId


@dataclass(frozen=True, slots=True)
class Chain:
    """The rules of one chain, as far as reading it needs them. Heights, versions and depths are plain ints."""

    name: str
    """For people: ``Bitcoin``, ``Litecoin testnet``."""
    symbol: str
    slip44: int
    """SLIP-44's coin type; 1 is shared by the coins of all test networks."""
    landmarks: tuple[tuple[int, str], ...]
    """(height, block hash), ascending from the genesis block: a node that has another hash at one of these heights is
    on another chain, and one that has not reached the last of them has not shown which chain it is on."""
    spacing: int
    """Seconds between blocks, on average."""
    p2pkh: int
    """Base58 version byte."""
    p2sh: tuple[int, ...]
    """Base58 version bytes that are accepted; the first is the one shown."""
    hrp: str | None = None
    """Bech32 prefix; None where the chain has no segregated witness."""
    cash_prefix: str | None = None
    """CashAddr prefix; None where addresses have another form."""
    mweb_hrp: str | None = None
    """Bech32 prefix of MimbleWimble addresses, whose payments only the parties can see."""
    coinbase_maturity: int = 100
    """Depth at which a block's reward may be spent: Bitcoin Core, consensus.h, COINBASE_MATURITY."""
    pegout_maturity: int = 1
    """Depth at which what a HogEx pays out of MWEB may be spent: Litecoin Core, consensus.h, PEGOUT_MATURITY."""
    auxpow: bool = False
    """Blocks may be merge-mined: the parent chain's proof is between the header and the transactions."""
    cash_tokens: bool = False
    """Outputs may carry a token before their script (CHIP-2022-02)."""
    decimals: int = 8
    """Digits after the point when an amount is shown: 10 to this power base units are one coin."""
    named_by: int = 0
    """Which of the landmarks names the chain: the first one that it shares with no chain that came before it."""

    @property
    def id(self) -> ChainId:
        """CAIP-2."""
        return ChainId(f"bip122:{self.landmarks[self.named_by][1][:32]}")

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


def _genesis(block_hash: str, *landmarks: tuple[int, str]) -> tuple[tuple[int, str], ...]:
    return ((0, block_hash), *landmarks)


_GENESIS = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
"""Shared by Bitcoin and all that split off."""
_TESTNET3 = "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943"
_CASH_TESTNET4 = "000000001dd410c49a788668ce26751718cc797474d3152a5fc073dd44fd9f7b"
"""Shared by Bitcoin Cash's testnet4 and chipnet."""
_CASH = (478559, "000000000000000000651ef99cb9fcbe0dadde1d424bd9f15ff20136191a5eec")
"""The first block that Bitcoin does not share (Bitcoin Cash Node, src/chainparams.cpp, checkpoints)."""
_WITHOUT_SV = (556767, "0000000000000000004626ff6e3b936941d341c5932ece4357eeccac44e6d56c")
"""The first block that Bitcoin SV does not share (the same; Bitcoin ABC, src/networks/abc/checkpoints.cpp)."""

# Bitcoin Core, src/kernel/chainparams.cpp: the genesis blocks, defaultAssumeValid and m_assumeutxo_data with their
# heights; the first block that Bitcoin Cash does not share is Bitcoin's own 478559.
BITCOIN = Chain(
    name="Bitcoin",
    symbol="BTC",
    slip44=0,
    landmarks=_genesis(
        _GENESIS,
        (478559, "00000000000000000019f112ec0a9982926f1258cdcc558dd7c3b7e5dc7fa148"),
        (824000, "000000000000000000026811d149d4d261995ec5b3f64f439a0a10e1a464af9a"),
    ),
    spacing=600,
    p2pkh=0,
    p2sh=(5,),
    hrp="bc",
)
BITCOIN_TESTNET3 = Chain(
    name="Bitcoin testnet3",
    symbol="tBTC",
    slip44=1,
    landmarks=_genesis(_TESTNET3, (2500000, "0000000000000093bcb68c03a9a168ae252572d348a2eaeba2cdf9231d73206f")),
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
    landmarks=_genesis(
        "00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6",
        (160000, "0000003ca3c99aff040f2563c2ad8f8ec88bd0fd6b8f0895cfaf1ef90353a62c"),
    ),
)
BITCOIN_REGTEST = replace(
    BITCOIN_TESTNET3,
    name="Bitcoin regtest",
    landmarks=_genesis("0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"),
    hrp="bcrt",
)

# Litecoin Core, src/chainparams.cpp (SCRIPT_ADDRESS2 is the one shown; defaultAssumeValid and checkpoints) and
# src/consensus/consensus.h.
LITECOIN = Chain(
    name="Litecoin",
    symbol="LTC",
    slip44=2,
    landmarks=_genesis(
        "12a765e31ffd4059bada1e25190f6e98c99d9714d334efa41a195a7e7e04bfe2",
        (2772730, "80cdb35c080484df5bf384b311fde3c4694d3405765bc0f596e9eb369ff286e5"),
    ),
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
    landmarks=_genesis(
        "4966625a4b2851d9fdee139e56211a0d88575f59ed816ff5e6a63deb4e3e29a0",
        (2352616, "7540437e7bf7831fa872ba8cfae85951a1e5dbb04c201b6f5def934d9299f3c2"),
    ),
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

# Dogecoin Core 1.14, src/chainparams.cpp (checkpoints): a maturity of 240 since DigiShield.
DOGECOIN = Chain(
    name="Dogecoin",
    symbol="DOGE",
    slip44=3,
    landmarks=_genesis(
        "1a91e3dace36e2be3bf030a65679fe821aa1d6ef92e7c9902eb318182c355691",
        (3963597, "2b6927cfaa5e82353d45f02be8aadd3bfd165ece5ce24b9bfa4db20432befb5d"),
    ),
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
    landmarks=_genesis(
        "bb0a78264637406b6360aad926284d544d7049f45189db5664f3c4d07350559e",
        (3445426, "70574db7856bd685abe7b0a8a3e79b29882620645bd763b01459176bceb58cd1"),
    ),
    p2pkh=113,
    p2sh=(196,),
)
DOGECOIN_REGTEST = replace(
    DOGECOIN_TESTNET,
    name="Dogecoin regtest",
    landmarks=_genesis("3d2160a3b5dc4a9d62e7e66a295f70313ac808440ef7400d6c0772171ce973a5"),
    p2pkh=111,
)

# Bitcoin Cash Node, src/chainparams.cpp: the first blocks that Bitcoin, Bitcoin SV and eCash do not share.
BITCOIN_CASH = Chain(
    name="Bitcoin Cash",
    symbol="BCH",
    slip44=145,
    landmarks=_genesis(
        _GENESIS, _CASH, _WITHOUT_SV, (661648, "0000000000000000029e471c41818d24b8b74c911071c4ef0b4a0509f9b5a8ce")
    ),
    named_by=1,
    spacing=600,
    p2pkh=0,
    p2sh=(5,),
    cash_prefix="bitcoincash",
    cash_tokens=True,
)
BITCOIN_CASH_TESTNET4 = replace(
    BITCOIN_CASH,
    name="Bitcoin Cash testnet4",
    symbol="tBCH",
    slip44=1,
    landmarks=_genesis(_CASH_TESTNET4, (115252, "00000000ae25e85d9e22cd6c8d72c2f5d4b0222289d801b7f633aeae3f8c6367")),
    named_by=0,
    p2pkh=111,
    p2sh=(196,),
    cash_prefix="bchtest",
)
BITCOIN_CASH_CHIPNET = replace(
    BITCOIN_CASH_TESTNET4,
    name="Bitcoin Cash chipnet",
    landmarks=_genesis(_CASH_TESTNET4, (115252, "00000000040ba9641ba98a37b2e5ceead38e4e2930ac8f145c8094f94c708727")),
    named_by=1,
)

# Bitcoin ABC, src/networks/abc/checkpoints.cpp and src/kernel/chainparams.cpp: it split off Bitcoin Cash at 661648.
# One eCash is a hundred base units (src/consensus/amount.cpp). It knows no CashTokens.
ECASH = replace(
    BITCOIN_CASH,
    name="eCash",
    symbol="XEC",
    slip44=899,
    landmarks=_genesis(
        _GENESIS,
        _CASH,
        _WITHOUT_SV,
        (661648, "000000000000000004284c9d8b2c8ff731efeaec6be50729bdc9bd07f910757d"),
    ),
    named_by=3,
    cash_prefix="ecash",
    cash_tokens=False,
    decimals=2,
)

# Namecoin Core, src/kernel/chainparams.cpp: defaultAssumeValid with its height; merge-mined since 19200.
NAMECOIN = Chain(
    name="Namecoin",
    symbol="NMC",
    slip44=7,
    landmarks=_genesis(
        "000000000062b72c5e2ceb45fbc8587e807c155b0da735e6483dfba2f0a9c770",
        (815000, "46c38b14b25fef782cc454cac284b720f58ad414d2c323a980ede420da6affcf"),
    ),
    spacing=600,
    p2pkh=52,
    p2sh=(13,),
    hrp="nc",
    auxpow=True,
)

CHAINS = (
    *(BITCOIN, BITCOIN_TESTNET3, BITCOIN_TESTNET4, BITCOIN_SIGNET, BITCOIN_REGTEST),
    *(LITECOIN, LITECOIN_TESTNET, LITECOIN_REGTEST),
    *(DOGECOIN, DOGECOIN_TESTNET, DOGECOIN_REGTEST),
    *(BITCOIN_CASH, BITCOIN_CASH_TESTNET4, BITCOIN_CASH_CHIPNET, ECASH),
    NAMECOIN,
)


def chain_of(chain_id: str) -> Chain:
    """Return the parameters of a chain. Raises ValueError, naming the chains that are known."""
    for chain in CHAINS:
        if chain.id == chain_id:
            return chain
    known = ", ".join(f"{chain.id} ({chain.name})" for chain in CHAINS)
    raise ValueError(f"{chain_id} is no chain that is known here: it must be one of {known}")

"""Which chain a node is on is proven by genesis and every landmark, and a chain too short to show it is not ready.

HAZARDS B19: any short chain once passed as Bitcoin Cash, and its worthless coins were credited. The figures of chains
that are no rail of ours come from their own clients, named next to them.
"""

from dataclasses import replace

import pytest

from railwatch.known_chains import known_chain
from railwatch.rail import RailSettings, RailUnavailable
from railwatch_bitcoin import create_adapter
from railwatch_bitcoin.chains import (
    BITCOIN,
    BITCOIN_CASH,
    BITCOIN_CASH_CHIPNET,
    BITCOIN_CASH_TESTNET4,
    BITCOIN_REGTEST,
    BITCOIN_SIGNET,
    BITCOIN_TESTNET3,
    CHAINS,
    ECASH,
    Chain,
)
from tests.nodes.bitcoin_node import BitcoinNode, chain_methods, chain_node

BITCOIN_SV = replace(
    # Bitcoin SV Node, src/chainparams.cpp, checkpoints: its first block of its own.
    BITCOIN_CASH,
    name="Bitcoin SV",
    landmarks=(
        *BITCOIN_CASH.landmarks[:2],
        (556767, "000000000000000001d956714215d96ffc00e0afda4cd0a96c96f8d802b1662b"),
    ),
    named_by=2,
)
CASH_TESTNET3 = replace(
    # Bitcoin Cash Node, src/chainparams.cpp: it has the genesis block of Bitcoin's testnet3.
    BITCOIN_CASH_TESTNET4,
    name="Bitcoin Cash testnet3",
    landmarks=(
        BITCOIN_TESTNET3.landmarks[0],
        (1155876, "00000000000e38fef93ed9582a7df43815d5c2ba9fd37ef70c9a0ea4a285b8f5"),
    ),
)
STRANGERS = (BITCOIN_SV, CASH_TESTNET3)


async def refusal(chain: Chain, node: BitcoinNode) -> str | None:
    """Why a rail of ``chain`` does not accept this node; None if it does, and has its heads."""
    async with node:
        rail = create_adapter(RailSettings("rail", chain.id), {"rpc": node.url, "timeout": 2})
        try:
            async with rail:
                assert (await rail.heads()).latest.height == chain.landmarks[-1][0] + 1
        except RailUnavailable as error:
            return str(error)
    return None


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.name)
async def test_every_chain_accepts_its_own_node_and_that_of_no_other(chain: Chain) -> None:
    assert await refusal(chain, chain_node(chain)) is None
    top = 3_000_000
    for other in (*CHAINS, *STRANGERS):
        if other is chain:
            continue
        # As tall as any: what the other shares with this chain is there, and what it does not share is another block.
        blocks = {height: f"{7:x}" * 64 for height, _ in chain.landmarks}
        shared = {height: each for height, each in chain.landmarks if height < first_own(chain, other)}
        why = await refusal(chain, BitcoinNode(chain_methods({**blocks, **shared, **dict(other.landmarks)}, top)))
        assert why is not None, f"{other.name} passed for {chain.name}"
        assert "is on another chain" in why


def first_own(chain: Chain, other: Chain) -> int:
    """Return the lowest landmark at which the two differ, or that only one of them has."""
    ours, theirs = dict(chain.landmarks), dict(other.landmarks)
    return min(height for height in {**ours, **theirs} if ours.get(height) != theirs.get(height))


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.name)
async def test_a_chain_below_its_last_landmark_is_not_ready(chain: Chain) -> None:
    """What the node holds up to there, others may hold as well."""
    last = chain.landmarks[-1][0]
    for height in {0, last // 2, last - 1} - {-1} if last else ():
        why = await refusal(chain, chain_node(chain, height))
        assert why is not None
        assert f"has not reached block {[at for at, _ in chain.landmarks if at > height][-1]} yet" in why
        assert "another chain" not in why


@pytest.mark.parametrize("short", [BITCOIN_REGTEST, BITCOIN_TESTNET3, BITCOIN_SIGNET, BITCOIN_CASH_CHIPNET])
async def test_a_short_chain_does_not_pass_for_bitcoin_cash(short: Chain) -> None:
    """The genesis block is compared, however short the chain is."""
    why = await refusal(BITCOIN_CASH, BitcoinNode(chain_methods(dict(short.landmarks), 109)))
    assert why is not None
    assert "is on another chain: block 0 is" in why


@pytest.mark.parametrize("other", [BITCOIN_SV, ECASH, BITCOIN], ids=lambda chain: chain.name)
async def test_what_split_off_does_not_pass_for_bitcoin_cash(other: Chain) -> None:
    """They share its blocks up to some height, the one that names it included, and are taller than all landmarks."""
    why = await refusal(BITCOIN_CASH, BitcoinNode(chain_methods(dict(other.landmarks), 900_000)))
    assert why is not None
    assert "is on another chain" in why


def test_landmarks_ascend_from_the_genesis_block() -> None:
    for chain in CHAINS:
        heights = [height for height, _ in chain.landmarks]
        assert heights[0] == 0
        assert heights == sorted(set(heights))
        assert all(len(each) == 64 and int(each, 16) for _, each in chain.landmarks)


def test_main_chains_are_in_the_default_list() -> None:
    """With the name that the adapter uses, so that a person reads one word for one thing."""
    for chain in CHAINS:
        known = known_chain(chain.id)
        if chain.slip44 == 1:
            assert known is None
        else:
            assert known is not None
            assert known.name == chain.name

"""Which chain a node is on: by hashes, for every EVM chain that Railwatch has defaults for."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import railwatch
from railwatch.rail import (
    AssetId,
    AssetSpec,
    ChainId,
    RailSettings,
    RailUnavailable,
    SupportsAssetCheck,
    SupportsPaymentCheck,
)
from railwatch_evm import create_adapter
from railwatch_evm.chains import KNOWN
from railwatch_evm.dev.simulator import EvmSimulator
from tests.evm.conftest import Chain
from tests.faulty_proxy import Liar, answer, change

KNOWN_CHAINS = tomllib.loads((Path(railwatch.__file__).parent / "known_chains.toml").read_text())["chain"]
EVM_CHAINS = [chain["id"] for chain in KNOWN_CHAINS if chain["id"].startswith("eip155:")]


@pytest.mark.parametrize("chain_id", EVM_CHAINS)
def test_every_chain_of_the_default_list_has_its_first_block(chain_id: str) -> None:
    known = KNOWN[chain_id]
    assert all(re.fullmatch("0x[0-9a-f]{64}", text) for text in (known.genesis, *known.landmarks.values()))


def as_chain(liar: Liar, chain_id: str, blocks: dict[int, str | None], head: int = 100_000_000) -> None:
    """Let the node be ``chain_id``, with these blocks, and its head at that height."""

    def lie(params: list[Any], reply: dict[str, Any]) -> dict[str, Any]:
        if params[0] == "latest":
            return {**reply, "result": {**reply["result"], "number": hex(head)}}
        height = int(params[0], 16) if params[0].startswith("0x") else -1
        if height not in blocks:
            return reply
        block_hash = blocks[height]
        return {**reply, "result": block_hash and {**template, "number": params[0], "hash": block_hash}}

    template = {
        "parentHash": "0x" + "00" * 32,
        "timestamp": "0x0",
        "logsBloom": "0x" + "00" * 256,
        "transactions": [],
    }
    liar.lies["eth_chainId"] = answer(hex(int(chain_id.removeprefix("eip155:"))))
    liar.lies["eth_getBlockByNumber"] = lie


@pytest.mark.anvil
@pytest.mark.parametrize("chain_id", KNOWN)
async def test_a_chain_is_proven_by_its_hashes(sim: EvmSimulator, liar: Liar, chain_id: str) -> None:
    """The number alone lets any private chain pass for the real one, and its worthless coins for money."""
    rail = RailSettings("rail", ChainId(chain_id), (AssetSpec("ETH", None, 18),))
    right: dict[int, str | None] = {0: KNOWN[chain_id].genesis, **KNOWN[chain_id].landmarks}
    as_chain(liar, chain_id, right)
    async with create_adapter(rail, {"http": liar.http}):
        pass
    for height in right:
        as_chain(liar, chain_id, {**right, height: "0x" + "12" * 32})
        with pytest.raises(RailUnavailable, match=rf"another chain.*{chain_id}.*block {height} is 0x12"):
            await create_adapter(rail, {"http": liar.http}).__aenter__()
    # A node that has pruned its history proves nothing by that (EIP-4444).
    as_chain(liar, chain_id, dict.fromkeys(right))
    async with create_adapter(rail, {"http": liar.http}):
        pass


FORKS = [
    (ours, theirs)
    for ours in KNOWN
    for theirs in KNOWN
    if ours != theirs and (KNOWN[ours].genesis == KNOWN[theirs].genesis or {ours, theirs} & {"eip155:1"})
]


@pytest.mark.anvil
@pytest.mark.parametrize(("ours", "theirs"), FORKS)
async def test_no_chain_passes_for_another_by_its_number(sim: EvmSimulator, liar: Liar, ours: str, theirs: str) -> None:
    """Whatever it calls itself: by another first block, another landmark, or by being too short."""
    rail = RailSettings(f"{ours} {theirs}", ChainId(ours))
    blocks: dict[int, str | None] = dict.fromkeys(KNOWN[ours].landmarks, "0x" + "77" * 32)
    as_chain(liar, ours, {**blocks, 0: KNOWN[theirs].genesis, **KNOWN[theirs].landmarks})
    with pytest.raises(RailUnavailable, match="another chain"):
        await create_adapter(rail, {"http": liar.http}).__aenter__()


@pytest.mark.anvil
@pytest.mark.parametrize("chain_id", [chain for chain in KNOWN if KNOWN[chain].landmarks])
async def test_a_node_below_the_last_landmark_is_not_ready(sim: EvmSimulator, liar: Liar, chain_id: str) -> None:
    """Up to there a private chain on the same genesis block has the same blocks (HAZARDS B19)."""
    rail, last = RailSettings("rail", ChainId(chain_id)), max(KNOWN[chain_id].landmarks)
    blocks: dict[int, str | None] = {0: KNOWN[chain_id].genesis, **dict.fromkeys(KNOWN[chain_id].landmarks)}
    as_chain(liar, chain_id, blocks, head=last - 1)
    with pytest.raises(RailUnavailable, match=f"not ready: it is at block {last - 1}, and only from block {last} on"):
        await create_adapter(rail, {"http": liar.http}).__aenter__()


@pytest.mark.anvil
async def test_ethereum_classic_is_distinguished_from_ethereum(sim: EvmSimulator, liar: Liar) -> None:
    """They share the first block; the DAO fork distinguishes them."""
    rail = RailSettings("rail", ChainId("eip155:1"))
    as_chain(liar, "eip155:1", {0: KNOWN["eip155:61"].genesis, **KNOWN["eip155:61"].landmarks, 15_537_394: None})
    with pytest.raises(RailUnavailable, match="block 1920000"):
        await create_adapter(rail, {"http": liar.http}).__aenter__()


@pytest.mark.anvil
async def test_check_compares_tokens_with_their_contracts(chain: Chain, liar: Liar) -> None:
    """arbitrum-token-lists#108, origin#4304: no contract there, or other decimals than the configuration's."""
    sim = chain.sim
    assert isinstance(chain.rail, SupportsAssetCheck)
    assert list(await chain.rail.check_assets()) == []
    nothing, wrong = "0x" + "77" * 20, replace(sim.settings.assets[1], symbol="SIX", decimals=9)
    rail = replace(sim.settings, assets=(AssetSpec("NIL", nothing, 6), wrong))
    async with create_adapter(rail, {"http": liar.http}) as asked:
        assert isinstance(asked, SupportsAssetCheck)
        none, decimals = await asked.check_assets()
        assert "NIL" in none
        assert "no contract there" in none
        assert "decimals = 9, the contract says 6" in decimals
        liar.lies["eth_call"] = change(lambda _: "0x")
        assert "no ERC-20 token" in (await asked.check_assets())[1]


@pytest.mark.parametrize(
    ("contract", "words"),
    [
        ("0xdAC17F958D2ee523a2206206994597C13D831ec8", "wrong EIP-55 checksum"),
        ("0xdac17f958d2ee523a2206206994597c13d831ec", "39 characters"),
        ("dac17f958d2ee523a2206206994597c13d831ec7", "must start with 0x"),
        ("0x0000000000000000000000000000000000001010", "the chain's own asset"),
    ],
)
def test_a_slip_in_a_contract_is_refused_as_in_an_address(contract: str, words: str) -> None:
    rail = RailSettings("polygon", ChainId("eip155:137"), (AssetSpec("USDT", contract, 6),))
    with pytest.raises(ValueError, match=words) as caught:
        create_adapter(rail, {"http": "http://127.0.0.1:1"})
    assert "polygon" in str(caught.value)
    assert "USDT" in str(caught.value)


def test_celos_own_token_is_the_native_asset_on_celo_only() -> None:
    contract = AssetSpec("CELO", "0x471EcE3750Da237f93B8E339c536989b8978a438", 18)
    with pytest.raises(ValueError, match="the chain's own asset"):
        create_adapter(RailSettings("celo", ChainId("eip155:42220"), (contract,)), {"http": "http://127.0.0.1:1"})
    create_adapter(RailSettings("other", ChainId("eip155:1"), (contract,)), {"http": "http://127.0.0.1:1"})


BURNED = [
    "0x" + "00" * 20,
    *(f"0x{number:040x}" for number in (1, 2, 9, 0x11, 0x100, 0x1010, 0x800A, 0xDEAD)),
    "0xdead" + "00" * 18,
    "0xdead000000000000000042069420694206942069",
    "0x" + "ff" * 20,
    "0xfffffffffffffffffffffffffffffffffffffffe",
]


@pytest.mark.parametrize("text", BURNED)
async def test_an_address_without_an_owner_is_refused(text: str) -> None:
    """mist#1583, fether#248, vouch#65: what is paid there is destroyed."""
    rail = create_adapter(RailSettings("rail", ChainId("eip155:1")), {"http": "http://127.0.0.1:1"})
    assert isinstance(rail, SupportsPaymentCheck)
    words = await rail.check_payment(rail.parse_address(text), AssetId("eip155:1/slip44:60"), 1, None)
    assert words is not None
    assert "destroyed" in words
    ours = rail.parse_address("0x1234567890abcdef1234567890abcdef12345678")
    assert await rail.check_payment(ours, AssetId("eip155:1/slip44:60"), 1, None) is None

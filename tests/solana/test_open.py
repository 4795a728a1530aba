"""What a configuration may say, and what loading the rail costs before it is used."""

import subprocess
import sys
from typing import Any

import pytest

from railwatch.rail import AssetSpec, BadAddress, ChainId, RailSettings, RailUnavailable
from railwatch_solana import create_adapter

MAINNET = ChainId("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp")
USDC = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"
RAIL = RailSettings("sol", MAINNET, (AssetSpec("SOL", None),))
HTTP = {"http": "http://127.0.0.1:8899"}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "http is missing"),
        ({"http": "127.0.0.1:8899"}, "http must be a URL"),
        ({"http": "ws://127.0.0.1:8899"}, "http must be a URL"),
        ({"http": "http://127.0.0.1:secret"}, "http must be a URL"),
        ({**HTTP, "ws": "http://127.0.0.1:8900"}, "ws must be a URL"),
        ({**HTTP, "url": "secret"}, "unknown key 'url'"),
        ({**HTTP, "timeout": 0}, "timeout must be"),
        ({**HTTP, "timeout": True}, "timeout must be"),
    ],
)
def test_a_wrong_node_is_named_by_its_key(table: dict[str, Any], words: str) -> None:
    """And never by its value, which may be a secret."""
    with pytest.raises(ValueError, match=words) as error:
        create_adapter(RAIL, table)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("chain_id", ["5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "solana:mainnet", "solana:", MAINNET + "K"])
def test_a_chain_of_another_kind_is_refused(chain_id: str) -> None:
    """CAIP-2, of the namespace solana."""
    with pytest.raises(ValueError, match="first 32 characters of the genesis hash"):
        create_adapter(RailSettings("sol", ChainId(chain_id)), HTTP)


def test_a_contract_that_is_no_mint_is_named() -> None:
    with pytest.raises(ValueError, match="asset USDC: contract must be a mint"):
        create_adapter(RailSettings("sol", MAINNET, (AssetSpec("USDC", USDC.lower()),)), HTTP)


def test_options_shape_the_traits() -> None:
    """Those of slots, checked."""
    rail = RailSettings("sol", MAINNET, options={"lookback": 7200, "span_max": 50, "horizon": 64})
    traits = create_adapter(rail, HTTP).traits
    assert (traits.lookback, traits.span_max, traits.horizon) == (7200, 50, 64)
    for wrong in (0, -1, "5", True, 1.5):
        with pytest.raises(ValueError, match="option lookback"):
            create_adapter(RailSettings("sol", MAINNET, options={"lookback": wrong}), HTTP)


def test_a_node_without_an_index_need_not_be_asked_for_it() -> None:
    """Then a look-back is cut like any other span."""
    assert (create_adapter(RAIL, HTTP).traits.lookback_span or 0) > create_adapter(RAIL, HTTP).traits.lookback
    assert create_adapter(RailSettings("sol", MAINNET, options={"index": False}), HTTP).traits.lookback_span is None
    with pytest.raises(ValueError, match="option index"):
        create_adapter(RailSettings("sol", MAINNET, options={"index": "no"}), HTTP)


def test_a_rail_without_sol_says_what_it_does_not_see() -> None:
    assert create_adapter(RAIL, HTTP).traits.native_complete
    traits = create_adapter(RailSettings("sol", MAINNET, (AssetSpec("USDC", USDC),)), HTTP).traits
    assert not traits.native_complete
    assert "SOL" in traits.native_gap


async def test_before_it_is_entered_it_is_pure() -> None:
    """Addresses parse, and whatever needs a node says that there is none."""
    rail = create_adapter(RAIL, HTTP)
    assert rail.parse_address("1" * 32).key == bytes(32)
    with pytest.raises(BadAddress):
        rail.parse_address("nobody")
    for question in (rail.heads, rail.wait_for_change, lambda: rail.block_at(1)):
        with pytest.raises(RailUnavailable, match="not connected"):
            await question()
    await rail.__aexit__(None, None, None)


def test_loading_the_rail_is_cheap() -> None:
    """Commands that only list rails or parse an address load no HTTP client, and no virtual machine."""
    code = (
        "import sys, railwatch_solana as solana, railwatch.rail as rail\n"
        f"node = solana.create_adapter(rail.RailSettings('sol', {MAINNET!r}), {HTTP!r})\n"
        "node.parse_address('1' * 32)\n"
        "heavy = {'solana', 'spl', 'aiohttp', 'websockets'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""What a configuration may say, and what loading the rail costs before it is used."""

import subprocess
import sys
from typing import Any

import pytest

from railwatch.rail import BadAddress, ChainId, RailSettings, RailUnavailable
from railwatch_evm import create_adapter

RAIL = RailSettings("eth", ChainId("eip155:1"))
HTTP = {"http": "http://127.0.0.1:8545"}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "http is missing"),
        ({"http": "127.0.0.1:8545"}, "http must be a URL"),
        ({"http": "ws://127.0.0.1:8545"}, "http must be a URL"),
        ({"http": 8545}, "http must be a URL"),
        ({"http": "http://127.0.0.1:secret"}, "http must be a URL"),
        ({**HTTP, "ws": "http://127.0.0.1:8545"}, "ws must be a URL"),
        ({**HTTP, "url": "secret"}, "unknown key 'url'"),
        ({**HTTP, "timeout": 0}, "timeout must be"),
        ({**HTTP, "timeout": True}, "timeout must be"),
        ({**HTTP, "timeout": "5"}, "timeout must be"),
    ],
)
def test_a_wrong_node_is_named_by_its_key(table: dict[str, Any], words: str) -> None:
    """And never by its value, which may be a secret."""
    with pytest.raises(ValueError, match=words) as error:
        create_adapter(RAIL, table)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "chain_id", ["1", "eip155:", "eip155:0x1", "bip122:1", "eip155:01", "eip155:0", "eip155:\u0661"]
)
def test_a_chain_of_another_kind_is_refused(chain_id: str) -> None:
    """CAIP-2, of the namespace eip155."""
    with pytest.raises(ValueError, match="eip155: and a number"):
        create_adapter(RailSettings("eth", ChainId(chain_id)), HTTP)


def test_options_shape_the_traits() -> None:
    """Those of heights, checked."""
    rail = RailSettings("eth", ChainId("eip155:1"), options={"lookback": 7200, "span_max": 50, "horizon": 64})
    traits = create_adapter(rail, HTTP).traits
    assert (traits.lookback, traits.span_max, traits.horizon) == (7200, 50, 64)
    for wrong in (0, -1, "5", True, 1.5):
        with pytest.raises(ValueError, match="option lookback"):
            create_adapter(RailSettings("eth", ChainId("eip155:1"), options={"lookback": wrong}), HTTP)


async def test_before_it_is_entered_it_is_pure() -> None:
    """Addresses parse, pending is empty by trait, and whatever needs a node says that there is none."""
    rail = create_adapter(RAIL, HTTP)
    assert rail.parse_address("0x" + "00" * 20).key == bytes(20)
    with pytest.raises(BadAddress):
        rail.parse_address("nobody")
    with pytest.raises(RailUnavailable, match="not connected"):
        await rail.heads()
    with pytest.raises(RailUnavailable, match="not connected"):
        await rail.wait_for_change()
    await rail.__aexit__(None, None, None)
    assert not rail.traits.has_pending


def test_loading_the_rail_is_cheap() -> None:
    """web3 needs 0.8 s and 61 MB: commands that only list rails or parse an address do not load it."""
    code = (
        "import sys, railwatch_evm as evm, railwatch.rail as rail\n"
        "node = evm.create_adapter(rail.RailSettings('eth', 'eip155:1'), {'http': 'http://127.0.0.1:1'})\n"
        "node.parse_address('0x' + '00' * 20)\n"
        "heavy = {'web3', 'aiohttp', 'websockets', 'eth_abi'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

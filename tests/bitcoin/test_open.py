"""What an adapter says before it is entered: the configuration's mistakes by name, and the chain's traits."""

from pathlib import Path
from typing import Any

import pytest

from railwatch.rail import AssetSpec, ChainId, RailSettings, RailUnavailable
from railwatch_bitcoin import create_adapter
from railwatch_bitcoin.chains import BITCOIN, BITCOIN_REGTEST, LITECOIN
from railwatch_bitcoin.options import BitcoinOptions

GOOD = {"rpc": "http://127.0.0.1:8332"}
SETTINGS = RailSettings("btc", BITCOIN.id, (AssetSpec("BTC", None, 8),))

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no rpc": ({}, "rpc is missing"),
    "unknown key": ({**GOOD, "timout": 3}, "unknown key 'timout'"),
    "not a URL": ({"rpc": "localhost:8332"}, "rpc must be a URL"),
    "not a port": ({"rpc": "http://localhost:x"}, "rpc must be a URL"),
    "secrets in the URL": ({"rpc": "http://u:hunter2@localhost:8332"}, "rpc must hold no credentials"),
    "half a login": ({**GOOD, "user": "u"}, "password is missing"),
    "the other half": ({**GOOD, "password": "hunter2"}, "user is missing"),
    "two logins": ({**GOOD, "user": "u", "password": "hunter2", "cookie_path": "/c"}, "exclude each other"),
    "empty cookie": ({**GOOD, "cookie_path": ""}, "cookie_path must be a text"),
    "zmq": ({**GOOD, "zmq": "127.0.0.1:28332"}, "zmq must be tcp"),
    "zmq without a port": ({**GOOD, "zmq": "tcp://127.0.0.1"}, "zmq must be tcp"),
    "zmq list": ({**GOOD, "zmq": ["tcp://127.0.0.1:1", 2]}, "zmq must be tcp"),
    "zmq number": ({**GOOD, "zmq": 28332}, "zmq must be tcp"),
    "rest": ({**GOOD, "rest": "yes"}, "rest must be true or false"),
    "timeout": ({**GOOD, "timeout": 0}, "timeout must be a number"),
    "endless": ({**GOOD, "timeout": 1e9}, "timeout must be a number"),
    "not a number": ({**GOOD, "timeout": True}, "timeout must be a number"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_key_is_named_and_its_value_is_not_repeated(wrong: str) -> None:
    table, message = WRONG[wrong]
    with pytest.raises(ValueError, match=message) as error:
        create_adapter(SETTINGS, table)
    assert "hunter2" not in str(error.value)


def test_a_table_is_read() -> None:
    node = BitcoinOptions.from_table({**GOOD, "cookie_path": "/c", "zmq": ["tcp://h:1", "ipc:///s"], "timeout": 3})
    assert (node.cookie_path, node.zmq, node.rest, node.timeout) == (Path("/c"), ("tcp://h:1", "ipc:///s"), None, 3.0)


def test_a_name_holds_neither_path_nor_query() -> None:
    table = {"rpc": "https://[::1]:8332/v1/key?key=secret", "user": "u", "password": "hunter2"}
    node = BitcoinOptions.from_table(table)
    assert node.name == "https://[::1]:8332"
    assert node.credentials() == "u:hunter2"


@pytest.mark.parametrize("chain_id", ["eip155:1", "bip122:00", "bip122:" + "0" * 32])
def test_an_unknown_chain_is_refused_by_name(chain_id: str) -> None:
    with pytest.raises(ValueError, match="rail btc: chain_id"):
        create_adapter(RailSettings("btc", ChainId(chain_id)), GOOD)


@pytest.mark.parametrize("value", [0, -1, True, "9", 1.5])
def test_a_wrong_option_is_named(value: object) -> None:
    with pytest.raises(ValueError, match="option lookback must be a whole number"):
        create_adapter(RailSettings("btc", BITCOIN.id, (), {"lookback": value}), GOOD)


def test_traits_say_what_the_chain_is() -> None:
    """One family: a script has one owner on all chains. An hour of blocks is certainly covered."""
    bitcoin, litecoin = (
        create_adapter(SETTINGS, GOOD).traits,
        create_adapter(RailSettings("ltc", LITECOIN.id), GOOD).traits,
    )
    assert bitcoin.family == litecoin.family
    assert (bitcoin.native_asset, litecoin.native_asset) == ("slip44:0", "slip44:2")
    assert bitcoin.has_pending
    assert not bitcoin.has_finalized
    assert (bitcoin.horizon, bitcoin.max_confirmations, bitcoin.native_complete) == (100, None, True)
    assert bitcoin.lookback >= 18
    assert litecoin.lookback >= 3 * bitcoin.lookback // 2
    options = {"lookback": 9, "span_max": 8, "horizon": 7}
    shaped = create_adapter(RailSettings("btc", BITCOIN_REGTEST.id, (), options), GOOD).traits
    assert (shaped.lookback, shaped.span_max, shaped.horizon) == (9, 8, 7)


async def test_nothing_is_asked_before_entering() -> None:
    adapter = create_adapter(SETTINGS, GOOD)
    with pytest.raises(RailUnavailable, match="enter the adapter first"):
        await adapter.heads()


async def test_a_cookie_that_is_not_there_is_a_node_that_is_not_running(tmp_path: Path) -> None:
    with pytest.raises(RailUnavailable, match="cookie_path cannot be read"):
        await create_adapter(SETTINGS, {**GOOD, "cookie_path": str(tmp_path / ".cookie")}).__aenter__()

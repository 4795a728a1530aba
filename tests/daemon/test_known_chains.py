"""What is known of public chains holds what the contract promises of every rail."""

from typing import Any

import pytest

from railwatch.config import RailConfig
from railwatch.daemon.registry import open_rail
from railwatch.known_chains import _chains, known_lookback
from railwatch_evm.block_pace import lookback_of

HOUR = 3600.0
FASTEST = {
    "eip155:1": 12.0,
    "eip155:137": 1.0,
    "eip155:56": 0.45,
    "eip155:42161": 0.25,
    "eip155:10": 2.0,
    "eip155:8453": 2.0,
    "eip155:100": 5.0,
    "eip155:42220": 1.0,
    "eip155:43114": 0.5,
    "eip155:59144": 1.0,
    "eip155:534352": 1.0,
    "eip155:11155111": 12.0,
    "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp": 0.3,
}
"""Seconds between two blocks at a chain's fastest pace. Proof-of-work blocks come at random: an hour of them is as many
as come in no more than one hour of ten billion, three times the average and 30 more."""
SPACING = {"Litecoin": 150, "Dogecoin": 60}
NODES: dict[str, dict[str, Any]] = {
    "eip155": {"http": "http://127.0.0.1:8545"},
    "bip122": {"rpc": "http://127.0.0.1:8332", "user": "u", "password": "p"},
    "solana": {"http": "http://127.0.0.1:8899"},
}
ADAPTERS = {"eip155": "evm", "bip122": "bitcoin", "solana": "solana"}


def rail_of(chain_id: str, **more: Any) -> RailConfig:
    kind = chain_id.split(":")[0]
    table = {"name": "known", "adapter": ADAPTERS[kind], "chain_id": chain_id, "nodes": [NODES[kind]]}
    return RailConfig.model_validate({**table, **more})


@pytest.mark.parametrize("chain_id", _chains())
def test_a_registration_looks_back_at_least_an_hour_on_every_known_chain(chain_id: str) -> None:
    lookback = open_rail(rail_of(chain_id)).traits.lookback
    if chain_id in FASTEST:
        assert lookback * FASTEST[chain_id] >= HOUR
    else:
        assert lookback >= 3 * HOUR / SPACING.get(_chains()[chain_id].name, 600) + 30


@pytest.mark.parametrize("chain_id", _chains())
def test_an_operators_own_look_back_is_what_holds(chain_id: str) -> None:
    assert open_rail(rail_of(chain_id, lookback=7)).traits.lookback == 7
    assert open_rail(rail_of(chain_id, options={"lookback": 7})).traits.lookback == 7


@pytest.mark.parametrize("chain_id", [each for each in FASTEST if each.startswith("eip155:")])
@pytest.mark.parametrize("faster", [1.0, 2.0, 4.0])
def test_a_known_chain_whose_blocks_come_faster_than_known_is_still_looked_back_for_an_hour(
    chain_id: str, faster: float
) -> None:
    seconds = FASTEST[chain_id] / faster
    assert lookback_of(seconds, known_lookback(chain_id)) * seconds >= HOUR


@pytest.mark.parametrize("chain_id", [each for each in _chains() if each.startswith("bip122:")])
def test_every_chain_with_bitcoins_rule_of_block_times_has_its_margin(chain_id: str) -> None:
    """A stamp may lie an hour behind and two hours ahead: a window that blocks decide stays open for that."""
    assert rail_of(chain_id).time_margin == 7_200

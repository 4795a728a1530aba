"""The demo's Bitcoin stories, with a real bitcoind and its wallet."""

import json
import os
import signal

import pytest

from railwatch.demo.runner import open_demos
from railwatch_bitcoin.dev.demo import BitcoinDemo
from railwatch_evm.dev.demo import EvmDemo
from railwatch_solana.dev.demo import SolanaDemo
from tests.demo.demo_runner import DemoRunner, eventually, is_alive, pids_in, rail_status


@pytest.mark.bitcoind
@pytest.mark.long
def test_the_feed_shows_a_mempool_and_a_fork_as_expected_and_nothing_stays(house: DemoRunner) -> None:
    """And if it is kept, the miner makes blocks until its pid is killed."""
    code, out, err = house.run("demo", "--rail", "bitcoin", "--keep", "--json")
    assert code == 0, err
    outcome = json.loads(out)
    pids = outcome["kept"]["pids"]
    try:
        assert list(pids) == ["daemon", "bitcoin-miner", "bitcoind"]
        assert [each["story"] for each in outcome["stories"]] == [each.name for each in BitcoinDemo().scenarios]
        assert all(each["seen"] == each["expected"] for each in outcome["stories"])
        before = rail_status(house, outcome["kept"]["config"])
        assert before["state"] == "live"
        eventually(lambda: rail_status(house, outcome["kept"]["config"])["cursor_height"] > before["cursor_height"])
    finally:
        for pid in pids.values():
            os.kill(pid, signal.SIGTERM)
    eventually(lambda: not any(is_alive(pid) for pid in pids_in(err)))


def test_without_bitcoind_the_others_go_on_and_an_error_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, house: DemoRunner
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("RAILWATCH_BITCOIND", "nowhere/bitcoind")
    said: list[str] = []
    assert [type(each) for each in open_demos((), said.append)] == [EvmDemo, SolanaDemo]
    assert ["make setup" in each for each in said] == [True]
    code, _, err = house.run("demo", "--rail", "bitcoin", "--json")
    assert code == 1
    assert "make setup" in err

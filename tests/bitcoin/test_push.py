"""Being woken: by what concerns us and by blocks, through gaps, silence and restarts (HAZARDS B15)."""

import asyncio
import sys

import pytest

from railwatch.rail import RailUnavailable, push
from railwatch_bitcoin import zmq_subscriber
from railwatch_bitcoin.dev.simulator import BitcoinSimulator
from railwatch_bitcoin.zmq_subscriber import SequenceTracker
from tests.bitcoin.conftest import Chain
from tests.bitcoin.faulty_proxy import Liar, answer, refuse
from tests.bitcoin.push_fixtures import (
    AMOUNT,
    LATE,
    PATIENCE,
    Node,
    WakeCounter,
    entered,
    first_rings,
    followed,
    until,
    wake_counter,
)

pytestmark = pytest.mark.bitcoind


async def test_blocks_and_our_own_payments_wake(chain: Chain) -> None:
    address = await chain.sim.new_address()
    await chain.waiting(address)
    async with wake_counter(chain.rail) as heard:
        await _until_subscribed(chain.sim, heard)
        for act in (chain.sim.mine, lambda: chain.sim.pay(address, AMOUNT), lambda: chain.sim.reorg(1)):
            ringing = asyncio.create_task(heard.rings())
            await asyncio.sleep(0)
            await act()
            await ringing
        assert heard.errors == []


async def test_a_payment_that_goes_wakes(chain: Chain) -> None:
    """A replacement and an expiry of a reported transaction."""
    address = await chain.sim.new_address()
    async with wake_counter(chain.rail) as heard:
        await _until_subscribed(chain.sim, heard)
        for act in (chain.sim.replace, chain.sim.drop):
            tx_id = await chain.sim.pay(address, AMOUNT)
            async with asyncio.timeout(PATIENCE):
                while len(await chain.waiting(address)) != 1:  # noqa: ASYNC110 (its push is on its way)
                    await asyncio.sleep(0.01)
            ringing = asyncio.create_task(heard.rings())
            await asyncio.sleep(0)
            await act(tx_id)
            await ringing


async def _until_subscribed(sim: BitcoinSimulator, heard: WakeCounter) -> None:
    async with asyncio.timeout(PATIENCE):
        while not heard.rung.is_set():
            await sim.mine()
            await asyncio.sleep(0.05)


async def test_the_payments_of_others_do_not_wake(sim: BitcoinSimulator, spoken: Node, liar: Liar) -> None:
    """A poll has a cost; some seven strangers a second on the main chain are not worth it.

    Their bodies are read all the same, so that the next poll asks for none of them.
    """
    async with entered(sim, liar.url, spoken.endpoint) as rail, wake_counter(rail) as heard:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        watches = chain.watch(await sim.new_address())
        await followed(sim, spoken, heard)
        await rail.pending(watches)
        tx_ids = [await sim.pay(await sim.new_address(), AMOUNT) for _ in range(3)]
        liar.requests.clear()
        for tx_id in tx_ids:
            await spoken.say(b"sequence", bytes.fromhex(tx_id) + b"A" + LATE)
            await spoken.say(b"sequence", bytes.fromhex("22" * 32) + b"R" + LATE)
        await until(lambda: sum(request.count("getrawtransaction") for request in liar.requests) == 3)
        assert not heard.rung.is_set()
        liar.requests.clear()
        await rail.pending(watches)
        assert not any("getrawtransaction" in request for request in liar.requests)


ODD = {
    "a gap": (b"sequence", bytes(32) + b"R" + LATE, 7),
    "a counter that began anew": (b"sequence", bytes(32) + b"R" + LATE, 0),
    "a label of the future": (b"sequence", bytes(32) + b"X", None),
    "half a message": (b"sequence", b"", None),
    "a block": (b"hashblock", bytes(32), None),
    "a branch": (b"sequence", bytes(32) + b"D", None),
}


@pytest.mark.parametrize("odd", ODD)
async def test_whatever_is_not_plainly_a_strangers_wakes(sim: BitcoinSimulator, spoken: Node, odd: str) -> None:
    """B15: a gap says that something was lost, and not what."""
    async with entered(sim, sim.fleet.nodes[0].url, spoken.endpoint) as rail, wake_counter(rail) as heard:
        await spoken.subscribed()
        await first_rings(heard)
        await spoken.say(b"sequence", bytes.fromhex("22" * 32) + b"R" + LATE, 3)
        topic, body, count = ODD[odd]
        await spoken.say(topic, body, count)
        async with asyncio.timeout(PATIENCE):
            await heard.rung.wait()
        assert heard.errors == []


def test_a_topic_of_a_nodes_own_is_a_gap_and_nothing_of_it_is_kept() -> None:
    """It begins like one that is subscribed to, and a node can think of as many as it likes."""
    counters = SequenceTracker()
    assert not counters.gap(b"hashblock", (0).to_bytes(4, "little"))
    before = asizeof(counters)
    for number in range(1_000):
        assert counters.gap(b"hashblock%d" % number, (number % 2).to_bytes(4, "little"))
    assert asizeof(counters) == before
    assert not counters.gap(b"hashblock", (1).to_bytes(4, "little"))


def asizeof(counters: SequenceTracker) -> int:
    """Bytes of the table in it."""
    return sum(map(sys.getsizeof, vars(counters).values()))


def test_counters_count_by_topic_and_go_round() -> None:
    counters = SequenceTracker()
    block, change = b"hashblock", b"sequence"
    pushes = [(block, 5), (change, 0), (block, 6), (block, 8), (change, 1), (block, 2**32 - 1), (block, 0)]
    gaps = [counters.gap(topic, number.to_bytes(4, "little")) for topic, number in pushes]
    assert gaps == [False, False, False, True, False, True, False]


async def test_silence_while_the_chain_moves_is_noticed(
    sim: BitcoinSimulator, spoken: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E22 in spirit: connected, and nothing comes. The next wait begins a new subscription."""
    monkeypatch.setattr(zmq_subscriber, "SILENCE", 0.1)
    async with entered(sim, sim.fleet.nodes[0].url, spoken.endpoint) as rail, wake_counter(rail) as heard:
        await spoken.subscribed()
        async with asyncio.timeout(PATIENCE):
            while not heard.errors:
                await sim.mine()
                await asyncio.sleep(0.05)
        assert "ZMQ is silent, and the head moved" in heard.errors[0]
        await spoken.subscribed()


async def test_a_quiet_chain_is_not_a_silent_publisher(
    sim: BitcoinSimulator, spoken: Node, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zmq_subscriber, "SILENCE", 0.02)
    async with entered(sim, liar.url, spoken.endpoint) as rail, wake_counter(rail) as heard:
        await spoken.subscribed()
        liar.requests.clear()
        await until(lambda: liar.requests.count(["getbestblockhash"]) >= 10)
        assert heard.errors == []


async def test_a_restart_is_survived(chain: Chain) -> None:
    """B15: the counters begin anew, the socket finds the node again by itself or is made anew."""
    async with wake_counter(chain.rail) as heard:
        await _until_subscribed(chain.sim, heard)
        await chain.sim.fleet.stop()
        await chain.sim.fleet.start()
        heard.rung.clear()
        await _until_subscribed(chain.sim, heard)


async def test_a_node_that_publishes_no_blocks_says_so(sim: BitcoinSimulator, liar: Liar, spoken: Node) -> None:
    liar.lies["getzmqnotifications"] = answer([{"type": "pubrawtx", "address": "tcp://127.0.0.1:1", "hwm": 1}])
    async with entered(sim, liar.url, spoken.endpoint) as rail:
        with pytest.raises(RailUnavailable, match="does not publish hashblock"):
            await rail.wait_for_change()


async def test_without_sequence_transactions_wake(sim: BitcoinSimulator, liar: Liar, spoken: Node) -> None:
    """What an operator has set up for another program is enough: any transaction is a reason to poll."""
    kinds = [{"type": "pubrawtx"}, {"type": "pubhashblock"}]
    liar.lies["getzmqnotifications"] = answer(kinds)
    async with entered(sim, liar.url, spoken.endpoint) as rail, wake_counter(rail) as heard:
        assert await spoken.subscribed() == {b"hashblock", b"rawtx"}
        await first_rings(heard)
        await spoken.say(b"rawtx", b"anything")
        async with asyncio.timeout(PATIENCE):
            await heard.rung.wait()


async def test_without_zmq_a_long_poll_wakes_at_blocks(lied_to: Chain, liar: Liar) -> None:
    async with wake_counter(lied_to.rail) as heard:
        await heard.rings()  # the first one gives the position
        await until(lambda: any("waitfornewblock" in request for request in liar.requests))
        heard.rung.clear()
        await lied_to.sim.mine()
        async with asyncio.timeout(PATIENCE):
            await heard.rung.wait()
        assert heard.errors == []


async def test_a_node_that_cannot_even_that_says_so(lied_to: Chain, liar: Liar) -> None:
    liar.lies["waitfornewblock"] = refuse(-32601, "Method not found")
    with pytest.raises(RailUnavailable, match="no zmq is configured"):
        await lied_to.rail.wait_for_change()


async def test_back_off_grows_while_pushes_fail(lied_to: Chain, liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that refuses at once is not asked without pause."""
    monkeypatch.setattr(push, "BACK_OFF_SECONDS", (0.0, 60.0))
    liar.lies["waitfornewblock"] = refuse(-32601, "Method not found")
    with pytest.raises(RailUnavailable):
        await lied_to.rail.wait_for_change()
    monkeypatch.setattr(push, "IDLE_SECONDS", 0.3)
    liar.requests.clear()
    await lied_to.rail.wait_for_change()
    assert liar.requests == []

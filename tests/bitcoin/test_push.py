"""Being woken: by what concerns us and by blocks, through gaps, silence and restarts (HAZARDS B15)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import zmq
import zmq.asyncio

from adapters.bitcoin import mempool, open_node, publisher
from adapters.bitcoin.publisher import Counters
from adapters.bitcoin.simulator import BitcoinSimulator
from indexer.rail import RailAdapter, RailUnavailable, push
from tests.bitcoin.conftest import Chain
from tests.bitcoin.liar import Liar, answer, refuse

pytestmark = pytest.mark.bitcoind

AMOUNT = 1_000_007
PATIENCE = 20.0
LATE = (1 << 40).to_bytes(8, "little")
"""The number of a change that comes after every list."""


async def until(true: Callable[[], bool]) -> None:
    """Wait for what has no event of its own."""
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Bell:
    """Counts wakes, as the daemon would hear them; an error is a wake too, for then somebody has to look."""

    def __init__(self, rail: RailAdapter) -> None:
        self._rail = rail
        self.rung = asyncio.Event()
        self.errors: list[str] = []

    async def listen(self) -> None:
        """Until cancelled, or until the adapter is left."""
        while True:
            try:
                await self._rail.wait_for_change()
            except RailUnavailable as error:
                self.errors.append(str(error))
                if "enter the adapter" in str(error):
                    return
            self.rung.set()

    async def rings(self) -> None:
        """Wait for the next wake after this moment's."""
        self.rung.clear()
        async with asyncio.timeout(PATIENCE):
            await self.rung.wait()


@asynccontextmanager
async def bell(rail: RailAdapter) -> AsyncIterator[Bell]:
    """A bell that hears."""
    heard = Bell(rail)
    task = asyncio.create_task(heard.listen())
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Node:
    """A publisher of our own: says what a test says, and counts as it is told."""

    def __init__(self) -> None:
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self.endpoint = f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"
        self.count = 0

    async def subscribed(self) -> set[bytes]:
        """The topics of one subscriber, once it has named both."""
        async with asyncio.timeout(PATIENCE):
            return {(await self._socket.recv())[1:] for _ in range(2)}

    async def say(self, topic: bytes, body: bytes, count: int | None = None) -> None:
        """One message."""
        self.count = self.count + 1 if count is None else count
        await self._socket.send_multipart([topic, body, self.count.to_bytes(4, "little")])

    def end(self) -> None:
        """No more."""
        self._context.destroy(linger=0)


@pytest.fixture
async def spoken() -> AsyncIterator[Node]:
    """A publisher."""
    node = Node()
    yield node
    node.end()


@asynccontextmanager
async def entered(sim: BitcoinSimulator, rpc: str, endpoint: str) -> AsyncIterator[RailAdapter]:
    """An adapter that hears that publisher and asks that node; it has looked once for an address of nobody."""
    table = {"rpc": rpc, "cookie_path": sim.node["cookie_path"], "zmq": endpoint, "timeout": 5}
    async with open_node(sim.settings, table) as rail:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        await rail.pending(chain.watch(await sim.new_address()))
        yield rail


async def test_blocks_and_our_own_payments_wake(chain: Chain) -> None:
    address = await chain.sim.new_address()
    await chain.waiting(address)
    async with bell(chain.rail) as heard:
        await _until_subscribed(chain.sim, heard)
        for act in (chain.sim.mine, lambda: chain.sim.pay(address, AMOUNT), lambda: chain.sim.reorg(1)):
            ringing = asyncio.create_task(heard.rings())
            await asyncio.sleep(0)
            await act()
            await ringing
        assert heard.errors == []


async def test_a_payment_that_goes_wakes(chain: Chain) -> None:
    """A replacement and an expiry of what somebody was told of."""
    address = await chain.sim.new_address()
    async with bell(chain.rail) as heard:
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


async def _until_subscribed(sim: BitcoinSimulator, heard: Bell) -> None:
    async with asyncio.timeout(PATIENCE):
        while not heard.rung.is_set():
            await sim.mine()
            await asyncio.sleep(0.05)


async def test_the_payments_of_others_wake_nobody(sim: BitcoinSimulator, spoken: Node, liar: Liar) -> None:
    """A look costs something; some seven strangers a second on the main chain are not worth it.

    Their bodies are read all the same, so that the next look asks for none of them.
    """
    async with entered(sim, liar.url, spoken.endpoint) as rail, bell(rail) as heard:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        watches = chain.watch(await sim.new_address())
        await _followed(sim, spoken, heard)
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


async def _first_look(heard: Bell) -> None:
    """Let pass what rings while the subscription comes to stand."""
    await asyncio.sleep(publisher.FIRST_SILENCE * 2)
    heard.rung.clear()


async def _followed(sim: BitcoinSimulator, spoken: Node, heard: Bell) -> None:
    """Say something, so that the subscription is known to stand, and let whatever rings pass."""
    await spoken.subscribed()
    await spoken.say(b"sequence", bytes.fromhex("22" * 32) + b"R" + LATE, 1)
    await _first_look(heard)


ODD = {
    "a gap": (b"sequence", bytes(32) + b"R" + LATE, 7),
    "a counter that began anew": (b"sequence", bytes(32) + b"R" + LATE, 0),
    "a label of the future": (b"sequence", bytes(32) + b"X", None),
    "half a message": (b"sequence", b"", None),
    "a block": (b"hashblock", bytes(32), None),
    "a branch": (b"sequence", bytes(32) + b"D", None),
}


@pytest.mark.parametrize("odd", ODD)
async def test_whatever_is_not_plainly_somebody_elses_wakes(sim: BitcoinSimulator, spoken: Node, odd: str) -> None:
    """B15: a gap says that something was lost, and not what."""
    async with entered(sim, sim.fleet.nodes[0].url, spoken.endpoint) as rail, bell(rail) as heard:
        await spoken.subscribed()
        await _first_look(heard)
        await spoken.say(b"sequence", bytes.fromhex("22" * 32) + b"R" + LATE, 3)
        topic, body, count = ODD[odd]
        await spoken.say(topic, body, count)
        async with asyncio.timeout(PATIENCE):
            await heard.rung.wait()
        assert heard.errors == []


def test_counters_count_by_topic_and_go_round() -> None:
    counters = Counters()
    told = [(b"a", 5), (b"b", 0), (b"a", 6), (b"a", 8), (b"b", 1), (b"a", 2**32 - 1), (b"a", 0)]
    gaps = [counters.gap(topic, number.to_bytes(4, "little")) for topic, number in told]
    assert gaps == [False, False, False, True, False, True, False]


async def test_silence_while_the_chain_moves_is_noticed(
    sim: BitcoinSimulator, spoken: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E22 in spirit: connected, and nothing comes. The next wait begins a new subscription."""
    monkeypatch.setattr(publisher, "SILENCE", 0.1)
    async with entered(sim, sim.fleet.nodes[0].url, spoken.endpoint) as rail, bell(rail) as heard:
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
    monkeypatch.setattr(publisher, "SILENCE", 0.02)
    async with entered(sim, liar.url, spoken.endpoint) as rail, bell(rail) as heard:
        await spoken.subscribed()
        liar.requests.clear()
        await until(lambda: liar.requests.count(["getbestblockhash"]) >= 10)
        assert heard.errors == []


async def test_a_restart_is_survived(chain: Chain) -> None:
    """B15: the counters begin anew, the socket finds the node again by itself or is made anew."""
    async with bell(chain.rail) as heard:
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
    """What an operator has set up for another program is enough: any transaction is a reason to look."""
    kinds = [{"type": "pubrawtx"}, {"type": "pubhashblock"}]
    liar.lies["getzmqnotifications"] = answer(kinds)
    async with entered(sim, liar.url, spoken.endpoint) as rail, bell(rail) as heard:
        assert await spoken.subscribed() == {b"hashblock", b"rawtx"}
        await _first_look(heard)
        await spoken.say(b"rawtx", b"anything")
        async with asyncio.timeout(PATIENCE):
            await heard.rung.wait()


async def test_without_zmq_a_long_poll_wakes_at_blocks(lied_to: Chain, liar: Liar) -> None:
    async with bell(lied_to.rail) as heard:
        await heard.rings()  # the first one tells where it stands
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


async def test_between_lists_the_pushes_keep_the_mirror(
    sim: BitcoinSimulator, spoken: Node, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes, and which strangers go, is known without asking for the list; any doubt, and it is asked for again.

    That one of ours goes is a doubt: who replaced it is told by a message of its own, and has to be known with it.
    """
    monkeypatch.setattr(mempool, "TRUSTED_SECONDS", 600.0)
    async with entered(sim, liar.url, spoken.endpoint) as rail, bell(rail) as heard:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        address = await sim.new_address()
        watches = chain.watch(address)
        await _followed(sim, spoken, heard)
        assert await rail.pending(watches) == []
        liar.requests.clear()
        tx_id, stranger = await sim.pay(address, AMOUNT), await sim.pay(await sim.new_address(), AMOUNT)
        await spoken.say(b"sequence", bytes.fromhex(stranger) + b"A" + LATE)
        await spoken.say(b"sequence", bytes.fromhex(stranger) + b"R" + LATE)
        ringing = asyncio.create_task(heard.rings())
        await asyncio.sleep(0)
        await spoken.say(b"sequence", bytes.fromhex(tx_id) + b"A" + LATE)
        await ringing
        assert [each.tx_id for each in await rail.pending(watches)] == [tx_id]
        assert not any("getrawmempool" in request for request in liar.requests)
        for label, count in ((b"R", None), (b"A", 77)):  # ours goes, as it is said; a gap
            liar.requests.clear()
            ringing = asyncio.create_task(heard.rings())
            await asyncio.sleep(0)
            await spoken.say(b"sequence", bytes.fromhex(tx_id) + label + LATE, count)
            await ringing
            assert [each.tx_id for each in await rail.pending(watches)] == [tx_id]
            assert any("getrawmempool" in request for request in liar.requests)


async def test_what_comes_while_somebody_looks_is_not_lost(
    sim: BitcoinSimulator, spoken: Node, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look takes in what was announced, while the next body is still on its way."""
    monkeypatch.setattr(mempool, "TRUSTED_SECONDS", 600.0)
    async with entered(sim, liar.url, spoken.endpoint) as rail, bell(rail) as heard:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        address = await sim.new_address()
        watches = chain.watch(address)
        await _followed(sim, spoken, heard)
        assert await rail.pending(watches) == []
        for _ in range(5):
            tx_id = await sim.pay(address, AMOUNT)
            liar.requests.clear()
            ringing = asyncio.create_task(heard.rings())
            await asyncio.sleep(0)
            await spoken.say(b"sequence", bytes.fromhex(tx_id) + b"A" + LATE)
            while not ringing.done():
                await rail.pending(watches)
                await asyncio.sleep(0)  # a look at what is known already gives nobody a turn
            assert tx_id in {each.tx_id for each in await rail.pending(watches)}
            assert not any("getrawmempool" in request for request in liar.requests)


async def test_pushes_from_before_the_list_change_nothing(sim: BitcoinSimulator, spoken: Node) -> None:
    """They were on their way while the list was taken, which knows better."""
    async with entered(sim, sim.fleet.nodes[0].url, spoken.endpoint) as rail, bell(rail) as heard:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        address = await sim.new_address()
        watches = chain.watch(address)
        tx_id = await sim.pay(address, AMOUNT)
        await _followed(sim, spoken, heard)
        assert [each.tx_id for each in await rail.pending(watches)] == [tx_id]
        await spoken.say(b"sequence", bytes.fromhex(tx_id) + b"R" + (1).to_bytes(8, "little"))
        other = await sim.pay(address, AMOUNT)
        ringing = asyncio.create_task(heard.rings())
        await asyncio.sleep(0)
        await spoken.say(b"sequence", bytes.fromhex(other) + b"A" + LATE)
        await ringing
        assert {each.tx_id for each in await rail.pending(watches)} == {tx_id, other}


async def test_before_the_first_change_was_counted_no_push_is_trusted(sim: BitcoinSimulator, spoken: Node) -> None:
    """What is lost before a subscription stands leaves no gap."""
    async with entered(sim, sim.fleet.nodes[0].url, spoken.endpoint) as rail, bell(rail) as heard:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        address = await sim.new_address()
        watches = chain.watch(address)
        await spoken.subscribed()
        await _first_look(heard)
        await spoken.say(b"hashblock", bytes(32))
        await heard.rung.wait()
        assert await rail.pending(watches) == []
        tx_id = await sim.pay(address, AMOUNT)
        assert [each.tx_id for each in await rail.pending(watches)] == [tx_id]


async def test_trust_in_pushes_is_for_a_while_only(
    sim: BitcoinSimulator, spoken: Node, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A publisher that has fallen silent tells of no gap."""
    monkeypatch.setattr(mempool, "TRUSTED_SECONDS", 0.2)
    async with entered(sim, liar.url, spoken.endpoint) as rail, bell(rail) as heard:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        address = await sim.new_address()
        watches = chain.watch(address)
        await _followed(sim, spoken, heard)
        assert await rail.pending(watches) == []
        await sim.pay(address, AMOUNT)
        async with asyncio.timeout(PATIENCE):
            while not await rail.pending(watches):  # noqa: ASYNC110 (nothing is pushed: that is the story)
                await asyncio.sleep(0.02)

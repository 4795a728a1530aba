"""The mempool's mirror: a snapshot of the node's own list, whatever was pushed, lost, replaced or brought back."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from railwatch.conformance import WatchSet
from railwatch.conformance.watches import spends_of
from railwatch.rail import NO_RECIPIENT, PendingUnknown, RailAdapter, RailUnavailable, Transfer
from railwatch_bitcoin import create_adapter, mempool
from railwatch_bitcoin.decode import DecodeContext, pending_transfers
from railwatch_bitcoin.dev.node_process import NodeError
from railwatch_bitcoin.dev.simulator import BitcoinSimulator
from railwatch_bitcoin.wire import parse_tx
from tests.bitcoin.conftest import Chain
from tests.bitcoin.faulty_proxy import Liar, answer, change, refuse

pytestmark = pytest.mark.bitcoind

AMOUNT = 1_000_007


def facts(transfers: Sequence[Transfer]) -> list[tuple[Any, ...]]:
    """All that the daemon goes by."""
    return [(each.tx_id, each.tx_index, each.to, each.amount, each.spends, each.rivals) for each in transfers]


async def truth(sim: BitcoinSimulator, watches: WatchSet) -> list[Transfer]:
    """Return the same, from the node's list and bodies of this moment alone."""
    ids = sorted(await sim.rpc("getrawmempool"))
    raws = await sim.fleet.batch([("getrawtransaction", (tx_id,)) for tx_id in ids])
    txs = {tx_id: parse_tx(bytes.fromhex(raw), sim.chain, tx_id) for tx_id, raw in zip(ids, raws, strict=True)}
    return pending_transfers(list(txs.values()), txs.get, DecodeContext(sim.chain, "truth", watches))


@dataclass
class Acts:
    """Random things that happen to a mempool."""

    sim: BitcoinSimulator
    dice: random.Random
    ours: list[str]
    sent: list[str] = field(default_factory=list)

    async def one(self) -> str:
        """Do something; says what."""
        acts = [self.pay, self.pay, self.pay_through, self.replace, self.replace, self.mine, self.reorg, self.drop]
        act = self.dice.choice(acts)
        try:
            await act()
        except NodeError as refused:
            return f"{act.__name__}: {refused}"
        return act.__name__

    async def pay(self) -> None:
        """Us, a stranger, or several at once."""
        addresses = [self.dice.choice(self.ours), await self.sim.new_address()][: self.dice.randint(1, 2)]
        self.sent.append(await self.sim.pay_many([(address, AMOUNT) for address in addresses]))

    async def pay_through(self) -> None:
        """Us, at the end of a chain."""
        self.sent += await self.sim.pay_through(self.dice.choice(self.ours), AMOUNT, self.dice.randint(2, 4))

    async def replace(self) -> None:
        """Anything that still waits, also the first of a chain."""
        if self.sent:
            self.sent.append(await self.sim.replace(self.dice.choice(self.sent[-6:])))

    async def mine(self) -> None:
        """All, or half of what waits."""
        if self.dice.random() < 0.5:
            await self.sim.mine()
        else:
            raws = [("getrawtransaction", (tx_id,)) for tx_id in await self.sim.fleet.waiting()]
            half = (await self.sim.fleet.batch(raws))[: len(raws) // 2]
            reward = await self.sim.new_address()
            await self.sim.rpc("generateblock", reward, half)

    async def reorg(self) -> None:
        """With or without what the blocks held."""
        await self.sim.reorg(1, keep=self.dice.random() < 0.5)

    async def drop(self) -> None:
        """Forget something; sometimes it comes back."""
        if self.sent:
            tx_id = self.dice.choice(self.sent[-6:])
            await self.sim.drop(tx_id)
            if self.dice.random() < 0.5:
                await self.sim.bring_back(tx_id)


@pytest.mark.parametrize("seed", range(3))
async def test_with_and_without_push_the_snapshot_is_the_nodes(sim: BitcoinSimulator, seed: int) -> None:
    """Random acts; after each, two adapters with other pasts say what a fresh reading of the node says."""
    dice = random.Random(seed)
    bare = {key: value for key, value in sim.node.items() if key not in ("zmq", "rest")}
    await sim.mine(2)
    async with sim.open_adapter() as pushed, create_adapter(sim.settings, bare) as unpushed:
        listening = asyncio.create_task(_listen(pushed))
        acts = Acts(sim, dice, [await sim.new_address() for _ in range(3)])
        keys = frozenset(pushed.parse_address(address).key for address in acts.ours)
        watches, said = WatchSet(keys, {"": sim.native}), []
        for _ in range(30):
            said.append(await acts.one())
            expected = facts(await truth(sim, watches))
            await _comes_to_say(pushed, watches, expected, said)
            if dice.random() < 0.5:  # the other one misses what comes and goes between two polls
                found = await unpushed.pending(watches)
                assert facts(found) == expected, said
                # As the daemon does: what was reported is claimed from now on, by a watch list that is another object.
                watches = replace(watches, spends=_merged(watches.spends, spends_of(found)))
        assert len(set(said) & {"pay", "replace", "mine", "reorg", "drop", "pay_through"}) >= 5
        listening.cancel()


async def _listen(rail: RailAdapter) -> None:
    """As the daemon listens: it is this that brings bodies before any poll."""
    with suppress(RailUnavailable):
        while True:
            await rail.wait_for_change()


async def _comes_to_say(rail: RailAdapter, watches: WatchSet, expected: list[tuple[Any, ...]], said: list[str]) -> None:
    """Wait for a push that may still be on its way when the node has long known the transaction."""
    try:
        async with asyncio.timeout(10):
            while facts(await rail.pending(watches)) != expected:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"after {said} it says {facts(await rail.pending(watches))}, and not {expected}")


def _merged(one: Any, other: Any) -> dict[str, set[str]]:
    return {coin: {*one.get(coin, ()), *other.get(coin, ())} for coin in {**one, **other}}


async def test_first_sight_can_come_before_the_address_is_watched(chain: Chain) -> None:
    """B17: the same watch list object, which has come to know one more address, finds what waits for it already."""
    address, later = await chain.sim.new_address(), await chain.sim.new_address()
    await chain.sim.pay(later, AMOUNT)
    await chain.sim.pay(address, AMOUNT)
    growing = _Growing(set(chain.watch(address).keys), {"": chain.sim.native})
    assert len(await chain.rail.pending(growing)) == 1
    growing.keys |= chain.watch(later).keys
    growing.version += 1
    assert len(await chain.rail.pending(growing)) == 2


@dataclass(eq=False)
class _Growing:
    """A watch list as the daemon's: one object, which says when it changed."""

    keys: set[bytes]
    assets: dict[str, Any]
    spends: dict[str, set[str]] = field(default_factory=dict)
    version: int = 0

    def __len__(self) -> int:
        return len(self.keys)

    def hits(self, keys: Any) -> set[bytes]:
        return self.keys.intersection(keys)

    def keys_up_to(self, limit: int) -> None:
        return None


async def test_only_what_is_new_is_asked_for(lied_to: Chain, liar: Liar) -> None:
    address = await lied_to.sim.new_address()
    for _ in range(3):
        await lied_to.sim.pay(address, AMOUNT)
    assert len(await lied_to.waiting(address)) == 3
    liar.requests.clear()
    await lied_to.sim.pay(address, AMOUNT)
    assert len(await lied_to.waiting(address)) == 4
    assert len(await lied_to.waiting(address)) == 4
    listed = ["getmempoolinfo", "getrawmempool"]
    assert liar.requests == [listed, ["getrawtransaction"], listed]


async def test_a_mempool_of_many_is_read_in_pieces(lied_to: Chain, liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mempool, "BODIES", 3)
    monkeypatch.setattr(mempool, "TURN", 2)
    addresses = [await lied_to.sim.new_address() for _ in range(10)]
    for address in addresses:
        await lied_to.sim.pay(address, AMOUNT)
    assert {each.to for each in await lied_to.waiting(*addresses)} == lied_to.watch(*addresses).keys
    assert max(len(request) for request in liar.requests if request[0] == "getrawtransaction") == 3


async def test_a_first_reading_that_is_cut_off_goes_on_where_it_was(
    lied_to: Chain, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bodies that were read are kept: by time that runs out, and by cancellation."""
    monkeypatch.setattr(mempool, "BODIES", 1)
    address = await lied_to.sim.new_address()
    for _ in range(6):
        await lied_to.sim.pay(address, AMOUNT)
    served = 0

    def only_some(params: list[Any], reply: dict[str, Any]) -> dict[str, Any]:
        nonlocal served
        served += 1
        return reply if served % 3 else answer(7)(params, reply)

    liar.lies["getrawtransaction"] = only_some
    for _ in range(2):
        with pytest.raises(RailUnavailable):
            await lied_to.waiting(address)
    looking = asyncio.create_task(lied_to.rail.pending(lied_to.watch(address)))
    await asyncio.sleep(0)
    looking.cancel()
    await asyncio.wait([looking])
    assert len(await lied_to.waiting(address)) == 6
    assert served == 8


async def test_what_leaves_while_it_is_read_is_gone(lied_to: Chain, liar: Liar) -> None:
    """-5 for a transaction that the list had a moment ago: it was replaced, and the list is asked for again."""
    address = await lied_to.sim.new_address()
    stays, leaves = await lied_to.sim.pay(address, AMOUNT), await lied_to.sim.pay(address, AMOUNT)
    liar.requests.clear()
    gone = refuse(-5, "No such mempool or blockchain transaction")
    liar.lies["getrawtransaction"] = lambda params, reply: gone(params, reply) if params[0] == leaves else reply
    assert [each.tx_id for each in await lied_to.waiting(address)] == [stays]
    assert sum("getrawmempool" in request for request in liar.requests) == mempool.REFRESH_ATTEMPTS
    liar.heal()
    assert len(await lied_to.waiting(address)) == 2


async def test_a_mempool_without_end_is_not_kept(lied_to: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node can make up transactions, each of them as long as it likes. What has left makes room again."""
    address = await lied_to.sim.new_address()
    await lied_to.sim.pay(address, AMOUNT)
    for name in ("RECORDS_MOST", "BODIES_MOST"):
        with monkeypatch.context() as small:
            small.setattr(mempool, name, 100)
            for _ in range(2):
                with pytest.raises(PendingUnknown, match="larger mempool than Railwatch keeps"):
                    await lied_to.waiting(address)
        assert len(await lied_to.waiting(address)) == 1
    monkeypatch.setattr(mempool, "RECORDS_MOST", 1_000)
    await lied_to.sim.mine()
    for _ in range(20):
        await lied_to.sim.pay(address, 2 * AMOUNT)
        assert len(await lied_to.waiting(address)) == 1
        await lied_to.sim.mine()


async def test_a_mempool_that_is_still_loaded_is_not_empty(lied_to: Chain, liar: Liar) -> None:
    """B2, B16: a node that has just started has not yet read back what waited before."""
    liar.lies["getmempoolinfo"] = change(lambda info: {**info, "loaded": False})
    with pytest.raises(RailUnavailable, match="still loads its mempool"):
        await lied_to.waiting(await lied_to.sim.new_address())


@pytest.mark.parametrize("kill", [False, True], ids=["saved", "lost"])
async def test_a_restart_keeps_what_the_node_has_kept(sim: BitcoinSimulator, kill: bool) -> None:
    """B2: with its mempool saved it is the same snapshot; with nothing saved it is empty, and may fill again."""
    address = await sim.new_address()
    async with sim.open_adapter() as rail:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        tx_id = await sim.pay(address, AMOUNT)
        before = facts(await chain.waiting(address))
        await sim.fleet.stop(kill=kill)
        with pytest.raises(RailUnavailable):
            await chain.waiting(address)
        await sim.fleet.start()
        await _loaded(sim)
        assert facts(await chain.waiting(address)) == ([] if kill else before)
        if kill:
            await sim.bring_back(tx_id)
            assert facts(await chain.waiting(address)) == before


async def _loaded(sim: BitcoinSimulator) -> None:
    async with asyncio.timeout(30):
        while not (await sim.rpc("getmempoolinfo"))["loaded"]:  # noqa: ASYNC110 (the node has no event for it)
            await asyncio.sleep(0.01)


async def test_who_replaces_an_ancestor_displaces_all_who_build_on_it(chain: Chain) -> None:
    """B1: the rival pays a stranger and touches no coin of the payment itself."""
    address = await chain.sim.new_address()
    *_, payment = ids = await chain.sim.pay_through(address, AMOUNT, 3)
    chain.spends.update(spends_of(await chain.waiting(address)))
    rival = await chain.sim.replace(ids[0])
    (found,) = await chain.waiting(address)
    assert (found.tx_id, found.to, found.amount, found.rivals) == (rival, NO_RECIPIENT, 0, (payment,))
    await chain.sim.mine()
    (mined,) = await chain.found(address)
    assert (mined.tx_id, mined.rivals) == (rival, (payment,))


async def test_eviction_is_absence_and_coming_back_is_the_same(chain: Chain) -> None:
    """B2: dropped, not replaced: no rival is named."""
    address = await chain.sim.new_address()
    tx_id = await chain.sim.pay(address, AMOUNT)
    before = facts(await chain.waiting(address))
    chain.spends.update(spends_of(await chain.waiting(address)))
    await chain.sim.drop(tx_id)
    assert await chain.waiting(address) == []
    await chain.sim.bring_back(tx_id)
    assert facts(await chain.waiting(address)) == before


async def test_a_transaction_that_cannot_be_read_hides_no_other(lied_to: Chain, liar: Liar) -> None:
    """B14: it pays no address before it is in a block, and there it halts the rail; not every poll requests it."""
    address = await lied_to.sim.new_address()
    odd, good = await lied_to.sim.pay(address, AMOUNT), await lied_to.sim.pay(address, AMOUNT)
    liar.lies["getrawtransaction"] = lambda params, reply: (
        {**reply, "result": reply["result"][:-2]} if params[0] == odd else reply
    )
    liar.requests.clear()
    for _ in range(2):
        assert [each.tx_id for each in await lied_to.waiting(address)] == [good]
    assert sum("getrawtransaction" in request for request in liar.requests) == 1


@pytest.mark.litecoind
async def test_litecoin_has_the_same_list(litecoin: BitcoinSimulator) -> None:
    """0.21 knows the list with its sequence; nothing is pushed."""
    async with litecoin.open_adapter() as rail:
        chain = Chain(litecoin, rail, (await rail.heads()).latest)
        address = await litecoin.new_address()
        await litecoin.pay(address, AMOUNT)
        first = await litecoin.pay(address, AMOUNT)
        chain.spends.update(spends_of(await chain.waiting(address)))
        rival = await litecoin.replace(first)
        watches = chain.watch(address)
        assert facts(await rail.pending(watches)) == facts(await truth(litecoin, watches))
        assert {each.tx_id: each.rivals for each in await rail.pending(watches)}[rival] == (first,)


async def test_another_watch_list_is_matched_anew(chain: Chain) -> None:
    """Two of the same version may watch different things."""
    one, other = await chain.sim.new_address(), await chain.sim.new_address()
    await chain.sim.pay(one, AMOUNT)
    await chain.sim.pay(other, AMOUNT)
    for address in (one, other, one):
        (found,) = await chain.waiting(address)
        assert {found.to} == chain.watch(address).keys


async def test_what_was_pushed_and_mined_before_a_poll_waits_no_more(sim: BitcoinSimulator) -> None:
    """For what is mined nothing is pushed but the block."""
    async with sim.open_adapter() as rail:
        listening = asyncio.create_task(_listen(rail))
        address = await sim.new_address()
        chain = Chain(sim, rail, (await rail.heads()).latest)
        watches = chain.watch(address)
        for _ in range(8):
            await rail.pending(watches)
            for _ in range(2):
                await sim.pay(address, AMOUNT)
            await sim.mine()
            await _comes_to_say(rail, watches, [], ["mined"])
            for _ in range(20):
                assert facts(await rail.pending(watches)) == []
                await asyncio.sleep(0.002)
        listening.cancel()


async def test_a_list_that_never_came_is_not_trusted(lied_to: Chain, liar: Liar) -> None:
    """A poll that failed leaves a mirror that is not the node's."""
    address = await lied_to.sim.new_address()
    mirror: Any = lied_to.rail
    mirror._open._mempool.followed = True  # as if pushes came without a gap
    liar.lies["getrawmempool"] = answer(7)
    with pytest.raises(RailUnavailable):
        await lied_to.waiting(address)
    liar.heal()
    tx_id = await lied_to.sim.pay(address, AMOUNT)
    assert [each.tx_id for each in await lied_to.waiting(address)] == [tx_id]


async def test_what_goes_while_it_is_matched_is_gone(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new watch list is matched in parts, and pushes are applied between two of them."""
    monkeypatch.setattr(mempool, "TURN", 1)
    address = await chain.sim.new_address()
    for _ in range(4):
        await chain.sim.pay(address, AMOUNT)
    assert await chain.waiting(await chain.sim.new_address()) == []
    mirror: Any = chain.rail
    held: mempool.Mempool = mirror._open._mempool
    looking = asyncio.create_task(chain.rail.pending(chain.watch(address)))
    await asyncio.sleep(0)
    await chain.sim.mine()
    held.invalidate()
    assert await looking == [] or len(await looking) == 4
    assert await chain.waiting(address) == []

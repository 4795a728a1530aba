"""A far or large mempool: it converges whatever passes in between, blocks never wait for it, and it stays small.

HAZARDS B20 and the reports of explorers that never finished: 300,000 transactions at 200 ms a request.
"""

import asyncio
import random
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from railwatch.conformance import WatchSet
from railwatch.rail import AssetId, PendingUnknown, RailSettings, RailUnavailable
from railwatch_bitcoin import create_adapter, mempool
from railwatch_bitcoin.chains import BITCOIN_REGTEST
from railwatch_bitcoin.records import PARK, Records, marks_of, scripts_of
from railwatch_bitcoin.wire import Output, Tx, TxKind, parse_tx
from tests.bitcoin.build import In, MadeTx, Out, coin, p2pkh, p2wpkh
from tests.nodes.bitcoin_node import BitcoinNode, Refusal, Speech, chain_node

CHAIN = BITCOIN_REGTEST
NATIVE = AssetId(f"{CHAIN.id}/{CHAIN.native_asset}")
OURS = p2wpkh(200)
WATCHES = WatchSet(frozenset({OURS}), {"": NATIVE})


def settings(**options: Any) -> RailSettings:
    """Return the rail's mempool."""
    return RailSettings("rail", CHAIN.id, options=options)


def waiting(count: int, ours: Iterable[int] = (3,)) -> dict[str, bytes]:
    """So many transactions, some of which pay us."""
    raws = [
        MadeTx([In(coin(n))], [Out(1_000 + n, OURS if n in ours else p2pkh(n % 100)), Out(7, p2wpkh(n % 99))]).raw
        for n in range(count)
    ]
    return {parse_tx(raw, CHAIN).id: raw for raw in raws}


def node_with(txs: dict[str, bytes], *, numbered: bool = True, **other: Any) -> BitcoinNode:
    """Return a node whose mempool is ``txs``; ``numbered``: it knows `getrawmempool`'s second parameter."""
    node = chain_node(CHAIN, 5, **other)

    def getrawmempool(verbose: bool = False, *more: bool) -> Any:
        if more and not numbered:
            raise Refusal(-1, "getrawmempool ( verbose )\n\nReturns all transaction ids in memory pool.")
        return {"txids": list(txs), "mempool_sequence": 1} if more and more[0] else list(txs)

    def getrawtransaction(tx_id: str) -> str:
        if tx_id not in txs:
            raise Refusal(-5, "No such mempool or blockchain transaction.")
        return txs[tx_id].hex()

    node.methods |= {
        "getrawmempool": getrawmempool,
        "getrawtransaction": getrawtransaction,
        "getmempoolinfo": lambda: {"loaded": True, "size": len(txs)},
        "getblock": lambda *_: "00",
    }
    return node


def bodies(node: BitcoinNode) -> int:
    """How many were read since the connection was made: the last of that makes is asked for `getmempoolinfo`."""
    return node.asked.count("getrawtransaction")


@pytest.fixture(autouse=True)
def _parked() -> Any:
    yield
    for place in PARK.places():
        PARK.take(place)


@pytest.mark.parametrize("numbered", [True, False], ids=["core", "dogecoin"])
async def test_one_parameter_is_enough_to_list_what_waits(numbered: bool) -> None:
    txs = waiting(40)
    async with node_with(txs, numbered=numbered) as node, create_adapter(settings(), {"rpc": node.url}) as rail:
        assert rail.traits.has_pending
        for _ in range(2):
            (transfer,) = await rail.pending(WATCHES)
            assert transfer.amount == 1_003
        assert bodies(node) == 40 + 1
        txs.clear()
        assert await rail.pending(WATCHES) == []


@pytest.mark.parametrize("refused", [Refusal(-32601, "Method not found"), Refusal(403, "not on your plan"), None])
@pytest.mark.parametrize("method", ["getrawmempool", "getrawtransaction"])
async def test_a_node_that_hides_its_mempool_still_serves_its_blocks(method: str, refused: Refusal | None) -> None:
    """In whatever words, or by a whitelist's status (None): the rail is one without pending payments."""

    def refuse(*_: Any) -> Any:
        assert refused is not None
        raise refused

    speech = Speech(forbidden=frozenset() if refused else frozenset({method}))
    async with node_with(waiting(5), speech=speech) as node:
        if refused is not None:
            node.methods[method] = refuse
        async with create_adapter(settings(), {"rpc": node.url}) as rail:
            if rail.traits.has_pending:
                with pytest.raises(PendingUnknown, match="does not serve its mempool"):
                    await rail.pending(WATCHES)
            assert not rail.traits.has_pending
            assert await rail.pending(WATCHES) == []
            assert (await rail.heads()).latest.height == 5


async def test_the_mempool_can_be_left_alone() -> None:
    async with node_with(waiting(5)) as node, create_adapter(settings(mempool=False), {"rpc": node.url}) as rail:
        assert not rail.traits.has_pending
        assert await rail.pending(WATCHES) == []
        assert not {"getrawmempool", "getrawtransaction", "getmempoolinfo"} & set(node.asked)
    with pytest.raises(ValueError, match="option mempool must be true or false"):
        create_adapter(settings(mempool="no"), {"rpc": "http://127.0.0.1:1"})


@pytest.mark.parametrize("fault", ["queue", "time", "connection"])
async def test_what_was_read_outlives_a_fault(fault: str) -> None:
    """f16: a full work queue, one answer that never came, a dropped connection; no body is read again."""
    async with node_with(waiting(40)) as node:
        table = {"rpc": node.url, "timeout": 1.5}
        async with create_adapter(settings(), table) as rail:
            assert len(await rail.pending(WATCHES)) == 1
            read = bodies(node)
            honest = node.methods["getrawmempool"]
            if fault == "queue":
                node.methods["getrawmempool"] = _busy
            elif fault == "time":
                node.delay = 60.0
            if fault != "connection":
                with pytest.raises(PendingUnknown, match=r"Work queue depth exceeded|no answer within"):
                    await rail.pending(WATCHES)
            node.methods["getrawmempool"], node.delay = honest, 0.0
        async with create_adapter(settings(), table) as again:
            # Only what concerns the new watch list is read once more, and the question whether bodies are served.
            assert len(await again.pending(WATCHES)) == 1
        assert bodies(node) - read <= 2


def _busy(*_: Any) -> Any:
    raise Refusal(-32603, "Work queue depth exceeded")


async def test_a_far_mempool_converges_though_every_third_request_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """f08: each poll is cut off, each connection lost, and in the end all of it is read, each body about once."""
    monkeypatch.setattr(mempool, "BODIES", 20)
    monkeypatch.setattr(mempool, "PATIENCE_SECONDS", 0.3)
    txs = waiting(600, ours=(3, 599))
    async with node_with(txs) as node:
        honest, asked = node.methods["getrawtransaction"], 0

        def unsteady(tx_id: str) -> str:
            nonlocal asked
            asked += 1
            if asked % 35 == 0:
                raise Refusal(-32603, "Work queue depth exceeded")
            return str(honest(tx_id))

        unknown = 0
        for _ in range(100):
            async with create_adapter(settings(), {"rpc": node.url, "timeout": 2}) as rail:
                node.methods["getrawtransaction"], node.delay = unsteady, 0.02
                try:
                    transfers = await rail.pending(WATCHES)
                except PendingUnknown:
                    unknown += 1
                    node.methods["getrawtransaction"], node.delay = honest, 0.0
                    continue
                break
        assert {each.amount for each in transfers} == {1_003, 1_599}
        assert unknown > 5
        assert asked < 1_500


async def test_blocks_never_wait_for_the_mempool(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is read, a poll soon says so, and heads are as quick as ever; then it is there by itself."""
    monkeypatch.setattr(mempool, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(mempool, "BODIES", 10)
    async with node_with(waiting(400)) as node, create_adapter(settings(), {"rpc": node.url, "timeout": 30}) as rail:
        node.held = "getrawtransaction"
        with pytest.raises(PendingUnknown, match=r"still being read, 0 of \d+"):
            await rail.pending(WATCHES)
        for _ in range(3):
            # No body comes, and a head does all the same.
            assert (await rail.heads()).latest.height == 5
        node.go.set()
        async with asyncio.timeout(60):
            while True:
                try:
                    (transfer,) = await rail.pending(WATCHES)
                    break
                except PendingUnknown:
                    await asyncio.sleep(0.05)
        assert transfer.amount == 1_003


async def test_a_payment_that_came_before_its_address_is_found_by_its_record() -> None:
    """B17: the body is not kept, and is read once more when a watch list comes to want it."""
    async with node_with(waiting(40, ours=(7,))) as node, create_adapter(settings(), {"rpc": node.url}) as rail:
        assert await rail.pending(WatchSet(frozenset({p2wpkh(201)}), {"": NATIVE})) == []
        read = bodies(node)
        (transfer,) = await rail.pending(WATCHES)
        assert transfer.amount == 1_007
        assert bodies(node) == read + 1
        (rival,) = await rail.pending(WatchSet(frozenset(), {"": NATIVE}, {transfer.spends[0]: {"11" * 32}}))
        assert (rival.tx_id, rival.rivals) == (transfer.tx_id, ("11" * 32,))


async def test_an_unreachable_node_says_so_and_forgets_nothing() -> None:
    async with node_with(waiting(40)) as node:
        async with create_adapter(settings(), {"rpc": node.url}) as rail:
            await rail.pending(WATCHES)
        table = {"rpc": node.url}
    with pytest.raises(RailUnavailable):
        await create_adapter(settings(), table).__aenter__()
    assert len(PARK.take((node.url, str(CHAIN.id)))) == 40


def test_a_waiting_transaction_needs_at_most_two_hundred_bytes() -> None:
    """Of the shape that the main chain's have: two coins in and three scripts out, of which one in ten is data."""
    dice = random.Random(1)
    count, records = 20_000, Records()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(count):
            records.add(_some_tx(dice))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(records) == count
    each = (after - before) / count
    assert each <= 200, f"a waiting transaction needs {each:.0f} bytes"


def _some_tx(dice: random.Random) -> Tx:
    inputs = tuple(f"{dice.randbytes(32).hex()}:{dice.randrange(4)}" for _ in range(dice.choice((1, 1, 2, 2, 4))))
    made = [b"\x00\x14", b"\x76\xa9\x14", b"\x51\x20"]
    outputs = tuple(_some_output(dice, dice.choice(made)) for _ in range(dice.choice((1, 2, 2, 2, 5))))
    return Tx(dice.randbytes(32).hex(), inputs, outputs, TxKind.PLAIN, 250, True)


def _some_output(dice: random.Random, start: bytes) -> Output:
    size, end = (32, b"") if start == b"\x51\x20" else (20, b"\x88\xac" if len(start) == 3 else b"")
    data = dice.random() < 0.1
    return Output(5, b"\x6a" + dice.randbytes(40) if data else start + dice.randbytes(size) + end)


def test_a_record_holds_every_script_of_an_address_and_a_mark_of_every_coin() -> None:
    records = Records()
    tx = parse_tx(MadeTx([In(coin(n)) for n in range(3)], [Out(1, OURS), Out(0, b"\x6a\x01"), Out(2, b"")]).raw, CHAIN)
    records.add(tx)
    ((_, packed),) = next(records.parts(10))
    assert list(scripts_of(packed)) == [OURS]
    assert len(list(marks_of(packed))) == 3
    records.add(replace(tx, id="11" * 32))
    parts = records.parts(1)
    assert len(next(parts)) == 1
    records.discard("11" * 32)
    assert list(parts) == [[]]

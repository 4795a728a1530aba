"""Nodes that answer wrongly, late, partly or not at all: HAZARDS E14 and E19 to E24. Never a partial answer."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from railwatch.rail import BlockGone, RailUnavailable
from railwatch_evm import create_adapter
from railwatch_evm.dev.simulator import EvmSimulator
from tests.evm.conftest import Chain
from tests.faulty_proxy import Liar, Lie, answer, change, refuse_all

pytestmark = pytest.mark.anvil


@pytest.fixture
async def paid(lied_to: Chain) -> str:
    """Return an address that got ether and tokens in one block, with two empty blocks above it."""
    address = await lied_to.sim.new_address()
    await lied_to.sim.pay(address, 5)
    await lied_to.sim.pay(address, 7, lied_to.sim.assets[1])
    await lied_to.sim.pay_token_many([await lied_to.sim.new_address(), address], [8, 9])
    await lied_to.sim.mine()
    return address


def without_last(items: list[Any]) -> list[Any]:
    """Return a truncated answer."""
    return items[:-1]


def without_first(items: list[Any]) -> list[Any]:
    """Return an answer that lacks its beginning."""
    return items[1:]


def of_another_block(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the same, as another branch would have it."""
    return [{**item, "blockHash": "0x" + "11" * 32} for item in items]


def twice(items: list[Any]) -> list[Any]:
    """Return an answer that a gateway merged from two nodes."""
    return items * 2


def called_removed(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the same, as a subscription reports it after a reorg."""
    return [{**item, "removed": True} for item in items]


PARTIAL = {
    "no logs": ("eth_getLogs", answer([])),
    "logs cut at the end": ("eth_getLogs", change(without_last)),
    "logs cut at the start": ("eth_getLogs", change(without_first)),
    "logs of another block": ("eth_getLogs", change(of_another_block)),
    "logs are null": ("eth_getLogs", answer(None)),
    "logs are there twice": ("eth_getLogs", change(twice)),
    "logs are called removed": ("eth_getLogs", change(called_removed)),
    "no traces": ("trace_block", answer([])),
    "traces are null": ("trace_block", answer(None)),
    "traces cut": ("trace_block", change(without_last)),
    "traces of another block": ("trace_block", change(of_another_block)),
    "block is null": ("eth_getBlockByNumber", answer(None)),
}


@pytest.mark.parametrize("more", [0, 2], ids=["block", "range"])
@pytest.mark.parametrize("lie", PARTIAL)
async def test_a_partial_answer_is_never_accepted(lied_to: Chain, liar: Liar, paid: str, lie: str, more: int) -> None:
    """E19, E20: known but not indexed, cut short, or of another branch: an error, and right again when it heals."""
    # The last log names an address that no other log does, as a bloom can show only what is not repeated.
    await lied_to.sim.pay(await lied_to.sim.new_address(), 1, lied_to.sim.assets[1])
    await lied_to.sim.mine()
    span = await lied_to.span(after=await lied_to.rail.block_at(lied_to.start.height + (0 if more else 1)))
    watches = lied_to.watch(paid)
    method, tampered = PARTIAL[lie]
    liar.lies[method] = tampered
    with pytest.raises((RailUnavailable, BlockGone)):
        await lied_to.rail.scan(span, watches)
    liar.lies.clear()
    found = (await lied_to.rail.scan(span, watches)).transfers
    assert [transfer.amount for transfer in found] == ([5, 7, 9] if more else [])


async def test_a_truncated_range_is_not_accepted(lied_to: Chain, liar: Liar, paid: str) -> None:
    """E21: cut without a word, inside a block whose bloom says the same with or without the missing log."""
    await lied_to.sim.mine()

    def cut(params: list[Any], reply: dict[str, Any]) -> dict[str, Any]:
        return reply if "blockHash" in params[0] else {**reply, "result": reply["result"][:-1]}

    liar.lies["eth_getLogs"] = cut
    for sparse in (False, True):
        assert [transfer.amount for transfer in await lied_to.found(paid, sparse=sparse)] == [5, 7, 9]


async def test_a_range_that_leaves_logs_out_is_asked_again_by_hash(lied_to: Chain, liar: Liar, paid: str) -> None:
    """E20: a bloom speaks of logs, the range gives none, the block itself does."""
    await lied_to.sim.mine()

    def only_by_hash(params: list[Any], reply: dict[str, Any]) -> dict[str, Any]:
        return reply if "blockHash" in params[0] else {**reply, "result": []}

    liar.lies["eth_getLogs"] = only_by_hash
    for sparse in (False, True):
        assert [transfer.amount for transfer in await lied_to.found(paid, sparse=sparse)] == [5, 7, 9]


@pytest.mark.parametrize(
    "lie", [answer(None), change(lambda receipt: receipt and {**receipt, "blockHash": "0x" + "11" * 32})]
)
async def test_a_missing_or_wrong_receipt_is_never_accepted(sim: EvmSimulator, liar: Liar, lie: Lie) -> None:
    """E20: null for a moment, or of the branch before the reorg."""
    liar.lies = {"trace_block": refuse_all, "debug_traceBlockByHash": refuse_all, "eth_getTransactionReceipt": lie}
    async with create_adapter(sim.settings, {"http": liar.http}) as rail:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        address = await sim.new_address()
        await sim.pay(address, 5)
        await sim.mine()
        with pytest.raises(RailUnavailable, match="receipt"):
            await chain.found(address)


def refuse_above(width: int) -> Lie:
    """Return a provider with a limit on ranges."""

    def lie(params: list[Any], reply: dict[str, Any]) -> dict[str, Any]:
        asked = params[0]
        if "blockHash" in asked or int(asked["toBlock"], 16) - int(asked["fromBlock"], 16) < width:
            return reply
        return refuse_all(params, reply)

    return lie


@pytest.mark.parametrize("width", [0, 1, 5])
async def test_a_refused_range_is_halved_until_it_is_answered(
    lied_to: Chain, liar: Liar, paid: str, width: int
) -> None:
    """E21: whatever the words of the refusal; with ``width`` 0 no range at all, and single blocks by hash."""
    await lied_to.sim.mine(20)
    last = await lied_to.sim.pay(paid, 11)
    await lied_to.sim.mine()
    liar.lies["eth_getLogs"] = refuse_above(width)
    for sparse in (False, True):
        found = await lied_to.found(paid, sparse=sparse)
        assert [transfer.amount for transfer in found] == [5, 7, 9, 11]
        assert found[-1].tx_id == last


async def test_a_range_that_only_hangs_is_smaller_next_time(sim: EvmSimulator, liar: Liar) -> None:
    """E21: no answer is a refusal too, but asking again at once would hang again: the caller comes back."""
    async with create_adapter(sim.settings, {"http": liar.http, "timeout": 2}) as rail:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        await sim.mine(30)
        span, watches = await chain.span(), chain.watch(await sim.new_address())
        liar.hang = True
        with pytest.raises(RailUnavailable, match="no answer within 2 s"):
            await rail.scan(span, watches)
        liar.hang = False
        liar.requests.clear()
        await rail.scan(span, watches)
        assert max(request.count("eth_getBlockByNumber") for request in liar.requests) < 30


GARBAGE: dict[str, Callable[[Liar], None]] = {
    "html": lambda liar: setattr(liar, "body", b"<html>gateway</html>"),
    "empty": lambda liar: setattr(liar, "body", b""),
    "half": lambda liar: setattr(liar, "body", b'[{"id":0,"result":'),
    "number": lambda liar: setattr(liar, "body", b"7"),
    "fewer": lambda liar: setattr(liar, "body", b"[]"),
    "500": lambda liar: setattr(liar, "status", 500),
    "429": lambda liar: setattr(liar, "status", 429),
    "413": lambda liar: setattr(liar, "status", 413),
    "hang": lambda liar: setattr(liar, "hang", True),
    "refused": lambda liar: setattr(liar, "body", b'{"error":{"code":-32600,"message":"no batches"}}'),
    "text": lambda liar: liar.lies.update(eth_getBlockByNumber=answer("0x1")),
    "list": lambda liar: liar.lies.update(eth_getBlockByNumber=answer([])),
}


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_is_unavailable(sim: EvmSimulator, liar: Liar, garbage: str) -> None:
    """Whatever is not an answer: never a crash, never a secret in the message, and over when it is over."""
    async with create_adapter(sim.settings, {"http": f"{liar.http}/v2/secret?key=secret", "timeout": 2}) as rail:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        await sim.mine(2)
        span, watches = await chain.span(), chain.watch(await sim.new_address())
        GARBAGE[garbage](liar)
        # All at once, so that a node that hangs is waited for once.
        asked = (rail.heads(), rail.block_at(1), rail.scan(span, watches))
        for error in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(error, RailUnavailable)
            assert "secret" not in str(error)
        liar.body, liar.status, liar.hang, liar.lies = None, 200, False, {}
        assert (await rail.heads()).latest == span.upto


async def test_an_unreachable_node_is_unavailable(sim: EvmSimulator) -> None:
    """No process listens there."""
    async with Liar(sim.node["http"]) as liar:
        pass
    with pytest.raises(RailUnavailable):
        await create_adapter(sim.settings, {"http": liar.http}).__aenter__()


BROKEN = {
    "a height": ("eth_getBlockByNumber", lambda block: {**block, "number": "zz"}),
    "a time": ("eth_getBlockByNumber", lambda block: {**block, "timestamp": "0x" + "f" * 30}),
    "no bloom": ("eth_getBlockByNumber", lambda block: {**block, "logsBloom": None}),
    "a topic": (
        "eth_getLogs",
        lambda logs: [{**log, "topics": [*log["topics"][:2], "0x" + "0" * 24 + "zz" * 20]} for log in logs],
    ),
    "an amount": ("eth_getLogs", lambda logs: [{**log, "data": "0x" + "z" * 64} for log in logs]),
    "a value": (
        "trace_block",
        lambda traces: [{**trace, "action": {**trace["action"], "value": "0xzz"}} for trace in traces],
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_block_that_cannot_be_decoded_is_the_nodes_fault_and_heals(
    lied_to: Chain, liar: Liar, paid: str, broken: str
) -> None:
    """B14: never passed over, named by its hash, and right again with the next answer: nothing proved that one."""
    await lied_to.sim.mine()
    span, watches = await lied_to.span(), lied_to.watch(paid)
    block = await lied_to.sim.rpc("eth_getBlockByNumber", hex(lied_to.start.height + 1), False)
    method, tamper = BROKEN[broken]
    liar.lies[method] = change(tamper)
    with pytest.raises(RailUnavailable, match=block["hash"]):
        await lied_to.rail.scan(span, watches)
    liar.lies.clear()
    assert len((await lied_to.rail.scan(span, watches)).transfers) == 3


async def test_unknown_transactions_are_no_reason_to_stop(sim: EvmSimulator, liar: Liar) -> None:
    """E15: an L2's deposit has a type of its own, no nonce and no signature, and delivers value."""

    def deposit(block: dict[str, Any]) -> dict[str, Any]:
        keep = ("hash", "from", "to", "value")
        odd = [{key: tx[key] for key in keep} | {"type": "0x7e", "mint": "0x5"} for tx in block["transactions"]]
        return {**block, "transactions": odd}

    liar.lies = {"trace_block": refuse_all, "debug_traceBlockByHash": refuse_all}
    async with create_adapter(sim.settings, {"http": liar.http}) as rail:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        address = await sim.new_address()
        await sim.pay(address, 5)
        await sim.mine()
        liar.lies["eth_getBlockByHash"] = change(deposit)
        assert [transfer.amount for transfer in await chain.found(address)] == [5]


async def test_another_chain_is_refused_whenever_it_shows(sim: EvmSimulator, liar: Liar) -> None:
    """E23: at the start, and when the endpoint is switched behind our back."""
    wrong = answer("0x1")
    async with create_adapter(sim.settings, {"http": liar.http}) as rail:
        liar.lies["eth_chainId"] = wrong
        with pytest.raises(RailUnavailable, match=r"is chain eip155:1, expected eip155:31337"):
            await rail.heads()
        with pytest.raises(RailUnavailable, match=r"is chain eip155:1, expected eip155:31337"):
            await create_adapter(sim.settings, {"http": liar.http}).__aenter__()
        liar.lies.clear()
        await rail.heads()


async def test_heads_come_from_one_node_at_one_moment(lied_to: Chain, liar: Liar) -> None:
    """E19, E24: one request for all three; a node that knows no tags has none; a lower head is only reported."""
    liar.requests.clear()
    high = await lied_to.rail.heads()
    assert liar.requests == [["eth_chainId", *["eth_getBlockByNumber"] * 3]]
    assert high.safe is not None
    assert high.finalized is not None

    def no_tags(params: list[Any], reply: dict[str, Any]) -> dict[str, Any]:
        return refuse_all(params, reply) if params[0] in ("safe", "finalized") else reply

    liar.lies["eth_getBlockByNumber"] = no_tags
    heads = await lied_to.rail.heads()
    assert (heads.latest, heads.safe, heads.finalized) == (high.latest, None, None)
    genesis = await lied_to.sim.rpc("eth_getBlockByNumber", "0x0", False)
    liar.lies["eth_getBlockByNumber"] = lambda params, reply: {
        **reply,
        "result": genesis if params[0] == "latest" else reply["result"],
    }
    lower = await lied_to.rail.heads()
    assert lower.latest.height == 0
    await lied_to.sim.mine(70)
    with pytest.raises(RailUnavailable, match="is safe and"):
        await lied_to.rail.heads()


@pytest.mark.parametrize("ether", [True, False])
async def test_an_orphan_that_the_node_still_serves_is_gone(lied_to: Chain, liar: Liar, paid: str, ether: bool) -> None:
    """E19: geth gives side blocks by their hash, with their logs; only the canonical chain counts."""
    span, watches = await lied_to.span(), lied_to.watch(paid)
    if not ether:
        watches = replace(watches, assets={lied_to.sim.token: lied_to.sim.assets[1]})
    orphan = await lied_to.sim.rpc("eth_getBlockByHash", span.upto.hash, False)
    logs = await lied_to.sim.rpc("eth_getLogs", {"blockHash": span.upto.hash})
    await lied_to.sim.reorg(1)
    liar.lies = {"eth_getBlockByHash": answer(orphan), "eth_getLogs": answer(logs)}
    with pytest.raises(BlockGone):
        await lied_to.rail.scan(span, watches)

"""What counts as a payment, and what only resembles one: HAZARDS E1 to E11 and E15, on a real anvil."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from railwatch.rail import Transfer
from railwatch_evm import create_adapter
from railwatch_evm.decode import TRANSFER
from railwatch_evm.dev.simulator import EvmSimulator
from tests.evm.conftest import Chain
from tests.faulty_proxy import Liar, refuse_all

pytestmark = pytest.mark.anvil

BOUNCER = "0x36600557005b60006000fd"
"""Code that fails whenever it is called with data."""


def seen(transfers: list[Transfer]) -> list[tuple[str, str, int]]:
    """Return what identifies a transfer."""
    return [(transfer.tx_id, transfer.tx_index, transfer.amount) for transfer in transfers]


@pytest.fixture(params=["trace_block", "callTracer", "no traces"])
async def by_any_source(request: pytest.FixtureRequest, sim: EvmSimulator, liar: Liar) -> AsyncIterator[Chain]:
    """Yield the same chain through nodes that trace in either way, or not at all."""
    if request.param != "trace_block":
        liar.lies["trace_block"] = refuse_all
    if request.param == "no traces":
        liar.lies["debug_traceBlockByHash"] = refuse_all
    async with create_adapter(sim.settings, {"http": liar.http}) as rail:
        yield Chain(sim, rail, (await rail.heads()).latest)


async def test_ether_and_tokens_arrive_in_chain_order(chain: Chain) -> None:
    """Four ways to be paid in one block, each under its own name; three ways to ask for them, one answer."""
    sim, address = chain.sim, await chain.sim.new_address()
    plain = await sim.pay(address, 5)
    token = await sim.pay(address, 7, sim.assets[1])
    inner = await sim.pay_internal(address, 9)
    batch = await sim.pay_token_many([await sim.new_address(), address, address], [1, 2, 3])
    await sim.mine(3)
    expected = [
        (plain, "tx", 5),
        (token, "log:0", 7),
        (inner, "call:0", 9),
        (batch, "log:1", 2),
        (batch, "log:2", 3),
    ]
    found = await chain.found(address)
    assert seen(found) == expected
    assert {transfer.asset for transfer in found} == set(sim.assets)
    assert await chain.found(address, sparse=True) == found
    first = await chain.rail.block_at(chain.start.height + 1)
    block = await chain.rail.scan(await chain.span(after=chain.start), chain.watch(address))
    assert block.transfers == found
    assert {transfer.block for transfer in found} == {first}


async def test_a_log_keeps_its_name_when_its_block_changes(chain: Chain) -> None:
    """The block-wide logIndex moves on re-inclusion, the place in the receipt does not (HAZARDS, Identity)."""
    sim, address = chain.sim, await chain.sim.new_address()
    await sim.mine()
    await sim.pay_token_many([await sim.new_address()] * 3, [1, 1, 1])
    await sim.pay_token_many([await sim.new_address(), address], [1, 2])
    await sim.mine()
    (before,) = await chain.found(address)
    kept = await sim.rpc("eth_getRawTransactionByHash", before.tx_id)
    first = (await sim.rpc("eth_getBlockByNumber", "latest", True))["transactions"][0]
    rival = {"to": await sim.new_address(), "nonce": first["nonce"], "value": "0x1"}
    await sim.rpc("anvil_reorg", 1, [[rival | {"from": sim.payer, "gas": "0x5208"}, 0], [kept, 0]])
    (after,) = await chain.found(address)
    assert (before.evidence["log_index"], after.evidence["log_index"]) == (4, 1)
    assert (after.tx_id, after.tx_index) == (before.tx_id, before.tx_index) == (before.tx_id, "log:1")
    assert after.block != before.block


async def test_a_failed_transaction_pays_no_address(by_any_source: Chain) -> None:
    """E1: it is in the block with its value, its `to` and its calldata; only status 1 counts."""
    sim, address = by_any_source.sim, await by_any_source.sim.new_address()
    await sim.rpc("anvil_setCode", address, BOUNCER)
    failed = await sim.send({"to": address, "value": "0x5", "data": "0x00"})
    inner = await sim.fail_next(address, 6)
    await sim.mine()
    for tx_id in (failed, inner):
        assert (await sim.rpc("eth_getTransactionReceipt", tx_id))["status"] == "0x0"
    assert await by_any_source.found(address) == []
    paid = await sim.pay(address, 7)
    await sim.mine()
    assert seen(await by_any_source.found(address)) == [(paid, "tx", 7)]


@pytest.mark.parametrize("method", ["trace_block", "debug_traceBlockByHash"])
async def test_only_frames_that_move_value_are_credited(sim: EvmSimulator, liar: Liar, method: str) -> None:
    """E2, E3, E4: in both dialects the same credits, under the same names."""
    if method != "trace_block":
        liar.lies["trace_block"] = refuse_all
    async with create_adapter(sim.settings, {"http": liar.http}) as rail:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        address = await sim.new_address()
        sent = await sim.pay_internal(address, 1)
        for fake in ("sendInReverted", "delegate", "callcode_"):
            await sim.call(sim.multisender, f"{fake}(address)", address, value=2)
        ended = await sim.call(sim.multisender, "destruct(address)", address, value=3)
        hashed = await sim.call(sim.multisender, "sendAfterHash(address)", address, value=4)
        await sim.mine()
        assert rail.traits.native_complete
        # sendAfterHash calls a precompile first: that frame has no number, because some nodes leave it out.
        expected = [(sent, "call:0", 1), (ended, "call:0.0", 3), (hashed, "call:0", 4)]
        assert seen(await chain.found(address)) == expected
        await sim.mine()
        assert seen(await chain.found(address)) == expected
        assert int(await sim.rpc("eth_getBalance", address, "latest"), 16) == 8


async def test_a_node_that_cannot_trace_says_what_it_does_not_see(sim: EvmSimulator, liar: Liar) -> None:
    """E2: the gap is reported and not silent; what the transactions themselves carry is found."""
    liar.lies = {"trace_block": refuse_all, "debug_traceBlockByHash": refuse_all}
    async with create_adapter(sim.settings, {"http": liar.http}) as rail:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        assert not rail.traits.native_complete
        assert "ether sent by contracts" in rail.traits.native_gap
        address = await sim.new_address()
        plain = await sim.pay(address, 5)
        await sim.pay_internal(address, 9)
        await sim.mine()
        assert seen(await chain.found(address)) == [(plain, "tx", 5)]
        await sim.mine()
        assert seen(await chain.found(address)) == [(plain, "tx", 5)]


async def test_an_account_that_is_replaced_is_reported(sim: EvmSimulator, liar: Liar) -> None:
    """With transactions at hand, the sender's nonce names the replacement of a payment that was in a block."""
    liar.lies = {"trace_block": refuse_all, "debug_traceBlockByHash": refuse_all}
    async with create_adapter(sim.settings, {"http": liar.http}) as rail:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        address = await sim.new_address()
        await sim.mine()
        paid = await sim.pay(address, 5)
        await sim.mine()
        (transfer,) = await chain.found(address)
        await sim.reorg(1, keep=False)
        rival = await sim.send({"to": await sim.new_address(), "value": "0x1"})
        await sim.mine()
        chain.spends = {nonce: {paid} for nonce in transfer.spends}
        (found,) = await chain.found(address)
        assert (found.tx_id, found.amount, found.to, found.rivals) == (rival, 0, b"", (paid,))


async def test_logs_that_are_no_token_transfers_pay_no_address(chain: Chain) -> None:
    """E7, E8, E11: a liar's return value, an ERC-721, data of another length, amounts of 0, indexed dirt."""
    sim, address = chain.sim, await chain.sim.new_address()
    to, one = bytes.fromhex(address[2:]).rjust(32, b"\0"), (1).to_bytes(32)
    topic, dirty = bytes.fromhex(TRANSFER[2:]), to.replace(bytes(12), b"\1" * 12, 1)
    liar, collectible = await sim.deploy("FalseToken"), await sim.deploy("Collectible")
    await sim.call(liar, "transfer(address,uint256)", address, 5)
    await sim.call(collectible, "transferFrom(address,address,uint256)", sim.payer, address, 5)
    shout = "shout(bytes32[],bytes)"
    for topics, data in (
        ([topic, to, to], one + one),
        ([topic, to, to], b""),
        ([topic, to, to], bytes(32)),
        ([topic, to], one),
        ([topic, to, dirty], one),
        ([topic, to, to, one], one),
        ([to, to, to], one),
        ([], one),
    ):
        await sim.call(collectible, shout, topics, data)
    await sim.mine()
    assert await chain.found(address) == []
    assert await chain.found(address, sparse=True) == []
    good = await sim.call(collectible, shout, [topic, to, to], one)
    await sim.mine()
    assert seen(await chain.found(address)) == [(good, "log:0", 1)]


async def test_a_token_is_its_contract(chain: Chain) -> None:
    """E6, E18: another contract of the same name is another asset; it is reported under its own id, for a person."""
    sim, address = chain.sim, await chain.sim.new_address()
    twin = await sim.deploy("Token", 1000)
    await sim.call(twin, "transfer(address,uint256)", address, 5)
    await sim.mine()
    for sparse in (False, True):
        (transfer,) = await chain.found(address, sparse=sparse)
        assert transfer.asset == f"{sim.chain_id}/erc20:{twin}"
        assert transfer.asset not in sim.assets


async def test_ether_is_not_searched_for_where_it_is_not_configured(sim: EvmSimulator, liar: Liar) -> None:
    """Ask for less: no bodies, no traces, and no claim to see ether."""
    tokens = replace(sim.settings, assets=sim.settings.assets[1:])
    async with create_adapter(tokens, {"http": liar.http}) as rail:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        address = await sim.new_address()
        await sim.pay(address, 5)
        paid = await sim.pay(address, 7, sim.assets[1])
        await sim.mine()
        liar.requests.clear()
        span, watches = await chain.span(), replace(chain.watch(address), assets={sim.token: sim.assets[1]})
        scanned = await rail.scan(span, watches)
        assert seen(list(scanned.transfers)) == [(paid, "log:0", 7)]
        assert liar.requests == [["eth_getBlockByNumber", "eth_getBlockByHash", "eth_getLogs"]]
        assert not rail.traits.native_complete

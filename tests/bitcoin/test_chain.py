"""Heads, blocks and spans: identity, readiness, lineage, and answers that are not what was asked for."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from railwatch.rail import BlockGone, NotKept, RailFault, RailUnavailable, Span
from railwatch_bitcoin import create_adapter
from railwatch_bitcoin.chains import BITCOIN
from railwatch_bitcoin.dev.simulator import BitcoinSimulator
from tests.bitcoin.conftest import Chain
from tests.bitcoin.faulty_proxy import Liar, answer, change, refuse

pytestmark = pytest.mark.bitcoind

AMOUNT = 1_000_007


@pytest.fixture
async def paid(lied_to: Chain) -> str:
    """Return an address that was paid in one block, with two blocks above it."""
    address = await lied_to.sim.new_address()
    await lied_to.sim.pay(address, AMOUNT)
    await lied_to.sim.mine(3)
    return address


async def test_another_chain_is_refused_whenever_it_shows(sim: BitcoinSimulator, liar: Liar) -> None:
    """E23: on entering, and when the endpoint is switched behind our back."""
    stranger = replace(sim.settings, chain_id=BITCOIN.id)
    with pytest.raises(RailUnavailable, match="is on another chain"):
        await create_adapter(stranger, sim.node).__aenter__()
    table = {**sim.node, "rpc": liar.url}
    async with create_adapter(sim.settings, table) as rail:
        liar.lies["getblockhash"] = answer("11" * 32)
        with pytest.raises(RailUnavailable, match=rf"is on another chain: block 0 is 1+, .*{sim.chain_id}"):
            await rail.heads()
        liar.heal()
        await rail.heads()


NOT_READY: dict[str, tuple[dict[str, Any], str]] = {
    "initial sync": ({"initialblockdownload": True, "headers": 900_000}, "initial block download: [0-9]+ of 900000"),
    "catching up": ({"headers": 900_000}, "catching up: [0-9]+ of 900000"),
}


@pytest.mark.parametrize("state", NOT_READY)
async def test_a_node_that_is_not_up_to_date_has_no_heads(lied_to: Chain, liar: Liar, state: str) -> None:
    """B16: what it has not seen it must not be believed to deny; no expiry follows from it."""
    shown, message = NOT_READY[state]
    liar.lies["getblockchaininfo"] = change(lambda info: {**info, **shown})
    with pytest.raises(RailUnavailable, match=message):
        await lied_to.rail.heads()


async def test_a_block_that_is_on_its_way_is_no_lag(lied_to: Chain, liar: Liar) -> None:
    liar.lies["getblockchaininfo"] = change(lambda info: {**info, "headers": info["blocks"] + 1})
    assert (await lied_to.rail.heads()).latest == lied_to.start


async def test_a_node_in_initial_sync_says_so(sim: BitcoinSimulator) -> None:
    """B16, in earnest: started again in a time in which its newest block is a day and a half old."""
    node, usual = sim.fleet.nodes[0], sim.fleet.nodes[0].settings
    async with sim.open_adapter() as rail:
        await rail.heads()
        await sim.fleet.stop()
        node.settings = (*usual, f"mocktime={int(time.time()) + 130_000}")
        await sim.fleet.start()
        with pytest.raises(RailUnavailable, match="initial block download"):
            await rail.heads()
        await sim.fleet.stop()
        node.settings = usual
        await sim.fleet.start()
        await rail.heads()


async def test_a_head_is_asked_for_in_one_request(lied_to: Chain, liar: Liar) -> None:
    await lied_to.sim.mine()
    await lied_to.rail.heads()
    liar.requests.clear()
    await lied_to.rail.heads()
    assert liar.requests == [["getblockhash", "getblockchaininfo"]]


async def test_a_pruned_block_is_never_skipped(lied_to: Chain, liar: Liar, paid: str) -> None:
    """B16: below the prune height nothing is skipped; what still can be answered is."""
    spans = [await lied_to.span(), Span(lied_to.start, await lied_to.rail.block_at(lied_to.start.height + 1))]
    liar.lies["getblock"] = refuse(-1, "Block not available (pruned data)")
    liar.lies["getblockchaininfo"] = change(lambda info: {**info, "pruned": True, "pruneheight": 77})
    for span in spans:
        with pytest.raises(NotKept, match=r"pruned block [0-9a-f]{64}; it keeps blocks from height 77 on") as refused:
            await _without_rest(lied_to, liar, span, paid)
        assert refused.value.first == 77
    assert (await lied_to.rail.heads()).latest == spans[0].upto


async def test_a_node_that_really_prunes_says_so() -> None:
    """The same by a node's own doing: over REST, which only says 404, and over RPC."""
    async with BitcoinSimulator(lines=("txindex=0", "prune=1", "fastprune=1")) as sim:
        await sim.mine(400)
        await sim.rpc("pruneblockchain", 250)
        async with sim.open_adapter() as rail:
            chain = Chain(sim, rail, await rail.block_at(5))
            watches = chain.watch(await sim.new_address())
            kept = (await sim.rpc("getblockchaininfo"))["pruneheight"]
            assert kept > 100
            for upto in (await rail.block_at(6), await rail.block_at(50)):
                with pytest.raises(NotKept, match=f"keeps blocks from height {kept} on") as refused:
                    await rail.scan(Span(chain.start, upto), watches)
                assert refused.value.first == kept
            head = (await rail.heads()).latest
            scanned = await rail.scan(Span(await rail.block_at(head.height - 20), head), watches)
            assert len(scanned.blocks) == 20


async def _without_rest(chain: Chain, liar: Liar, span: Span, address: str) -> Any:
    """Return the scan of an adapter that uses RPC only."""
    table = {"rpc": liar.url, "cookie_path": chain.sim.node["cookie_path"], "rest": False, "timeout": 2}
    async with create_adapter(chain.sim.settings, table) as rail:
        return await rail.scan(span, chain.watch(address))


WRONG: dict[str, Callable[[bytes], bytes]] = {
    "another block": lambda raw: b"\x00" * 4 + raw[4:],
    "cut short": lambda raw: raw[:-1],
    "cut to its header": lambda raw: raw[:80],
    "cut within its header": lambda raw: raw[:79],
    "nothing": lambda raw: b"",
    "longer": lambda raw: raw + b"\x00",
}


@pytest.mark.parametrize("by_rest", [True, False], ids=["rest", "rpc"])
@pytest.mark.parametrize("wrong", WRONG)
async def test_an_answer_that_is_not_whole_is_never_accepted(
    lied_to: Chain, liar: Liar, paid: str, wrong: str, by_rest: bool
) -> None:
    """Truncated, too long, of another block: unavailable, and right again when it heals."""
    tamper = WRONG[wrong]
    liar.rest = tamper if by_rest else lambda raw: raw

    def lie(params: list[Any], reply: dict[str, Any]) -> dict[str, Any]:
        raw = bytes.fromhex(reply["result"]) if params[1] == 0 else b""
        return {**reply, "result": tamper(raw).hex()} if raw else reply

    liar.lies["getblock"] = lie
    line = [await lied_to.rail.block_at(lied_to.start.height + step) for step in range(4)]
    watches = lied_to.watch(paid)
    for span in (Span(line[0], line[1]), Span(line[0], line[3])):
        with pytest.raises(RailUnavailable):
            await (lied_to.rail.scan(span, watches) if by_rest else _without_rest(lied_to, liar, span, paid))
    liar.heal()
    found = (await lied_to.rail.scan(Span(line[0], line[3]), watches)).transfers
    assert [transfer.amount for transfer in found] == [AMOUNT]


@pytest.mark.parametrize("more", [0, 2], ids=["block", "range"])
async def test_a_block_that_cannot_be_decoded_halts_the_rail_by_its_hash(
    lied_to: Chain, liar: Liar, paid: str, more: int
) -> None:
    """B14: as long as it should be, with the right header, and none that we can read: passing over it loses money."""
    line = [await lied_to.rail.block_at(lied_to.start.height + step) for step in range(2 + more)]
    spoilt = line[1].hash

    def odd(raw: bytes) -> bytes:
        return raw if not raw.startswith(header) else raw[:80] + b"\xff" + raw[81:]

    header = bytes.fromhex(await lied_to.sim.rpc("getblockheader", spoilt, False))
    liar.rest = odd
    liar.lies["getblock"] = lambda params, reply: (
        reply if params[1] else {**reply, "result": odd(bytes.fromhex(reply["result"])).hex()}
    )
    with pytest.raises(RailFault, match=f"block {spoilt} of .* cannot be decoded"):
        await lied_to.rail.scan(Span(line[0], line[-1]), lied_to.watch(paid))


async def test_a_time_that_no_block_has_is_no_answer(lied_to: Chain, liar: Liar) -> None:
    liar.lies["getblockheader"] = change(lambda header: {**header, "time": 10**18})
    with pytest.raises(RailUnavailable, match="has no time"):
        await lied_to.rail.block_at(1)


async def test_an_orphan_that_the_node_still_serves_is_gone(sim: BitcoinSimulator) -> None:
    """A node gives side blocks by their hash, over RPC and REST; only the canonical chain counts."""
    async with sim.open_adapter() as rail:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        address = await sim.new_address()
        await sim.pay(address, AMOUNT)
        await sim.mine(2)
        line = [await rail.block_at(chain.start.height + step) for step in range(3)]
        spans = [Span(line[0], line[1]), Span(line[1], line[2]), Span(line[0], line[2])]
        await sim.reorg(2)
        for span in spans:
            for sparse in (False, True):
                with pytest.raises(BlockGone):
                    await rail.scan(replace(span, sparse=sparse), chain.watch(address))
                with pytest.raises(BlockGone):
                    await rail.scan(replace(span, sparse=sparse), chain.watch())
        assert len(await chain.found(address)) == 1


async def test_a_chain_that_moves_while_it_is_read_is_gone(lied_to: Chain, liar: Liar, paid: str) -> None:
    """Canonicity is asked last: all blocks came, and then they were replaced."""
    span, watches = await lied_to.span(), lied_to.watch(paid)
    liar.lies["getblockheader"] = lambda params, reply: (
        reply if params[1:] == [False] else {**reply, "result": {**reply["result"], "confirmations": -1}}
    )
    for sparse in (False, True):
        with pytest.raises(BlockGone, match="is not on its chain"):
            await lied_to.rail.scan(replace(span, sparse=sparse), watches)


async def test_hashes_of_two_branches_are_no_line(lied_to: Chain, liar: Liar, paid: str) -> None:
    """The links are proven by the blocks' own bytes, whatever a node says of heights."""
    span, watches = await lied_to.span(), lied_to.watch(paid)
    await lied_to.sim.reorg(2)
    new = Span(span.after, await lied_to.rail.block_at(span.upto.height))
    liar.lies["getblockhash"] = lambda params, reply: {
        **reply,
        "result": span.upto.hash if params[0] == span.upto.height else reply["result"],
    }
    for watched in (watches, lied_to.watch()):
        for sparse in (False, True):
            with pytest.raises(BlockGone):
                await lied_to.rail.scan(replace(new, sparse=sparse), watched)


async def test_without_a_watched_address_headers_are_enough(lied_to: Chain, liar: Liar) -> None:
    await lied_to.sim.mine(5)
    span = await lied_to.span()
    liar.requests.clear()
    scanned = await lied_to.rail.scan(span, lied_to.watch())
    assert [ref.height for ref in scanned.blocks] == list(range(span.after.height + 1, span.upto.height + 1))
    assert not any("getblock" in request or isinstance(request, str) for request in liar.requests)
    assert scanned.method == "headers"


@pytest.mark.litecoind
async def test_litecoin_blocks_are_as_long_as_their_node_says(litecoin: BitcoinSimulator) -> None:
    """The difference between a cut answer and an odd block must hold on the other chain too."""
    await litecoin.pay(await litecoin.new_address(), AMOUNT)
    await litecoin.mine()
    head = await litecoin.head()
    raw, block = await litecoin.rpc("getblock", head, 0), await litecoin.rpc("getblock", head, 1)
    assert len(raw) == 2 * block["size"]

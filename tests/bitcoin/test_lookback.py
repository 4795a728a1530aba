"""Long spans: look-backs by filters, the same by blocks, and how pieces are cut (HAZARDS B8, B17, B18)."""

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from railwatch.conformance.watches import decoys, spends_of
from railwatch.rail import BlockRef, RailUnavailable, Scanned, Transfer
from railwatch_bitcoin import create_adapter, lookback, scan
from railwatch_bitcoin.dev.simulator import BitcoinSimulator
from tests.bitcoin.conftest import Chain
from tests.bitcoin.faulty_proxy import Liar, change, refuse

pytestmark = pytest.mark.bitcoind

AMOUNT = 1_000_007


@pytest.fixture
async def scattered(lied_to: Chain) -> tuple[str, str]:
    """Two addresses that were paid here and there in 30 blocks, by strangers who were paid as well."""
    first, second = await lied_to.sim.new_address("p2tr"), await lied_to.sim.new_address("p2pkh")
    for height in range(30):
        if height % 7 == 3:
            await lied_to.sim.pay_many([(first, AMOUNT + height), (await lied_to.sim.new_address(), AMOUNT)])
        if height in (11, 24):
            await lied_to.sim.pay(second, AMOUNT)
        await lied_to.sim.pay(await lied_to.sim.new_address(), AMOUNT)
        await lied_to.sim.mine()
    return first, second


async def look_back(chain: Chain, *addresses: str, decoyed: int = 0, sparse: bool = True) -> Scanned:
    """Return a look-back from the start."""
    watches = chain.watch(*addresses)
    if decoyed:
        watches = replace(watches, keys=watches.keys | decoys(next(iter(watches.keys)), decoyed))
    return await chain.rail.scan(await chain.span(sparse=sparse), watches)


def said(transfers: Any) -> list[tuple[str, str, int, BlockRef]]:
    """Return what a look-back found, and where."""
    return [(each.tx_id, each.tx_index, each.amount, each.block) for each in transfers]


async def test_filters_find_what_blocks_find_in_fewer_blocks(
    lied_to: Chain, liar: Liar, scattered: tuple[str, str]
) -> None:
    by_blocks = await look_back(lied_to, *scattered, sparse=False)
    liar.requests.clear()
    by_filters = await look_back(lied_to, *scattered)
    assert (by_blocks.method, by_filters.method) == ("blocks", "filters")
    assert said(by_filters.transfers) == said(by_blocks.transfers)
    assert len(by_filters.transfers) == 6
    fetched = sum(isinstance(request, str) for request in liar.requests)
    fetched += sum(request.count("getblock") for request in liar.requests if not isinstance(request, str))
    assert fetched <= 8, "a false yes is rare"
    assert by_filters.blocks[-1] == by_blocks.blocks[-1]


async def test_with_many_watched_filters_are_not_asked(lied_to: Chain, scattered: tuple[str, str]) -> None:
    few, many = await look_back(lied_to, *scattered), await look_back(lied_to, *scattered, decoyed=lookback.FEW)
    assert many.method == "blocks"
    assert said(few.transfers) == said(many.transfers)


async def test_a_node_without_filters_is_asked_for_blocks(
    lied_to: Chain, liar: Liar, scattered: tuple[str, str]
) -> None:
    """Not enabled, or not built yet: for all of the span or for its end."""
    honest = await look_back(lied_to, *scattered)
    for message in (
        "Index is not enabled for filtertype basic",
        "Filter not found. Block filters are still in process",
    ):
        liar.lies["getblockfilter"] = refuse(-1, message)
        by_blocks = await look_back(lied_to, *scattered)
        assert by_blocks.method == "blocks"
        assert said(by_blocks.transfers) == said(honest.transfers)
    head = await lied_to.sim.head()
    refused = refuse(-1, "Filter not found")
    liar.lies["getblockfilter"] = lambda params, reply: refused(params, reply) if params[0] == head else reply
    assert (await look_back(lied_to, *scattered)).method == "blocks"


POISON: dict[str, Any] = {
    "empty": lambda info: {**info, "filter": "00"},
    "cut": lambda info: {**info, "filter": info["filter"][:-2]},
    "another header": lambda info: {**info, "header": "11" * 32},
    "no hex": lambda info: {**info, "filter": "zz"},
}


@pytest.mark.parametrize("poison", POISON)
async def test_a_filter_that_is_not_the_one_committed_to_is_refused(
    lied_to: Chain, liar: Liar, scattered: tuple[str, str], poison: str
) -> None:
    """An empty filter is how a payment would be missed without a word."""
    paid = next(each.block for each in (await look_back(lied_to, *scattered)).transfers if each.block)
    spoil = change(POISON[poison])
    liar.lies["getblockfilter"] = lambda params, reply: spoil(params, reply) if params[0] == paid.hash else reply
    with pytest.raises(RailUnavailable):
        await look_back(lied_to, *scattered)


async def test_a_filter_that_cannot_be_read_is_no_answer(
    lied_to: Chain, liar: Liar, scattered: tuple[str, str]
) -> None:
    """Committed to as it should be, and cut short all the same, or larger than any block's."""
    head = await lied_to.sim.head()
    parent = (await lied_to.sim.rpc("getblockheader", head))["previousblockhash"]
    below = bytes.fromhex((await lied_to.sim.rpc("getblockfilter", parent))["header"])[::-1]
    for content, why in ((b"\x09", "cannot be read"), (bytes(5 * 1024 * 1024), "has 5,242,880 bytes")):
        header = twice(twice(content) + below)[::-1]
        answer = {"filter": content.hex(), "header": header.hex()}
        liar.lies["getblockfilter"] = lambda params, reply, answer=answer: (  # type: ignore[misc]
            {**reply, "result": answer} if params[0] == head else reply
        )
        with pytest.raises(RailUnavailable, match=f"the filter of block {head} {why}"):
            await look_back(lied_to, *scattered)


def twice(content: bytes) -> bytes:
    """SHA-256 of SHA-256."""
    return sha256(sha256(content).digest()).digest()


async def test_with_claims_blocks_are_read_so_that_rivals_are_found(chain: Chain) -> None:
    """A filter knows no coins: a rival that pays a stranger would slip through it."""
    address = await chain.sim.new_address()
    old = await chain.sim.pay(address, AMOUNT)
    chain.spends.update(spends_of(await chain.waiting(address)))
    rival = await chain.sim.double_spend_in_block(old)
    await chain.sim.mine(3)
    scanned = await chain.rail.scan(await chain.span(sparse=True), chain.watch(address))
    assert [(each.tx_id, each.rivals) for each in scanned.transfers] == [(rival, (old,))]
    assert scanned.method == "blocks"


@pytest.mark.parametrize("by_rest", [True, False], ids=["rest", "rpc"])
async def test_however_a_span_is_cut_it_says_the_same(
    lied_to: Chain, liar: Liar, scattered: tuple[str, str], by_rest: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces of one block and of many, over RPC and over REST."""
    span, watches = await lied_to.span(), lied_to.watch(*scattered)
    expected = said((await lied_to.rail.scan(span, watches)).transfers)
    table = {"rpc": liar.url, "cookie_path": lied_to.sim.node["cookie_path"], "rest": by_rest}
    for piece in (1, 1_000, 100_000_000):
        monkeypatch.setattr(scan, "PIECE_BYTES", piece)
        monkeypatch.setattr("railwatch_bitcoin.block_source.REST_FROM", 0)
        async with create_adapter(lied_to.sim.settings, table) as rail:
            scanned = await rail.scan(span, watches)
            assert said(scanned.transfers) == expected
            assert [ref.parent for ref in scanned.blocks[1:]] == [ref.hash for ref in scanned.blocks[:-1]]


def test_a_few_empty_blocks_prove_nothing_of_the_next() -> None:
    """What is asked for at once grows by steps, and shrinks at once."""
    sizer, widths = scan.batch_sizer(), []
    for _ in range(8):
        widths.append(sizer.width)
        sizer.answered(sizer.width, 300 * sizer.width)
    assert widths[:3] == [1, 4, 16]
    assert widths[-1] == scan.PIECE_BLOCKS
    sizer.answered(1, 1_500_000)
    assert sizer.width == 1
    for _ in range(8):
        sizer.answered(1, 1)
    widths = []
    for _ in range(5):
        widths.append(sizer.width)
        sizer.refused(sizer.width)
    assert widths == [200, 50, 12, 3, 1]


@pytest.mark.parametrize("trouble", ["refuses", "fails"])
async def test_a_node_that_refuses_blocks_is_asked_for_fewer(
    lied_to: Chain, liar: Liar, scattered: tuple[str, str], monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """Every failure counts alike: an error object, a status, and no answer in time, which `test_rpc.py` shows."""
    table = {"rpc": liar.url, "cookie_path": lied_to.sim.node["cookie_path"], "rest": False}
    monkeypatch.setattr(scan, "PIECE_BLOCKS", 16)
    # One piece at a time, so that no request of the failed scan arrives after the node has been healed.
    monkeypatch.setattr(scan, "AHEAD", 1)
    span, watches = await lied_to.span(), lied_to.watch(*scattered)

    def asked() -> list[int]:
        return [count for request in liar.requests if (count := request.count("getblock"))]

    async with create_adapter(lied_to.sim.settings, table) as rail:
        for _ in range(2):
            await rail.scan(span, watches)
        assert max(asked()) == 16
        liar.lies["getblock"] = refuse(-28, "Loading block index")
        if trouble == "fails":
            liar.statuses["getblock"] = 503
        with pytest.raises(RailUnavailable, match=r"still starting|HTTP 503"):
            await rail.scan(span, watches)
        liar.heal()
        liar.requests.clear()
        assert len((await rail.scan(span, watches)).transfers) == 6
        assert asked() == [4, 16, 10]


@pytest.mark.litecoind
async def test_litecoin_without_filters_says_which_way_it_went(litecoin: BitcoinSimulator) -> None:
    async with litecoin.open_adapter() as rail:
        chain = Chain(litecoin, rail, (await rail.heads()).latest)
        address = await litecoin.new_address("p2sh")
        await litecoin.pay(address, AMOUNT)
        await litecoin.mine(5)
        scanned = await look_back(chain, address)
        assert scanned.method == "blocks"
        found: list[Transfer] = list(scanned.transfers)
        assert [each.amount for each in found] == [AMOUNT]

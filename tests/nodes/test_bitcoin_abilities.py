"""What a node serves is asked for on entering, and any refusal has a fall-back or one clear sentence (HAZARDS B20)."""

import time
from pathlib import Path
from typing import Any

import pytest

from railwatch.config import load_config
from railwatch.conformance import WatchSet
from railwatch.rail import NotKept, RailSettings, RailUnavailable, Span
from railwatch_bitcoin import create_adapter
from railwatch_bitcoin.chains import BITCOIN_REGTEST, DOGECOIN
from tests.bitcoin.build import MadeBlock, Out, coinbase, p2pkh
from tests.nodes.bitcoin_node import BitcoinNode, Refusal, Speech
from tests.nodes.test_bitcoin_mempool import WATCHES, node_with, waiting
from tests.nodes.utxo_chain import Client, UtxoChain, client_node

SETTINGS = RailSettings("rail", BITCOIN_REGTEST.id)


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 405, 429, 501, 502, 503])
async def test_rest_is_used_where_it_is_served_and_nowhere_else(status: int) -> None:
    """f11: gateways answer GET with anything; RPC next to it works."""
    async with node_with(waiting(3), speech=Speech(rest=status)) as node:
        async with create_adapter(SETTINGS, {"rpc": node.url}) as rail:
            assert (await rail.heads()).latest.height == 5
        with pytest.raises(RailUnavailable, match="rest is true, and the node does not serve it"):
            await create_adapter(SETTINGS, {"rpc": node.url, "rest": True}).__aenter__()


@pytest.mark.parametrize("most", [0, 1, 3])
@pytest.mark.parametrize("how", [400, 403, 413, Refusal(-32600, "batches are limited on your plan")], ids=str)
async def test_batches_are_as_large_as_the_node_accepts_them(most: int, how: Any) -> None:
    node = node_with(waiting(40), speech=Speech(batch_most=most, refused_by=how))
    async with node, create_adapter(SETTINGS, {"rpc": node.url}) as rail:
        (transfer,) = await rail.pending(WATCHES)
        assert transfer.amount == 1_003


@pytest.mark.parametrize("method", ["getblockheader", "getblock"])
async def test_what_is_needed_and_refused_is_named(method: str) -> None:
    async with node_with(waiting(3)) as node:
        del node.methods[method]
        with pytest.raises(RailUnavailable, match=f"does not serve {method}, which the rail needs: allow it"):
            await create_adapter(SETTINGS, {"rpc": node.url}).__aenter__()


async def test_a_header_carries_the_key_that_a_file_holds(tmp_path: Path) -> None:
    """f20: by reference as every secret, kept out of what is shown."""
    (tmp_path / "node.key").write_text("s3cret\n")
    async with node_with(waiting(3)) as node:
        table = f'nodes = [{{ rpc = "{node.url}", headers = {{ "api-key_file" = "node.key" }} }}]'
        file = tmp_path / "railwatch.toml"
        file.write_text(
            '[database]\nurl = "embedded"\n[[rail]]\nname = "btc"\nadapter = "bitcoin"\n'
            f'chain_id = "{BITCOIN_REGTEST.id}"\n{table}\n[[rail.asset]]\nsymbol = "BTC"\n'
        )
        config = load_config(file)
        [read] = config.rails[0].nodes
        assert read.reveal()["headers"] == {"api-key": "s3cret"}
        assert list(read.secrets()) == ["s3cret"]
        assert "s3cret" not in repr(config)
        async with create_adapter(SETTINGS, read.reveal()) as rail:
            await rail.heads()
        assert {each.get("api-key") for each in node.headers} == {"s3cret"}
    for wrong in ({"content-length": "7"}, {"a b": "c"}, {"key": ""}, "key", {"key": "a\nb"}):
        with pytest.raises(ValueError, match="node: headers"):
            create_adapter(SETTINGS, {"rpc": "http://127.0.0.1:1", "headers": wrong})


@pytest.mark.parametrize("able", ["peer", "no peer", "too old"])
async def test_a_pruned_block_comes_from_a_peer_where_one_has_it(able: str) -> None:
    genesis = BITCOIN_REGTEST.landmarks[0][1]
    made = MadeBlock([coinbase(Out(50, p2pkh(1)))], parent=genesis)
    asked: list[int] = []

    def getblock(block_hash: str, verbosity: int = 1) -> Any:
        if not asked:
            raise Refusal(-1, "Block not available (pruned data)")
        return {"size": len(made.raw)} if verbosity else made.raw.hex()

    def getblockfrompeer(block_hash: str, peer: int) -> None:
        if block_hash != made.hash:
            raise Refusal(-1, "Block header missing")
        asked.append(peer)

    node = one_block(made.hash, genesis)
    node.methods["getblock"] = getblock
    if able != "too old":
        services = ["NETWORK", "WITNESS"] if able == "peer" else ["NETWORK_LIMITED"]
        node.methods["getpeerinfo"] = lambda: [{"id": 7, "servicesnames": services}]
        node.methods["getblockfrompeer"] = getblockfrompeer
    async with node, create_adapter(SETTINGS, {"rpc": node.url}) as rail:
        head = (await rail.heads()).latest
        span = Span(await rail.block_at(0), head)
        if able == "peer":
            assert [ref.hash for ref in (await rail.scan(span, WATCHES)).blocks] == [made.hash]
            assert asked == [7]
        else:
            with pytest.raises(NotKept, match="it keeps blocks from height 1 on"):
                await rail.scan(span, WATCHES)


def one_block(block_hash: str, genesis: str) -> BitcoinNode:
    """Return a node whose chain has a first block and one more."""
    node = node_with(waiting(0))
    hashes = [genesis, block_hash]

    def getblockhash(height: int) -> str:
        if height > 1:
            raise Refusal(-8, "Block height out of range")
        return hashes[height]

    def getblockheader(asked: str, verbose: bool = True) -> Any:
        at = hashes.index(asked)
        return {
            "hash": asked,
            "height": at,
            "time": 1_700_000_000,
            "confirmations": 2 - at,
            "previousblockhash": genesis if at else "",
        }

    info = {"blocks": 1, "headers": 1, "bestblockhash": block_hash, "initialblockdownload": False, "pruneheight": 1}
    node.methods |= {
        "getblockhash": getblockhash,
        "getblockheader": getblockheader,
        "getblockchaininfo": lambda: {**info, "pruned": True},
    }
    return node


NO_BYTES = [
    (-1, "Block not available (pruned data)"),
    (-32603, "Block not available (pruned data)"),  # Core 0.14 and its heirs: an error within
    (-8, "block is pruned"),
    (-1, "Block not available (not fully downloaded)"),  # Core 26 and later, below an assumed UTXO snapshot
    (-1, "Block not found on disk"),
    (-32603, "Can't read block from disk"),
]


@pytest.mark.parametrize(("code", "words"), NO_BYTES)
@pytest.mark.parametrize("truth", [False, True], ids=["by number", "by truth value"])
async def test_a_block_without_its_bytes_is_not_kept_in_whatever_words(code: int, words: str, truth: bool) -> None:
    """B16: and the height from which on there are blocks is reported, also by a node that knows no prune height."""
    chain = UtxoChain(BITCOIN_REGTEST)
    node = client_node(chain, Client(raw_by_truth=truth))
    getblock, first = node.methods["getblock"], 40

    def from_the_first_on(block_hash: str, verbose: Any = 1) -> Any:
        answer = getblock(block_hash, verbose)
        if block_hash in [block.hash for block in chain.line[: first - 1]]:
            raise Refusal(code, words)
        return answer

    node.methods["getblock"] = from_the_first_on
    async with node, create_adapter(SETTINGS, {"rpc": node.url}) as rail:
        head = (await rail.heads()).latest
        for low in (1, first - 2):
            with pytest.raises(NotKept, match=f"keeps blocks from height {first} on") as refused:
                await rail.scan(Span(await rail.block_at(low), head, sparse=True), WATCHES)
            assert refused.value.first == first
        kept = await rail.scan(Span(await rail.block_at(first), head), WATCHES)
        assert len(kept.blocks) == head.height - first


async def test_a_client_that_hides_its_initial_sync_is_known_by_the_age_of_its_head() -> None:
    """B16: Core 0.15 and older, and btcd when it has caught up, leave the member out."""
    chain = UtxoChain(BITCOIN_REGTEST)
    node = client_node(chain, Client())
    honest = node.methods["getblockchaininfo"]
    left_out = ("initialblockdownload", "pruned")
    node.methods["getblockchaininfo"] = lambda: {k: v for k, v in honest().items() if k not in left_out}
    async with node, create_adapter(SETTINGS, {"rpc": node.url}) as rail:
        assert (await rail.heads()).latest.height == chain.height
        chain.line[-1] = MadeBlock(chain.line[-1].txs, parent=chain.line[-1].parent, time=int(time.time()) - 90_000)
        with pytest.raises(RailUnavailable, match="is catching up: its newest block is of"):
            await rail.heads()


async def test_headers_of_merge_mined_blocks_come_with_their_proof() -> None:
    """`getblockheader` of Dogecoin and Namecoin gives the parent's coinbase as well, which may have kilobytes."""
    chain = UtxoChain(DOGECOIN)
    node = client_node(chain, Client())
    header = node.methods["getblockheader"]
    node.methods["getblockheader"] = lambda name, verbose=True: (
        header(name, verbose) if verbose else header(name, verbose) + "00" * 5_000
    )
    async with node, create_adapter(RailSettings("doge", DOGECOIN.id), {"rpc": node.url}) as rail:
        head = (await rail.heads()).latest
        scanned = await rail.scan(Span(await rail.block_at(chain.base + 1), head), WatchSet(frozenset(), {}))
        assert (scanned.method, [ref.hash for ref in scanned.blocks]) == (
            "headers",
            [each.hash for each in chain.line[1:]],
        )

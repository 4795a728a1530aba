"""What real EVM clients answer, each case made from public facts; its file says who answers so and what is right."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from railwatch.conformance import WatchSet
from railwatch.rail import (
    AssetId,
    AssetSpec,
    BlockGone,
    BlockRef,
    ChainId,
    NotKept,
    RailAdapter,
    RailError,
    RailFault,
    RailSettings,
    RailUnavailable,
    Scanned,
    Span,
)
from railwatch_evm import create_adapter
from tests.nodes.played import PlayedNode, chain_of

CASES = {path.stem: path for path in sorted((Path(__file__).parent / "cases").glob("*.json"))}


def load(name: str) -> dict[str, Any]:
    """Return one case."""
    case: dict[str, Any] = json.loads(CASES[name].read_text())
    return case


def rail_of(case: dict[str, Any]) -> RailSettings:
    """Return the rail that the case is about: the native asset unless it says otherwise, and its tokens."""
    assets = [AssetSpec("ETH", None, 18)] if case.get("native", True) else []
    assets += [AssetSpec(f"T{place}", token, 6) for place, token in enumerate(case.get("tokens", []))]
    return RailSettings("case", ChainId(f"eip155:{chain_of(case)}"), tuple(assets))


def watches_of(case: dict[str, Any]) -> WatchSet:
    """Return what the case watches."""
    chain = f"eip155:{chain_of(case)}"
    assets = {"": AssetId(f"{chain}/slip44:60")} if case.get("native", True) else {}
    assets |= {token: AssetId(f"{chain}/erc20:{token}") for token in case.get("tokens", [])}
    keys = frozenset(bytes.fromhex(text[2:]) for text in case["watch"])
    return WatchSet(keys, assets, {spent: set(ids) for spent, ids in case.get("spends", {}).items()})


def ref(block: dict[str, Any]) -> BlockRef:
    """Return the name and place of a played block."""
    return BlockRef(block["number"], block["hash"], block["parent"], datetime.now(UTC))


async def scanned(rail: RailAdapter, node: PlayedNode, case: dict[str, Any]) -> Scanned:
    """Scan what the case asks for: its first block, the block that it names, or its whole span."""
    first = node.blocks[0]
    before = BlockRef(first["number"] - 1, first["parent"], "", datetime.now(UTC))
    if "span" in case:
        return await rail.scan(Span(before, ref(node.blocks[-1])), watches_of(case))
    return await rail.scan(Span(before, ref(first)), watches_of(case))


def credits_of(case: dict[str, Any], answer: Scanned) -> list[list[Any]]:
    """Return the transfers in the form in which the cases expect them."""
    prefix = f"eip155:{chain_of(case)}/"
    return [
        [
            transfer.tx_index,
            "0x" + transfer.to.hex(),
            "native" if "slip44" in transfer.asset else transfer.asset.removeprefix(prefix),
            transfer.amount,
        ]
        for transfer in answer.transfers
    ]


async def outcome(rail: RailAdapter, node: PlayedNode, case: dict[str, Any]) -> list[list[Any]] | str:
    """Return the transfers, or which of the three errors came instead."""
    try:
        return credits_of(case, await scanned(rail, node, case))
    except RailError as error:
        kinds = (RailUnavailable, BlockGone, RailFault)
        return next(kind.__name__ for kind in kinds if isinstance(error, kind))


@pytest.mark.parametrize("name", CASES)
async def test_what_a_real_client_answers_is_read_rightly(name: str) -> None:
    case = load(name)
    async with PlayedNode(case) as node:
        rail = create_adapter(rail_of(case), {"http": node.http, "timeout": 5})
        if "expect_error_says" in case:
            with pytest.raises(RailError, match=case["expect_error_says"]):
                await rail.__aenter__()
            await rail.__aexit__(None, None, None)
            return
        async with rail:
            if case.get("ask_heads"):
                assert (await rail.heads()).latest.height == node.blocks[-1]["number"]
            if "expect_or_error" in case:
                accepted = [case["expect"], case["expect_or_error"]]
                assert await outcome(rail, node, case) in accepted
                return
            answer = await scanned(rail, node, case)
            assert credits_of(case, answer) == case["expect"]
            if case.get("expect_no_rivals"):
                assert not any(transfer.rivals for transfer in answer.transfers)
            assert node.malformed == case.get("expect_malformed", 0)


GAPS = ["02-polygon-block-cannot-be-traced", "05-state-older-than-128-blocks"]


@pytest.mark.parametrize("name", GAPS)
async def test_a_block_that_was_not_traced_is_reported(name: str) -> None:
    """The words name the block, the method and the node's own words, and how what is missing shows after all."""
    case = load(name)
    async with PlayedNode(case) as node, create_adapter(rail_of(case), {"http": node.http}) as rail:
        assert rail.traits.native_complete
        await scanned(rail, node, case)
        assert not rail.traits.native_complete
        refusal = case["node"]["errors"]["debug_traceBlockByHash"][case["blocks"][0]["hash"]][1]
        for words in ("block 100", "debug_traceBlockByHash", refusal, "balances are reconciled"):
            assert words in rail.traits.native_gap


async def test_a_span_at_a_node_that_traces_by_hash_needs_few_requests() -> None:
    """One request for the blocks, one for each trace."""
    case = load("24-range-traces-are-asked-wrongly")
    async with PlayedNode(case) as node, create_adapter(rail_of(case), {"http": node.http}) as rail:
        node.requests = 0
        await scanned(rail, node, case)
        assert node.requests <= 16 + 2


async def test_the_size_of_a_batch_is_learned_once() -> None:
    """A refused batch is halved; the next one is asked in the size that was accepted, over a new connection too."""
    case = load("23-a-batch-refused-in-geths-own-way")
    async with PlayedNode(case) as node:
        for limit in (100, 20, 3, 1):
            node.node["batch_limit"] = limit
            for _ in range(2):
                async with create_adapter(rail_of(case), {"http": node.http}) as rail:
                    node.requests = 0
                    await scanned(rail, node, case)
            assert node.requests < 2 * 260 / limit + 20


async def test_history_that_a_node_has_pruned_is_said_to_be_so() -> None:
    """EIP-4444: the blocks of a span are gone. That is no fault of the rail, and another node may have them."""
    case = load("24-range-traces-are-asked-wrongly")
    case["node"] = {
        "trace_block": False,
        "errors": {"eth_getBlockByNumber": {"0x66": [4444, "pruned history unavailable"]}},
    }
    async with PlayedNode(case) as node, create_adapter(rail_of(case), {"http": node.http}) as rail:
        with pytest.raises(NotKept, match="pruned history unavailable"):
            await scanned(rail, node, case)

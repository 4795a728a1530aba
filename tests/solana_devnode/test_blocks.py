"""Slots, blocks and commitments: what is listed, what is served, and with which error it is not."""

from typing import Any

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from railwatch_solana.dev.devnode.node import Settings
from tests.solana_devnode.cluster import CONFIRMED, SOL, Cluster, Refused


async def refused(cluster: Cluster, method: str, *params: Any) -> int:
    """The code of the error that this must be."""
    with pytest.raises(Refused) as caught:
        await cluster.rpc(method, *params)
    code: int = caught.value.code
    return code


async def test_blocks_are_linked_by_parent_and_hash_and_commitments_follow_at_their_distances(cluster: Cluster) -> None:
    await cluster.produce(9)
    at = {name: await cluster.rpc("getSlot", {"commitment": name}) for name in ("processed", "confirmed", "finalized")}
    assert at == {"processed": 10, "confirmed": 9, "finalized": 6}
    above = await cluster.rpc("getBlock", 9, CONFIRMED)
    below = await cluster.rpc("getBlock", 8, CONFIRMED)
    assert (above["parentSlot"], above["previousBlockhash"]) == (8, below["blockhash"])
    assert above["blockHeight"] == below["blockHeight"] + 1
    assert await cluster.rpc("getSlot") == 6, "finalized is the default"


async def test_a_skipped_slot_is_not_listed_and_the_next_parent_proves_it(cluster: Cluster) -> None:
    await cluster.produce(1)
    assert await cluster.rpc("devSkip", 2) == 5
    await cluster.produce(2)
    assert await cluster.rpc("getBlocks", 1, None, CONFIRMED) == [1, 2, 5]
    block = await cluster.rpc("getBlock", 5, CONFIRMED)
    assert (block["parentSlot"], block["blockHeight"]) == (2, 3), "heights count blocks, not slots"


async def test_a_slot_without_a_block_is_unavailable_until_it_is_finalized_and_then_skipped(cluster: Cluster) -> None:
    await cluster.rpc("devSkip")
    await cluster.produce(2)
    assert await refused(cluster, "getBlock", 2, CONFIRMED) == -32004
    assert await refused(cluster, "getBlock", 99, CONFIRMED) == -32004, "the future"
    await cluster.produce(5)
    assert await refused(cluster, "getBlock", 2, CONFIRMED) == -32007


async def test_a_block_is_served_only_at_its_commitment(cluster: Cluster) -> None:
    slot = (await cluster.produce())[0]
    assert await refused(cluster, "getBlock", slot, CONFIRMED) == -32004
    assert await refused(cluster, "getBlock", slot, {"commitment": "processed"}) == -32602
    await cluster.produce()
    assert (await cluster.rpc("getBlock", slot, CONFIRMED))["blockHeight"] == 2
    assert await refused(cluster, "getBlock", slot) == -32004


async def test_confirmed_and_finalized_can_be_one() -> None:
    async with Cluster(Settings(confirm_lag=0, root_lag=0)) as cluster:
        slot = (await cluster.produce(3))[-1]
        for name in ("processed", "confirmed", "finalized"):
            assert await cluster.rpc("getSlot", {"commitment": name}) == slot
        assert await refused(cluster, "devFork", 1) == -32602, "what is finalized stays"


async def test_lags_can_change_and_what_is_finalized_stays_finalized(cluster: Cluster) -> None:
    await cluster.produce(9)
    state = await cluster.rpc("devCommitments", {"confirmLag": 0, "rootLag": 2})
    assert (state["confirmed"], state["finalized"]) == (10, 8)
    state = await cluster.rpc("devCommitments", {"confirmLag": None, "rootLag": 100})
    await cluster.produce()
    state = await cluster.rpc("devState")
    assert (state["confirmed"], state["finalized"]) == (11, 8)


@pytest.mark.parametrize("code", [-32004, -32007, -32009, -32014])
async def test_a_withheld_block_is_denied_by_its_code_until_it_is_restored(cluster: Cluster, code: int) -> None:
    await cluster.produce(6)
    await cluster.rpc("devWithhold", 3, {"code": code})
    assert await refused(cluster, "getBlock", 3) == code
    assert 3 in await cluster.rpc("getBlocks", 1, 3)
    await cluster.rpc("devWithhold", 3, {"code": code, "listed": False})
    assert await cluster.rpc("getBlocks", 1, 3) == [1, 2]
    assert await cluster.rpc("getBlocksWithLimit", 1, 2) == [1, 2]
    await cluster.rpc("devRestore", 3)
    assert (await cluster.rpc("getBlock", 3))["parentSlot"] == 2


async def test_a_block_that_cannot_be_read_is_null(cluster: Cluster) -> None:
    await cluster.produce(6)
    await cluster.rpc("devWithhold", 3, {"code": 0})
    assert await cluster.rpc("getBlock", 3) is None
    assert await cluster.rpc("getBlockTime", 3) is None
    assert 3 in await cluster.rpc("getBlocks", 1, 3)
    assert await refused(cluster, "devWithhold", 3, {"code": -32001}) == -32602
    await cluster.rpc("devRestore")
    assert (await cluster.rpc("getBlock", 3))["blockTime"] == await cluster.rpc("getBlockTime", 3)


async def test_pruned_blocks_are_cleaned_up_and_only_finalized_ones_can_be(cluster: Cluster) -> None:
    history = await cluster.rpc("getSignaturesForAddress", cluster.wallet.address, CONFIRMED)
    await cluster.produce(9)
    assert await cluster.rpc("devPrune", 5) == 5
    assert await refused(cluster, "getBlock", 4) == -32001
    assert await cluster.rpc("getFirstAvailableBlock") == 5
    assert await cluster.rpc("getBlocks", 0, 6) == [5, 6]
    assert history == [], "not confirmed when it was asked for"
    assert await cluster.rpc("getSignaturesForAddress", cluster.wallet.address, CONFIRMED) == [], "and pruned since"
    assert await refused(cluster, "devPrune", 8) == -32602
    assert await cluster.balance(cluster.wallet.address) == 1_000 * SOL, "accounts are not blocks"


async def test_old_blocks_go_by_themselves_when_only_some_are_kept() -> None:
    async with Cluster(Settings(confirm_lag=0, root_lag=1, keep=5)) as cluster:
        await cluster.fund()
        to, chain = Keypair().pubkey(), cluster.node.chain
        for _ in range(20):
            last = await cluster.wallet.send(cluster.wallet.pays(to, SOL))
            await cluster.produce()
        assert (await cluster.rpc("getFirstAvailableBlock"), len(chain.slots)) == (16, 6)
        history = await cluster.rpc("getSignaturesForAddress", str(to), CONFIRMED)
        assert [entry["slot"] for entry in history] == [21, 20, 19, 18, 17, 16]
        assert len(chain.by_signature) == 6
        await cluster.produce(200)
        assert not chain.by_signature
        assert not chain.by_key
        assert not chain.was_used(last), "its blockhash is too old for it to land again"
        assert await cluster.balance(to) == 20 * SOL


async def test_each_level_of_detail_says_less_than_the_one_above(cluster: Cluster) -> None:
    signature = await cluster.wallet.send(cluster.wallet.pays(Pubkey.new_unique(), SOL))
    slot = (await cluster.produce(2))[0]
    shown = {}
    for details in ("full", "accounts", "signatures", "none"):
        config = CONFIRMED | {"transactionDetails": details, "rewards": False, "encoding": None}
        shown[details] = await cluster.rpc("getBlock", slot, config)
    full, accounts = shown["full"]["transactions"][0], shown["accounts"]["transactions"][0]
    assert full["transaction"]["signatures"] == accounts["transaction"]["signatures"] == [signature]
    assert full["meta"]["postBalances"] == accounts["meta"]["postBalances"]
    assert "logMessages" in full["meta"]
    assert "logMessages" not in accounts["meta"]
    assert [key["signer"] for key in accounts["transaction"]["accountKeys"]] == [True, False, False]
    assert [key["writable"] for key in accounts["transaction"]["accountKeys"]] == [True, True, False]
    assert shown["signatures"]["signatures"] == [signature]
    assert "transactions" not in shown["none"]
    assert "signatures" not in shown["none"]
    assert "rewards" not in shown["none"]


@pytest.mark.parametrize("version", [None, 0, 1])
async def test_a_client_that_does_not_know_a_version_gets_no_block_with_it(
    cluster: Cluster, version: int | None
) -> None:
    await cluster.wallet.send(cluster.wallet.pays(Pubkey.new_unique(), SOL), version=version)
    slot = (await cluster.produce(2))[0]
    for details in ("full", "accounts"):
        for highest in (None, 0, 1):
            config = CONFIRMED | {"maxSupportedTransactionVersion": highest, "transactionDetails": details}
            if version is None or (highest is not None and highest >= version):
                block = await cluster.rpc("getBlock", slot, config)
                version_member = {} if highest is None else {"version": "legacy" if version is None else version}
                assert {k: v for k, v in block["transactions"][0].items() if k == "version"} == version_member
            else:
                assert await refused(cluster, "getBlock", slot, config) == -32015
    for details in ("signatures", "none"):
        assert await cluster.rpc("getBlock", slot, CONFIRMED | {"transactionDetails": details})


async def test_a_range_too_large_is_refused_and_an_empty_one_is_empty(cluster: Cluster) -> None:
    async with Cluster(Settings(confirm_lag=0, root_lag=0)) as other:
        for _ in range(51):
            await other.rpc("devSkip", 10_000)
        await other.produce()
        assert await refused(other, "getBlocks", 0, 500_001) == -32602
        assert await other.rpc("getBlocks", 5, 4) == []
        assert await other.rpc("getBlocks", 0) == [0], "without an end it stops after 500,000 slots"
    assert await cluster.rpc("getBlocks", 0, CONFIRMED) == [0], "the options may come second"


async def test_a_history_is_newest_first_and_pages_by_signature(cluster: Cluster) -> None:
    to = Keypair().pubkey()
    sent = []
    for lamports in (SOL, 2 * SOL, 3 * SOL):
        sent.append(await cluster.wallet.send(cluster.wallet.pays(to, lamports)))
        await cluster.produce()
    await cluster.produce()

    async def page(**more: Any) -> list[str]:
        found = await cluster.rpc("getSignaturesForAddress", str(to), CONFIRMED | more)
        return [entry["signature"] for entry in found]

    assert await page() == sent[::-1]
    assert await page(limit=1) == sent[2:]
    assert await page(before=sent[2]) == [sent[1], sent[0]]
    assert await page(before=sent[2], until=sent[0]) == [sent[1]]

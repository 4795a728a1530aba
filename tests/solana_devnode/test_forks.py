"""A fork reverts exactly what the dropped blocks did, and nothing else."""

from typing import Any

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from spl.token.instructions import get_associated_token_address

from tests.solana_devnode.cluster import CONFIRMED, PROCESSED, SOL, Cluster, Refused


async def picture(cluster: Cluster, *keys: Pubkey) -> dict[str, Any]:
    """All that a client can see of these keys and of the chain, at every commitment but the slot numbers to come."""
    seen: dict[str, Any] = {"blockhash": (await cluster.rpc("getLatestBlockhash", PROCESSED))["value"]}
    for level in ("processed", "confirmed"):
        at = {"commitment": level}
        seen[level] = await cluster.rpc("getSlot", at)
        for key in keys:
            account = await cluster.rpc("getAccountInfo", str(key), at | {"encoding": "base64"})
            owned = await cluster.rpc(
                "getTokenAccountsByOwner",
                str(key),
                {"programId": "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"},
                at | {"encoding": "jsonParsed"},
            )
            seen[f"{level} {key}"] = (account["value"], owned["value"])
    for key in keys:
        seen[f"history {key}"] = await cluster.rpc("getSignaturesForAddress", str(key), CONFIRMED)
    return seen


async def test_a_fork_rewinds_balances_tokens_blockhashes_and_signatures(cluster: Cluster) -> None:
    wallet, fresh, owner = cluster.wallet, Keypair().pubkey(), Keypair().pubkey()
    await wallet.send(wallet.pays(owner, SOL))
    mint = await wallet.token(10**9)
    await cluster.rpc("devCommitments", {"confirmLag": 0, "rootLag": 10})
    keys = (wallet.key.pubkey(), fresh, owner, mint, get_associated_token_address(owner, mint))
    before = await picture(cluster, *keys)
    old_hash = await wallet.blockhash()
    paid = [await wallet.send(wallet.pays(fresh, 2 * SOL))]
    await cluster.produce()
    paid.append(await wallet.send(wallet.opens(owner, mint), wallet.pays_token(owner, mint, 5)))
    dropped = await cluster.produce()
    dropped_hash = await wallet.blockhash()
    after = await picture(cluster, *keys)
    assert after != before
    assert await cluster.balance(fresh) == 2 * SOL
    result = await cluster.rpc("devFork", 2, {"resubmit": False})
    assert result["signatures"] == paid
    assert await picture(cluster, *keys) == before
    assert (await cluster.rpc("getSignatureStatuses", paid))["value"] == [None, None]
    assert not (await cluster.rpc("isBlockhashValid", str(dropped_hash), PROCESSED))["value"]
    assert (await cluster.rpc("isBlockhashValid", str(old_hash), PROCESSED))["value"]
    await cluster.produce(3)
    assert await cluster.rpc("getTransaction", paid[0], CONFIRMED) is None
    with pytest.raises(Refused, match="Block not available"):
        await cluster.rpc("getBlock", dropped[0], CONFIRMED)


async def test_a_confirmed_payment_can_be_dropped_and_land_again_in_another_slot(cluster: Cluster) -> None:
    to = Keypair().pubkey()
    signature = await cluster.wallet.send(cluster.wallet.pays(to, SOL))
    slot = (await cluster.produce(2))[0]
    assert await cluster.balance(to, "confirmed") == SOL
    old = await cluster.rpc("getBlock", slot, CONFIRMED)
    result = await cluster.rpc("devFork", 2)
    assert (result["dropped"], result["tip"]) == ([2, 3], 1)
    assert await cluster.balance(to, "confirmed") == 0
    again = (await cluster.produce(2))[0]
    assert again == 4, "a dead slot is never used again"
    new = await cluster.rpc("getBlock", again, CONFIRMED)
    assert (new["parentSlot"], new["previousBlockhash"]) == (1, old["previousBlockhash"])
    assert new["blockhash"] != old["blockhash"]
    status = (await cluster.rpc("getSignatureStatuses", [signature]))["value"][0]
    assert (status["slot"], status["confirmationStatus"]) == (4, "confirmed")
    assert await cluster.rpc("getBlocks", 0, None, CONFIRMED) == [0, 1, 4]


async def test_a_dropped_payment_can_be_sent_again_by_its_sender(cluster: Cluster) -> None:
    to = Keypair().pubkey()
    tx = await cluster.wallet.signed(cluster.wallet.pays(to, SOL))
    await cluster.wallet.post(tx)
    await cluster.produce()
    await cluster.rpc("devFork", 1, {"resubmit": False})
    await cluster.produce()
    assert await cluster.balance(to) == 0
    await cluster.wallet.post(tx)
    await cluster.produce()
    assert await cluster.balance(to) == SOL


async def test_a_transaction_on_a_dropped_blockhash_is_dropped_with_it(cluster: Cluster) -> None:
    to = Keypair().pubkey()
    await cluster.produce()
    await cluster.wallet.send(cluster.wallet.pays(to, SOL))
    await cluster.produce()
    await cluster.rpc("devFork", 2)
    await cluster.produce(2)
    assert await cluster.balance(to) == 0, "its blockhash was the dropped block's"


async def test_a_rival_can_land_first_on_the_new_branch(cluster: Cluster) -> None:
    wallet, first, second = cluster.wallet, Keypair().pubkey(), Keypair().pubkey()
    most = await cluster.balance(wallet.address) - SOL
    recent = await wallet.blockhash()
    tx = await wallet.signed(wallet.pays(first, most), blockhash=recent)
    rival = await wallet.signed(wallet.pays(second, most), blockhash=recent)
    await wallet.post(tx)
    await cluster.produce()
    await cluster.rpc("devFork", 1, {"resubmit": False})
    await wallet.post(rival)
    await wallet.post(tx)
    slot = (await cluster.produce(2))[0]
    assert (await cluster.balance(first), await cluster.balance(second)) == (0, most)
    block = await cluster.rpc("getBlock", slot, CONFIRMED)
    assert [landed["meta"]["err"] is None for landed in block["transactions"]] == [True, False]


async def test_an_account_that_changed_several_times_in_a_block_goes_back_to_before_it(cluster: Cluster) -> None:
    to, before = Keypair().pubkey(), await cluster.balance(cluster.wallet.address)
    for sol in (1, 2, 3):
        await cluster.wallet.send(cluster.wallet.pays(to, sol * SOL))
    await cluster.produce()
    assert await cluster.balance(to) == 6 * SOL
    assert await cluster.balance(to, "confirmed") == 0
    await cluster.rpc("devFork", 1, {"resubmit": False})
    assert (await cluster.balance(to), await cluster.balance(cluster.wallet.address)) == (0, before)


async def test_no_fork_goes_below_finalized(cluster: Cluster) -> None:
    await cluster.produce(9)
    before = await cluster.rpc("devState")
    for depth in (5, 100, 0):
        with pytest.raises(Refused) as caught:
            await cluster.rpc("devFork", depth)
        assert caught.value.code == -32602
    assert await cluster.rpc("devState") == before
    assert (await cluster.rpc("devFork", 4))["tip"] == before["finalized"]


async def test_only_what_can_be_undone_is_kept_for_it(cluster: Cluster) -> None:
    for _ in range(9):
        await cluster.wallet.send(cluster.wallet.pays(Keypair().pubkey(), SOL))
        await cluster.produce()
    chain = cluster.node.chain
    assert {slot for slot, block in chain.blocks.items() if block.before} == set(range(chain.finalized + 1, 11))

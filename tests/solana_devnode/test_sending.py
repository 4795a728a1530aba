"""The way into a block: preflight, expiry, duplicates, airdrops and the trying out of transactions."""

import base64

import pytest
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from tests.solana_devnode.cluster import PROCESSED, SOL, Cluster, Refused, encoded

BASE64 = {"encoding": "base64"}
EAGER = BASE64 | {"preflightCommitment": "processed"}


async def test_preflight_refuses_what_would_fail_with_its_logs(cluster: Cluster) -> None:
    tx = await cluster.wallet.signed(cluster.wallet.pays(Pubkey.new_unique(), 10**6 * SOL))
    with pytest.raises(Refused) as caught:
        await cluster.rpc("sendTransaction", encoded(tx), EAGER)
    assert caught.value.code == -32002
    assert caught.value.message == (
        "Transaction simulation failed: Error processing Instruction 0: custom program error: 0x1"
    )
    outcome = caught.value.data or {}
    assert outcome["err"] == {"InstructionError": [0, {"Custom": 1}]}
    assert outcome["logs"]
    assert (await cluster.rpc("devState"))["waiting"] == 0


async def test_a_blockhash_must_be_known_at_the_preflight_commitment(cluster: Cluster) -> None:
    tx = await cluster.wallet.signed(cluster.wallet.pays(Pubkey.new_unique(), SOL))
    with pytest.raises(Refused, match="Blockhash not found"):
        await cluster.rpc("sendTransaction", encoded(tx), BASE64)
    await cluster.produce(4)
    assert await cluster.rpc("sendTransaction", encoded(tx), BASE64)


async def test_a_transaction_expires_after_151_blocks(cluster: Cluster) -> None:
    wallet, kept, late = cluster.wallet, Keypair().pubkey(), Keypair().pubkey()
    recent = await wallet.blockhash()
    last = (await cluster.rpc("getLatestBlockhash", PROCESSED))["value"]["lastValidBlockHeight"]
    assert last == 1 + 150
    await cluster.produce(150)
    await wallet.post(await wallet.signed(wallet.pays(kept, SOL), blockhash=recent))
    await cluster.produce()
    await wallet.post(await wallet.signed(wallet.pays(late, SOL), blockhash=recent), preflight=False)
    await cluster.produce()
    assert (await cluster.balance(kept), await cluster.balance(late)) == (SOL, 0)
    assert not (await cluster.rpc("isBlockhashValid", str(recent), PROCESSED))["value"]
    with pytest.raises(Refused, match="Blockhash not found"):
        await wallet.send(wallet.pays(late, SOL), blockhash=recent)


async def test_no_transaction_lands_twice(cluster: Cluster) -> None:
    to = Keypair().pubkey()
    tx = await cluster.wallet.signed(cluster.wallet.pays(to, SOL))
    for _ in range(2):
        await cluster.wallet.post(tx)
    await cluster.produce()
    with pytest.raises(Refused, match="already been processed"):
        await cluster.wallet.post(tx)
    await cluster.wallet.post(tx, preflight=False)
    await cluster.produce(5)
    await cluster.rpc("devPrune", 3)
    await cluster.wallet.post(tx, preflight=False)
    await cluster.produce()
    assert await cluster.balance(to) == SOL


async def test_a_wrong_signature_is_refused_and_without_preflight_never_lands(cluster: Cluster) -> None:
    to = Keypair().pubkey()
    tx = await cluster.wallet.signed(cluster.wallet.pays(to, SOL))
    forged = VersionedTransaction.populate(tx.message, [Signature.new_unique()])
    with pytest.raises(Refused) as caught:
        await cluster.wallet.post(forged)
    assert caught.value.code == -32003
    await cluster.wallet.post(forged, preflight=False)
    await cluster.produce()
    assert await cluster.balance(to) == 0


async def test_airdrops_of_the_same_amount_are_different_transactions(cluster: Cluster) -> None:
    to = str(Keypair().pubkey())
    signatures = [await cluster.rpc("requestAirdrop", to, SOL) for _ in range(3)]
    await cluster.produce()
    assert len(set(signatures)) == 3
    assert await cluster.balance(to) == 3 * SOL


async def test_transactions_land_in_the_order_of_their_arrival(cluster: Cluster) -> None:
    sent = [await cluster.wallet.send(cluster.wallet.pays(Pubkey.new_unique(), SOL)) for _ in range(5)]
    slot = (await cluster.produce(2))[0]
    block = await cluster.rpc("getBlock", slot, {"commitment": "confirmed", "transactionDetails": "signatures"})
    assert block["signatures"] == sent


async def test_a_simulation_changes_nothing(cluster: Cluster) -> None:
    to, before = Keypair().pubkey(), await cluster.balance(cluster.wallet.address)
    tx = await cluster.wallet.signed(cluster.wallet.pays(to, SOL), blockhash=Hash.new_unique())
    config = BASE64 | PROCESSED | {"accounts": {"addresses": [str(to)], "encoding": "base64"}}
    outcome = (await cluster.rpc("simulateTransaction", encoded(tx), config))["value"]
    assert outcome["err"] == "BlockhashNotFound"
    outcome = (await cluster.rpc("simulateTransaction", encoded(tx), config | {"replaceRecentBlockhash": True}))[
        "value"
    ]
    assert (outcome["err"], outcome["unitsConsumed"]) == (None, 150)
    assert outcome["accounts"][0]["lamports"] == SOL
    assert outcome["replacementBlockhash"]["blockhash"] == str(await cluster.wallet.blockhash())
    await cluster.produce()
    assert await cluster.balance(cluster.wallet.address) == before
    assert await cluster.balance(to) == 0


async def test_the_fee_of_a_message_is_known_while_its_blockhash_is_valid(cluster: Cluster) -> None:
    tx = await cluster.wallet.signed(cluster.wallet.pays(Pubkey.new_unique(), SOL))
    message = base64.b64encode(bytes(tx.message)).decode()
    assert (await cluster.rpc("getFeeForMessage", message, PROCESSED))["value"] == 5000
    stale = await cluster.wallet.signed(Instruction(Pubkey.new_unique(), b"", []), blockhash=Hash.new_unique())
    message = base64.b64encode(bytes(stale.message)).decode()
    assert (await cluster.rpc("getFeeForMessage", message, PROCESSED))["value"] is None


@pytest.mark.parametrize("version", [None, 0, 1])
async def test_every_version_of_transaction_is_bounded_in_size(cluster: Cluster, version: int | None) -> None:
    most = 4096 if version == 1 else 1232
    note = Instruction(Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"), b"x" * (most + 1), [])
    tx = await cluster.wallet.signed(note, version=version)
    with pytest.raises(Refused, match="too large") as caught:
        await cluster.wallet.post(tx)
    assert caught.value.code == -32602


async def test_1500_payments_land_in_one_block_and_are_served(cluster: Cluster) -> None:
    await cluster.fund(10**6 * SOL)
    recent = await cluster.wallet.blockhash()
    calls = []
    for number in range(1500):
        tx = await cluster.wallet.signed(cluster.wallet.pays(Pubkey.new_unique(), SOL + number), blockhash=recent)
        params = [encoded(tx), {"encoding": "base64", "skipPreflight": True}]
        calls.append({"jsonrpc": "2.0", "id": number, "method": "sendTransaction", "params": params})
    assert [reply["id"] for reply in await cluster.rpc.post(calls)] == list(range(1500))
    slot = (await cluster.produce(2))[0]
    config = {"commitment": "confirmed", "transactionDetails": "accounts", "rewards": False}
    block = await cluster.rpc("getBlock", slot, config)
    assert [landed["meta"]["postBalances"][1] for landed in block["transactions"]] == [
        SOL + number for number in range(1500)
    ]

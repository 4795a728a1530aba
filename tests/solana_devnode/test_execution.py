"""What the machine does with a transaction, and how its metadata shows it."""

import base64
import hashlib

import pytest
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.solders import create_lookup_table, extend_lookup_table
from spl.token import models
from spl.token.constants import TOKEN_PROGRAM_ID
from spl.token.instructions import (
    get_account_data_size,
)

from tests.solana_devnode.cluster import CONFIRMED, PROCESSED, SOL, Cluster, Refused, encoded

FEE = 5000


async def test_a_payment_moves_lamports_and_costs_its_fee(cluster: Cluster) -> None:
    to, before = Keypair().pubkey(), await cluster.balance(cluster.wallet.address)
    meta = await cluster.meta(await cluster.wallet.send(cluster.wallet.pays(to, SOL)))
    assert (meta["err"], meta["status"], meta["fee"]) == (None, {"Ok": None}, FEE)
    assert meta["preBalances"][:2] == [before, 0]
    assert meta["postBalances"][:2] == [before - SOL - FEE, SOL]
    assert await cluster.balance(cluster.wallet.address) == before - SOL - FEE


async def test_a_failed_transaction_lands_with_its_error_and_its_fee(cluster: Cluster) -> None:
    to, before = Keypair().pubkey(), await cluster.balance(cluster.wallet.address)
    signature = await cluster.wallet.send(cluster.wallet.pays(to, 10**6 * SOL), preflight=False)
    meta = await cluster.meta(signature)
    assert meta["err"] == {"InstructionError": [0, {"Custom": 1}]}
    assert meta["status"] == {"Err": meta["err"]}
    assert meta["postBalances"][:2] == [before - FEE, 0]
    assert any("insufficient lamports" in line for line in meta["logMessages"])
    status = (await cluster.rpc("getSignatureStatuses", [signature]))["value"][0]
    assert status["err"] == meta["err"]


async def test_a_payment_below_the_rent_minimum_to_an_empty_address_fails_and_costs(cluster: Cluster) -> None:
    minimum = await cluster.rpc("getMinimumBalanceForRentExemption", 0)
    assert minimum == 890_880
    poor, enough = Keypair().pubkey(), Keypair().pubkey()
    failed = await cluster.wallet.send(cluster.wallet.pays(poor, minimum - 1), preflight=False)
    landed = await cluster.wallet.send(cluster.wallet.pays(enough, minimum))
    assert (await cluster.meta(failed))["err"] == {"InsufficientFundsForRent": {"account_index": 1}}
    assert (await cluster.meta(landed))["err"] is None
    assert (await cluster.balance(poor), await cluster.balance(enough)) == (0, minimum)


async def test_a_transaction_whose_program_does_not_exist_lands_and_pays_only_its_fee(cluster: Cluster) -> None:
    before = await cluster.balance(cluster.wallet.address)
    signature = await cluster.wallet.send(Instruction(Pubkey.new_unique(), b"", []), preflight=False)
    meta = await cluster.meta(signature)
    assert meta["err"] in ("InvalidProgramForExecution", "ProgramAccountNotFound")
    assert meta["fee"] == FEE
    assert await cluster.balance(cluster.wallet.address) == before - FEE
    assert (await cluster.rpc("devFork", 2, {"resubmit": False}))["tip"] == 1
    assert await cluster.balance(cluster.wallet.address) == before, "and a fork gives the fee back"


async def test_no_account_without_lamports_lands_anything(cluster: Cluster) -> None:
    rich, cluster.wallet.key = cluster.wallet.key, Keypair()
    signature = await cluster.wallet.send(cluster.wallet.pays(rich.pubkey(), SOL), preflight=False)
    await cluster.produce()
    assert (await cluster.rpc("getSignatureStatuses", [signature]))["value"] == [None]


async def test_calls_between_programs_are_shown_with_their_depth(cluster: Cluster) -> None:
    wallet, owner = cluster.wallet, Keypair().pubkey()
    mint = await wallet.token(1_000_000)
    signature = await wallet.send(wallet.opens(owner, mint))
    meta = await cluster.meta(signature)
    (group,) = meta["innerInstructions"]
    assert group["index"] == 0
    assert len(group["instructions"]) == 4, "size, create, immutable owner, initialise"
    assert {call["stackHeight"] for call in group["instructions"]} == {2}
    parsed = await cluster.rpc("getTransaction", signature, CONFIRMED | {"encoding": "jsonParsed"})
    kinds = [call.get("parsed", {}).get("type") for call in parsed["meta"]["innerInstructions"][0]["instructions"]]
    assert "createAccount" in kinds
    assert parsed["transaction"]["message"]["instructions"][0]["parsed"]["type"] == "create"


async def test_return_data_is_shown(cluster: Cluster) -> None:
    mint = await cluster.wallet.token(1)
    asks = get_account_data_size(models.GetAccountDataSizeParams(program_id=TOKEN_PROGRAM_ID, mint=mint))
    signature = await cluster.wallet.send(asks)
    meta = await cluster.meta(signature)
    assert meta["returnData"]["programId"] == str(TOKEN_PROGRAM_ID)
    data, encoding = meta["returnData"]["data"]
    assert (int.from_bytes(base64.b64decode(data), "little"), encoding) == (165, "base64")


async def lookup_table(cluster: Cluster, *keys: Pubkey) -> AddressLookupTableAccount:
    """A table on the chain with these keys, old enough to be used."""
    wallet, slot = cluster.wallet, (await cluster.produce())[0]
    await cluster.produce()
    payer = wallet.key.pubkey()
    create, table = create_lookup_table({"authority_address": payer, "payer_address": payer, "recent_slot": slot})
    extend = extend_lookup_table(
        {
            "lookup_table_address": table,
            "authority_address": payer,
            "payer_address": payer,
            "new_addresses": list(keys),
        }
    )
    await wallet.send(create, extend)
    await cluster.produce(2)
    return AddressLookupTableAccount(table, list(keys))


async def test_keys_from_a_lookup_table_are_distinguished_from_static_ones(cluster: Cluster) -> None:
    wallet, to = cluster.wallet, Keypair().pubkey()
    reader = Pubkey.new_unique()
    table = await lookup_table(cluster, reader, to)
    step = wallet.pays(to, SOL)
    step = Instruction(step.program_id, bytes(step.data), [*step.accounts, AccountMeta(reader, False, False)])
    signature = await wallet.send(step, version=0, tables=[table])
    meta = await cluster.meta(signature)
    assert meta["loadedAddresses"] == {"writable": [str(to)], "readonly": [str(reader)]}
    config = CONFIRMED | {"maxSupportedTransactionVersion": 0, "transactionDetails": "accounts"}
    slot = (await cluster.rpc("getSignatureStatuses", [signature]))["value"][0]["slot"]
    (landed,) = (await cluster.rpc("getBlock", slot, config))["transactions"]
    keys = {key["pubkey"]: key for key in landed["transaction"]["accountKeys"]}
    assert (keys[str(to)]["source"], keys[str(to)]["writable"]) == ("lookupTable", True)
    assert (keys[str(reader)]["source"], keys[str(reader)]["writable"]) == ("lookupTable", False)
    assert "loadedAddresses" not in landed["meta"]
    index = [key["pubkey"] for key in landed["transaction"]["accountKeys"]].index(str(to))
    assert landed["meta"]["postBalances"][index] == SOL
    raw = await cluster.rpc("getTransaction", signature, CONFIRMED | {"maxSupportedTransactionVersion": 0})
    assert raw["transaction"]["message"]["addressTableLookups"] == [
        {"accountKey": str(table.key), "writableIndexes": [1], "readonlyIndexes": [0]}
    ]


async def test_a_table_that_is_not_there_is_refused(cluster: Cluster) -> None:
    table = AddressLookupTableAccount(Pubkey.new_unique(), [to := Pubkey.new_unique()])
    with pytest.raises(Refused, match="address table account that doesn't exist"):
        await cluster.wallet.send(cluster.wallet.pays(to, SOL), version=0, tables=[table])


async def test_a_version_1_transaction_is_executed_and_shows_its_configuration(cluster: Cluster) -> None:
    to = Keypair().pubkey()
    signature = await cluster.wallet.send(cluster.wallet.pays(to, SOL), version=1)
    assert (await cluster.meta(signature))["err"] is None
    assert await cluster.balance(to) == SOL
    shown = await cluster.rpc("getTransaction", signature, CONFIRMED | {"maxSupportedTransactionVersion": 1})
    assert shown["version"] == 1
    assert shown["transaction"]["message"]["transactionConfig"]["computeUnitLimit"] == 200_000


async def test_the_priority_fee_of_version_1_is_charged_and_shown(cluster: Cluster) -> None:
    to, before = Keypair().pubkey(), await cluster.balance(cluster.wallet.address)
    tried = await cluster.wallet.signed(cluster.wallet.pays(to, before - FEE - 6), version=1, priority=7)
    outcome = await cluster.rpc("simulateTransaction", encoded(tried), PROCESSED | {"encoding": "base64"})
    assert outcome["value"]["err"] is not None, "one lamport is missing"
    paid = await cluster.wallet.send(cluster.wallet.pays(to, SOL), version=1, priority=7)
    failed = await cluster.wallet.send(cluster.wallet.pays(to, before), version=1, priority=70, preflight=False)
    never = await cluster.wallet.send(cluster.wallet.pays(to, SOL), version=1, priority=before, preflight=False)
    assert (await cluster.meta(paid))["fee"] == FEE + 7
    assert (await cluster.meta(failed))["fee"] == FEE + 70
    assert (await cluster.rpc("getSignatureStatuses", [never]))["value"] == [None]
    left = before - SOL - 2 * FEE - 77
    assert await cluster.balance(cluster.wallet.address) == left
    short = await cluster.wallet.send(cluster.wallet.pays(to, 1), version=1, priority=left - 1, preflight=False)
    await cluster.produce()
    assert (await cluster.rpc("getSignatureStatuses", [short]))["value"] == [None], "the base fee is missing"
    assert await cluster.balance(cluster.wallet.address) == left


async def test_genesis_is_a_function_of_the_seed(cluster: Cluster) -> None:
    expected = str(Hash(hashlib.sha256(b"genesis:railwatch").digest()))
    assert await cluster.rpc("getGenesisHash") == expected

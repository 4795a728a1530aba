"""What the machine does with a transaction, and how its metadata tells it."""

import base64
import hashlib

import pytest
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.solders import create_lookup_table, extend_lookup_table
from solders.system_program import CreateAccountParams, create_account
from spl.token import models
from spl.token.constants import TOKEN_2022_PROGRAM_ID, TOKEN_PROGRAM_ID, WRAPPED_SOL_MINT
from spl.token.instructions import (
    close_account,
    get_account_data_size,
    get_associated_token_address,
    initialize_mint2,
    initialize_transfer_fee_config,
    mint_to_checked,
    sync_native,
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


async def test_nobody_without_lamports_lands_anything(cluster: Cluster) -> None:
    rich, cluster.wallet.key = cluster.wallet.key, Keypair()
    signature = await cluster.wallet.send(cluster.wallet.pays(rich.pubkey(), SOL), preflight=False)
    await cluster.produce()
    assert (await cluster.rpc("getSignatureStatuses", [signature]))["value"] == [None]


async def test_a_token_account_made_in_the_same_transaction_has_a_balance_after_and_none_before(
    cluster: Cluster,
) -> None:
    wallet, owner = cluster.wallet, Keypair().pubkey()
    mint = await wallet.token(1_000_000)
    signature = await wallet.send(wallet.opens(owner, mint), wallet.pays_token(owner, mint, 250_000))
    meta = await cluster.meta(signature)
    assert [held["owner"] for held in meta["preTokenBalances"]] == [wallet.address]
    after = {held["owner"]: held for held in meta["postTokenBalances"]}
    assert set(after) == {wallet.address, str(owner)}
    paid = after[str(owner)]
    assert (paid["mint"], paid["programId"]) == (str(mint), str(TOKEN_PROGRAM_ID))
    assert paid["uiTokenAmount"] == {
        "amount": "250000",
        "decimals": 6,
        "uiAmount": 0.25,
        "uiAmountString": "0.25",
    }
    assert after[wallet.address]["uiTokenAmount"]["amount"] == "750000"
    home = str(get_associated_token_address(owner, mint))
    assert (await cluster.rpc("getTokenAccountBalance", home, CONFIRMED))["value"]["amount"] == "250000"
    assert (await cluster.rpc("getTokenSupply", str(mint), CONFIRMED))["value"]["amount"] == "1000000"


async def test_calls_between_programs_are_told_with_their_depth(cluster: Cluster) -> None:
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


async def test_return_data_is_told(cluster: Cluster) -> None:
    mint = await cluster.wallet.token(1)
    asks = get_account_data_size(models.GetAccountDataSizeParams(program_id=TOKEN_PROGRAM_ID, mint=mint))
    signature = await cluster.wallet.send(asks)
    meta = await cluster.meta(signature)
    assert meta["returnData"]["programId"] == str(TOKEN_PROGRAM_ID)
    data, encoding = meta["returnData"]["data"]
    assert (int.from_bytes(base64.b64decode(data), "little"), encoding) == (165, "base64")


async def test_a_transfer_fee_of_token_2022_is_withheld_from_what_arrives(cluster: Cluster) -> None:
    wallet, mint, owner = cluster.wallet, Keypair(), Keypair().pubkey()
    payer, program, size = wallet.key.pubkey(), TOKEN_2022_PROGRAM_ID, 278
    rent = await cluster.rpc("getMinimumBalanceForRentExemption", size)
    home = get_associated_token_address(payer, mint.pubkey(), program)
    await wallet.send(
        create_account(
            CreateAccountParams(from_pubkey=payer, to_pubkey=mint.pubkey(), lamports=rent, space=size, owner=program)
        ),
        initialize_transfer_fee_config(
            models.InitializeTransferFeeConfigParams(
                program_id=program,
                mint=mint.pubkey(),
                transfer_fee_config_authority=payer,
                withdraw_withheld_authority=payer,
                transfer_fee_basis_points=100,
                maximum_fee=10**9,
            )
        ),
        initialize_mint2(
            models.InitializeMint2Params(decimals=6, program_id=program, mint=mint.pubkey(), mint_authority=payer)
        ),
        wallet.opens(payer, mint.pubkey(), program),
        mint_to_checked(
            models.MintToCheckedParams(
                program_id=program, mint=mint.pubkey(), dest=home, mint_authority=payer, amount=10**9, decimals=6
            )
        ),
        signers=[mint],
    )
    await cluster.produce()
    signature = await wallet.send(
        wallet.opens(owner, mint.pubkey(), program),
        wallet.pays_token(owner, mint.pubkey(), 1_000_000, program=program),
    )
    meta = await cluster.meta(signature)
    assert meta["err"] is None
    arrived = {held["owner"]: held for held in meta["postTokenBalances"]}[str(owner)]
    assert (arrived["uiTokenAmount"]["amount"], arrived["programId"]) == ("990000", str(program))


async def test_wrapped_sol_is_a_token_and_unwraps_when_its_account_closes(cluster: Cluster) -> None:
    wallet = cluster.wallet
    payer, mint = wallet.key.pubkey(), WRAPPED_SOL_MINT
    home = get_associated_token_address(payer, mint)
    wrapped = await wallet.send(
        wallet.opens(payer, mint),
        wallet.pays(home, SOL),
        sync_native(models.SyncNativeParams(program_id=TOKEN_PROGRAM_ID, account=home)),
    )
    meta = await cluster.meta(wrapped)
    assert [held["uiTokenAmount"]["amount"] for held in meta["postTokenBalances"]] == [str(SOL)]
    closed = await wallet.send(
        close_account(models.CloseAccountParams(account=home, dest=payer, owner=payer, program_id=TOKEN_PROGRAM_ID))
    )
    meta = await cluster.meta(closed)
    assert (len(meta["preTokenBalances"]), meta["postTokenBalances"]) == (1, [])
    assert (await cluster.rpc("getAccountInfo", str(home), CONFIRMED))["value"] is None


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


async def test_keys_from_a_lookup_table_are_told_apart_from_static_ones(cluster: Cluster) -> None:
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


async def test_the_priority_fee_of_version_1_is_charged_and_told(cluster: Cluster) -> None:
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


async def test_accounts_are_shown_in_each_encoding_and_found_by_owner_and_by_filter(cluster: Cluster) -> None:
    wallet, owner = cluster.wallet, Keypair().pubkey()
    mint = await wallet.token(77)
    home = str(get_associated_token_address(wallet.key.pubkey(), mint))

    async def value(**config: object) -> dict[str, object]:
        shown: dict[str, object] = (await cluster.rpc("getAccountInfo", home, PROCESSED | config))["value"]
        return shown

    parsed = await value(encoding="jsonParsed")
    assert parsed["data"]["parsed"]["info"]["tokenAmount"]["amount"] == "77"  # type: ignore[index]
    data = base64.b64decode((await value(encoding="base64"))["data"][0])  # type: ignore[index]
    assert (len(data), data[:32]) == (165, bytes(mint))
    sliced = await value(encoding="base64", dataSlice={"offset": 64, "length": 8})
    assert base64.b64decode(sliced["data"][0]) == (77).to_bytes(8, "little")  # type: ignore[index]
    with pytest.raises(Refused, match="128 bytes"):
        await value()
    for what in ({"mint": str(mint)}, {"programId": str(TOKEN_PROGRAM_ID)}):
        found = await cluster.rpc("getTokenAccountsByOwner", wallet.address, what, PROCESSED)
        assert [entry["pubkey"] for entry in found["value"]] == [home]
    none = await cluster.rpc("getTokenAccountsByOwner", str(owner), {"mint": str(mint)}, PROCESSED)
    assert none["value"] == []
    filters = [{"dataSize": 165}, {"memcmp": {"offset": 0, "bytes": str(mint)}}]
    of = await cluster.rpc(
        "getProgramAccounts", str(TOKEN_PROGRAM_ID), PROCESSED | {"filters": filters, "encoding": "base64"}
    )
    assert [entry["pubkey"] for entry in of] == [home]
    several = await cluster.rpc("getMultipleAccounts", [home, str(owner)], PROCESSED)
    assert [entry is None for entry in several["value"]] == [False, True]


async def test_state_is_served_as_of_each_commitment(cluster: Cluster) -> None:
    wallet, owner = cluster.wallet, Keypair().pubkey()
    mint = await wallet.token(100)
    await cluster.produce(4)
    await wallet.send(wallet.opens(owner, mint), wallet.pays_token(owner, mint, 40), wallet.pays(owner, SOL))
    nothing, paid = (0, 0), (SOL, 1)

    async def seen() -> list[tuple[int, int]]:
        found = []
        for level in ("processed", "confirmed", "finalized"):
            at = {"commitment": level}
            tokens = await cluster.rpc("getTokenAccountsByOwner", str(owner), {"mint": str(mint)}, at)
            found.append((await cluster.balance(owner, level), len(tokens["value"])))
        return found

    await cluster.produce()
    assert await seen() == [paid, nothing, nothing]
    await cluster.produce()
    assert await seen() == [paid, paid, nothing]
    await cluster.produce(2)
    assert await seen() == [paid, paid, nothing]
    await cluster.produce()
    assert await seen() == [paid, paid, paid]


async def test_genesis_is_a_function_of_the_seed(cluster: Cluster) -> None:
    expected = str(Hash(hashlib.sha256(b"genesis:railwatch").digest()))
    assert await cluster.rpc("getGenesisHash") == expected

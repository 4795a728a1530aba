"""Tokens: balances in metadata, accounts in each encoding and at each commitment, and what Token-2022 does."""

import base64

import pytest
from solders.keypair import Keypair
from solders.system_program import CreateAccountParams, create_account
from spl.token import models
from spl.token.constants import TOKEN_2022_PROGRAM_ID, TOKEN_PROGRAM_ID, WRAPPED_SOL_MINT
from spl.token.instructions import (
    close_account,
    get_associated_token_address,
    initialize_mint2,
    initialize_transfer_fee_config,
    mint_to_checked,
    sync_native,
)

from tests.solana_devnode.cluster import CONFIRMED, PROCESSED, SOL, Cluster, Refused


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

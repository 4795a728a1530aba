"""More of what the real programs do with value: credited by balances, by the index as by the blocks (S4 to S9)."""

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import (
    AdvanceNonceAccountParams,
    CreateAccountWithSeedParams,
    WithdrawNonceAccountParams,
    advance_nonce_account,
    create_account_with_seed,
    create_nonce_account,
    withdraw_nonce_account,
)
from spl.token import instructions as token
from spl.token import models

from railwatch_solana.dev.simulator import SOL, WRAPPED
from railwatch_solana.dev.wallet import TOKEN_2022_PROGRAM_ID, Mint, Wallet
from tests.solana.conftest import Chain
from tests.solana.test_lookback import both_ways

pytestmark = pytest.mark.solana

SYSTEM = Pubkey.default()
MEMO = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")


async def paid(chain: Chain, address: object, *sent: object) -> list[tuple[str, int]]:
    """Mine, and return (asset, amount) of what an address was paid in the new block, the same by either way."""
    before = (await chain.rail.heads()).latest
    await chain.sim.mine(3)
    facts = await both_ways(chain, str(address))
    assert len(facts) >= len(sent)
    return [
        (each.asset, each.amount)
        for each in (await chain.rail.scan(await chain.span(after=before), chain.watch(str(address)))).transfers
    ]


async def test_lamports_that_programs_hand_over(chain: Chain) -> None:
    """Several transfers in one transaction, none, one of nothing, one to oneself, a nonce's withdrawal, a seed's."""
    sim, wallet, shop = chain.sim, chain.sim.wallet, Wallet()
    await sim.send([wallet.sol(shop.address, SOL), wallet.sol(shop.address, 2 * SOL), wallet.sol(shop.address, 0)])
    assert await paid(chain, shop.address) == [(sim.native, 3 * SOL)]
    await sim.send([wallet.sol(shop.address, 0)])
    await sim.send([shop.sol(shop.address, SOL)], shop.key)
    await sim.send([shop.sol(wallet.address, 5)], payer=shop.key)
    # Paid and paying in one transaction: what stayed.
    await sim.send([wallet.sol(shop.address, 100_000), shop.sol(wallet.address, 40_000)], shop.key)
    assert await paid(chain, shop.address) == [(sim.native, 60_000)]

    nonce, rent = Keypair(), await sim.rent(80)
    await sim.send(list(create_nonce_account(wallet.address, nonce.pubkey(), wallet.address, rent + SOL)), nonce)
    await sim.mine()
    withdrawn = WithdrawNonceAccountParams(
        nonce_pubkey=nonce.pubkey(), authorized_pubkey=wallet.address, to_pubkey=shop.address, lamports=SOL
    )
    await sim.send([withdraw_nonce_account(withdrawn)])
    assert await paid(chain, shop.address) == [(sim.native, SOL)]
    # As a transaction with a durable nonce begins.
    advance = AdvanceNonceAccountParams(nonce_pubkey=nonce.pubkey(), authorized_pubkey=wallet.address)
    await sim.send([advance_nonce_account(advance), wallet.sol(shop.address, 7_000)])
    assert await paid(chain, shop.address) == [(sim.native, 7_000)]

    # An account of a program's own gets lamports that are its rent: the address has them all the same.
    seeded = Pubkey.create_with_seed(wallet.address, "till", SYSTEM)
    made = CreateAccountWithSeedParams(
        from_pubkey=wallet.address,
        to_pubkey=seeded,
        base=wallet.address,
        seed="till",
        lamports=2 * SOL,
        space=0,
        owner=SYSTEM,
    )
    await sim.send([create_account_with_seed(made)])
    assert await paid(chain, seeded) == [(sim.native, 2 * SOL)]


async def test_accounts_that_change_hands_or_are_made_anew(chain: Chain) -> None:
    """SetAuthority transfers a whole account; one that is closed and made again holds what it holds in the end."""
    sim, wallet, shop, mint = chain.sim, chain.sim.wallet, Wallet(), chain.sim.token
    asset = sim.asset(mint)
    aux = Keypair()
    made = wallet.auxiliary_account(mint, wallet.address, aux.pubkey(), await sim.rent(165))
    await sim.send([*made, wallet.tokens_into(mint, aux.pubkey(), 33)], aux)
    await sim.mine()
    given = models.SetAuthorityParams(
        program_id=mint.program,
        account=aux.pubkey(),
        authority=models.AuthorityType.ACCOUNT_OWNER,
        current_authority=wallet.address,
        new_authority=shop.address,
    )
    await sim.send([token.set_authority(given)])
    assert await paid(chain, shop.address) == [(asset, 33)]

    account = mint.account_of(shop.address)
    await sim.send(wallet.tokens(mint, shop.address, 5))
    assert await paid(chain, shop.address) == [(asset, 5)]
    burn = token.burn(
        models.BurnParams(program_id=mint.program, account=account, mint=mint.key, owner=shop.address, amount=5)
    )
    anew = [burn, shop.close(mint, account, wallet.address), *wallet.tokens(mint, shop.address, 12)]
    await sim.send(anew, shop.key)
    assert await paid(chain, shop.address) == [(asset, 7)]
    # Its owner transferred it again before the payment: the owner then is a stranger.
    away = models.SetAuthorityParams(
        program_id=mint.program,
        account=aux.pubkey(),
        authority=models.AuthorityType.ACCOUNT_OWNER,
        current_authority=shop.address,
        new_authority=wallet.address,
    )
    await sim.send([wallet.tokens_into(mint, aux.pubkey(), 4), token.set_authority(away)], shop.key)
    await sim.send([wallet.tokens_into(mint, aux.pubkey(), 6)])
    assert await paid(chain, shop.address) == []


async def test_wrapped_sol_is_counted_where_it_is_and_unwrapped_where_it_goes(chain: Chain) -> None:
    """S9: lamports above the count are no payment until they are synced, or come out with the account."""
    sim, wallet, shop = chain.sim, chain.sim.wallet, Wallet()
    wrapped, account = sim.asset(WRAPPED), WRAPPED.account_of(shop.address)
    await sim.send([wallet.open_account(WRAPPED, shop.address), wallet.sol(account, SOL)])
    assert await paid(chain, shop.address) == []
    await sim.send([token.sync_native(models.SyncNativeParams(program_id=WRAPPED.program, account=account))])
    assert await paid(chain, shop.address) == [(wrapped, SOL)]
    rent = await sim.rent(165)
    await sim.send([shop.close(WRAPPED, account, shop.address)], shop.key)
    assert await paid(chain, shop.address) == [(sim.native, SOL + rent)]


async def test_token_2022_is_credited_by_what_arrives(chain: Chain) -> None:
    """S8: plain and checked transfers, a mint that charges, an account that asks for a memo."""
    sim, wallet, shop = chain.sim, chain.sim.wallet, Wallet()
    mint = await sim.new_mint(program=TOKEN_2022_PROGRAM_ID)
    account, asset = mint.account_of(shop.address), sim.asset(mint)
    await sim.send(wallet.tokens(mint, shop.address, 10))
    assert await paid(chain, shop.address) == [(asset, 10)]
    plain = models.TransferParams(
        program_id=mint.program,
        source=mint.account_of(wallet.address),
        dest=account,
        owner=wallet.address,
        amount=3,
    )
    await sim.send([token.transfer(plain), token.transfer(plain)])
    assert await paid(chain, shop.address) == [(asset, 6)]
    await asks_for_a_memo(chain, shop, mint)
    memo = Instruction(MEMO, b"order 7", [AccountMeta(wallet.address, is_signer=True, is_writable=False)])
    await sim.send([memo, wallet.tokens_into(mint, account, 8)])
    assert await paid(chain, shop.address) == [(asset, 8)]
    taxed = sim.taxed
    await sim.send(
        [*wallet.tokens(taxed, shop.address, 100_000), wallet.tokens_into(taxed, taxed.account_of(shop.address), 1_000)]
    )
    assert await paid(chain, shop.address) == [(sim.asset(taxed), 99_990)]


async def asks_for_a_memo(chain: Chain, owner: Wallet, mint: Mint) -> None:
    """Make the owner's account one that accepts no transfer without a memo (Token-2022, MemoTransfer)."""
    account = mint.account_of(owner.address)
    keys = [
        AccountMeta(account, is_signer=False, is_writable=True),
        AccountMeta(chain.sim.wallet.address, is_signer=True, is_writable=True),
        AccountMeta(SYSTEM, is_signer=False, is_writable=False),
        AccountMeta(owner.address, is_signer=True, is_writable=False),
    ]
    longer = Instruction(mint.program, bytes((29,)) + (8).to_bytes(2, "little"), keys)
    wants = Instruction(
        mint.program,
        bytes((30, 0)),
        [
            AccountMeta(account, is_signer=False, is_writable=True),
            AccountMeta(owner.address, is_signer=True, is_writable=False),
        ],
    )
    await chain.sim.send([longer, wants], owner.key)
    await chain.sim.mine()

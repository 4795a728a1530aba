"""Every way in which value arrives, made by the real programs (HAZARDS S1 to S9), and the same name after a fork."""

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from railwatch.rail import Transfer
from railwatch_solana.dev.simulator import SOL, WRAPPED
from railwatch_solana.dev.wallet import Wallet
from tests.solana.conftest import Chain

pytestmark = pytest.mark.solana


def said(transfers: list[Transfer]) -> list[tuple[str, int]]:
    """(asset, amount) of each."""
    return [(transfer.asset, transfer.amount) for transfer in transfers]


async def test_a_failed_transaction_lands_and_pays_no_address(chain: Chain) -> None:
    """S1."""
    address = await chain.sim.new_address()
    tx_id = await chain.sim.fail_next(address, SOL)
    assert await chain.mined(address) == []
    landed = await chain.sim.rpc("getTransaction", tx_id, {"commitment": "confirmed"})
    assert landed["meta"]["err"] is not None


@pytest.mark.parametrize("version", [0, 1])
async def test_newer_versions_are_read(chain: Chain, version: int) -> None:
    """S2, S3: version 0 names its recipient in a lookup table only."""
    address = await chain.sim.new_address()
    tx_id = await chain.sim.pay_versioned(address, SOL, version)
    (transfer,) = await chain.mined(address)
    assert (transfer.tx_id, transfer.amount) == (tx_id, SOL)
    assert transfer.evidence["version"] == version


async def test_what_no_transfer_instruction_says_is_seen_in_balances(chain: Chain) -> None:
    """S4: an account that is closed in a stranger's favour, and tokens that only inner instructions move."""
    address, owner = await chain.sim.new_address(), Keypair()
    await chain.sim.pay_by_closing(address, SOL)
    assert said(await chain.mined(address)) == [(chain.sim.native, SOL)]
    tx_id = await chain.sim.pay_nested(owner, 1_000_000)
    transfers = await chain.mined(str(owner.pubkey()))
    assert (tx_id, chain.sim.asset(chain.sim.token), 1_000_000) in [
        (each.tx_id, each.asset, each.amount) for each in transfers
    ]


async def test_a_batch_pays_each_and_each_has_a_name(chain: Chain) -> None:
    """S4."""
    sim, addresses = chain.sim, [await chain.sim.new_address() for _ in range(3)]
    token = sim.asset(sim.token)
    payments = [(addresses[0], SOL, sim.native), (addresses[1], 7, token), (addresses[2], 2 * SOL, sim.native)]
    await sim.pay_many(payments)
    found = await chain.mined(*addresses)
    assert sorted(said(found)) == sorted([(sim.native, SOL), (token, 7), (sim.native, 2 * SOL)])
    assert len({transfer.tx_index for transfer in found}) == 3


async def test_an_account_made_in_the_same_transaction_is_credited_and_its_rent_is_not(chain: Chain) -> None:
    """S5: the first payment opens the account, the second finds it open."""
    sim, address = chain.sim, await chain.sim.new_address()
    for amount in (25, 30):
        await sim.pay(address, amount, sim.asset(sim.token))
    assert said(await chain.mined(address)) == [(sim.asset(sim.token), 25), (sim.asset(sim.token), 30)]


async def test_an_auxiliary_account_is_the_owners_as_well(chain: Chain) -> None:
    """S6."""
    sim, address = chain.sim, await chain.sim.new_address()
    await sim.pay_auxiliary(address, 40)
    await sim.pay_auxiliary(address, 2)
    assert [each.amount for each in await chain.mined(address)] == [40, 2]


async def test_a_transfer_fee_is_the_payers_affair(chain: Chain) -> None:
    """S8: what arrived is reported, which is less than what was sent."""
    sim, address = chain.sim, await chain.sim.new_address()
    await sim.pay(address, 100_000, sim.asset(sim.taxed))
    assert said(await chain.mined(address)) == [(sim.asset(sim.taxed), 99_000)]


async def test_a_token_that_is_not_configured_has_its_own_name(chain: Chain) -> None:
    """S8: mints that are not allowed are reported, under their own id, and never as one that is."""
    sim, address = chain.sim, await chain.sim.new_address()
    stranger = await sim.new_mint()
    await sim.send(sim.wallet.tokens(stranger, Pubkey.from_string(address), 5))
    assert said(await chain.mined(address)) == [(sim.asset(stranger), 5)]


async def test_wrapped_sol_is_not_sol(chain: Chain) -> None:
    """S9."""
    address = await chain.sim.new_address()
    await chain.sim.pay_wrapped(address, SOL)
    assert said(await chain.mined(address)) == [(chain.sim.asset(WRAPPED), SOL)]


async def test_who_pays_a_fee_or_pays_out_is_not_paid(chain: Chain) -> None:
    """A payment to oneself, and one to a stranger, by an address that is watched."""
    sim, shop = chain.sim, Wallet()
    await sim.pay(str(shop.address), SOL)
    await sim.mine()
    after = (await chain.rail.heads()).latest
    await sim.send([shop.sol(shop.address, SOL // 2)], payer=shop.key)
    await sim.send([shop.sol(sim.wallet.address, SOL // 2)], payer=shop.key)
    await sim.mine()
    assert await chain.found(str(shop.address), after=after) == []


async def test_references_are_offered_and_find(chain: Chain) -> None:
    """S12: a transfer names all keys of its transaction; the core searches for its own among them."""
    sim, address, mark = chain.sim, await chain.sim.new_address(), str(Keypair().pubkey())
    await sim.pay(address, SOL, references=[mark])
    await sim.pay(address, 5, sim.asset(sim.token), references=[mark])
    found = await chain.mined(address)
    assert len(found) == 2
    assert all(mark in transfer.references for transfer in found)
    assert await chain.found(mark) == []


async def test_a_fork_drops_a_confirmed_payment_and_lands_it_again_under_its_name(chain: Chain) -> None:
    """In another slot, at another place in its block."""
    sim, address = chain.sim, await chain.sim.new_address()
    tx_id = await sim.pay(address, SOL)
    (before,) = await chain.mined(address)
    await sim.reorg(1, keep=False)
    assert await chain.found(address) == []
    await sim.pay(await sim.new_address(), SOL)
    await sim.again(tx_id)
    (after,) = await chain.mined(address)
    assert (after.tx_id, after.tx_index, after.amount) == (before.tx_id, before.tx_index, before.amount)
    assert after.block != before.block

"""The merchant's stories on Solana: the daemon, real Postgres, and the real programs under forks that we order."""

from collections.abc import AsyncIterator

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from railwatch.store.database import Database
from railwatch.store.errors import Refused
from railwatch_solana.dev.simulator import SolanaSimulator
from tests.scenarios.auditing import audited
from tests.scenarios.solana_harness import RAIL, SolanaStage, solana_stage

pytestmark = pytest.mark.solana

SOL = 10**9
PAID = [("created", "created"), ("confirming", "included"), ("paid", "confirmed")]


@pytest.fixture
async def stage(database: Database) -> AsyncIterator[SolanaStage]:
    async with solana_stage(database) as stage:
        yield stage


async def test_a_day_at_the_shop(stage: SolanaStage) -> None:
    sim = stage.solana
    sol, token, taxed = await stage.asks(SOL), await stage.asks(25, "TST"), await stage.asks(99_000, "TAX")
    failed, short, wrong, odd = [await stage.asks(SOL) for _ in range(4)]
    await sim.pay(sol.address, SOL)
    await sim.pay(token.address, 25, sim.asset(sim.token))
    await sim.pay(taxed.address, 100_000, sim.asset(sim.taxed))
    await sim.fail_next(failed.address, SOL)
    await sim.pay(short.address, SOL - 1)
    await sim.pay(wrong.address, 7, sim.asset(sim.token))
    await sim.pay_wrapped(odd.address, SOL)
    await stage.produce()
    assert await stage.states([sol, token, taxed]) == ["paid", "paid", "paid"]
    assert await stage.states([failed, short, wrong, odd]) == ["created", "underpaid", "created", "created"]
    assert [await stage.open_cases(each) for each in (short, wrong, odd)] == [
        {"underpaid"},
        {"wrong_asset"},
        {"unsupported_asset"},
    ]
    assert await stage.path(sol) == PAID
    await sim.pay(short.address, 1)
    await stage.produce()
    assert await stage.state(short) == "paid"
    await stage.produce(12)
    assert (await stage.path(token, "detection"))[-1] == ("final", "final")
    await stage.audit()


async def test_a_batch_pays_three_invoices_and_is_three_detections(stage: SolanaStage) -> None:
    sim = stage.solana
    one, two, three = await stage.asks(SOL), await stage.asks(2 * SOL), await stage.asks(5, "TST")
    token = sim.asset(sim.token)
    await sim.pay_many([(one.address, SOL, sim.native), (two.address, 2 * SOL, sim.native), (three.address, 5, token)])
    await stage.produce()
    assert await stage.states([one, two, three]) == ["paid"] * 3
    assert await stage.database.value("select count(distinct tx_index) from railwatch.detections") == 3


async def test_a_fork_after_paid_is_reversed_and_what_lands_again_is_made_good(stage: SolanaStage) -> None:
    sim, invoice = stage.solana, await stage.asks(SOL)
    tx_id = await sim.pay(invoice.address, SOL)
    await stage.produce(2)
    assert await stage.state(invoice) == "paid"
    await sim.reorg(2, keep=False)
    await stage.follows()
    assert (await stage.path(invoice))[-1] == ("created", "reversed")
    assert await stage.open_cases(invoice) == {"reversed"}
    await sim.skip(3)
    await sim.again(tx_id)
    await stage.produce()
    assert (await stage.path(invoice))[-2:] == PAID[-2:]
    assert await stage.open_cases(invoice) == set()
    assert await stage.database.value("select count(*) from railwatch.detections") == 1
    await stage.audit()


async def test_a_fork_that_keeps_the_payment_is_emitted_as_lost_and_found(stage: SolanaStage) -> None:
    sim, invoice = stage.solana, await stage.asks(SOL)
    await sim.pay(invoice.address, SOL)
    await stage.produce(2)
    await sim.reorg(2)
    await stage.follows()
    assert await stage.path(invoice) == [*PAID, ("created", "reversed"), *PAID[-2:]]
    await stage.audit()
    audit = await audited(stage.config)
    assert (audit.differences, audit.transfers) == ([], 1)


async def test_a_fork_above_a_payment_leaves_it_alone(stage: SolanaStage) -> None:
    """Also where a registration came while the payment's block was the newest."""
    sim, invoice = stage.solana, await stage.asks(SOL)
    await sim.pay(invoice.address, SOL)
    await stage.produce()
    await stage.asks(SOL)
    await stage.produce()
    await sim.reorg(1)
    await stage.follows()
    assert await stage.path(invoice) == PAID


async def test_a_payment_that_came_before_its_registration_is_found_once(stage: SolanaStage) -> None:
    sim = stage.solana
    sol, token = await sim.new_address(), await sim.new_address()
    await sim.pay(sol, SOL)
    await sim.pay(token, 5, sim.asset(sim.token))
    await stage.produce(12)
    early = [await stage.asks(SOL, address=sol), await stage.asks(5, "TST", token)]
    for each in early:
        await stage.wait_for_state(each, "paid")
    await stage.produce()
    assert await stage.database.value("select count(*) from railwatch.detections") == 2


async def test_references_distinguish_the_payments_to_one_address(stage: SolanaStage) -> None:
    """Solana Pay: the reference finds; recipient, mint and amount decide (HAZARDS S12)."""
    sim = stage.solana
    shop, (mine, other, nobody) = await sim.new_address(), [str(Keypair().pubkey()) for _ in range(3)]
    first = await stage.asks(SOL, address=shop, reference=mine)
    second = await stage.asks(SOL, address=shop, reference=other)
    # A stranger puts our reference into a payment to another address, and pays us too little, and in another asset.
    await sim.pay(await sim.new_address(), SOL, references=[mine])
    await sim.pay(shop, SOL, references=[nobody])
    await stage.produce()
    assert await stage.states([first, second]) == ["created", "created"]
    await sim.pay(shop, SOL // 2, references=[mine])
    await sim.pay(shop, 5, sim.asset(sim.token), references=[other])
    await stage.produce()
    assert await stage.states([first, second]) == ["underpaid", "created"]
    assert await stage.open_cases(second) == {"wrong_asset"}
    await sim.pay(shop, SOL, references=[nobody, other])
    await stage.produce()
    assert await stage.states([first, second]) == ["underpaid", "paid"]
    await stage.audit()


async def test_a_payment_without_its_reference_is_recorded_and_can_be_assigned(stage: SolanaStage) -> None:
    """A wallet leaves the reference out (backpack#4369): no order is paid until a person says whose it is."""
    sim = stage.solana
    shop, references = await sim.new_address(), [str(Keypair().pubkey()) for _ in range(2)]
    orders = [await stage.asks(SOL, address=shop, reference=each) for each in references]
    bare = await sim.pay(shop, SOL)
    await sim.pay(shop, 5, sim.asset(sim.token))
    await stage.produce()
    assert await stage.states(orders) == ["created", "created"]
    rows = await stage.database.rows("select id, tx_id, amount from railwatch.unallocated_transfers order by amount")
    assert [row["amount"] for row in rows] == [5, SOL]
    assert rows[1]["tx_id"] == bare
    assign = "select railwatch.assign_transfer($1, $2, 'ann', 'the receipt')"
    await stage.database.value(assign, rows[1]["id"], orders[1].id)
    await stage.wait_for_state(orders[1], "paid")
    assert await stage.states(orders) == ["created", "paid"]
    await stage.audit()


async def test_what_could_never_be_paid_is_refused_with_the_reason(stage: SolanaStage) -> None:
    sim = stage.solana
    least = await sim.rent()
    assert str(least) in (await stage.refused(await stage.asks(least - 1)) or "")
    assert await stage.refused(await stage.asks(least)) is None
    assert await stage.refused(await stage.asks(1, "TST")) is None
    # An address that holds its rent already can be paid any amount.
    used = await sim.new_address()
    await sim.pay(used, least)
    await stage.produce()
    assert await stage.refused(await stage.asks(1, address=used)) is None
    # No owner's address: what is paid to a token account, or to a mint, belongs to a stranger.
    await sim.pay(used, 5, sim.asset(sim.token))
    await stage.produce()
    account = str(sim.token.account_of(Pubkey.from_string(used)))
    for mistaken in (account, str(sim.token.key), str(sim.taxed.key)):
        assert "give the address of that owner" in (await stage.refused(await stage.asks(SOL, address=mistaken)) or "")
    shop = await sim.new_address()
    assert "reference" in (await stage.refused(await stage.asks(SOL, address=shop, reference="order 7")) or "")
    assert "EVM" in (await stage.refused(await stage.asks(SOL, address="0x" + "ab" * 20)) or "")


async def test_a_depth_that_means_nothing_here_is_refused(stage: SolanaStage) -> None:
    """Confirmed is 1, and the next thing is finalized."""
    with pytest.raises(Refused, match="at most 1 confirmations"):
        await stage.asks(SOL, policy={"confirmations": 2})


async def test_a_block_that_is_missing_stalls_the_rail_and_is_never_skipped(stage: SolanaStage) -> None:
    """HAZARDS S11: it heals when the node has the block, and what was in it is emitted once."""
    sim, invoice = stage.solana, await stage.asks(SOL)
    lost = (await sim.rpc("devState"))["nextSlot"]
    await sim.rpc("devWithhold", lost, {"code": -32009, "listed": False})
    await sim.pay(invoice.address, SOL)
    await sim.mine(3)
    assert f"a hole above {lost - 1}" in await stage.rail_is("stalled", RAIL)
    assert (await stage.rail(RAIL))["cursor_height"] == lost - 1
    await sim.rpc("devRestore")
    await stage.wait_for_state(invoice, "paid")
    assert await stage.path(invoice) == PAID
    await stage.audit()


async def test_what_is_pruned_is_never_skipped(stage: SolanaStage) -> None:
    """Going on would lose money without a word: the rail stalls, with a reason, until a node has the blocks."""
    sim = stage.solana
    await stage.asks(SOL)
    reached = await sim.slot()
    await stage.stop()
    await sim.mine(30)
    await sim.rpc("devPrune", reached + 10)
    await stage.start(wait=False)

    async def says_so() -> bool:
        rail = await stage.rail(RAIL)
        return rail["state"] == "stalled" and f"has pruned the block of slot {reached + 1} " in str(rail["reason"])

    await stage.until(says_so)
    assert (await stage.rail(RAIL))["cursor_height"] == reached


async def test_a_short_ledger_is_searched_as_far_as_it_goes(stage: SolanaStage) -> None:
    """S14: `covered_from` says how far; the rail goes on, and a payment in what is kept is found."""
    sim = stage.solana
    address = await sim.new_address()
    await sim.mine(40)
    await sim.pay(address, SOL)
    await stage.produce(3)
    kept = await sim.slot() - 20
    await sim.rpc("devPrune", kept)
    invoice = await stage.asks(SOL, address=address)
    await stage.wait_for_state(invoice, "paid")
    covered = await stage.database.value(
        "select covered_from from railwatch.destinations where invoice_id = $1", invoice.id
    )
    assert covered == kept + 1
    assert (await stage.rail(RAIL))["state"] == "live"


async def test_a_rescan_below_what_is_kept_fails_alone(stage: SolanaStage) -> None:
    """With its reason in its row; the rail goes on, and so does the next rescan."""
    sim = stage.solana
    await stage.asks(SOL)
    await sim.mine(40)
    await stage.produce(1)
    head = await sim.slot()
    await sim.rpc("devPrune", head - 20)
    await stage.database.value("select railwatch.request_rescan($1, 1, $2)", RAIL, head - 30)

    async def failed() -> bool:
        row = await stage.database.row("select error, finished_at from railwatch.rescans order by id limit 1")
        return row is not None and row["finished_at"] is not None and "has pruned" in str(row["error"])

    await stage.until(failed)
    invoice = await stage.asks(SOL)
    await sim.pay(invoice.address, SOL)
    await stage.produce(2)
    await stage.wait_for_state(invoice, "paid")
    assert (await stage.rail(RAIL))["state"] == "live"


async def test_a_policy_of_finality_waits_for_it(database: Database) -> None:
    async with solana_stage(database, SolanaSimulator(root_lag=3), policy={"finalized": True}) as stage:
        invoice = await stage.asks(SOL)
        await stage.solana.pay(invoice.address, SOL)
        await stage.produce()
        assert await stage.state(invoice) == "confirming"
        await stage.produce(2)
        assert await stage.state(invoice) == "confirming"
        await stage.produce()
        assert await stage.state(invoice) == "paid"


async def test_where_confirmed_is_finalized_nothing_breaks(database: Database) -> None:
    """Alpenglow: one commitment instead of two."""
    async with solana_stage(database, SolanaSimulator(root_lag=0), policy={"finalized": True}) as stage:
        invoice = await stage.asks(SOL)
        await stage.solana.pay(invoice.address, SOL)
        await stage.produce()
        assert await stage.path(invoice) == PAID
        await stage.audit()

"""The merchant's stories on real coins: bitcoind, real Postgres, and what a mempool and a fork can do between them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from railwatch.config import Config
from railwatch.store.database import Database
from railwatch_bitcoin.dev.simulator import BitcoinSimulator
from railwatch_bitcoin.dev.wallet import KINDS
from tests.scenarios.auditing import audited
from tests.scenarios.bitcoin_harness import AMOUNT, RAIL, BitcoinStage

pytestmark = pytest.mark.bitcoind

CREATED, DETECTED = ("created", "created"), ("detected", "seen")
CONFIRMING, PAID = ("confirming", "included"), ("paid", "confirmed")


@pytest.fixture
async def stage(database: Database, tmp_path: Path) -> AsyncIterator[BitcoinStage]:
    """One node, and a daemon that follows it."""
    async with BitcoinSimulator() as sim, BitcoinStage(sim, database, tmp_path) as stage:
        await stage.start()
        yield stage
        await stage.tables.audit()


@pytest.fixture
async def two(database: Database, tmp_path: Path) -> AsyncIterator[BitcoinStage]:
    """Two nodes of one chain, and a daemon that knows both."""
    async with BitcoinSimulator(nodes=2) as sim, BitcoinStage(sim, database, tmp_path) as stage:
        await stage.start()
        yield stage
        await stage.tables.audit()


async def test_a_payment_is_seen_in_the_mempool_and_deepens_to_paid(stage: BitcoinStage) -> None:
    invoice = await stage.invoice()
    tx_id = await stage.pay(invoice)
    await stage.emits(invoice, CREATED, DETECTED)
    await stage.mine()
    assert await stage.tables.path(invoice) == [CREATED, DETECTED, CONFIRMING]
    await stage.mine()
    assert await stage.tables.path(invoice) == [CREATED, DETECTED, CONFIRMING, PAID]
    [detection] = await stage.detections(invoice)
    assert (detection["tx_id"], detection["tx_index"], int(detection["amount"])) == (tx_id, "vout:0", AMOUNT)
    assert (detection["state"], detection["block_height"]) == ("confirmed", await stage.sim.height() - 1)


async def test_a_rescan_of_few_addresses_goes_by_filters_and_says_so(stage: BitcoinStage) -> None:
    """Few addresses are searched for by the node's filters, as far down as no reorg may go. Above that blocks are read,
    because no filter knows which coins are spent. What is known already stays as it is."""
    invoice = await stage.invoice()
    await stage.pay(invoice)
    await stage.mine()
    with capture_logs() as lines:
        await stage.tables.database.value("select railwatch.request_rescan($1, 0)", RAIL)
        await stage.tables.rescanned()
    passed = [line for line in lines if line["event"] == "rescan.passed"]
    assert passed
    assert [line["route"] for line in passed][-1] == "blocks"
    assert {line["route"] for line in passed[:-1]} == {"filters"}
    assert await stage.tables.database.value("select count(*) from railwatch.detections") == 1
    assert (await stage.tables.path(invoice))[-1] == CONFIRMING


async def test_an_address_in_capitals_stays_the_merchants_who_had_it(stage: BitcoinStage) -> None:
    """BIP173 allows both spellings. A late customer's money must not reach an invoice with the other one."""
    theirs = await stage.invoice()
    await stage.database.value("select railwatch.cancel_invoice($1)", theirs.id)
    ours = await stage.order(theirs.address.upper(), merchant_id="another")
    await stage.tables.all_taken_in()
    await stage.pay(theirs)
    await stage.mine(2)
    row = await stage.database.row(
        "select watch_state, watch_error from railwatch.destinations where invoice_id = $1", ours.id
    )
    assert row is not None
    assert tuple(row) == ("rejected", "the address belongs to another merchant")
    [detection] = await stage.detections(theirs)
    assert detection["kind"] == "unexpected"
    assert await stage.detections(ours) == []


async def test_every_kind_of_address_is_paid(stage: BitcoinStage) -> None:
    invoices = [await stage.order(await stage.sim.new_address(kind)) for kind in KINDS]
    invoices.append(await stage.order((await stage.sim.new_address()).upper()))
    await stage.tables.all_taken_in()
    for invoice in invoices[:-1]:
        await stage.pay(invoice)
    await stage.sim.pay(invoices[-1].address.lower(), AMOUNT)
    await stage.mine(2)
    assert [await stage.tables.state(invoice) for invoice in invoices] == ["paid"] * 6


async def test_a_replacement_that_pays_elsewhere_is_named(stage: BitcoinStage) -> None:
    """Waiting, and for good when it is mined (HAZARDS B1)."""
    invoice = await stage.invoice()
    tx_id = await stage.pay(invoice)
    await stage.emits(invoice, CREATED, DETECTED)
    rival = await stage.sim.replace(tx_id)
    await stage.emits(invoice, CREATED, DETECTED, ("created", "replaced"))
    await stage.has_open(invoice, "double_spend")
    await stage.mine(3)
    assert await stage.tables.path(invoice) == [CREATED, DETECTED, ("created", "replaced")]
    [detection] = await stage.detections(invoice)
    assert (detection["tx_id"], detection["state"], detection["replaced_by"]) == (tx_id, "replaced", rival)


async def test_a_raised_fee_is_another_detection_and_no_alarm(stage: BitcoinStage) -> None:
    invoice = await stage.invoice()
    tx_id = await stage.pay(invoice)
    await stage.emits(invoice, CREATED, DETECTED)
    bumped = await stage.sim.bump(tx_id)

    async def is_replaced() -> bool:
        return [each["replaced_by"] for each in await stage.detections(invoice)] == [bumped, None]

    await stage.until(is_replaced)
    await stage.mine(2)
    assert await stage.tables.state(invoice) == "paid"
    assert await stage.tables.open_cases(invoice) == set()


async def test_who_replaces_an_ancestor_replaces_the_payment(stage: BitcoinStage) -> None:
    """Though it spends no coin of it, and the chain between pays no invoice."""
    invoice = await stage.invoice()
    chain = await stage.sim.pay_through(invoice.address, AMOUNT, 4)
    await stage.emits(invoice, CREATED, DETECTED)
    rival = await stage.sim.replace(chain[0])
    await stage.emits(invoice, CREATED, DETECTED, ("created", "replaced"))
    await stage.mine()
    [detection] = await stage.detections(invoice)
    assert (detection["tx_id"], detection["state"], detection["replaced_by"]) == (chain[-1], "replaced", rival)


async def test_a_chain_of_waiting_transactions_is_mined_without_rivals(stage: BitcoinStage) -> None:
    """Each spends its parent's coins, and none displaces another."""
    invoice = await stage.invoice()
    await stage.sim.pay_through(invoice.address, AMOUNT, 4)
    await stage.emits(invoice, CREATED, DETECTED)
    await stage.mine(2)
    assert await stage.tables.path(invoice) == [CREATED, DETECTED, CONFIRMING, PAID]
    assert await stage.tables.open_cases(invoice) == set()


async def test_what_is_dropped_and_comes_back_is_the_same_detection(stage: BitcoinStage) -> None:
    """HAZARDS B2."""
    invoice = await stage.invoice()
    tx_id = await stage.pay(invoice)
    await stage.emits(invoice, CREATED, DETECTED)
    await stage.sim.drop(tx_id)
    await stage.emits(invoice, CREATED, DETECTED, ("created", "dropped"))
    assert await stage.tables.open_cases(invoice) == set()
    await stage.sim.bring_back(tx_id)
    await stage.emits(invoice, CREATED, DETECTED, ("created", "dropped"), DETECTED)
    await stage.mine(2)
    assert await stage.tables.state(invoice) == "paid"
    assert len(await stage.detections(invoice)) == 1


async def test_a_fork_that_spends_a_paid_payment_elsewhere_is_emitted(stage: BitcoinStage) -> None:
    """Two blocks below the tip (HAZARDS B4, B5); the neighbour in the same block stays paid."""
    invoice, neighbour = await stage.invoice(), await stage.invoice()
    tx_id = await stage.pay(invoice)
    await stage.pay(neighbour)
    await stage.mine(2)
    assert [await stage.tables.state(each) for each in (invoice, neighbour)] == ["paid", "paid"]
    rival = await stage.sim.reverse(2, tx_id)
    await stage.follows()
    assert (await stage.tables.path(invoice))[-2:] == [PAID, ("created", "reversed")]
    assert await stage.tables.open_cases(invoice) == {"reversed", "double_spend"}
    [detection] = await stage.detections(invoice)
    assert (detection["state"], detection["replaced_by"]) == ("replaced", rival)
    assert (await stage.tables.path(neighbour))[-3:] == [("created", "reversed"), CONFIRMING, PAID]
    assert await stage.tables.open_cases(neighbour) == set()
    audit = await audited(Config.model_validate(stage.config))
    assert (audit.differences, audit.transfers) == ([], 1)


async def test_a_fork_that_keeps_the_payment_is_made_good(stage: BitcoinStage) -> None:
    invoice = await stage.invoice()
    await stage.pay(invoice)
    await stage.mine(2)
    await stage.sim.reorg(2)
    await stage.follows()
    assert (await stage.tables.path(invoice))[-4:] == [PAID, ("created", "reversed"), CONFIRMING, PAID]
    assert await stage.tables.open_cases(invoice) == set()
    assert len(await stage.detections(invoice)) == 1


async def test_a_double_spend_that_no_mempool_saw_settles_it(stage: BitcoinStage) -> None:
    invoice = await stage.invoice()
    tx_id = await stage.pay(invoice)
    await stage.emits(invoice, CREATED, DETECTED)
    rival = await stage.sim.double_spend_in_block(tx_id)
    await stage.emits(invoice, CREATED, DETECTED, ("created", "replaced"))
    [detection] = await stage.detections(invoice)
    assert detection["replaced_by"] == rival


async def test_a_reward_is_paid_only_once_it_can_be_spent(stage: BitcoinStage) -> None:
    """A hundred deep, whatever the policy says (HAZARDS B7)."""
    invoice = await stage.invoice(50 * 10**8)
    await stage.sim.coinbase_to(invoice.address)
    await stage.mine(98)
    assert await stage.tables.path(invoice) == [CREATED, CONFIRMING]
    await stage.mine()
    assert await stage.tables.path(invoice) == [CREATED, CONFIRMING, PAID]


async def test_one_transaction_pays_many_invoices(stage: BitcoinStage) -> None:
    """Each by its own output, also twice the same (HAZARDS B6)."""
    placed = [await stage.order(await stage.sim.new_address(), AMOUNT + number) for number in range(20)]
    await stage.tables.all_taken_in()
    twice = (placed[0].address, 1_000)
    payments = [(invoice.address, AMOUNT + number) for number, invoice in enumerate(placed)]
    await stage.sim.pay_many([twice, *payments, twice])
    await stage.mine(2)
    assert [await stage.tables.state(invoice) for invoice in placed] == ["overpaid"] + ["paid"] * 19
    assert {each["tx_index"] for each in await stage.detections(placed[0])} == {"vout:0", "vout:1", "vout:21"}
    for number, invoice in enumerate(placed[1:], start=1):
        [detection] = await stage.detections(invoice)
        assert (detection["tx_index"], int(detection["amount"])) == (f"vout:{number + 1}", AMOUNT + number)


async def test_what_was_paid_before_it_was_registered_is_found_once(stage: BitcoinStage) -> None:
    """Waiting, or in a block (HAZARDS B17)."""
    mined, waiting = await stage.sim.new_address(), await stage.sim.new_address()
    await stage.sim.pay(mined, AMOUNT)
    await stage.mine(5)
    await stage.sim.pay(waiting, AMOUNT)
    early, late = await stage.order(mined), await stage.order(waiting)
    await stage.tables.all_taken_in()
    assert (await stage.tables.path(early))[-1] == PAID
    await stage.emits(late, CREATED, DETECTED)
    await stage.mine(2)
    assert await stage.tables.state(late) == "paid"
    assert [len(await stage.detections(each)) for each in (early, late)] == [1, 1]


async def test_a_payment_in_the_block_that_replaces_the_tip_is_found(stage: BitcoinStage) -> None:
    """Registered at a block that is no more (HAZARDS B18)."""
    await stage.mine()
    invoice = await stage.invoice()
    tx_id = await stage.pay(invoice)
    await stage.emits(invoice, CREATED, DETECTED)
    await stage.sim.rewrite(1, [stage.sim.sent(tx_id)])
    await stage.follows()
    assert (await stage.tables.path(invoice))[-1] == PAID


async def test_a_node_that_ends_in_order_remembers_what_waits(stage: BitcoinStage) -> None:
    invoice = await stage.invoice()
    await stage.pay(invoice)
    await stage.emits(invoice, CREATED, DETECTED)
    await stage.sim.fleet.stop()
    await stage.rail_is("stalled")
    await stage.sim.fleet.start()
    await stage.mine(2)
    assert await stage.tables.path(invoice) == [CREATED, DETECTED, CONFIRMING, PAID]


async def test_a_node_that_is_killed_forgets_what_waits(stage: BitcoinStage) -> None:
    """Dropped, and found again when it is sent once more; what is in blocks stays (HAZARDS B2, B16)."""
    invoice, paid = await stage.invoice(), await stage.invoice()
    await stage.pay(paid)
    await stage.mine(2)
    tx_id = await stage.pay(invoice)
    await stage.emits(invoice, CREATED, DETECTED)
    await stage.sim.fleet.stop(kill=True)
    await stage.sim.fleet.start()
    await stage.emits(invoice, CREATED, DETECTED, ("created", "dropped"))
    assert await stage.tables.state(paid) == "paid"
    await stage.sim.bring_back(tx_id)
    await stage.mine(2)
    assert await stage.tables.state(invoice) == "paid"


async def test_a_node_that_lost_its_newest_blocks_is_behind_and_not_believed(stage: BitcoinStage) -> None:
    """A lower head is lag and no reorg: nothing is reversed, and all is well when the blocks are back."""
    invoice = await stage.invoice()
    await stage.pay(invoice)
    await stage.mine(2)
    lost = await stage.sim.branch(2)
    path = await stage.tables.path(invoice)
    await stage.sim.rpc("invalidateblock", lost[0])
    # What is registered meanwhile can only be looked back for once the blocks are there again.
    waiting = await stage.order(await stage.sim.new_address())
    await stage.sim.pay(waiting.address, AMOUNT)
    await stage.sim.rpc("reconsiderblock", lost[0])
    await stage.tables.all_taken_in()
    await stage.mine(2)
    assert await stage.tables.path(invoice) == path
    assert await stage.tables.state(waiting) == "paid"


async def test_when_a_node_goes_the_other_answers(two: BitcoinStage) -> None:
    invoice = await two.invoice()
    await two.pay(invoice)
    await two.emits(invoice, CREATED, DETECTED)
    await two.sim.fleet.stop(0, kill=True)
    await two.sim.mine(2, at=1)
    await two.follows(at=1)
    await two.emits(invoice, CREATED, DETECTED, CONFIRMING, PAID)
    await two.sim.fleet.start(0)
    await two.sim.fleet.heal()
    await two.mine()
    assert await two.tables.state(invoice) == "paid"


async def test_two_nodes_that_part_are_believed_when_they_agree_again(two: BitcoinStage) -> None:
    """Nothing is promoted on a chain that the other node contradicts; healed, the longer branch is emitted exactly."""
    lost, kept = await two.invoice(), await two.invoice()
    tx_id = await two.pay(lost)
    await two.pay(kept)
    await two.emits(lost, CREATED, DETECTED)
    await two.emits(kept, CREATED, DETECTED)
    await two.sim.fleet.partition()
    rival = await two.sim.double_spend_in_block(tx_id, at=1)
    await two.sim.mine(2, at=1)
    await two.sim.mine(2)
    await two.rail_is("stalled")
    await two.sim.fleet.heal()
    await two.follows()
    assert await two.sim.head(0) == await two.sim.head(1)
    assert (await two.tables.path(lost))[-1] == ("created", "replaced")
    assert PAID not in await two.tables.path(lost)
    [detection] = await two.detections(lost)
    assert (detection["state"], detection["replaced_by"]) == ("replaced", rival)
    assert (await two.tables.path(kept))[-1] == PAID


@pytest.mark.litecoind
async def test_the_same_on_a_litecoind_that_pushes_nothing(database: Database, tmp_path: Path) -> None:
    """Seen by asking: waiting, replaced, paid, orphaned."""
    async with BitcoinSimulator("litecoind") as sim, BitcoinStage(sim, database, tmp_path) as stage:
        await stage.start()
        paid, replaced = await stage.invoice(), await stage.invoice()
        tx_id, old = await stage.pay(paid), await stage.pay(replaced)
        await stage.emits(paid, CREATED, DETECTED)
        await stage.emits(replaced, CREATED, DETECTED)
        rival = await stage.sim.replace(old)
        await stage.emits(replaced, CREATED, DETECTED, ("created", "replaced"))
        await stage.mine()
        await stage.mine()
        assert await stage.tables.path(paid) == [CREATED, DETECTED, CONFIRMING, PAID]
        assert [each["replaced_by"] for each in await stage.detections(replaced)] == [rival]
        await stage.sim.reverse(2, tx_id)
        await stage.follows()
        assert (await stage.tables.path(paid))[-1] == ("created", "reversed")
        assert await stage.tables.open_cases(paid) == {"reversed", "double_spend"}
        await stage.tables.audit()

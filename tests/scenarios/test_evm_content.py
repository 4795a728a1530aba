"""Content follows the chain on a real node: a contract's transaction pays what the contract holds at that moment."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from railwatch.config.loading import load_config
from railwatch.store.database import Database
from tests.scenarios.auditing import audited
from tests.scenarios.daemon_harness import Placed
from tests.scenarios.evm_harness import EvmStage, evm_stage

pytestmark = pytest.mark.anvil

ETHER = 10**18

FORWARDER = (
    "6015" "80" "600b" "6000" "39" "6000" "f3"  # return the 21 bytes that follow as the contract
    "36" "6005" "57" "00" "5b"  # called without data: keep what came
    "6000" "6000" "6000" "6000" "47" "6000" "35" "5a" "f1" "00"  # else send all it holds to the address in the data
)  # fmt: skip
"""What a sweeper does: what its transaction pays depends on the state before it."""


@pytest.fixture
async def stage(database: Database, tmp_path: Path) -> AsyncIterator[EvmStage]:
    async with evm_stage(database, tmp_path, epoch=4) as stage:
        await stage.start()
        await stage.follows()
        yield stage


async def forwarder(stage: EvmStage, holds: int) -> str:
    """A forwarder that holds some ether; returns its address."""
    made = await stage.sim.send({"data": "0x" + FORWARDER, "gas": hex(200_000)})
    await stage.mine()
    contract = str((await stage.sim.rpc("eth_getTransactionReceipt", made))["contractAddress"])
    await stage.sim.pay(contract, holds)
    await stage.mine()
    return contract


async def detections(stage: EvmStage, invoice: Placed) -> list[tuple[str, int, str | None]]:
    """(state, amount, second look) of all that an invoice received."""
    rows = await stage.database.rows(
        "select state, amount, second_look from railwatch.detections where invoice_id = $1", invoice.id
    )
    return [(row["state"], int(row["amount"]), row["second_look"]) for row in rows]


async def test_content_follows_the_chain_a_sweep_that_pays_less_after_a_reorg_pays_less(stage: EvmStage) -> None:
    contract, invoice = await forwarder(stage, 6 * ETHER // 10), await stage.invoice(ETHER)
    stranger = (await stage.sim.rpc("eth_accounts"))[1]
    await stage.sim.rpc("eth_sendTransaction", {"from": stranger, "to": contract, "value": hex(4 * ETHER // 10)})
    data = "0x" + invoice.address[2:].rjust(64, "0")
    sweep = await stage.sim.send({"to": contract, "data": data, "gas": hex(200_000)})
    await stage.mine(2)
    assert await stage.tables.state(invoice) == "paid"
    assert await detections(stage, invoice) == [("confirmed", ETHER, None)]

    # The new branch has the sweep without the top-up before it.
    raw = await stage.sim.rpc("eth_getRawTransactionByHash", sweep)
    await stage.sim.rpc("anvil_reorg", 2, [[raw, 0]])
    await stage.mine(2)
    assert await stage.balance(invoice, "ETH") == 6 * ETHER // 10
    assert await stage.tables.state(invoice) == "underpaid"
    assert await stage.tables.open_cases(invoice) == {"underpaid", "reversed"}
    await stage.check([(invoice, "ETH", ETHER)])


async def test_the_second_look_reads_a_final_payment_again_and_an_audit_finds_no_difference(stage: EvmStage) -> None:
    contract, swept, token = await forwarder(stage, ETHER), await stage.invoice(ETHER), await stage.invoice(7, "TST")
    data = "0x" + swept.address[2:].rjust(64, "0")
    await stage.sim.send({"to": contract, "data": data, "gas": hex(200_000)})
    await stage.sim.pay(token.address, 7, stage.sim.assets[1])
    await stage.mine(2)
    await stage.sim.reorg(2)
    await stage.follows()
    await stage.mine(12)
    assert await detections(stage, swept) == [("final", ETHER, "verified")]
    assert await detections(stage, token) == [("final", 7, "verified")]
    audit = await audited(await asyncio.to_thread(load_config, stage.folder / "railwatch.toml"))
    assert (audit.differences, audit.transfers) == ([], 2)

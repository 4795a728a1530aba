"""What is stored is compared with a real node's chain when its rail is resumed; `test_inclusions.py` has the cases."""

import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from railwatch.store.database import Database
from tests.scenarios.evm_harness import EvmStage, evm_stage

pytestmark = pytest.mark.anvil

ETHER = 10**18


async def believes_head(stage: EvmStage) -> None:
    """Make the database say that the rail was followed to the node's head, as if a defect had passed over a reorg."""
    head = await stage.sim.rpc("eth_getBlockByNumber", "latest", False)
    await stage.database.value(
        "update railwatch.rails set cursor_height = $1, cursor_hash = $2, cursor_parent = $3, cursor_time = $4 "
        "returning 1",
        int(head["number"], 16),
        head["hash"],
        head["parentHash"],
        datetime.fromtimestamp(int(head["timestamp"], 16), UTC),
    )
    await stage.database.value(
        "delete from railwatch.checkpoints where height > (select finalized_height from railwatch.rails)"
    )


async def test_an_inclusion_whose_block_anvil_does_not_have_is_orphaned_at_the_start(
    database: Database, tmp_path: Path
) -> None:
    async with evm_stage(database, tmp_path, epoch=32) as stage:
        daemon = await stage.start()
        await stage.follows()
        stays, falls = await stage.invoice(ETHER), await stage.invoice(7, "TST")
        moves = await stage.invoice(ETHER)
        await stage.sim.pay(stays.address, ETHER)
        await stage.mine(3)
        kept = await stage.sim.pay(moves.address, ETHER)
        await stage.sim.pay(falls.address, 7, stage.sim.assets[1])
        await stage.mine(2)
        for invoice in (stays, falls, moves):
            await stage.tables.wait_for_state(invoice, "paid")
        daemon.send_signal(signal.SIGTERM)
        assert await daemon.wait() == 0
        raw = await stage.sim.rpc("eth_getRawTransactionByHash", kept)
        await stage.sim.reorg(2, keep=False)
        await believes_head(stage)
        await stage.sim.rpc("eth_sendRawTransaction", raw)
        await stage.sim.mine(2)
        await stage.start()
        await stage.follows()
        await stage.tables.wait_for_state(falls, "created")
        assert (await stage.tables.path(falls))[-1] == ("created", "reversed")
        await stage.tables.wait_for_state(moves, "paid")
        assert ("created", "reversed") in await stage.tables.path(moves)
        assert "reversed" not in [reason for _, reason in await stage.tables.path(stays)]
        await stage.check([(stays, "ETH", ETHER), (moves, "ETH", ETHER), (falls, "TST", 7)])

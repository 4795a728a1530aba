"""What is kept of each sighting, and by whom it can be changed."""

import pytest

from railwatch.store.errors import Refused
from tests.scenarios.daemon_harness import DaemonHarness


async def test_every_sighting_is_kept_with_the_node_that_told_it(stage: DaemonHarness) -> None:
    invoice = await stage.invoice(100)
    tx = await stage.pay(invoice, 100)
    await stage.wait_for_state(invoice, "detected")
    await stage.mine(2)
    await stage.sim.reorg(2, keep=True)
    await stage.follows()
    rows = await stage.database.rows(
        "select o.*, t.seq from railwatch.observations o join railwatch.transitions t on t.subject_id = o.detection_id "
        "and (t.evidence ->> 'observation')::int = o.version order by o.version"
    )
    assert [row["state"] for row in rows] == ["pending", "included", "included"]
    assert len({row["block_hash"] for row in rows}) == 3
    assert {row["node"] for row in rows} == {"node"}
    assert all(row["raw"]["amount"] == "100" for row in rows)
    assert await stage.database.value("select tx_id from railwatch.detections") == tx


@pytest.mark.parametrize("act", ["update railwatch.observations set node = 'x'", "delete from railwatch.observations"])
async def test_what_was_observed_can_be_changed_by_nobody(stage: DaemonHarness, act: str) -> None:
    invoice = await stage.invoice(100)
    await stage.pay(invoice, 100)
    await stage.mine()
    for statement in (act, "truncate railwatch.observations"):
        with pytest.raises(Refused, match="append-only") as refused:
            await stage.database.value(statement)
        assert refused.value.code == "RW015"

"""What a migration makes of data that is there: nothing of it is lost."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from railwatch.store import migrate as migrations
from railwatch.store.migrate import known_migrations, migrate
from tests.migration.test_migrations import empty, opened

__all__ = ["empty"]

START = datetime(2026, 1, 1, tzinfo=UTC)


async def old_data(connection: Any) -> tuple[UUID, list[UUID]]:
    """An invoice with five payments of which each has a row; returns its destination, and the transfers."""
    run = connection.execute
    invoice, destination, transfers = uuid4(), uuid4(), [uuid4() for _ in range(5)]
    await run(
        """insert into railwatch.rails (name, chain_id, family, fold_case, has_finality)
           values ('r', 'c:1', 'f', false, false)"""
    )
    await run("insert into railwatch.assets (id, rail, symbol, decimals) values ('a', 'r', 'A', 0)")
    await run(
        """insert into railwatch.invoices (id, merchant_id, order_id, state, expires_at, closes_at, policy, time_basis,
                                            terms)
           values ($1, 'm', 'o', 'cancelled', now(), now(), '{}', 'first_seen', '{}')""",
        invoice,
    )
    await run(
        """insert into railwatch.destinations (id, invoice_id, rail, asset, address, expected_amount, policy,
                                               policy_origin, family, address_folded, position)
           values ($1, $2, 'r', 'a', 'x', 1, '{}', 'default', 'f', 'x', 1)""",
        destination,
        invoice,
    )
    for nth, transfer in enumerate(transfers):
        await run(
            """insert into railwatch.detections (id, invoice_id, destination_id, rail, asset, tx_id, tx_index, amount,
                                                 state, kind, block_height, block_hash, first_seen_at)
               values ($1, $2, $3, 'r', 'a', $4, '0', $5, 'confirmed', 'unexpected', 1, 'b', now())""",
            *(transfer, invoice, destination, f"t{nth}", 10**nth),
        )
        # The first was resolved by a person, the second has ended, the others are open.
        await run(
            """insert into railwatch.exceptions (id, invoice_id, detection_id, kind, severity, opened_at, resolved_at,
                                                 resolution, ended_at, owner)
               values ($1, $2, $3, 'unexpected_payment', 'warning', $4, $5, $6, $7, 'ann')""",
            *(uuid4(), invoice, transfer, START + timedelta(hours=nth)),
            START + timedelta(days=1) if nth < 2 else None,
            ("sent back", "made good", None, None, None)[nth],
            START + timedelta(days=1) if nth == 1 else None,
        )
    return destination, transfers


async def test_rows_for_each_transfer_become_one_for_each_group(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    every = known_migrations()
    before = max(each.version for each in every if each.name == "exceptions")
    connection = await opened(empty)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(migrations, "known_migrations", lambda: every[: before - 1])
            await migrate(connection)
        destination, transfers = await old_data(connection)
        await migrate(connection)
        rows = await connection.fetch(
            "select *, resolved_at is null as open from railwatch.exceptions order by round, opened_at"
        )
        assert [row["round"] for row in rows] == [1, 2, 3, 4, 5]
        assert {row["destination_id"] for row in rows} == {destination}
        by_transfer = {row["detection_id"]: row for row in rows}
        decided, gone, kept, *merged = (by_transfer[each] for each in transfers)
        assert (decided["resolution"], decided["ended_at"], decided["transfers"], decided["amount"]) == (
            "sent back",
            None,
            1,
            1,
        )
        assert (gone["resolution"], gone["transfers"]) == ("made good", 0)
        assert (kept["open"], kept["transfers"], kept["amount"], kept["round"]) == (True, 3, 11_100, 5)
        assert {row["resolution"] for row in merged} == {f"merged into {kept['id']}"}
        held = await connection.fetch(
            "select detection_id from railwatch.exception_transfers where exception_id = $1 and left_at is null",
            kept["id"],
        )
        assert {row["detection_id"] for row in held} == set(transfers[2:])
        told = await connection.fetch(
            "select subject_id, from_state, to_state, reason from railwatch.transitions order by seq"
        )
        assert {row["subject_id"] for row in told} == {row["id"] for row in merged}
        assert {(row["from_state"], row["to_state"]) for row in told} == {("open", "resolved")}
        assert {row["owner"] for row in rows} == {"ann"}
    finally:
        await connection.close()

"""Three roles with exactly their rights, tried by doing what must fail; and a feed that not even its owner changes."""

import asyncio
import re
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import asyncpg
import pytest

from railwatch.store.database import Database
from railwatch.store.errors import Refused
from railwatch.store.migrate import migrate
from railwatch_fake import Rules, node_of
from tests.scenarios.daemon_harness import DaemonHarness, Placed, chain_named

ROLES = ("daemon", "reader", "service")

_numbers = count(1)


def as_user(dsn: str, user: str) -> str:
    """The DSN of another user."""
    return re.sub(r"//[^@/]*@", f"//{user}@", dsn)


@pytest.fixture
async def logins(server: str) -> AsyncIterator[dict[str, str]]:
    """Users who are members of one role each, and nothing else."""
    names = {role: f"story_{role}_{next(_numbers)}" for role in ROLES}
    connection = await asyncpg.connect(server, database="postgres")
    try:
        for role, name in names.items():
            await connection.execute(f"create role {name} login in role railwatch_{role}")
        yield names
        for name in names.values():
            await connection.execute(f"drop role {name}")
    finally:
        await connection.close()


@pytest.fixture
async def stage(database: Database, logins: dict[str, str]) -> AsyncIterator[DaemonHarness]:
    """A daemon that is only a member of railwatch_daemon."""
    dsn = as_user(database.dsn, logins["daemon"])
    chain, options = chain_named(rules=Rules(balances=True)), {"reconcile_every": 1}
    async with DaemonHarness(database, [chain], options=options, daemon_dsn=dsn) as stage:
        yield stage
        await stage.audit()


async def works_as(stage: DaemonHarness, user: str) -> bool:
    """Whether that user is connected, and so the story is not told by another."""
    query = "select count(*) from pg_stat_activity where usename = $1"
    return bool(await stage.database.value(query, user))


async def test_the_daemon_needs_no_more_than_its_role(stage: DaemonHarness, logins: dict[str, str]) -> None:
    assert await works_as(stage, logins["daemon"])
    assert not await stage.database.value("select rolsuper from pg_roles where rolname = $1", logins["daemon"])
    invoice, lost, expiring = [await stage.invoice(100, **more) for more in ({}, {}, {"expires_in": 1, "closes_in": 0})]
    await stage.pay(invoice)
    await stage.pay(lost)
    await stage.mine(2)
    await stage.wait_for_state(invoice, "paid")
    await stage.sim.reorg(2, keep=False)
    await stage.follows()
    await stage.wait_for_state(invoice, "created")
    assert await stage.open_cases(invoice) == {"reversed"}
    await stage.pay(invoice)
    await stage.mine(2)
    await stage.wait_for_state(invoice, "paid")
    await stage.wait_for_state(expiring, "expired")
    await stage.database.value("select railwatch.request_rescan($1, 0)", stage.chain.name)
    await stage.rescanned()
    many = await stage.invoice(600)
    stage.chain.send(*[stage.sim.output(many.address, 1) for _ in range(600)])  # as many as are copied in
    await stage.mine(2)
    await stage.wait_for_state(many, "paid")
    node_of(stage.chain.name).traces = False
    stage.chain.send(stage.sim.output(many.address, 7), inner=True)
    await stage.mine()

    async def is_told() -> bool:
        found = await stage.open_cases(many) == {"unattributed_balance"}
        if not found:
            await stage.sim.mine(10)  # believed once no reorg can undo the block
            await asyncio.sleep(0.2)
        return found

    await stage.until(is_told)
    await stage.stop()
    await stage.start()


async def test_a_service_and_a_reader_do_all_that_is_theirs(stage: DaemonHarness, logins: dict[str, str]) -> None:
    address = await stage.sim.new_address()
    way = {"rail": stage.chain.name, "asset": "COIN", "amount": 100, "address": address}
    request = {"merchant_id": "shop", "order_id": "by a service", "expires_in": 3600, "destinations": [way]}
    async with Database(as_user(stage.database.dsn, logins["service"]), size=1) as service:
        made = Placed(await service.value("select railwatch.create_invoice($1)", request), address)
        await stage.all_taken_in()
        await stage.pay(made)
        await stage.mine(2)
        await stage.wait_for_state(made, "paid")
        for act in (
            "hold_invoice($1, actor => 'ann', reason => 'why')",
            "release_invoice($1, actor => 'ann')",
            "record_settlement($1, 'payout 7', actor => 'ann')",
            "record_refund($1, 100, 'back', actor => 'ann')",
        ):
            await service.value(f"select railwatch.{act}", made.id)
        assert await service.value("select railwatch.ack('shop', 3)") == 3
        assert await service.value("select railwatch.lock_consumer('shop')") == 3
    async with Database(as_user(stage.database.dsn, logins["reader"]), size=1) as reader:
        for view in ("orders", "order_destinations", "order_transfers", "order_money"):
            [row] = await reader.rows(f"select * from railwatch.{view}")
            assert row["order_id"] == "by a service"
        assert await reader.value("select state from railwatch.orders") == "refunded"
        assert await reader.value("select found_by from railwatch.find_orders($1)", address) == "address"
        assert await reader.value("select lag from railwatch.consumer_lag") > 0


async def test_a_consumer_belongs_to_the_login_that_made_it(database: Database, logins: dict[str, str]) -> None:
    service, daemon = (Database(as_user(database.dsn, logins[each]), size=1) for each in ("service", "daemon"))
    async with service, daemon:
        assert await service.value("select railwatch.ack('shop', 0)") == 0
        for act in ("ack('shop', 0)", "lock_consumer('shop')"):
            with pytest.raises(Refused, match=f"belongs to the login {logins['service']}") as caught:
                await daemon.value(f"select railwatch.{act}")
            assert caught.value.code == "RW041"
        assert await database.value("select railwatch.ack('shop', 0)") == 0, "the schema's owner may"
        await database.rows("insert into railwatch.consumers (name, position) values ('of before', 0)")
        assert await daemon.value("select railwatch.ack('of before', 0)") == 0
        with pytest.raises(Refused, match="belongs to"):
            await service.value("select railwatch.ack('of before', 0)")
        many = "insert into railwatch.consumers (name, position) select n::text, 0 from generate_series(1, 198) n"
        await database.rows(many)
        assert await service.value("select railwatch.ack('shop', 0)") == 0
        with pytest.raises(Refused, match="200 consumers") as caught:
            await service.value("select railwatch.lock_consumer('one more')")
        assert caught.value.code == "RW042"


BY_HAND = [
    "update railwatch.invoices set state = 'paid'",
    "update railwatch.invoices set fiat_amount = 1",
    "update railwatch.invoices set held = 'mine'",
    "delete from railwatch.invoices",
    "insert into railwatch.invoices (merchant_id) values ('x')",
    "update railwatch.destinations set address = 'mine'",
    "update railwatch.destinations set expected_amount = 1",
    "update railwatch.destinations set policy = '{\"confirmations\": 1}'",
    "delete from railwatch.destinations",
    "update railwatch.detections set state = 'final'",
    "delete from railwatch.detections",
    "insert into railwatch.transitions select * from railwatch.transitions",
    "update railwatch.transitions set to_state = 'paid'",
    "delete from railwatch.transitions",
    "truncate railwatch.transitions",
    "update railwatch.feed_position set last_seq = 0",
    "select railwatch.next_seq(1)",
    "update railwatch.exceptions set resolved_at = now()",
    "delete from railwatch.exceptions",
    "insert into railwatch.refunds (invoice_id) select id from railwatch.invoices",
    "delete from railwatch.refunds",
    "insert into railwatch.settlements (invoice_id) select id from railwatch.invoices",
    "update railwatch.consumers set position = 10",
    "delete from railwatch.consumers",
    "update railwatch.consumers set updated_at = '2000-01-01'",
    "select * from railwatch.consumers for update",
    "update railwatch.webhook_endpoints set position = 10",
    "select railwatch.begin_generation()",
    "select railwatch.note_generation()",
    "select railwatch.renew_feed(0)",
    "update railwatch.rails set state = 'live'",
    "update railwatch.rails set covered_until = now()",
    "delete from railwatch.leases",
    "update railwatch.policies set policy = '{\"confirmations\": 1}'",
    "update railwatch.assets set decimals = 2",
    "insert into railwatch.allowed_transitions values ('created', 'paid')",
    "update railwatch.rights set role = 'railwatch_reader'",
    "delete from railwatch.migrations",
    "drop table railwatch.invoices",
    "create table railwatch.mine (n int)",
    "create function railwatch.affected_rows() returns int language sql as 'select 1'",
    "alter table railwatch.transitions disable trigger append_only",
    "set session_replication_role = replica",
    "select railwatch.move_invoice(i, 'paid', 'x', 'service', '{}') from railwatch.invoices i",
    "select railwatch.append_manual_transition('x', id, id, null, 'paid', '', 'chain', null, null, '{}') from "
    "railwatch.invoices",
    "select railwatch.append_invoice_transition(i, 'created', 'x', 'chain', '{}') from railwatch.invoices i",
    "select railwatch.grant_rights()",
]
THE_DAEMONS = {
    "update railwatch.detections set state = 'final'",
    "insert into railwatch.transitions select * from railwatch.transitions",
    "select railwatch.next_seq(1)",
    "update railwatch.exceptions set resolved_at = now()",
    "update railwatch.rails set state = 'live'",
    "update railwatch.rails set covered_until = now()",
    "delete from railwatch.leases",
    "delete from railwatch.consumers",  # an operator forgets one that is gone for good
    "update railwatch.webhook_endpoints set position = 10",
    "select railwatch.note_generation()",
    "select railwatch.renew_feed(0)",
    "update railwatch.assets set decimals = 2",
    "update railwatch.destinations set address = 'mine'",
    "update railwatch.invoices set state = 'paid'",  # and yet: see below
}
"""What the daemon's work consists of."""

WRITES = [
    "select railwatch.create_invoice('{}')",
    "select railwatch.cancel_invoice(gen_random_uuid())",
    "select railwatch.hold_invoice(gen_random_uuid(), 'ann', 'why')",
    "select railwatch.release_invoice(gen_random_uuid(), 'ann')",
    "select railwatch.record_refund(gen_random_uuid(), 5, 'tx', 'ann')",
    "select railwatch.record_settlement(gen_random_uuid(), 'payout', 'ann')",
    "select railwatch.resolve_exception(gen_random_uuid(), 'ann', 'done')",
    "select railwatch.annotate_exception(gen_random_uuid(), 'ann', 'hm')",
    "select railwatch.request_rescan('story', 0)",
    "select railwatch.ack('shop', 0)",
    "select railwatch.lock_consumer('shop')",
]


async def denied(dsn: str, statements: list[str]) -> list[str]:
    """Those of the statements that are refused for want of a right."""
    connection, refused = await asyncpg.connect(dsn), []
    try:
        for statement in statements:
            try:
                await connection.execute(f"begin; {statement}")
            except asyncpg.InsufficientPrivilegeError:
                refused.append(statement)
            except asyncpg.PostgresError:
                pass
            finally:
                await connection.execute("rollback")
    finally:
        await connection.close()
    return refused


async def test_nobody_writes_by_hand(stage: DaemonHarness, logins: dict[str, str]) -> None:
    await stage.invoice(100)
    dsn = stage.database.dsn
    assert await denied(as_user(dsn, logins["reader"]), BY_HAND + WRITES) == BY_HAND + WRITES
    assert await denied(as_user(dsn, logins["service"]), BY_HAND + WRITES) == BY_HAND
    assert set(BY_HAND) - set(await denied(as_user(dsn, logins["daemon"]), BY_HAND)) == THE_DAEMONS


async def test_a_stranger_sees_nothing(server: str, dsn: str) -> None:
    connection = await asyncpg.connect(server, database="postgres")
    try:
        await connection.execute("create role story_stranger login")
        tries = ["select * from railwatch.invoices", *WRITES]
        assert await denied(as_user(dsn, "story_stranger"), tries) == tries
    finally:
        await connection.execute("drop role story_stranger")
        await connection.close()


async def test_even_the_daemons_login_moves_no_state_without_its_line(
    stage: DaemonHarness, logins: dict[str, str]
) -> None:
    invoice = await stage.invoice(100)
    connection = await asyncpg.connect(as_user(stage.database.dsn, logins["daemon"]))
    try:
        with pytest.raises(asyncpg.PostgresError, match="without a line in the feed") as caught:
            await connection.execute("update railwatch.invoices set state = 'paid' where id = $1", invoice.id)
        assert caught.value.sqlstate == "RW016"
    finally:
        await connection.close()
    assert await stage.state(invoice) == "created"


CHANGES = [
    f"{what} railwatch.{table}{rest}"
    for table, column in (("transitions", "reason"), ("refunds", "reason"), ("settlements", "note"))
    for what, rest in (("update", f" set {column} = 'x'"), ("delete from", ""), ("truncate", ""))
]


@pytest.mark.parametrize(
    "change", [*CHANGES, "set session_replication_role = replica; delete from railwatch.transitions"]
)
async def test_what_is_append_only_is_so_for_its_owner(dsn: str, change: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        with pytest.raises(asyncpg.PostgresError, match="append-only") as caught:
            await connection.execute(change)
        assert caught.value.sqlstate == "RW015"
    finally:
        await connection.close()


async def test_functions_with_their_owners_rights_cannot_be_led_astray(database: Database) -> None:
    query = """
        select p.proname, p.prosecdef, p.proconfig, p.proowner = n.nspowner as ours,
               has_function_privilege('public', p.oid, 'execute') as anybody
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'railwatch'"""
    rows = {row["proname"]: row for row in await database.rows(query)}
    assert all(row["ours"] for row in rows.values())
    assert not [name for name, row in rows.items() if row["anybody"]]
    lent = {name for name, row in rows.items() if row["prosecdef"]}
    path = "search_path=pg_catalog, pg_temp"
    named = ([path], [path, "enable_seqscan=off"])
    assert {name for name in lent if rows[name]["proconfig"] not in named} == set()
    given = await database.rows("select distinct object from railwatch.rights where privileges = 'execute'")
    callable_ = {row["object"].rpartition(".")[2] for row in given}
    assert lent <= callable_
    assert callable_ - lent == {
        *("display", "customer_state", "find_orders", "affected_rows", "is_due", "raise_error"),
        *("event_type", "state_now"),
        *("is_backend_alive", "covers", "is_covered", "is_open", "margin", "notify"),
    }


UNREAD = {"railwatch.address_locks"}
"""Tables that hold secrets: nobody reads them but their owner."""


async def test_of_every_table_it_is_said_who_reads_it(database: Database) -> None:
    known = await database.rows(
        "select oid::regclass::text as name from pg_class where relkind in ('r', 'v', 'm') "
        "and relnamespace = 'railwatch'::regnamespace"
    )
    for role in ROLES:
        rows = await database.rows(
            "select object from railwatch.rights where privileges like 'select%' and role = $1", f"railwatch_{role}"
        )
        unsaid = {row["name"] for row in known} - {row["object"] for row in rows}
        assert unsaid == UNREAD, f"say in railwatch.rights whether {role} may read it"


async def hide(connection: Any, *, away: bool) -> None:
    """Rename the roles, as if nobody had made them in this cluster."""
    for role in ROLES:
        old, new = f"railwatch_{role}", f"hidden_{role}"
        await connection.execute(f"alter role {old if away else new} rename to {new if away else old}")


async def test_without_the_right_to_make_roles_all_else_is_done_and_it_is_said(server: str) -> None:
    admin = await asyncpg.connect(server, database="postgres")
    await admin.execute("create role plain_owner login")
    await admin.execute("create database plainly owner plain_owner")
    dsn = as_user(server.replace("/railwatch?", "/plainly?"), "plain_owner")
    warnings: list[Any] = []
    try:
        await hide(admin, away=True)
        connection = await asyncpg.connect(dsn)
        try:
            connection.add_log_listener(lambda _, message: warnings.append(message))
            assert await migrate(connection)
            assert {each.severity for each in warnings} == {"WARNING"}
            assert len({each.hint for each in warnings}) == len(ROLES)
            assert all("select railwatch.grant_rights()" in each.hint for each in warnings)
            assert await connection.fetchval("select railwatch.grant_rights()") == [
                f"railwatch_{role}" for role in ROLES
            ]
            await hide(admin, away=False)
            assert await connection.fetchval("select railwatch.grant_rights()") == []
            query = "select has_table_privilege('railwatch_reader', 'railwatch.invoices', 'select')"
            assert await connection.fetchval(query)
        finally:
            await connection.close()
    finally:
        if await admin.fetchval("select count(*) from pg_roles where rolname = 'hidden_daemon'"):
            for role in ROLES:
                await admin.execute(f"drop role if exists railwatch_{role}")
            await hide(admin, away=False)
        await admin.execute("drop database plainly")
        await admin.execute("drop role plain_owner")
        await admin.close()


async def test_who_holds_the_feed_and_does_nothing_is_bounded(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    show = "show idle_in_transaction_session_timeout"
    try:
        for own, kept in (("0", "10s"), ("1min", "10s"), ("2s", "2s")):
            await connection.execute(f"set idle_in_transaction_session_timeout = '{own}'")
            async with connection.transaction():
                await connection.fetchval("select railwatch.next_seq(1)")
                assert await connection.fetchval(show) == kept
            assert await connection.fetchval(show) == own
    finally:
        await connection.close()

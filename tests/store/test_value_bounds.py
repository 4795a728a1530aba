"""Every value that a caller may set has a bound, an address stays its merchant's, and locks are nobody else's."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from decimal import Decimal
from itertools import count
from typing import Any

import asyncpg
import pytest

from railwatch.store.config_sync import sync_config
from railwatch.store.database import Database
from railwatch.store.errors import Refused, SchemaMismatch
from railwatch.store.migrate import known_migrations, migrate
from railwatch.store.watches import WatchStore
from tests.store.contract.requests import RAILS, order, refusal, way
from tests.store.test_roles import as_user
from tests.webhooks.receiver import receiver
from tests.webhooks.shop import Shop, until, webhook

_logins = count(1)


@pytest.fixture
async def shop(database: Database) -> Database:
    """A database with rails in it."""
    async with database.connection() as connection:
        await sync_config(connection, RAILS, {"closes_in": 1000})
    return database


@pytest.fixture
async def login(server: str) -> AsyncIterator[dict[str, str]]:
    """Logins that are members of one role each; `nobody` of none."""
    number = next(_logins)
    roles = ("service", "reader", "operator", "deliverer", "nobody")
    names = {role: f"bounded_{role}_{number}" for role in roles}
    connection = await asyncpg.connect(server, database="postgres")
    try:
        for role, name in names.items():
            member = "" if role == "nobody" else f" in role railwatch_{role}"
            await connection.execute(f"create role {name} login{member}")
        yield names
        for name in names.values():
            await connection.execute(f"drop role {name}")
    finally:
        await connection.close()


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


BEYOND = {
    "a window that ends in the year 10000": {"expires_at": "9999-12-31T23:59:59-12:00"},
    "a window of more than 20 years": {"expires_at": "2099-01-01T00:00:00Z"},
    "a price from before there were chains": {"rate_locked_at": "0001-01-01T00:00:00+14:00"},
    "an offset that no place has": {"rate_locked_at": "2026-01-01T00:00:00+99:00"},
    "metadata of too many bytes": {"metadata": {"a": "x" * 70_000}},
    "metadata of too many levels": {"metadata": nested(33)},
    "metadata with an endless number": {"metadata": {"a": 10**200}},
    "a request of too many bytes": {"metadata": {"a": "x" * 200_000}},
    "a control character in a name": {"order_id": "7\x1b[2J"},
    "a text that runs the other way": {"merchant_id": "shop\u202eevil"},
    "a policy of too many characters": {"policy": {"confirmations": 1, "why": "x" * 300}},
    "an address that is not text": {"destinations": [way(address=17)]},
    "an address with a line feed": {"destinations": [way(address="fake:1\n")]},
    "a derivation of too many characters": {"destinations": [way(derivation="m/" * 200)]},
}


@pytest.mark.parametrize("what", BEYOND)
async def test_what_is_beyond_a_bound_is_refused_and_writes_nothing(shop: Database, what: str) -> None:
    request = order(**BEYOND[what])
    if "expires_at" in request:
        del request["expires_in"]
    refused = await refusal(shop, request)
    assert refused.code in ("RW001", "RW005", "RW008"), what
    assert len(str(refused)) < 2500, "an error is for people to read"
    assert not any(ord(each) < 32 and each != "\n" for each in str(refused))


async def test_what_is_at_a_bound_is_taken_and_read_again(shop: Database) -> None:
    metadata = {"a": "x" * 60_000, "deep": nested(30), "n": 10**100}
    made = await shop.value("select railwatch.create_invoice($1)", order(metadata=metadata, order_id="ö" * 200))
    row = await shop.row("select metadata, order_id from railwatch.invoices where id = $1", made)
    assert row is not None
    assert row["metadata"]["deep"] == nested(30)


ACTS = {
    "hold_invoice($1, actor => 'ann', reason => repeat('x', 1001))": "reason",
    "hold_invoice($1, actor => repeat('x', 201), reason => 'y')": "actor",
    "hold_invoice($1, actor => E'ann\\x1b', reason => 'y')": "actor",
    "release_invoice($1, actor => 'ann', reason => repeat('x', 1001))": "reason",
    "cancel_invoice($1, note => repeat('x', 4001))": "note",
    "cancel_invoice($1, note => E'\\x07')": "note",
    "record_settlement($1, 'payout', actor => 'ann', note => repeat('x', 20000000))": "note",
    "record_refund($1, 1, 'tx', actor => 'ann', reason => repeat('x', 1001))": "reason",
    "record_refund($1, 1, repeat('x', 201), actor => 'ann')": "tx_id",
    "record_refund($1, 'NaN', 'tx', actor => 'ann')": "refund",
}


@pytest.mark.parametrize("act", ACTS)
async def test_the_texts_of_acts_are_bounded(shop: Database, act: str) -> None:
    made = await shop.value("select railwatch.create_invoice($1)", order())
    before = await shop.value("select last_seq from railwatch.feed_position")
    with pytest.raises(Refused, match=ACTS[act]):
        await shop.value(f"select railwatch.{act}", made)
    assert await shop.value("select last_seq from railwatch.feed_position") == before


async def test_heights_and_names_of_consumers_are_bounded(shop: Database) -> None:
    for call in (
        "request_rescan('plain', 9223372036854775807)",
        "request_rescan('plain', 0, 9223372036854775807)",
        "ack(E'a\\x1bb', 0)",
        "ack(repeat('x', 201), 0)",
    ):
        with pytest.raises(Refused) as caught:
            await shop.value(f"select railwatch.{call}")
        assert caught.value.code == "RW001"


async def test_one_login_does_not_use_up_the_consumers_of_all(shop: Database, login: dict[str, str]) -> None:
    async with Database(as_user(shop.dsn, login["service"]), size=1) as service:
        for number in range(50):
            await service.value("select railwatch.ack($1, 0)", f"reader {number}")
        with pytest.raises(Refused, match="50 consumers") as caught:
            await service.value("select railwatch.ack('one more', 0)")
        assert caught.value.code == "RW042"
    assert await shop.value("select railwatch.ack('of another login', 0)") == 0


# An address stays its merchant's


async def test_an_address_that_another_merchant_ever_had_is_refused(shop: Database) -> None:
    first = way()
    made = await shop.value("select railwatch.create_invoice($1)", order(merchant_id="victim", destinations=[first]))
    for end in ("open", "cancelled", "closed"):
        if end == "cancelled":
            await shop.value("select railwatch.cancel_invoice($1)", made)
        elif end == "closed":
            await shop.rows("update railwatch.destinations set watch_state = 'closed' where invoice_id = $1", made)
        refused = await refusal(shop, order(merchant_id="evil", destinations=[first]))
        assert (refused.code, "belongs to another merchant" in str(refused)) == ("RW007", True), end
        assert str(made) not in str(refused), "another merchant's invoice is not named"
    again = order(merchant_id="victim", destinations=[first])
    assert await shop.value("select railwatch.create_invoice($1)", again), "its own merchant may use it again"


async def test_a_rejected_address_is_nobodys(shop: Database) -> None:
    first = way()
    made = await shop.value("select railwatch.create_invoice($1)", order(merchant_id="hasty", destinations=[first]))
    await shop.rows("update railwatch.destinations set watch_state = 'rejected' where invoice_id = $1", made)
    assert await shop.value("select railwatch.create_invoice($1)", order(merchant_id="right", destinations=[first]))


async def test_two_merchants_that_register_one_address_at_once_do_not_both_get_it(shop: Database) -> None:
    for _ in range(10):
        shared = way()
        requests = [order(merchant_id=merchant, destinations=[shared]) for merchant in ("a", "b", "c")]
        outcomes = await asyncio.gather(
            *(shop.value("select railwatch.create_invoice($1)", each) for each in requests), return_exceptions=True
        )
        refused = [each for each in outcomes if isinstance(each, BaseException)]
        assert [type(each) for each in refused] == [Refused, Refused], outcomes


async def registered(shop: Database, merchant: str, **more: Any) -> Any:
    """A destination of that merchant's at an address that nobody has registered in these letters."""
    made = await shop.value("select railwatch.create_invoice($1)", order(merchant_id=merchant, destinations=[way()]))
    return await shop.value(
        "update railwatch.destinations set reference = $2 where invoice_id = $1 returning id",
        made,
        more.get("reference"),
    )


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [(None, None, True), (None, "r", True), ("r", None, True), ("r", "r", True), ("r", "s", False)],
)
async def test_another_spelling_of_an_address_does_not_make_it_another_merchants(
    shop: Database, first: str | None, second: str | None, refused: bool
) -> None:
    """Only the rail's adapter knows that two texts are one address: the rule holds again when they are taken in."""
    family = await shop.value("select family from railwatch.rails where name = 'plain'")
    watches, key = WatchStore(shop, family), secrets.token_bytes(20)
    theirs = await registered(shop, "victim", reference=first)
    assert await watches.accept([(theirs, key, "as it is shown")]) == {theirs: key}
    await shop.rows("update railwatch.invoices set state = 'expired' where merchant_id = 'victim'")
    ours = await registered(shop, "evil", reference=second)
    assert (await watches.accept([(ours, key, "as it is shown")]) == {}) is refused
    row = await shop.row("select watch_state, watch_error, address_key from railwatch.destinations where id = $1", ours)
    assert row is not None
    if refused:
        assert tuple(row) == ("rejected", "the address belongs to another merchant", None)
    again = await registered(shop, "victim", reference=first)
    assert await watches.accept([(again, key, "as it is shown")]) == {again: key}, "its own merchant may use it again"


async def test_another_spelling_does_not_let_an_invoice_ask_twice_at_one_address(shop: Database) -> None:
    """(100, 50) for one asset at one address, told apart by its spelling only: the second is rejected, by name."""
    family = await shop.value("select family from railwatch.rails where name = 'plain'")
    made = await shop.value("select railwatch.create_invoice($1)", order(destinations=[way(), way()]))
    rows = await shop.rows("select id from railwatch.destinations where invoice_id = $1 order by position", made)
    first, second = (row["id"] for row in rows)
    key = secrets.token_bytes(20)
    assert await WatchStore(shop, family).accept([(first, key, "as it is shown")]) == {first: key}
    assert await WatchStore(shop, family).accept([(second, key, "as it is shown")]) == {}
    why = await shop.value("select watch_error from railwatch.destinations where id = $1", second)
    assert why == "the invoice asks for the same asset at the same address twice"


async def test_display_takes_any_number(shop: Database) -> None:
    for call in ("'NaN', 2", "'Infinity', 2", "1, 2147483647", "1, -2147483648"):
        assert await shop.value(f"select railwatch.display({call})") is None
    assert await shop.value("select railwatch.display(12345, 2)") == Decimal("123.45")


async def test_batches_in_any_order_do_not_wait_for_each_other_in_a_circle(shop: Database) -> None:
    ways = [way() for _ in range(20)]
    forward = [order(destinations=[each]) for each in ways]
    backward = [order(destinations=[each]) for each in reversed(ways)]

    async def register(requests: list[dict[str, Any]]) -> int:
        async with shop.connection() as connection:
            return len(await connection.fetch("select railwatch.create_invoices($1::jsonb[])", requests))

    outcomes = await asyncio.gather(register(forward), register(backward), return_exceptions=True)
    assert sorted(str(type(each).__name__) for each in outcomes) == ["Refused", "int"], outcomes
    repeated = await asyncio.gather(*(register(forward[::turn]) for turn in (1, -1, 1, -1)), return_exceptions=True)
    assert all(each == 20 or isinstance(each, Refused) for each in repeated), repeated


# Nobody else holds what we lock

STATEMENTS = (
    "select pg_advisory_lock(hashtextextended('railwatch/order/shop/' || n, 0)) from generate_series(1, 50) n",
    "select pg_advisory_lock(hashtextextended('railwatch/mirror', 0))",
    "select pg_advisory_lock(x'7261696C'::int)",
    "select * from railwatch.address_locks for share",
    "select * from railwatch.locks for update",
    "lock table railwatch.locks in access exclusive mode",
    "lock table railwatch.deliverer_lease in access exclusive mode",
    "lock table railwatch.webhook_endpoints in access exclusive mode",
    "lock table railwatch.webhook_deliveries in access exclusive mode",
    "select railwatch.note_generation()",
    "select * from railwatch.feed_position for share",
    "select * from railwatch.rails for share",
    "select * from railwatch.invoices for share",
    "lock table railwatch.invoices in share mode",
    "lock table railwatch.migrations in share mode",
)


@pytest.mark.parametrize("role", ["service", "reader", "deliverer", "nobody"])
async def test_no_lock_of_another_login_keeps_anybody_from_registering(
    shop: Database, login: dict[str, str], role: str
) -> None:
    connection = await asyncpg.connect(as_user(shop.dsn, login[role]))
    try:
        for statement in STATEMENTS:
            transaction = connection.transaction()
            await transaction.start()
            try:
                await connection.execute(statement)
            except asyncpg.InsufficientPrivilegeError:
                await transaction.rollback()
                continue
            async with asyncio.timeout(20):
                await shop.value("select railwatch.create_invoice($1)", order(order_id=f"{role} {statement[:60]}"))
                async with shop.connection() as other:
                    await sync_config(other, RAILS, {"closes_in": 1000})
                    assert await migrate(other) == []
            await transaction.rollback()
    finally:
        await connection.close()


async def test_nothing_that_ships_takes_an_advisory_lock(shop: Database) -> None:
    taking = await shop.rows(
        "select proname from pg_proc where pronamespace = 'railwatch'::regnamespace and prosrc like '%advisory%'"
    )
    assert [row["proname"] for row in taking] == []


async def test_what_others_may_call_looks_names_up_in_pg_catalog_only(shop: Database) -> None:
    loose = await shop.rows(
        """
        select p.proname from pg_proc p where p.pronamespace = 'railwatch'::regnamespace
          and p.prosqlbody is null and not coalesce(p.proconfig::text like '%search_path=pg_catalog, pg_temp%', false)
          and (p.prorettype = 'trigger'::regtype or exists (
              select from aclexplode(p.proacl) a where a.grantee <> p.proowner and a.privilege_type = 'EXECUTE'))
        """
    )
    assert [row["proname"] for row in loose] == []


async def test_a_book_of_migrations_that_somebody_else_made_is_not_written_into(
    server: str, login: dict[str, str]
) -> None:
    name = f"forged_{next(_logins)}"
    maker = await asyncpg.connect(server, database="postgres")
    try:
        await maker.execute(f"create database {name}")
    finally:
        await maker.close()
    dsn = server.replace("/railwatch?", f"/{name}?")
    owner = await asyncpg.connect(dsn)
    try:
        await owner.execute(f"grant create on schema public to {login['nobody']}")
        tenant = await asyncpg.connect(as_user(dsn, login["nobody"]))
        await tenant.execute(
            "create table public.railwatch_migrations "
            "(version int primary key, name text, checksum text, applied_at timestamptz default now())"
        )
        await tenant.close()
        with pytest.raises(SchemaMismatch, match=f"belongs to {login['nobody']}.*railwatch migrate"):
            await migrate(owner)
        await owner.execute(
            f"alter table public.railwatch_migrations owner to {owner.get_settings().session_authorization}"
        )
        await owner.execute(
            "create function public.harm() returns trigger language plpgsql as $$ begin return new; end $$; "
            "create trigger harm before insert on public.railwatch_migrations execute function public.harm()"
        )
        with pytest.raises(SchemaMismatch, match="has triggers"):
            await migrate(owner)
        await owner.execute("drop table public.railwatch_migrations")
        await owner.execute(f"revoke create on schema public from {login['nobody']}")
        assert len(await migrate(owner)) == len(known_migrations())
    finally:
        await owner.close()


# Who acts


async def test_only_operators_act_as_operators_and_every_act_names_its_login(
    shop: Database, login: dict[str, str]
) -> None:
    made = await shop.value("select railwatch.create_invoice($1)", order())
    hold = "select railwatch.hold_invoice($1, actor => 'ann', reason => 'why', cause => 'operator')"
    async with Database(as_user(shop.dsn, login["service"]), size=1) as service:
        with pytest.raises(Refused, match="acts as a service") as caught:
            await service.value(hold, made)
        assert caught.value.code == "RW044"
    async with Database(as_user(shop.dsn, login["operator"]), size=1) as operator:
        assert await operator.value(hold, made) == "flagged"
    line = await shop.row("select cause, evidence from railwatch.transitions order by seq desc limit 1")
    assert line is not None
    assert (line["cause"], line["evidence"]["login"]) == ("operator", login["operator"])


# What older versions took


async def test_metadata_that_no_decoder_holds_hides_no_row(shop: Database) -> None:
    made = await shop.value("select railwatch.create_invoice($1)", order())
    deep = '{"a":' * 3000 + "1" + "}" * 3000
    await shop.rows("update railwatch.invoices set metadata = $2::text::jsonb where id = $1", made, deep)
    row = await shop.row("select metadata, order_id from railwatch.invoices where id = $1", made)
    assert row is not None
    assert "unreadable" in row["metadata"]


async def test_a_deliverer_of_its_own_role_delivers_and_writes_no_line(shop: Database, login: dict[str, str]) -> None:
    store = Shop(Database(as_user(shop.dsn, login["deliverer"])))
    await shop.value("select railwatch.create_invoice($1)", order())
    async with store.database:
        async with receiver() as shopkeeper, store.delivering(webhook(shopkeeper)):
            await until(lambda: _is_any(shopkeeper.got))
        for forbidden in (
            "update railwatch.invoices set state = 'paid'",
            "insert into railwatch.transitions select * from railwatch.transitions",
            "select railwatch.next_seq(1)",
            "select railwatch.cancel_invoice(id) from railwatch.invoices",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await store.database.rows(forbidden)


async def _is_any(got: list[Any]) -> bool:
    return bool(got)

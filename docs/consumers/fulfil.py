"""Fulfils paid invoices exactly once, in a database of the shop's own.

    python fulfil.py postgresql://.../railwatch postgresql://.../shop [--once]

The shop's database holds the effects and the position, and both change in one transaction: a crash anywhere repeats the
page or nothing. Keys make a repeated transition harmless. `ack` only reports the position to Railwatch's operator.
After a failover the feed may have gone back: each page checks the position. Effects beyond the common part are open
until the feed emits them again.
Needs asyncpg, and the tables of shop.sql.
"""

import asyncio
import sys
from typing import Any

import asyncpg

CONSUMER = "fulfilment-py"
PAGE = 500
WENT_BACK = "RW040"
POLL_SECONDS = 5.0
RETRY_SECONDS = 1.0
FULFILLED = ("paid", "overpaid")

UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
)

READ = """
select t.seq, t.event_id, t.invoice_id, i.order_id, t.to_state, t.reason, t.subject,
       case when t.subject = 'exception' then (
           select s.to_state from railwatch.transitions s
           where s.invoice_id = t.invoice_id and s.subject = 'invoice' and s.seq < t.seq order by s.seq desc limit 1
       ) end as invoice_state
from railwatch.transitions t left join railwatch.invoices i on i.id = t.invoice_id
where t.seq > $1 order by t.seq limit $2
"""

CHECK = """
select railwatch.feed_generation() as generation,
       railwatch.feed_check(coalesce($1, railwatch.feed_generation()), $2, $3) as position
"""

BEGIN = "insert into shop.feed (consumer, position) values ($1, 0) on conflict do nothing"
# Two copies wait for each other at this row.
POSITION = "select position, generation, event_id from shop.feed where consumer = $1 for update"
ADVANCE = "update shop.feed set position = $2, generation = $3, event_id = $4 where consumer = $1"

# The feed went back to $1. Events beyond it may never have happened: forget their reversals and stop their orders until
# the feed emits the one or the other again. Shipped orders stay shipped.
GO_BACK = (
    "delete from shop.reversals where seq > $1",
    "update shop.reversals set settled_again_seq = null where settled_again_seq > $1",
    """insert into shop.reversals (event_id, invoice_id, seq)
       select event_id, invoice_id, $1::bigint from shop.fulfilments where seq > $1 on conflict do nothing""",
    "update shop.fulfilments set seq = $1 where seq > $1",
)

FULFIL = """
insert into shop.fulfilments (invoice_id, order_id, event_id, seq) values ($1, $2, $3, $4)
on conflict (invoice_id) do nothing
"""

SETTLE_AGAIN = """
update shop.reversals set settled_again_seq = $2
where invoice_id = $1 and seq < $2 and settled_again_seq is null
"""

# An order that is stopped already is not stopped again, even when the feed is read again.
REVERSE = """
insert into shop.reversals (event_id, invoice_id, seq)
select $1, invoice_id, $3 from shop.fulfilments where invoice_id = $2 and seq < $3 and not exists (
    select from shop.reversals r
    where r.invoice_id = $2 and r.seq < $3 and coalesce(r.settled_again_seq > $3, true))
on conflict (event_id) do nothing
"""


async def fulfil_page(feed: asyncpg.Connection, shop: asyncpg.Connection) -> int:
    """Read one page and act on it; return how many transitions it had."""
    async with shop.transaction():
        left = await shop.fetchrow(POSITION, CONSUMER)
        # The check and the page share one snapshot.
        async with feed.transaction(isolation="repeatable_read", readonly=True):
            found = await feed.fetchrow(CHECK, left["generation"], left["position"], left["event_id"])
            page = await feed.fetch(READ, found["position"], PAGE)
        if found["position"] < left["position"]:
            await go_back(shop, left["position"], found["position"])
        for line in page:
            await act(shop, line)
        if page:
            last = page[-1]
            await shop.execute(ADVANCE, CONSUMER, last["seq"], found["generation"], last["event_id"])
    if page:
        await acknowledge(feed, last["seq"], found["generation"])
    return len(page)


async def go_back(shop: asyncpg.Connection, read: int, common: int) -> None:
    """Reverse the effects of transitions that the feed has lost."""
    print(f"fulfil: the feed went back from {read} to {common}, and is read again", file=sys.stderr)
    for each in GO_BACK:
        await shop.execute(each, common)
    await shop.execute(ADVANCE, CONSUMER, common, None, None)


async def acknowledge(feed: asyncpg.Connection, seq: int, generation: Any) -> None:
    """Report the position. If the feed goes back at this very moment, the next page detects it."""
    try:
        await feed.fetchval("select railwatch.ack($1, $2, $3)", CONSUMER, seq, generation)
    except asyncpg.PostgresError as refused:
        if refused.sqlstate != WENT_BACK:
            raise


async def act(shop: asyncpg.Connection, line: Any) -> None:
    """Apply one transition of the feed to the shop."""
    if line["subject"] == "invoice" and line["to_state"] in FULFILLED:
        await shop.execute(FULFIL, line["invoice_id"], line["order_id"], line["event_id"], line["seq"])
    match stops(line):
        case True:
            await shop.execute(REVERSE, line["event_id"], line["invoice_id"], line["seq"])
        case False:
            await shop.execute(SETTLE_AGAIN, line["invoice_id"], line["seq"])


def stops(line: Any) -> bool | None:
    """Return True if the transition stops a fulfilled order, False if it continues one, None if neither.

    A reversed payment shows in the invoice's own transition, in its exception `reversed`, or in both; while the invoice
    is held, in the exception alone. Only a paid order continues: a refund or a person can resolve the exception too,
    so its end continues only an invoice that is paid.
    """
    if line["subject"] == "invoice":
        if line["to_state"] in FULFILLED:
            return False
        # In `late_paid` the money is there as before.
        return True if line["reason"] == "reversed" and line["to_state"] != "late_paid" else None
    if line["subject"] == "exception" and line["reason"] == "reversed":
        if line["to_state"] == "open":
            return True
        return False if line["invoice_state"] in FULFILLED else None
    return None


async def follow(feed_dsn: str, shop_dsn: str, *, once: bool) -> None:
    """Fulfil as the feed grows; with ``once``, until its end. Raises one of `UNREACHABLE` when a database is lost."""
    feed, shop = await asyncpg.connect(feed_dsn), await asyncpg.connect(shop_dsn)
    try:
        woken = asyncio.Event()
        await feed.add_listener("railwatch", lambda *_: woken.set())
        await shop.execute(BEGIN, CONSUMER)
        while True:
            woken.clear()  # before the poll, so that no wake-up during it is lost
            if await fulfil_page(feed, shop) == PAGE:
                continue
            if once:
                return
            try:
                async with asyncio.timeout(POLL_SECONDS):  # a notification is a hint, and may be lost
                    await woken.wait()
            except TimeoutError:
                pass
    finally:
        feed.terminate()
        shop.terminate()


async def main(feed_dsn: str, shop_dsn: str, *, once: bool) -> None:
    """Follow again whenever a database was unreachable: everything that matters is in the tables."""
    while True:
        try:
            return await follow(feed_dsn, shop_dsn, once=once)
        except UNREACHABLE as error:
            print(f"fulfil: {type(error).__name__}: {error}; again in {RETRY_SECONDS:g} s", file=sys.stderr)
            await asyncio.sleep(RETRY_SECONDS)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], once="--once" in sys.argv[3:]))

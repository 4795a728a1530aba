-- name: watched_keys
-- Every address that is watched in a family: read once, at start.
select address_key from railwatch.destinations
where family = $1 and address_key is not null and watch_state not in ('rejected', 'closed')

-- name: count_watched
-- How many there are, to make room for them.
select count(*) from railwatch.destinations
where family = $1 and address_key is not null and watch_state not in ('rejected', 'closed')

-- name: newly_keyed
-- Addresses that any daemon has taken in since $2; the overlap forgives transactions that were slow to commit.
select address_key, keyed_at from (
    select * from railwatch.destinations
    where address_key is not null and keyed_at > $2::timestamptz - interval '1 minute' offset 0
) d
where family = $1 and watch_state not in ('rejected', 'closed')

-- name: neighbours
-- Addresses that other rails of the family took in, and that rail $2 has not looked back for; $3 are done. What was
-- taken in an hour before the rail was first followed is looked for too; the overlap is that of `newly_keyed`.
select d.address_key, max(d.keyed_at) as keyed_at
from (
    select * from railwatch.destinations
    where address_key is not null
      and keyed_at > (select coalesce(neighbours_at - interval '1 minute', now() - interval '1 hour')
                      from railwatch.rails where name = $2)
    offset 0
) d
where d.family = $1 and d.rail <> $2 and d.address_key <> all ($3::bytea[])
  and d.watch_state not in ('rejected', 'closed')
group by d.address_key
order by keyed_at limit $4

-- name: looked_back_for
-- How far a rail has come with that.
update railwatch.rails set neighbours_at = greatest(neighbours_at, $2) where name = $1

-- name: database_now
-- The database's clock.
select now()

-- name: registered
-- Destinations of a rail that wait. Unparsed ones first: a bad address is refused at once, however many wait for a node.
select id, address, reference, address_key, asset, expected_amount from railwatch.destinations
where rail = $1 and watch_state = 'registered' order by address_key is not null, id limit $2

-- name: take_in
-- Give parsed destinations their key, unless an open invoice holds the address already: the later one is rejected.
-- Each is looked up by all columns of its index: a plan made on an empty table would read a whole family for each.
with given as (
    select * from unnest($1::uuid[], $2::bytea[], $3::text[]) as t (id, key, display)
), clashing as (
    select given.id, min(other.invoice_id::text) as holder
    from given
    cross join lateral (select * from railwatch.destinations d where d.id = given.id offset 0) mine
    cross join lateral (
        select * from railwatch.destinations d where d.family = mine.family and d.address_key = given.key offset 0
    ) other
    where other.invoice_id <> mine.invoice_id and other.reference is not distinct from mine.reference
      and other.watch_state in ('registered', 'watching')
      and (select i.state from railwatch.invoices i where i.id = other.invoice_id)
          in ('created', 'detected', 'confirming', 'underpaid', 'flagged')
    group by given.id
)
update railwatch.destinations d
set address_key = case when c.id is null then given.key end,
    address = given.display,
    keyed_at = now(),
    watch_state = case when c.id is null then d.watch_state else 'rejected' end,
    watch_error = 'the address belongs to open invoice ' || c.holder
from given left join clashing c on c.id = given.id
where d.id = any ($1) and d.id = given.id and d.watch_state not in ('watching', 'rejected', 'closed')
returning d.id, d.address_key, d.watch_state = 'registered' as taken

-- name: reject
-- Refuse destinations that the rail cannot read, or that could never be paid, with the reason.
update railwatch.destinations d set watch_state = 'rejected', watch_error = t.reason
from unnest($1::uuid[], $2::text[]) as t (id, reason)
where d.id = any ($1) and d.id = t.id and d.watch_state not in ('watching', 'rejected', 'closed')

-- name: begin_watching
-- The look-back is done: from this height on nothing can have been missed. Said so that no plan goes through all that wait.
update railwatch.destinations set watch_state = 'watching', covered_from = $2
where id = any ($1) and watch_state not in ('watching', 'rejected', 'closed')

-- name: close_watches
-- Stop watching invoices whose horizon has passed and was covered to its end on every rail, and that have nothing on its
-- way: of $3 after ($1, $2), in the order of their horizons. Rails that were given up are not waited for.
with looked_at as materialized (
    select id, closes_at, state from railwatch.invoices
    where closed_at is null and closes_at <= now() and (closes_at, id) > ($1, $2)
    order by closes_at, id limit $3
), closable as (
    select l.id from looked_at l
    where not exists (
        select from railwatch.destinations d join railwatch.rails r on r.name = d.rail
        where d.invoice_id = l.id and d.watch_state <> 'rejected' and not r.given_up
          and (d.watch_state = 'registered' or r.covered_until is null or r.covered_until < l.closes_at))
      and not exists (
        select from railwatch.detections x join railwatch.rails r on r.name = x.rail
        where x.invoice_id = l.id and not r.given_up and x.state in ('pending', 'included', 'confirmed'))
), held as materialized (
    -- As they are by now: a step may have moved them, and locks them in this order too.
    select i.id from railwatch.invoices i
    where i.id in (select id from closable) and coalesce(i.closed_at, 'infinity') = 'infinity' and i.state not in ('detected', 'confirming')
    order by i.id for no key update skip locked
), closing as (
    update railwatch.invoices i set closed_at = now() from held where i.id = held.id returning i.id
), ended as (
    update railwatch.destinations d set watch_state = 'closed'
    from closing where d.invoice_id = closing.id and d.watch_state <> 'rejected'
)
select (select count(*) from looked_at) as looked_at, (select count(*) from closing) as closed, last.closes_at, last.id
from (select null) one left join lateral (select closes_at, id from looked_at order by closes_at desc, id desc limit 1) last on true

-- name: next_rescan
-- The oldest rescan of a rail that is not finished.
select id, from_height, to_height, next_height from railwatch.rescans
where rail = $1 and finished_at is null order by id limit 1

-- name: rescan_progress
-- How far a rescan has come; finished when $5.
update railwatch.rescans
set next_height = $2, found = found + $3, error = $4, finished_at = case when $5 then now() end
where id = $1

-- name: watched_keys
-- Every address that is watched in a family: read once, at start.
select address_key from railwatch.destinations
where family = $1 and address_key is not null and watch_state not in ('rejected', 'closed')

-- name: count_watched
-- How many there are, to make room for them.
select count(*) from railwatch.destinations
where family = $1 and address_key is not null and watch_state not in ('rejected', 'closed')

-- name: watch_position
-- The newest keyed_seq of a family. Numbers come in the order of commits, so all up to it are there to be read.
select last_seq from railwatch.watch_position where family = $1

-- name: newly_accepted
-- Addresses that any daemon has added to a family's watch after $2, in order; never a part of those with one number.
select address_key, keyed_seq from railwatch.destinations
where family = $1 and address_key is not null and keyed_seq > $2 and watch_state not in ('rejected', 'closed')
order by keyed_seq fetch first $3 rows with ties

-- name: begin_sibling_lookback
-- A rail that is followed for the first time also looks back for addresses that others of its family added in the last hour.
update railwatch.rails r
set siblings_looked_back_seq = coalesce((
    select keyed_seq from railwatch.destinations
    where family = r.family and keyed_seq is not null and accepted_at <= now() - interval '1 hour'
    order by keyed_seq desc limit 1), 0)
where name = $1 and siblings_looked_back_seq is null

-- name: sibling_keys
-- Addresses that other rails of the family added, and that rail $2 has not looked back for, in order.
select d.address_key, d.keyed_seq
from railwatch.destinations d
where d.family = $1 and d.rail <> $2 and d.address_key is not null
  and d.keyed_seq > (select siblings_looked_back_seq from railwatch.rails where name = $2)
  and d.watch_state not in ('rejected', 'closed')
order by d.keyed_seq fetch first $3 rows with ties

-- name: looked_back_for
-- How far a rail has come with that.
update railwatch.rails set siblings_looked_back_seq = greatest(siblings_looked_back_seq, $2) where name = $1

-- name: registered
-- Destinations of a rail that wait, but those of $3, which failed a moment ago. Unparsed ones first: a bad address is
-- refused at once, however many wait for a node.
select id, address, reference, address_key, asset, expected_amount from railwatch.destinations
where rail = $1 and watch_state = 'registered' and id <> all ($3::uuid[])
order by address_key is not null, id limit $2

-- name: accept_destinations
-- Give parsed destinations their key, unless an open invoice or another merchant holds the address already, however it is
-- spelled: the later one is rejected. Those of one call share the family's next number, whose row is held to the commit:
-- numbers come in the order of commits. Each search for a holder names all columns of its index, whatever the tables held
-- when it was planned. An invoice's other destinations at the same address get the key at once, whichever rail they are
-- on: else what is found before their turn would pass for the wrong asset or network. One that only spells the address of
-- another differently is rejected.
with given as (
    select * from unnest($1::uuid[], $2::bytea[], $3::text[]) as t (id, key, display)
), clashing as (
    select given.id, (
        select min(other.invoice_id::text)
        from (
            select o.invoice_id, o.reference, o.watch_state from railwatch.destinations o
            where o.family = mine.family and o.address_key = given.key offset 0
        ) as other
        join railwatch.invoices i on i.id = other.invoice_id
            and railwatch.is_open(i.state)
        where other.invoice_id <> mine.invoice_id and other.reference is not distinct from mine.reference
          and other.watch_state in ('registered', 'watching')) as holder,
        exists (
            select from (
                select o.invoice_id, o.reference, o.watch_state from railwatch.destinations o
                where o.family = mine.family and o.address_key = given.key offset 0
            ) as other
            cross join lateral (select i.merchant_id from railwatch.invoices i where i.id = other.invoice_id offset 0) theirs
            cross join lateral (select i.merchant_id from railwatch.invoices i where i.id = mine.invoice_id offset 0) ours
            where theirs.merchant_id <> ours.merchant_id and other.watch_state <> 'rejected'
              and (other.reference is null or other.reference = coalesce(mine.reference, other.reference))) as anothers,
        exists (
            select from railwatch.destinations o
            where o.invoice_id = mine.invoice_id and o.position < mine.position and o.address_key = given.key
              and o.rail = mine.rail and o.asset = mine.asset and o.reference is not distinct from mine.reference
              and o.watch_state <> 'rejected') as repeated,
        mine.invoice_id, mine.family, mine.address_folded, mine.reference, given.key, given.display
    from given
    cross join lateral (select * from railwatch.destinations d where d.id = given.id offset 0) mine
), judged as (
    select *, holder is not null or anothers or repeated as refused from clashing
), numbered as (
    insert into railwatch.watch_position as known (family, last_seq) values ($4, 1)
    on conflict (family) do update set last_seq = known.last_seq + 1
    returning last_seq
), siblings as (
    update railwatch.destinations d
    set address_key = c.key, address = c.display, accepted_at = now(), keyed_seq = numbered.last_seq
    from judged c, numbered
    where d.invoice_id = c.invoice_id and d.family = c.family and d.address_folded = c.address_folded
      and d.reference is not distinct from c.reference and not c.refused
      and d.id <> all ($1::uuid[]) and d.watch_state not in ('watching', 'rejected', 'closed')
      and coalesce(d.address_key, '') = ''  -- so said, it is no reason to go by the index of keys
)
update railwatch.destinations d
set address_key = case when not c.refused then given.key end,
    address = given.display,
    accepted_at = now(),
    keyed_seq = numbered.last_seq,
    watch_state = case when not c.refused then d.watch_state else 'rejected' end,
    watch_error = case when c.anothers then 'the address belongs to another merchant'
                       when c.holder is not null then 'the address belongs to open invoice ' || c.holder
                       when c.repeated then 'the invoice asks for the same asset at the same address twice' end
from given join judged c on c.id = given.id, numbered
where d.id = any ($1) and d.id = given.id and d.watch_state not in ('watching', 'rejected', 'closed')
returning d.id, d.address_key, d.watch_state = 'registered' as taken

-- name: reject
-- Refuse destinations that the rail cannot read, or that could never be paid, with the reason; returns those that were.
-- One that money has arrived at already is never rejected: it has to be watched.
update railwatch.destinations d set watch_state = 'rejected', watch_error = t.reason
from unnest($1::uuid[], $2::text[]) as t (id, reason)
where d.id = any ($1) and d.id = t.id and d.watch_state not in ('watching', 'rejected', 'closed')
  and not exists (select from railwatch.detections x where x.invoice_id = d.invoice_id and x.destination_id = d.id)
returning d.id

-- name: delay_watch
-- Say why destinations do not come into the watch. They go on waiting.
update railwatch.destinations d set watch_error = t.reason
from unnest($1::uuid[], $2::text[]) as t (id, reason)
where d.id = any ($1) and d.id = t.id and d.watch_state not in ('watching', 'rejected', 'closed')
  and d.watch_error is distinct from t.reason

-- name: begin_watching
-- The look-back is done: from this height on nothing can have been missed. Said so that no plan goes through all that wait.
update railwatch.destinations set watch_state = 'watching', covered_from = $2, watch_error = null
where id = any ($1) and watch_state not in ('watching', 'rejected', 'closed')

-- name: close_watches
-- Stop watching invoices whose horizon has passed and was covered to its end on every rail, with the margin for late blocks,
-- and that have nothing on its way: of $3 after ($1, $2), in the order of their horizons. Rails that were given up are not waited for.
with looked_at as materialized (
    select id, closes_at, state, time_basis from railwatch.invoices
    where closed_at is null and closes_at <= now() and (closes_at, id) > ($1, $2)
    order by closes_at, id limit $3
), closable as (
    select l.id from looked_at l
    where not exists (
        select from railwatch.destinations d join railwatch.rails r on r.name = d.rail
        where d.invoice_id = l.id and not r.given_up and not railwatch.is_covered(d, r, l.closes_at, l.time_basis))
      and not exists (
        select from railwatch.detections x join railwatch.rails r on r.name = x.rail
        where x.invoice_id = l.id and not r.given_up
          and (x.state in ('pending', 'included', 'confirmed')
               -- A transfer that a reorg has just removed may be on its way to another block, though no mempool shows it.
               or (x.state = 'orphaned' and exists (
                   select from (select * from railwatch.transitions where invoice_id = x.invoice_id offset 0) t
                   where t.subject_id = x.id and t.recorded_at > now() - interval '1 day'))))
      and not exists (select from railwatch.quarantine q where q.invoice_id = l.id)
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
-- The open rescan of a rail, unless it failed a moment ago.
select id, from_height, to_height, next_height, tries from railwatch.rescans
where rail = $1 and finished_at is null and retry_at <= now()

-- name: rescan_progress
-- How far a rescan has come; no row if it was cancelled, or widened downwards, meanwhile.
update railwatch.rescans set next_height = $3, found = found + $4, error = null, tries = 0
where id = $1 and next_height = $2 and finished_at is null returning id

-- name: rescan_done
-- A rescan has come to its end, unless it was widened meanwhile.
update railwatch.rescans set finished_at = now(), outcome = 'done'
where id = $1 and next_height = $2 and to_height is not distinct from $3 and finished_at is null returning id

-- name: rescan_failed
-- Why a rescan does not get on: it goes on after $3 seconds, or has failed for good when that is null.
update railwatch.rescans
set error = $2, tries = tries + 1, retry_at = now() + make_interval(secs => coalesce($3::float8, 0)),
    finished_at = case when $3::float8 is null then now() end, outcome = case when $3::float8 is null then 'failed' end
where id = $1 and finished_at is null

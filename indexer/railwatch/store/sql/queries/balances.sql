-- name: balance_keys
-- Watched addresses of a rail beyond $2, in their order: the walk over all of them. References divide an address.
select distinct address_key from railwatch.destinations
where rail = $1 and watch_state = 'watching' and address_key > $2 and reference is null
order by address_key limit $3

-- name: unread_balance_keys
-- Addresses that were lately taken in, after $4, and whose balance nobody has looked at yet.
select d.address_key, d.accepted_at from (
    select * from railwatch.destinations
    where address_key is not null and accepted_at > greatest(now() - interval '10 minutes', $4::timestamptz)
    order by accepted_at offset 0
) d
where d.rail = $1 and d.watch_state = 'watching' and d.reference is null
  and d.asset = any ($2) and (select true from railwatch.balances b where b.destination_id = d.id limit 1) is null
order by d.accepted_at limit $3

-- name: balance_accounts
-- What is to be counted at those addresses: the asset that is waited for there, and the native one ($3, if it is not
-- null), for the newest invoice that holds the address; with the look before. Of its destinations there the one that
-- has been looked at stays the one: they may have been taken in one after another.
with held as (
    select d.id, d.invoice_id, d.address_key, d.asset, d.covered_from, d.position, i.created_at
    from railwatch.destinations d
    cross join lateral (select created_at from railwatch.invoices where id = d.invoice_id offset 0) i
    where d.rail = $1 and d.watch_state = 'watching' and d.address_key = any ($2) and d.reference is null
), counted as (
    select held.*, held.asset as counts from held where held.asset = any ($4)
    union all
    select held.*, $3 from held where $3::text is not null
)
select distinct on (c.address_key, c.counts) c.id as destination_id, c.invoice_id, c.address_key, c.counts, c.covered_from,
       b.baseline, b.baseline_height, b.baseline_hash, b.balance, b.spent, b.unattributed, b.block_height, b.block_hash,
       b.settled_height, b.settled_balance, b.settled_spent
from counted c
left join lateral (
    select * from railwatch.balances where destination_id = c.id and asset = c.counts offset 0
) b on true
order by c.address_key, c.counts, c.created_at desc, c.invoice_id, b.id is null, c.asset <> c.counts, c.position

-- name: lock_rail_for_balances
-- Hold the rail where it is while a look is put down; no row if the lease or the branch changed since the node was asked.
select name from railwatch.rails where name = $1 and epoch = $2 and rewinds = $3 and cursor_height >= $4 for share

-- name: detected_at
-- What the tables hold of each account in blocks up to $6: above its baseline, and of that above its last look. Whoever
-- held the address then. What was too small to be kept is counted at its destinations, whatever the asset.
select t.place, held.total, held.fresh, small.count as small_count, small.amount as small_amount
from unnest($2::bytea[], $3::text[], $4::bigint[], $5::bigint[]) with ordinality
    as t (address_key, asset, baseline_height, last_height, place)
cross join lateral (
    select coalesce(sum(x.amount), 0) as total,
           coalesce(sum(x.amount) filter (where x.block_height > t.last_height), 0) as fresh
    from (
        select id, invoice_id from railwatch.destinations where family = $7 and address_key = t.address_key offset 0
    ) d
    cross join lateral (select * from railwatch.detections where invoice_id = d.invoice_id offset 0) x
    where x.destination_id = d.id and x.rail = $1 and x.asset = t.asset
      and x.state in ('included', 'confirmed', 'final')
      and x.block_height > t.baseline_height and x.block_height <= $6
) held
cross join lateral (
    select coalesce(sum(small_count), 0) as count, coalesce(sum(small_amount), 0) as amount
    from railwatch.destinations where family = $7 and address_key = t.address_key
) small
order by t.place

-- name: save_balance_readings
-- The newest look at each account.
insert into railwatch.balances
    (id, invoice_id, destination_id, rail, asset, baseline, baseline_height, baseline_hash, balance, detected, spent,
     unattributed, block_height, block_hash, node, settled_height, settled_balance, settled_spent, suspect_height, suspect_hash,
     suspect_balance, suspect_node)
select t.*, case when t.unattributed > 0 then t.block_height end, case when t.unattributed > 0 then t.block_hash end,
       case when t.unattributed > 0 then t.balance end, case when t.unattributed > 0 then t.node end
from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::numeric[], $7::bigint[], $8::text[],
                     $9::numeric[], $10::numeric[], $11::numeric[], $12::numeric[], $13::bigint[], $14::text[], $15::text[],
                     $16::bigint[], $17::numeric[], $18::numeric[])
    as t (id, invoice_id, destination_id, rail, asset, baseline, baseline_height, baseline_hash, balance, detected, spent,
          unattributed, block_height, block_hash, node, settled_height, settled_balance, settled_spent)
on conflict (id) do update
set baseline = excluded.baseline, baseline_height = excluded.baseline_height, baseline_hash = excluded.baseline_hash,
    balance = excluded.balance, detected = excluded.detected, spent = excluded.spent, unattributed = excluded.unattributed,
    block_height = excluded.block_height, block_hash = excluded.block_hash, node = excluded.node, settled_height = excluded.settled_height,
    settled_balance = excluded.settled_balance, settled_spent = excluded.settled_spent, looked_at = now(),
    suspect_height = case when excluded.unattributed > 0 then coalesce(balances.suspect_height, excluded.suspect_height) end,
    suspect_hash = case when excluded.unattributed > 0 then coalesce(balances.suspect_hash, excluded.suspect_hash) end,
    suspect_balance = case when excluded.unattributed > 0 then coalesce(balances.suspect_balance, excluded.suspect_balance) end,
    suspect_node = case when excluded.unattributed > 0 then coalesce(balances.suspect_node, excluded.suspect_node) end,
    second_look = case when excluded.unattributed > 0 then balances.second_look end,
    second_node = case when excluded.unattributed > 0 then balances.second_node end

-- name: suspects
-- Accounts that hold more than is known, as one node told it at a block that no reorg can undo any more: to be read again.
select b.id, d.address_key, b.asset, b.suspect_height, b.suspect_hash, b.suspect_balance, b.suspect_node
from railwatch.balances b
cross join lateral (select address_key from railwatch.destinations where id = b.destination_id offset 0) d
where b.rail = $1 and b.suspect_height <= $2 and b.suspect_height is not null and b.second_look is null
order by b.suspect_height limit $3

-- name: record_second_look
-- What reading balances again said, if the lease is still ours. A null verdict: it was not so, and the next look begins anew.
with fence as materialized (
    select name from railwatch.rails where name = $1 and epoch = $2 for share
), looked as (
    update railwatch.balances b
    set second_look = t.said, second_node = t.node,
        suspect_height = case when t.said is not null then b.suspect_height end,
        suspect_hash = case when t.said is not null then b.suspect_hash end,
        suspect_balance = case when t.said is not null then b.suspect_balance end,
        suspect_node = case when t.said is not null then b.suspect_node end
    from fence, unnest($3::uuid[], $4::text[], $5::text[], $6::text[]) as t (id, hash, said, node)
    where b.id = any ($3) and b.id = t.id and b.suspect_hash = t.hash
    returning b.invoice_id, b.second_look
)
select distinct invoice_id from looked where second_look is not null

-- name: mark_unchecked
-- The exceptions of these invoices have to be compared with the facts.
update railwatch.invoices set exceptions_checked_version = 0 where id = any ($1)

-- name: account_for_resolved
-- What a person has dealt with is accounted for: only what comes beyond it is unattributed again. A token may tell more than
-- a column holds.
update railwatch.balances b
set baseline = least(b.baseline + b.unattributed, 10::numeric ^ 78 - 1), unattributed = 0, suspect_height = null, suspect_hash = null,
    suspect_balance = null, suspect_node = null, second_look = null, second_node = null
from railwatch.exceptions e
where e.kind = 'unattributed_balance' and e.ended_at is null and e.resolved_at is not null
  and b.id = e.balance_id and b.rail = $1 and b.unattributed > 0
returning b.invoice_id

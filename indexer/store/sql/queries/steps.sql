-- name: quiet_step
-- Move the cursor over blocks that touch nobody, in one statement; no row if something is due, or the fence fell.
update railwatch.rails r
set cursor_height = $4, cursor_hash = $5, cursor_parent = $6, cursor_time = $7, tip_height = $8,
    finalized_height = $9, finalized_hash = $10, updated_at = now(), state = $12, reason = $13,
    covered_until = greatest(covered_until, least($7, now()), now() - $11::interval)
where r.name = $1 and r.epoch = $2 and r.cursor_hash is not distinct from $3
  and not exists (select from railwatch.detections d
                  where d.rail = $1 and d.due_basis = 'depth' and d.due_height <= $4)
  and not exists (select from railwatch.detections d
                  where d.rail = $1 and d.due_basis = 'finalized' and d.due_height <= $9)
returning now() as now

-- name: fence_step
-- Move the cursor and hold the rail's row to the commit; no row if another daemon has it or the cursor is elsewhere.
update railwatch.rails r
set cursor_height = $4, cursor_hash = $5, cursor_parent = $6, cursor_time = $7, tip_height = $8,
    finalized_height = $9, finalized_hash = $10, updated_at = now(), state = $12, reason = $13,
    covered_until = greatest(covered_until, least($7, now()), now() - $11::interval), rewinds = rewinds + $14
where r.name = $1 and r.epoch = $2 and r.cursor_hash is not distinct from $3
returning now() as now, r.covered_until

-- name: fence_aside
-- Hold the rail's row for a step that leaves the cursor where it is; no row if the lease or the branch changed.
select now() as now, cursor_height, cursor_hash, cursor_parent, cursor_time, finalized_height, finalized_hash, tip_height,
       state, reason
from railwatch.rails
where name = $1 and epoch = $2 and rewinds = $3
for update

-- name: touched
-- Everything that a step touches: what is due, what a reorg orphans, what rivals displace, who holds an address.
select 'due' as what, d.id as detection_id, d.invoice_id, null::text as tx_id, null::uuid as destination_id,
       null::bytea as address_key, null::text as rail, null::text as asset, null::text as reference,
       null::boolean as open, null::timestamptz as created_at
from railwatch.detections d
where d.rail = $1 and ((d.due_basis = 'depth' and d.due_height <= $2)
                    or (d.due_basis = 'finalized' and d.due_height <= $3))
union all
select 'orphaned', d.id, d.invoice_id, null, null, null, null, null, null, null, null
from railwatch.detections d
where d.rail = $1 and d.block_height > $4 and d.state in ('included', 'confirmed')
union all
select 'rival', d.id, d.invoice_id, d.tx_id, null, null, null, null, null, null, null
from railwatch.detections d
where d.rail = $1 and d.tx_id = any ($5)
union all
select 'known', d.id, d.invoice_id, null, d.destination_id, null, d.rail, d.asset, null, null, d.first_seen_at
from railwatch.detections d
where d.id = any ($8)
union all
select 'candidate', null, i.id, null, d.id, d.address_key, d.rail, d.asset, d.reference,
       i.state in ('created', 'detected', 'confirming', 'underpaid', 'flagged'), i.created_at
from railwatch.destinations d join railwatch.invoices i on i.id = d.invoice_id
where d.family = $6 and d.address_key = any ($7) and d.watch_state not in ('rejected', 'closed')

-- name: cover
-- Extend a rail's coverage to the present, once some window on it has run out; writes nothing otherwise.
update railwatch.rails r
set covered_until = greatest(covered_until, now() - $3::interval), updated_at = now()
where r.name = $1 and r.epoch = $2 and exists (
    select from railwatch.invoices i join railwatch.destinations d on d.invoice_id = i.id
    where i.state = 'created' and i.expires_at <= now() - $3::interval and d.rail = $1
      and (r.covered_until is null or r.covered_until < i.expires_at))

-- name: closed_windows
-- Invoices without money whose window is over, and covered to its end on every rail that they can be paid on.
select i.id
from railwatch.invoices i
where i.state = 'created' and i.expires_at <= now()
  and (exists (select from railwatch.destinations d where d.invoice_id = i.id and d.rail = $1)
       or not exists (select from railwatch.destinations d where d.invoice_id = i.id and d.watch_state <> 'rejected'))
  and not exists (
      select from railwatch.destinations d join railwatch.rails r on r.name = d.rail
      where d.invoice_id = i.id and d.watch_state <> 'rejected'
        and (d.watch_state = 'registered' or r.covered_until is null or r.covered_until < i.expires_at))
order by i.expires_at limit 1000

-- name: pending_of_rail
-- Transfers of a rail that were last seen outside any block.
select id, invoice_id, tx_id from railwatch.detections where rail = $1 and state = 'pending'

-- name: lock_invoices
-- The invoices of a step, held to the commit, always in the same order.
select id, state, expires_at, version, time_basis, tolerance_bps, held, settled_at
from railwatch.invoices where id = any ($1) order by id for update

-- name: destinations_of
-- Where those invoices can be paid, in the order in which they were given.
select id, invoice_id, rail, asset, expected_amount, policy, watch_state
from railwatch.destinations where invoice_id = any ($1) and watch_state <> 'rejected' order by invoice_id, position

-- name: detections_of
-- All that was ever detected for those invoices; raw evidence stays where it is.
select id, invoice_id, destination_id, rail, asset, tx_id, tx_index, amount, kind, state, first_seen_at, block_height,
       block_hash, block_time, confirmed_at, in_time, replaced_by, maturity, invoice_ended, version
from railwatch.detections where invoice_id = any ($1) order by first_seen_at, id

-- name: cases_of
-- All exceptions of those invoices, also resolved ones, oldest first.
select id, invoice_id, kind, severity, detection_id, round, resolution, resolved_at
from railwatch.exceptions where invoice_id = any ($1) order by opened_at, round

-- name: coverage
-- Up to when each rail has been watched without a hole.
select name, covered_until from railwatch.rails where covered_until is not null

-- name: save_detections
-- New and changed detections, by identity.
insert into railwatch.detections as detections
    (id, invoice_id, destination_id, rail, asset, tx_id, tx_index, amount, kind, state, first_seen_at, block_height,
     block_hash, block_time, confirmed_at, in_time, replaced_by, maturity, spends, invoice_ended, version, evidence,
     due_basis, due_height)
select id, invoice_id, destination_id, rail, asset, tx_id, tx_index, amount, kind, state, first_seen_at, block_height,
       block_hash, block_time, confirmed_at, in_time, replaced_by, maturity,
       coalesce(string_to_array(spends, E'\x1f'), '{}'), invoice_ended, version, evidence, due_basis, due_height
from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::numeric[],
            $9::text[], $10::text[], $11::timestamptz[], $12::bigint[], $13::text[], $14::timestamptz[],
            $15::timestamptz[], $16::boolean[], $17::text[], $18::int[], $19::text[], $20::text[], $21::int[],
            $22::jsonb[], $23::text[], $24::bigint[])
    as t (id, invoice_id, destination_id, rail, asset, tx_id, tx_index, amount, kind, state, first_seen_at,
          block_height, block_hash, block_time, confirmed_at, in_time, replaced_by, maturity, spends, invoice_ended,
          version, evidence, due_basis, due_height)
on conflict (id) do update
set state = excluded.state, kind = excluded.kind, block_height = excluded.block_height,
    block_hash = excluded.block_hash, block_time = excluded.block_time, confirmed_at = excluded.confirmed_at,
    in_time = excluded.in_time, replaced_by = excluded.replaced_by, version = excluded.version,
    evidence = detections.evidence || excluded.evidence, due_basis = excluded.due_basis, due_height = excluded.due_height

-- name: save_invoices
-- States and sums of the invoices that a step touched, in one statement.
with sums as (
    update railwatch.destinations d
    set seen_amount = t.seen, confirmed_amount = t.confirmed, late_amount = t.late
    from unnest($5::uuid[], $6::numeric[], $7::numeric[], $8::numeric[]) as t (id, seen, confirmed, late)
    where d.id = t.id
      and (d.seen_amount, d.confirmed_amount, d.late_amount) is distinct from (t.seen, t.confirmed, t.late)
)
update railwatch.invoices i
set state = t.state, state_since = case when i.state = t.state then i.state_since else now() end,
    version = t.version, settled_at = t.settled_at
from unnest($1::uuid[], $2::text[], $3::int[], $4::timestamptz[]) as t (id, state, version, settled_at)
where i.id = t.id and i.version <> t.version

-- name: save_cases
-- Exceptions that opened (some are made good in the same step), and older ones that were made good.
with resolved as (
    update railwatch.exceptions e
    set resolved_at = now(), resolution = t.resolution
    from unnest($8::uuid[], $9::text[]) as t (id, resolution)
    where e.id = t.id
)
insert into railwatch.exceptions (id, invoice_id, detection_id, kind, severity, round, resolution, resolved_at)
select t.*, case when t.resolution is not null then now() end
from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::int[], $7::text[])
    as t (id, invoice_id, detection_id, kind, severity, round, resolution)

-- name: append_transitions
-- Put a step's lines into the feed: seqs are taken here, last, and held to the commit. Wakes whoever listens.
with taken as materialized (select railwatch.next_seq(cardinality($1::uuid[])) as first),
lines as (
    insert into railwatch.transitions
        (seq, event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause, rail, tx_id,
         block_height, block_hash, confirmations, seen_amount, confirmed_amount, chain_time, evidence)
    select taken.first + t.place - 1, t.event_id, t.subject, t.subject_id, t.invoice_id, t.from_state, t.to_state,
           t.reason, t.cause, t.rail, t.tx_id, t.block_height, t.block_hash, t.confirmations, t.seen_amount,
           t.confirmed_amount, t.chain_time, t.evidence
    from taken, unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[],
                       $9::text[], $10::text[], $11::bigint[], $12::text[], $13::bigint[], $14::numeric[],
                       $15::numeric[], $16::timestamptz[], $17::jsonb[]) with ordinality
        as t (event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause, rail, tx_id,
              block_height, block_hash, confirmations, seen_amount, confirmed_amount, chain_time, evidence, place)
)
select pg_notify('railwatch', (first + cardinality($1::uuid[]) - 1)::text) from taken

-- name: take_seqs
-- The first of $1 seqs for a large step, whose lines are then copied in. Wakes whoever listens, at the commit.
with taken as materialized (select railwatch.next_seq($1) as first)
select first, pg_notify('railwatch', (first + $1 - 1)::text) from taken

-- name: save_checkpoints
-- Blocks that a reorg may have to come back to.
insert into railwatch.checkpoints (rail, height, hash, parent, time)
select $1, * from unnest($2::bigint[], $3::text[], $4::text[], $5::timestamptz[])
on conflict (rail, height) do update set hash = excluded.hash, parent = excluded.parent, time = excluded.time

-- name: drop_checkpoints
-- Forget checkpoints of an orphaned branch (above $2) and those that finality has passed (below $3).
delete from railwatch.checkpoints where rail = $1 and (height > $2 or height < $3)

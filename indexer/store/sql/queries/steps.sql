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

-- name: open_step
-- Move the cursor, hold the rail's row to the commit, and find whom the step touches; no `fence` row if another
-- daemon has the rail or the cursor is elsewhere. Touched are: what is due, what a reorg orphans, what rivals displace,
-- what is known already, who holds an address. Checkpoints go with the cursor: those of the step come in, those above
-- $25 (an orphaned branch) and below $26 (final) are forgotten.
with fence as (
    update railwatch.rails r
    set cursor_height = $4, cursor_hash = $5, cursor_parent = $6, cursor_time = $7, tip_height = $8,
        finalized_height = $9, finalized_hash = $10, updated_at = now(), state = $12, reason = $13,
        covered_until = greatest(covered_until, least($7, now()), now() - $11::interval), rewinds = rewinds + $14
    where r.name = $1 and r.epoch = $2 and r.cursor_hash is not distinct from $3
    returning r.covered_until
), kept as (
    insert into railwatch.checkpoints (rail, height, hash, parent, time)
    select $1, t.* from fence, unnest($21::bigint[], $22::text[], $23::text[], $24::timestamptz[]) as t
    on conflict (rail, height) do update set hash = excluded.hash, parent = excluded.parent, time = excluded.time
), forgotten as (
    delete from railwatch.checkpoints c using fence
    where c.rail = $1 and (c.height > $25 or c.height < $26) and c.height <> all ($21::bigint[])
)
select 'fence' as what, null::uuid as detection_id, null::uuid as invoice_id, null::text as tx_id,
       null::uuid as destination_id, null::bytea as address_key, null::text as rail, null::text as asset,
       null::text as reference, null::boolean as open, now() as at
from fence
union all
select 'covered', null, null, null, null, null, $1, null, null, null, covered_until from fence
union all
select 'covered', null, null, null, null, null, name, null, null, null, covered_until
from railwatch.rails where name <> $1 and covered_until is not null
union all
select * from railwatch.touched($1, $4, coalesce($9, -1), $15, $16, $17, $18, $19)
where reference is null or reference = any ($20::text[])  -- many may share an address, each with a reference

-- name: fence_aside
-- Hold the rail's row for a step that leaves the cursor where it is; no row if the lease or the branch changed.
select now() as now, cursor_height, cursor_hash, cursor_parent, cursor_time, finalized_height, finalized_hash, tip_height,
       state, reason
from railwatch.rails
where name = $1 and epoch = $2 and rewinds = $3
for update

-- name: touched_aside
-- What `open_step` finds, for a step that leaves the cursor.
select 'covered' as what, null::uuid as detection_id, null::uuid as invoice_id, null::text as tx_id,
       null::uuid as destination_id, null::bytea as address_key, name as rail, null::text as asset,
       null::text as reference, null::boolean as open, covered_until as at
from railwatch.rails where covered_until is not null
union all
select * from railwatch.touched($1, $2, $3, $4, $5, $6, $7, $8)
where reference is null or reference = any ($9::text[])

-- name: cover
-- Extend a rail's coverage to the present: once some window on it has run out, and every ten seconds as a sign of life.
update railwatch.rails r
set covered_until = greatest(covered_until, now() - $3::interval), updated_at = now()
where r.name = $1 and r.epoch = $2 and (
    coalesce(r.covered_until, '-infinity') < now() - $3::interval - interval '10 seconds'
    or exists (
        select from (
            select id from railwatch.invoices i
            where i.state = 'created' and i.expires_at > r.covered_until and i.expires_at <= now() - $3::interval offset 0
        ) i
        where exists (select from railwatch.destinations d where d.invoice_id = i.id and d.rail = $1)))

-- name: closed_windows
-- Invoices without money whose window is over, and covered to its end on every rail that they can be paid on. Looked at are
-- those whose window ended in the last ten minutes, and of the older ones $4 after ($2, $3): they wait for a rail that is
-- away, and may be many. The row without `covered` is the last of the older: where to go on.
with fresh as (
    select id, expires_at from railwatch.invoices
    where state = 'created' and expires_at <= now() and expires_at > now() - interval '10 minutes'
), older as materialized (
    select id, expires_at from railwatch.invoices
    where state = 'created' and expires_at <= now() - interval '10 minutes' and (expires_at, id) > ($2, $3)
    order by expires_at, id limit $4
)
(
    select i.id, i.expires_at, true as covered
    from (select * from fresh union all select * from older) i
    cross join lateral (
        select coalesce(bool_or(d.rail = $1), false) as ours,
               coalesce(bool_and(d.watch_state = 'rejected'), true) as unwatched,
               coalesce(bool_or(d.watch_state <> 'rejected'
                                and (d.watch_state = 'registered' or r.covered_until is null or r.covered_until < i.expires_at)),
                        false) as waits
        from railwatch.destinations d join railwatch.rails r on r.name = d.rail where d.invoice_id = i.id
    ) d
    where (d.ours or d.unwatched) and not d.waits
    order by i.expires_at limit 1000
)
union all
(select id, expires_at, false from older order by expires_at desc, id desc limit 1)

-- name: pending_of_rail
-- Transfers of a rail that were last seen outside any block.
select id, invoice_id, tx_id from railwatch.detections where rail = $1 and state = 'pending'

-- name: lock_invoices
-- Hold the invoices of a step to the commit, always in the same order.
select id from railwatch.invoices where id = any ($1) order by id for update

-- name: load_books
-- Everything about those invoices, read after they were locked; raw evidence stays where it is.
select i.id, i.state, i.created_at, i.state_since, i.expires_at, i.version, i.time_basis, i.tolerance_bps, i.held,
       i.settled_at,
       case when i.state = 'flagged' then (
           select t.from_state from railwatch.transitions t
           where t.invoice_id = i.id and t.subject = 'invoice' and t.to_state = 'flagged' order by t.seq desc limit 1
       ) end as held_from,
       array(select row(r.rail, r.asset, sum(r.amount)) from railwatch.refunds r
             where r.invoice_id = i.id group by r.rail, r.asset) as refunds,
       array(select row(d.id, d.rail, d.asset, d.expected_amount, d.policy, d.watch_state, r.stuck_after, r.blind_after)
             from railwatch.destinations d join railwatch.rails r on r.name = d.rail
             where d.invoice_id = i.id and d.watch_state <> 'rejected' order by d.position) as destinations,
       array(select row(x.id, x.destination_id, x.rail, x.asset, x.tx_id, x.tx_index, x.amount, x.kind, x.state,
                        x.first_seen_at, x.block_height, x.block_hash, x.block_time, x.confirmed_at, x.in_time,
                        x.replaced_by, x.maturity, x.invoice_ended, x.version)
             from railwatch.detections x where x.invoice_id = i.id order by x.first_seen_at, x.id) as detections,
       array(select row(e.id, e.kind, e.severity, e.detection_id, e.round, e.resolution, e.resolved_at, e.ended_at,
                        e.balance_id)
             from railwatch.exceptions e where e.invoice_id = i.id order by e.opened_at, e.round) as cases,
       array(select row(b.id, b.destination_id, b.rail, b.asset, b.unattributed, b.balance, b.block_height, b.block_hash,
                        b.node)
             from railwatch.balances b where b.invoice_id = i.id and b.unattributed > 0) as surpluses
from railwatch.invoices i where i.id = any ($1) order by i.id

-- name: save_step
-- All that a step changes, in one statement: detections by identity (known facts are added to, never replaced), what was
-- observed of them, sums and states, exceptions (a person's word stays), and the lines of the feed. The lines' seqs are
-- taken when all the rest is done, and held to the commit. Wakes whoever listens.
with observed as (
    insert into railwatch.observations
        (detection_id, version, state, block_height, block_hash, block_time, node, facts, raw)
    select * from unnest($25::uuid[], $26::int[], $27::text[], $28::bigint[], $29::text[], $30::timestamptz[],
                         $31::text[], $32::jsonb[], $33::jsonb[])
    returning 1
),
detected as (
    insert into railwatch.detections as detections
        (id, invoice_id, destination_id, rail, asset, tx_id, tx_index, amount, kind, state, first_seen_at, block_height,
         block_hash, block_time, confirmed_at, in_time, replaced_by, maturity, spends, invoice_ended, version, evidence,
         due_basis, due_height)
    select id, invoice_id, destination_id, rail, asset, tx_id, tx_index, amount, kind, state, first_seen_at,
           block_height, block_hash, block_time, confirmed_at, in_time, replaced_by, maturity,
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
        evidence = excluded.evidence || detections.evidence, due_basis = excluded.due_basis,
        due_height = excluded.due_height
    returning 1
),
moved as (
    update railwatch.invoices i
    set state = t.state, state_since = t.since, version = t.version, weighed = t.version, settled_at = t.settled_at
    from unnest($34::uuid[], $35::text[], $36::timestamptz[], $37::int[], $38::timestamptz[])
        as t (id, state, since, version, settled_at)
    where i.id = t.id and (i.version, i.weighed) is distinct from (t.version, t.version)
    returning 1
),
summed as (
    update railwatch.destinations d
    set seen_amount = t.seen, confirmed_amount = t.confirmed, late_amount = t.late, left_out = d.left_out + t.left_out
    from unnest($39::uuid[], $40::numeric[], $41::numeric[], $42::numeric[], $43::bigint[])
        as t (id, seen, confirmed, late, left_out)
    where d.id = t.id
      and (d.seen_amount, d.confirmed_amount, d.late_amount, 0) is distinct from (t.seen, t.confirmed, t.late, t.left_out)
    returning 1
),
opened as (
    insert into railwatch.exceptions
        (id, invoice_id, detection_id, kind, severity, round, resolution, balance_id, resolved_at, ended_at)
    select t.*, case when t.resolution is not null then now() end, case when t.resolution is not null then now() end
    from unnest($44::uuid[], $45::uuid[], $46::uuid[], $47::text[], $48::text[], $49::int[], $50::text[],
                $51::uuid[])
        as t (id, invoice_id, detection_id, kind, severity, round, resolution, balance_id)
    returning 1
),
ended as (
    update railwatch.exceptions e
    set ended_at = now(), resolved_at = coalesce(e.resolved_at, now()), resolution = coalesce(e.resolution, t.resolution)
    from unnest($52::uuid[], $53::text[]) as t (id, resolution)
    where e.id = t.id
    returning 1
),
done as materialized (
    select count(*) as rows
    from (select from observed union all select from detected union all select from moved union all select from summed
          union all select from opened union all select from ended) as written
),
taken as materialized (
    select railwatch.next_seq(cardinality($54::uuid[])) as first from done
    where done.rows >= 0 and cardinality($54::uuid[]) > 0
),
lines as (
    insert into railwatch.transitions
        (seq, event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause, rail, tx_id,
         block_height, block_hash, confirmations, seen_amount, confirmed_amount, chain_time, evidence)
    select taken.first + t.place - 1, t.event_id, t.subject, t.subject_id, t.invoice_id, t.from_state, t.to_state,
           t.reason, t.cause, t.rail, t.tx_id, t.block_height, t.block_hash, t.confirmations, t.seen_amount,
           t.confirmed_amount, t.chain_time, t.evidence
    from taken, unnest($54::uuid[], $55::text[], $56::uuid[], $57::uuid[], $58::text[], $59::text[], $60::text[],
                       $61::text[], $62::text[], $63::text[], $64::bigint[], $65::text[], $66::bigint[], $67::numeric[],
                       $68::numeric[], $69::timestamptz[], $70::jsonb[]) with ordinality
        as t (event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause, rail, tx_id,
              block_height, block_hash, confirmations, seen_amount, confirmed_amount, chain_time, evidence, place)
)
select pg_notify('railwatch', (first + cardinality($54::uuid[]) - 1)::text) from taken

-- name: weigh_invoices
-- Their exceptions have been compared with the facts: nothing is left to do until somebody moves them again.
update railwatch.invoices set weighed = version where id = any ($1) and weighed <> version

-- name: take_seqs
-- The first of $1 seqs for a large step, whose lines are then copied in. Wakes whoever listens, at the commit.
with taken as materialized (select railwatch.next_seq($1) as first)
select first, pg_notify('railwatch', (first + $1 - 1)::text) from taken

-- name: save_checkpoints
-- Blocks of a look-back that a reorg may have to come back to.
insert into railwatch.checkpoints (rail, height, hash, parent, time)
select $1, * from unnest($2::bigint[], $3::text[], $4::text[], $5::timestamptz[])
on conflict (rail, height) do update set hash = excluded.hash, parent = excluded.parent, time = excluded.time

-- name: advance_cursor
-- Move the cursor over blocks that touch nobody, in one statement; no row if something is due, or the fence fell. While
-- the rail is blind nothing is promoted, so nothing is due. Coverage never runs ahead of the chain by more than a stall,
-- and a step that does not reach the head ($11 is null) covers nothing: `least` would leave the null out. The rail's row
-- is locked before `is_due` reads: a look-back that holds it may commit a transfer that is due with these blocks.
with held as materialized (
    select name from railwatch.rails where name = $1 and epoch = $2 and cursor_hash is not distinct from $3
    for no key update
)
update railwatch.rails r
set cursor_height = $4, cursor_hash = $5, cursor_parent = $6, cursor_time = $7, tip_height = $8,
    finalized_height = $9, finalized_hash = $10, updated_at = now(), state = $12, reason = $13,
    covered_until = greatest(covered_until, case when $11::timestamptz is not null
        then least($11::timestamptz, now(), $7::timestamptz + r.stall_after) end)
from held
where r.name = held.name and ($12 = 'stalled' or not railwatch.is_due(held.name, $4, $9))
returning now() as now

-- name: begin_step
-- Move the cursor, hold the rail's row to the commit, and find whom the step touches; no `fence` row if another
-- daemon has the rail or the cursor is elsewhere. Touched are: what is due, what a reorg orphans, what rivals displace,
-- what is known already of those transactions, who holds an address. Checkpoints go with the cursor: those of the step come in, those above
-- $25 (an orphaned branch) and below $26 (final) are forgotten.
with fence as (
    update railwatch.rails r
    set cursor_height = $4, cursor_hash = $5, cursor_parent = $6, cursor_time = $7, tip_height = $8,
        finalized_height = $9, finalized_hash = $10, updated_at = now(), state = $12, reason = $13,
        covered_until = greatest(covered_until, case when $11::timestamptz is not null
            then least($11::timestamptz, now(), $7::timestamptz + r.stall_after) end),
        rewinds = rewinds + $14
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
       null::text as tx_index, null::uuid as destination_id, null::bytea as address_key, null::text as rail,
       null::text as asset, null::text as reference, null::boolean as open, now() as at,
       null::timestamptz as accepts_from, null::bigint as height, null::text as block_hash, null::numeric as amount
from fence
union all
select 'covered', null, null, null, null, null, null, $1, null, null, null, covered_until, null, null, null, null from fence
union all
select 'covered', null, null, null, null, null, null, name, null, null, null, covered_until, null, null, null, null
from railwatch.rails where name <> $1 and covered_until is not null
union all
select * from railwatch.affected_rows($1, case when $12 = 'stalled' then -1 else $4 end,
                                case when $12 = 'stalled' then -1 else coalesce($9, -1) end, $15, $16, $17, $18, $19)
where reference is null or reference = any ($20::text[])  -- many may share an address, each with a reference

-- name: lock_rail_at_cursor
-- Hold the rail's row for a step that leaves the cursor where it is; no row if another daemon has the rail. Not against
-- registrations, which share the row's key.
select now() as now, rewinds, cursor_height, cursor_hash, cursor_parent, cursor_time, finalized_height, finalized_hash, tip_height,
       state, reason
from railwatch.rails
where name = $1 and epoch = $2
for no key update

-- name: affected_at_cursor
-- What `open_step` finds, for a step that leaves the cursor.
select 'covered' as what, null::uuid as detection_id, null::uuid as invoice_id, null::text as tx_id,
       null::text as tx_index, null::uuid as destination_id, null::bytea as address_key, name as rail,
       null::text as asset, null::text as reference, null::boolean as open, covered_until as at,
       null::timestamptz as accepts_from, null::bigint as height, null::text as block_hash, null::numeric as amount
from railwatch.rails where covered_until is not null
union all
select * from railwatch.affected_rows($1, $2, $3, $4, $5, $6, $7, $8)
where reference is null or reference = any ($9::text[])

-- name: extend_coverage
-- Extend a rail's coverage up to $3, unless that is null: once some window on it has run out, and every ten seconds as a
-- sign of life. The answer is what the server's clock shows.
with covered as (
    update railwatch.rails r
    set covered_until = greatest(covered_until, least($3::timestamptz, now(), cursor_time + stall_after)), updated_at = now()
    where r.name = $1 and r.epoch = $2 and $3::timestamptz is not null and (
        coalesce(r.covered_until, '-infinity') < least($3::timestamptz, now()) - interval '10 seconds'
        or exists (
            select from (
                select id from railwatch.invoices i
                where i.state = 'created' and i.expires_at > r.covered_until
                  and i.expires_at <= least($3::timestamptz, now()) offset 0
            ) i
            where exists (select from railwatch.destinations d where d.invoice_id = i.id and d.rail = $1)))
)
select now()

-- name: closed_windows
-- Invoices without money whose window is over, and covered to its end on every rail that they can be paid on. Looked at are
-- those whose window ended in the last ten minutes, and of the older ones $4 after ($2, $3): they wait for a rail that is
-- away, and may be many. In quarantine an invoice may have been paid unseen. The row without `covered` is the last of the older: where to go on.
with fresh as (
    select id, expires_at, time_basis from railwatch.invoices
    where state = 'created' and expires_at <= now() and expires_at > now() - interval '10 minutes'
), older as materialized (
    select id, expires_at, time_basis from railwatch.invoices
    where state = 'created' and expires_at <= now() - interval '10 minutes' and (expires_at, id) > ($2, $3)
    order by expires_at, id limit $4
)
(
    select i.id, i.expires_at, true as covered
    from (select * from fresh union all select * from older) i
    cross join lateral (
        select coalesce(bool_or(d.rail = $1), false) as ours,
               coalesce(bool_and(d.watch_state = 'rejected'), true) as unwatched,
               coalesce(bool_or(not railwatch.is_covered(d, r, i.expires_at, i.time_basis)), false) as waits
        from railwatch.destinations d join railwatch.rails r on r.name = d.rail where d.invoice_id = i.id
    ) d
    where (d.ours or d.unwatched) and not d.waits
      and (select true from railwatch.quarantine q where q.invoice_id = i.id limit 1) is null
    order by i.expires_at limit 1000
)
union all
(select id, expires_at, false from older order by expires_at desc, id desc limit 1)

-- name: pending_of_rail
-- Transfers of a rail that were last seen outside any block.
select id, invoice_id, tx_id from railwatch.detections where rail = $1 and state = 'pending'

-- name: lock_invoices
-- Hold the invoices of a step to the commit, always in the same order. Rows that only refer to one need not wait.
select id from railwatch.invoices where id = any ($1) order by id for no key update

-- name: load_aggregates
-- Those invoices, read after they were locked, with the detections $2 that the step touches. Of the others each
-- destination holds the sums, so that the cost does not grow with what an invoice ever received. Loaded are also: what
-- was replaced (a rival may come or go), with what took its place, and all of which the moment that the time basis names
-- has not come yet. Exceptions of those detections, the newest of each group of transfers, and the newest of each
-- kind ($3) that is the invoice's.
with touched as (
    select id from unnest($2::uuid[]) as t (id)
    union
    select x.id from unnest($1::uuid[]) as t (id)
    cross join lateral (
        select d.id from railwatch.detections d where d.invoice_id = t.id and d.state = 'replaced'
        order by d.first_seen_at desc limit 100) x
    union
    select x.id from unnest($1::uuid[]) as t (id)
    join railwatch.invoices i on i.id = t.id and i.time_basis <> 'first_seen'
    cross join lateral (
        select d.id, d.state from railwatch.detections d where d.invoice_id = t.id and d.state <> 'final' offset 0) x
    -- Said outside, so that no plan goes by the index of all that can be undone.
    where x.state = 'pending' or (x.state = 'included' and i.time_basis = 'confirmed')
), wanted as materialized (
    select id from touched
    union
    select heir.id from touched
    cross join lateral (
        select * from railwatch.detections d where d.id = touched.id and d.replaced_by is not null offset 0) lost
    cross join lateral (
        select d.id from railwatch.detections d
        where d.tx_id = lost.replaced_by and d.rail = lost.rail and d.invoice_id = lost.invoice_id offset 0) heir
), seen as materialized (
    select x.invoice_id,
           array_agg(row(x.id, x.destination_id, x.rail, x.asset, x.tx_id, x.tx_index, x.amount, x.kind, x.state,
                         x.first_seen_at, x.block_height, x.block_hash, x.block_time, x.confirmed_at, x.in_time,
                         x.replaced_by, x.maturity, x.spends, x.invoice_ended, x.version, x.second_look,
                         x.looked_at_block, x.seen_waiting)
                     order by x.first_seen_at, x.id) as detections
    from wanted cross join lateral (select * from railwatch.detections d where d.id = wanted.id offset 0) x
    group by x.invoice_id
), about as materialized (
    select e.invoice_id,
           array_agg(row(e.id, e.kind, e.severity, e.detection_id, e.round, e.resolution, e.resolved_at, e.ended_at,
                         e.balance_id) order by e.opened_at, e.round) as cases
    from wanted
    cross join lateral (
        select * from railwatch.exceptions e where e.detection_id = wanted.id and e.destination_id is null offset 0) e
    group by e.invoice_id
), held as materialized (
    select e.invoice_id,
           array_agg(row(wanted.id, t.amount, e.id, e.kind, e.severity, e.detection_id, e.round, e.resolution, e.resolved_at,
                         e.ended_at, e.balance_id, e.destination_id, e.rail, e.asset, e.transfers, e.amount,
                         e.told_transfers, e.told_amount) order by e.opened_at, e.round, wanted.id) as members
    from wanted
    cross join lateral (
        select * from railwatch.exception_transfers t where t.detection_id = wanted.id and t.left_at is null offset 0) t
    -- Said so that no plan goes by the index of all that stands.
    cross join lateral (
        select * from railwatch.exceptions e
        where e.id = t.exception_id and coalesce(e.ended_at, 'infinity') = 'infinity' offset 0) e
    group by e.invoice_id
)
select i.id, i.state, i.created_at, i.state_since, i.expires_at, i.version, i.time_basis, i.tolerance_bps, i.held,
       i.held_from, i.settled_at,
       array(select row(r.rail, r.asset, sum(r.amount), sum(r.surplus), sum(r.waived)) from railwatch.refunds r
             where r.invoice_id = i.id group by r.rail, r.asset) as refunds,
       array(select row(d.id, d.rail, d.asset, d.expected_amount, d.policy, d.watch_state, r.stuck_after, r.blind_after,
                       railwatch.margin(r, i.time_basis), d.tallies)
             from railwatch.destinations d join railwatch.rails r on r.name = d.rail
             where d.invoice_id = i.id and (d.watch_state <> 'rejected' or d.tallies <> '[]')
             order by d.position) as destinations,
       seen.detections,
       about.cases,
       held.members,
       array(select row(e.id, e.kind, e.severity, e.detection_id, e.round, e.resolution, e.resolved_at, e.ended_at,
                        e.balance_id, e.destination_id, e.rail, e.asset, e.transfers, e.amount, e.told_transfers,
                        e.told_amount)
             from (select distinct on (kind, destination_id, rail, asset) * from railwatch.exceptions
                   where invoice_id = i.id and destination_id is not null
                   order by kind, destination_id, rail, asset, round desc) e) as groups,
       array(select row(e.id, e.kind, e.severity, e.detection_id, e.round, e.resolution, e.resolved_at, e.ended_at,
                        e.balance_id)
             from unnest($3::text[]) as k (kind)
             cross join lateral (
                 select * from railwatch.exceptions e
                 where e.invoice_id = i.id and e.kind = k.kind and e.detection_id is null and e.balance_id is null
                   and e.destination_id is null
                 order by e.round desc limit 1) e) as cases_of_invoice,
       array(select row(e.id, e.kind, e.severity, e.detection_id, e.round, e.resolution, e.resolved_at, e.ended_at,
                        e.balance_id)
             from railwatch.exceptions e where e.invoice_id = i.id and e.balance_id is not null
             order by e.round) as cases_of_balances,
       array(select row(b.id, b.destination_id, b.rail, b.asset, b.unattributed, b.balance, b.block_height, b.block_hash,
                        b.node, b.second_look, b.second_node)
             from railwatch.balances b
             where b.invoice_id = i.id and b.unattributed > 0 and b.second_look is not null) as surpluses
from unnest($1::uuid[]) as t (id)
cross join lateral (select * from railwatch.invoices i where i.id = t.id offset 0) i
left join seen on seen.invoice_id = i.id
left join about on about.invoice_id = i.id
left join held on held.invoice_id = i.id
where not exists (select from railwatch.quarantine q where q.invoice_id = i.id and $4::text in ('*', q.rail))
order by i.id

-- name: save_step
-- All that a step changes, in one statement: detections by identity (known facts are added to, never replaced), what was
-- observed of them, sums and states, exceptions (a person's word stays), and the lines of the feed. The lines' seqs are
-- taken when all the rest is done, and held to the commit. Wakes whoever listens.
with observed as (
    insert into railwatch.observations
        (detection_id, version, state, block_height, block_hash, block_time, node, facts, raw)
    select * from unnest($26::uuid[], $27::int[], $28::text[], $29::bigint[], $30::text[], $31::timestamptz[],
                         $32::text[], $33::jsonb[], $34::jsonb[])
    returning 1
),
detected as (
    insert into railwatch.detections as detections
        (id, invoice_id, destination_id, rail, asset, tx_id, tx_index, amount, kind, state, first_seen_at, block_height,
         block_hash, block_time, confirmed_at, in_time, replaced_by, maturity, spends, invoice_ended, version, evidence,
         due_basis, due_height, seen_waiting)
    select id, invoice_id, destination_id, rail, asset, tx_id, tx_index, amount, kind, state, first_seen_at,
           block_height, block_hash, block_time, confirmed_at, in_time, replaced_by, maturity,
           coalesce(string_to_array(spends, E'\x1f'), '{}'), invoice_ended, version, evidence, due_basis, due_height,
           seen_waiting
    from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::numeric[],
                $9::text[], $10::text[], $11::timestamptz[], $12::bigint[], $13::text[], $14::timestamptz[],
                $15::timestamptz[], $16::boolean[], $17::text[], $18::int[], $19::text[], $20::text[], $21::int[],
                $22::jsonb[], $23::text[], $24::bigint[], $25::boolean[])
        as t (id, invoice_id, destination_id, rail, asset, tx_id, tx_index, amount, kind, state, first_seen_at,
              block_height, block_hash, block_time, confirmed_at, in_time, replaced_by, maturity, spends, invoice_ended,
              version, evidence, due_basis, due_height, seen_waiting)
    on conflict (id) do update
    set amount = excluded.amount, maturity = excluded.maturity, spends = excluded.spends,
        state = excluded.state, kind = excluded.kind, first_seen_at = excluded.first_seen_at, block_height = excluded.block_height,
        block_hash = excluded.block_hash, block_time = excluded.block_time, confirmed_at = excluded.confirmed_at,
        in_time = excluded.in_time, replaced_by = excluded.replaced_by, version = excluded.version,
        evidence = excluded.evidence || detections.evidence, due_basis = excluded.due_basis,
        due_height = excluded.due_height
    returning 1
),
moved as (
    update railwatch.invoices i
    set state = t.state, state_since = t.since, version = t.version, exceptions_checked_version = t.version, settled_at = t.settled_at
    from unnest($35::uuid[], $36::text[], $37::timestamptz[], $38::int[], $39::timestamptz[])
        as t (id, state, since, version, settled_at)
    where i.id = t.id and (i.version, i.exceptions_checked_version) is distinct from (t.version, t.version)
    returning 1
),
summed as (
    update railwatch.destinations d
    set seen_amount = t.seen, confirmed_amount = t.confirmed, late_amount = t.late, left_out = d.left_out + t.left_out,
        tallies = t.tallies, small_count = d.small_count + t.small_count, small_amount = d.small_amount + t.small_amount
    from unnest($40::uuid[], $41::numeric[], $42::numeric[], $43::numeric[], $44::bigint[], $72::text[]::jsonb[], $73::bigint[],
                $74::numeric[])
        as t (id, seen, confirmed, late, left_out, tallies, small_count, small_amount)
    where d.id = t.id
      and (d.seen_amount, d.confirmed_amount, d.late_amount, d.tallies, 0, 0)
          is distinct from (t.seen, t.confirmed, t.late, t.tallies, t.left_out, t.small_count)
    returning 1
),
opened as (
    insert into railwatch.exceptions
        (id, invoice_id, detection_id, kind, severity, round, resolution, balance_id, destination_id, rail, asset,
         transfers, amount, told_transfers, told_amount, resolved_at, ended_at)
    select t.*, case when t.resolution is not null then now() end, case when t.resolution is not null then now() end
    from unnest($45::uuid[], $46::uuid[], $47::uuid[], $48::text[], $49::text[], $50::int[], $51::text[],
                $52::uuid[], $75::uuid[], $76::text[], $77::text[], $78::int[], $79::numeric[], $80::int[], $81::numeric[])
        as t (id, invoice_id, detection_id, kind, severity, round, resolution, balance_id, destination_id, rail, asset,
              transfers, amount, told_transfers, told_amount)
    returning 1
),
altered as (
    update railwatch.exceptions e
    set ended_at = case when t.ended then now() else e.ended_at end,
        resolved_at = case when t.ended then coalesce(e.resolved_at, now()) else e.resolved_at end,
        resolution = case when t.ended then coalesce(e.resolution, t.resolution) else e.resolution end,
        transfers = t.transfers, amount = t.amount, told_transfers = t.told_transfers, told_amount = t.told_amount
    from unnest($53::uuid[], $54::text[], $82::boolean[], $83::int[], $84::numeric[], $85::int[], $86::numeric[])
        as t (id, resolution, ended, transfers, amount, told_transfers, told_amount)
    where e.id = t.id
    returning 1
),
joined as (
    insert into railwatch.exception_transfers as known (exception_id, detection_id, amount, left_at)
    select t.exception_id, t.detection_id, t.amount, case when t.has_left then now() end
    from unnest($87::uuid[], $88::uuid[], $89::numeric[], $90::boolean[]) as t (exception_id, detection_id, amount, has_left)
    on conflict (exception_id, detection_id) do update set amount = excluded.amount, left_at = excluded.left_at
    returning 1
),
done as materialized (
    select count(*) as rows
    from (select from observed union all select from detected union all select from moved union all select from summed
          union all select from opened union all select from altered union all select from joined) as written
),
taken as materialized (
    select railwatch.next_seq(cardinality($55::uuid[])) as first from done
    where done.rows >= 0 and cardinality($55::uuid[]) > 0
),
lines as (
    insert into railwatch.transitions
        (seq, event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause, rail, tx_id,
         block_height, block_hash, confirmations, seen_amount, confirmed_amount, chain_time, evidence)
    select taken.first + t.place - 1, t.event_id, t.subject, t.subject_id, t.invoice_id, t.from_state, t.to_state,
           t.reason, t.cause, t.rail, t.tx_id, t.block_height, t.block_hash, t.confirmations, t.seen_amount,
           t.confirmed_amount, t.chain_time, t.evidence
    from taken, unnest($55::uuid[], $56::text[], $57::uuid[], $58::uuid[], $59::text[], $60::text[], $61::text[],
                       $62::text[], $63::text[], $64::text[], $65::bigint[], $66::text[], $67::bigint[], $68::numeric[],
                       $69::numeric[], $70::timestamptz[], $71::jsonb[]) with ordinality
        as t (event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause, rail, tx_id,
              block_height, block_hash, confirmations, seen_amount, confirmed_amount, chain_time, evidence, place)
)
select railwatch.notify('railwatch', (first + cardinality($55::uuid[]) - 1)::text) from taken

-- name: mark_rechecked
-- Their exceptions have been compared with the facts: nothing is left to do until somebody moves them again.
update railwatch.invoices set exceptions_checked_version = version where id = any ($1) and exceptions_checked_version <> version

-- name: allocate_seqs
-- The first of $1 seqs for a large step, whose lines are then copied in. Wakes whoever listens, at the commit.
with taken as materialized (select railwatch.next_seq($1) as first)
select first, railwatch.notify('railwatch', (first + $1 - 1)::text) from taken

-- name: save_checkpoints
-- Blocks of a look-back that a reorg may have to come back to. Returns what is stored at their heights, which may be
-- another block: then they are of another branch.
insert into railwatch.checkpoints as known (rail, height, hash, parent, time)
select $1, * from unnest($2::bigint[], $3::text[], $4::text[], $5::timestamptz[])
on conflict (rail, height) do update set hash = known.hash
returning height, hash

-- name: replace_checkpoints
-- Blocks that were compared with the chain, in the place of what is stored at their heights. Forget the others from $6 on:
-- who stored an inclusion there that is not on the chain may have stored checkpoints that are not.
with forgotten as (
    delete from railwatch.checkpoints where rail = $1 and height >= $6 and height <> all ($2)
)
insert into railwatch.checkpoints (rail, height, hash, parent, time)
select $1, * from unnest($2::bigint[], $3::text[], $4::text[], $5::timestamptz[])
on conflict (rail, height) do update set hash = excluded.hash, parent = excluded.parent, time = excluded.time

-- name: inclusion_blocks
-- Blocks with inclusions that are not final: above $2, which no reorg may pass, and below it where they count for nothing yet.
select block_height as height, block_hash as hash from railwatch.detections
where rail = $1 and state in ('included', 'confirmed') and (block_height > $2 or state = 'included')
union
select block_height, block_hash from railwatch.unallocated_transfers
where rail = $1 and state in ('included', 'confirmed')
order by height

-- name: inclusions_in
-- Inclusions in those blocks that can be taken back.
select x.id, x.invoice_id from unnest($2::bigint[], $3::text[]) as t (height, hash)
cross join lateral (
    select * from railwatch.detections
    where rail = $1 and block_height = t.height and state in ('included', 'confirmed') offset 0) x
where x.block_hash = t.hash

-- name: due_second_looks
-- Transfers that are read a second time before they are told final, and when that is due.
select id, replace(due_basis, 'look_', '') as basis, due_height from railwatch.detections
where rail = $1 and due_basis in ('look_depth', 'look_finalized', 'finalized')

-- name: second_look_claims
-- What is known of transfers that are to be read a second time, and the node that told of them in the block that holds them
-- now: evidence has the one that told first, in whichever block.
select x.id, x.tx_id, x.tx_index, x.asset, x.amount, x.block_height, x.block_hash, d.address_key,
       coalesce(told.node, x.evidence ->> 'node') as node
from railwatch.detections x
join railwatch.destinations d on d.id = x.destination_id
left join lateral (
    select o.node from railwatch.observations o
    where o.detection_id = x.id and o.block_hash = x.block_hash order by o.version desc limit 1) told on true
where x.id = any ($1) and x.state not in ('pending', 'final', 'orphaned', 'replaced', 'dropped') and x.looked_at_block is distinct from x.block_hash

-- name: save_second_looks
-- What the second look said, if the transfer is still in the block that was read. What passed is due like anything else.
update railwatch.detections x
set second_look = t.said, looked_at_block = t.block_hash, evidence = x.evidence || t.evidence,
    due_basis = case when t.said <> 'mismatch' then replace(x.due_basis, 'look_', '') end,
    due_height = case when t.said <> 'mismatch' then x.due_height end
from unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[]) as t (id, said, block_hash, evidence)
where x.id = any ($1) and x.id = t.id and x.state not in ('pending', 'final', 'orphaned', 'replaced', 'dropped')
  and x.block_hash = t.block_hash
returning x.invoice_id

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
    select t.detection_id, t.version, t.state, t.block_height, t.block_hash, t.block_time, t.node, t.facts, t.raw
    from unnest($1::railwatch.observation_row[]) as t
    returning 1
),
detected as (
    insert into railwatch.detections as detections
        (id, invoice_id, destination_id, rail, asset, tx_id, tx_index, amount, kind, state, first_seen_at, block_height,
         block_hash, block_time, confirmed_at, in_time, replaced_by, maturity, spends, invoice_ended, version, evidence,
         due_basis, due_height, seen_waiting)
    select t.id, t.invoice_id, t.destination_id, t.rail, t.asset, t.tx_id, t.tx_index, t.amount, t.kind, t.state,
           t.first_seen_at, t.block_height, t.block_hash, t.block_time, t.confirmed_at, t.in_time, t.replaced_by,
           t.maturity, t.spends, t.invoice_ended, t.version, t.evidence, t.due_basis, t.due_height, t.seen_waiting
    from unnest($2::railwatch.detection_row[]) as t
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
    set state = t.state, state_since = t.state_since, version = t.version, exceptions_checked_version = t.version,
        settled_at = t.settled_at
    from unnest($3::railwatch.invoice_row[]) as t
    where i.id = t.id and (i.version, i.exceptions_checked_version) is distinct from (t.version, t.version)
    returning 1
),
summed as (
    update railwatch.destinations d
    set seen_amount = t.seen_amount, confirmed_amount = t.confirmed_amount, late_amount = t.late_amount,
        left_out = d.left_out + t.left_out, tallies = t.tallies, small_count = d.small_count + t.small_count,
        small_amount = d.small_amount + t.small_amount
    from unnest($4::railwatch.destination_row[]) as t
    where d.id = t.id
      and (d.seen_amount, d.confirmed_amount, d.late_amount, d.tallies, 0, 0)
          is distinct from (t.seen_amount, t.confirmed_amount, t.late_amount, t.tallies, t.left_out, t.small_count)
    returning 1
),
opened as (
    insert into railwatch.exceptions
        (id, invoice_id, detection_id, kind, severity, round, resolution, balance_id, destination_id, rail, asset,
         transfers, amount, told_transfers, told_amount, resolved_at, ended_at)
    select t.id, t.invoice_id, t.detection_id, t.kind, t.severity, t.round, t.resolution, t.balance_id, t.destination_id,
           t.rail, t.asset, t.transfers, t.amount, t.told_transfers, t.told_amount,
           case when t.resolution is not null then now() end, case when t.resolution is not null then now() end
    from unnest($5::railwatch.exception_row[]) as t
    returning 1
),
altered as (
    update railwatch.exceptions e
    set ended_at = case when t.ended then now() else e.ended_at end,
        resolved_at = case when t.ended then coalesce(e.resolved_at, now()) else e.resolved_at end,
        resolution = case when t.ended then coalesce(e.resolution, t.resolution) else e.resolution end,
        transfers = t.transfers, amount = t.amount, told_transfers = t.told_transfers, told_amount = t.told_amount
    from unnest($6::railwatch.exception_change[]) as t
    where e.id = t.id
    returning 1
),
joined as (
    insert into railwatch.exception_transfers (exception_id, detection_id, amount, left_at)
    select t.exception_id, t.detection_id, t.amount, case when t.has_left then now() end
    from unnest($7::railwatch.exception_transfer_row[]) as t
    on conflict (exception_id, detection_id) do update set amount = excluded.amount, left_at = excluded.left_at
    returning 1
),
done as materialized (
    select count(*) as rows
    from (select from observed union all select from detected union all select from moved union all select from summed
          union all select from opened union all select from altered union all select from joined) as written
),
taken as materialized (
    select railwatch.next_seq(cardinality($8::railwatch.transition_row[])) as first from done
    where done.rows >= 0 and cardinality($8::railwatch.transition_row[]) > 0
),
lines as (
    insert into railwatch.transitions
        (seq, event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause, rail, tx_id,
         block_height, block_hash, confirmations, seen_amount, confirmed_amount, chain_time, evidence)
    select taken.first + t.ordinality - 1, t.event_id, t.subject, t.subject_id, t.invoice_id, t.from_state, t.to_state,
           t.reason, t.cause, t.rail, t.tx_id, t.block_height, t.block_hash, t.confirmations, t.seen_amount,
           t.confirmed_amount, t.chain_time, t.evidence
    from taken, unnest($8::railwatch.transition_row[]) with ordinality as t
)
select railwatch.notify('railwatch', (first + cardinality($8::railwatch.transition_row[]) - 1)::text) from taken

-- name: allocate_seqs
-- The first of $1 seqs for a large step, whose lines are then copied in. Wakes whoever listens, at the commit.
with taken as materialized (select railwatch.next_seq($1) as first)
select first, railwatch.notify('railwatch', (first + $1 - 1)::text) from taken

-- name: mark_rechecked
-- Their exceptions have been compared with the facts: nothing is left to do until somebody moves them again.
update railwatch.invoices set exceptions_checked_version = version where id = any ($1) and exceptions_checked_version <> version

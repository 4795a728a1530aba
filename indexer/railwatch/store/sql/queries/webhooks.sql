-- name: mirror_endpoint
-- A configured endpoint as a row; whether an operator has paused it stays as it was. A new one begins at the feed's end,
-- or ($4) at its beginning; one that is known keeps its position.
insert into railwatch.webhook_endpoints as known (name, place, events, position)
select $1, $2, $3, case when $4 then 0 else railwatch.feed_end() end
on conflict (name) do update set place = excluded.place, events = excluded.events, configured = true
where (known.place, known.events, known.configured) is distinct from (excluded.place, excluded.events, true)

-- name: leave_other_endpoints
-- Endpoints that the configuration no longer has; their rows and positions stay.
update railwatch.webhook_endpoints set configured = false where configured and name <> all ($1::text[])

-- name: queue_events
-- Read the feed's next page for an endpoint, owe it what it wants, and move its position: all or nothing. No more is read
-- than could go out ($4 lanes that are due), nor than may ever be owed ($5); while it is paused, nothing. What failed and
-- waits for its next attempt does not count. `looked_at` counts what was read, `queued` what it wants.
with mine as materialized (
    select position from railwatch.webhook_endpoints where name = $1 and enabled for no key update
), heads as materialized (
    select distinct on (lane) due_at from railwatch.webhook_deliveries
    where endpoint = $1 and state = 'pending' order by lane, seq
), room as materialized (
    select greatest(0, least($3, $4 - count(*) filter (where due_at <= now()),
                             $5 - (select count(*) from railwatch.webhook_deliveries where endpoint = $1 and state = 'pending')))
           as lines
    from heads
), page as materialized (
    select t.seq, t.event_id, coalesce(t.invoice_id, t.subject_id) as lane,
           railwatch.event_type(t.subject, t.to_state, t.reason) as type
    from railwatch.transitions t where t.seq > (select position from mine) order by t.seq
    limit (select lines from room)
), owed as (
    insert into railwatch.webhook_deliveries (endpoint, seq, event_id, lane)
    select $1, seq, event_id, lane from page where type like any ($2::text[])
    on conflict do nothing returning seq
), moved as (
    update railwatch.webhook_endpoints set position = (select max(seq) from page), moved_at = now()
    where name = $1 and exists (select from page)
)
select count(*) as looked_at, (select lines from room) as room, (select count(*) from owed) as queued, exists (select from mine) as reading
from page

-- name: due_deliveries
-- What may be sent to an endpoint now: of each invoice the oldest that is owed, if it is due and none of $2 (on its way).
-- At most $3 that were never tried, and $4 that have failed before: those must not delay the others.
with heads as materialized (
    select distinct on (lane) lane, seq, event_id, attempts, due_at from railwatch.webhook_deliveries
    where endpoint = $1 and state = 'pending' and lane <> all ($2::uuid[]) order by lane, seq
), chosen as (
    (select * from heads where due_at <= now() and attempts = 0 order by seq limit $3)
    union all
    (select * from heads where due_at <= now() and attempts > 0 order by due_at, seq limit $4)
)
select d.seq, d.event_id, g.generation, d.lane, d.attempts, railwatch.event_type(t.subject, t.to_state, t.reason) as type, t.subject,
       t.subject_id, t.from_state, t.to_state, t.reason, t.cause, t.rail, t.tx_id, t.block_height, t.block_hash,
       t.confirmations, t.seen_amount, t.confirmed_amount, t.chain_time, t.recorded_at, i.id as invoice_id, i.merchant_id,
       i.order_id, i.fiat_amount, i.fiat_currency, i.created_at, i.expires_at, coalesce(x.tx_index, u.tx_index) as tx_index,
       coalesce(x.asset, u.asset) as asset, coalesce(x.amount, u.amount) as amount, x.kind,
       (select jsonb_agg(jsonb_build_object('rail', w.rail, 'asset', w.asset, 'symbol', a.symbol, 'decimals', a.decimals,
                                            'expected_amount', w.expected_amount::text) order by w.position)
        from railwatch.destinations w left join railwatch.assets a on a.rail = w.rail and a.id = w.asset
        where w.invoice_id = t.invoice_id) as destinations,
       (select jsonb_build_object('asset', f.asset, 'amount', f.amount::text, 'tx_id', f.tx_id, 'reason', f.reason,
                                  'actor', f.actor)
        from railwatch.refunds f where t.subject = 'refund' and f.id = t.subject_id) as refund,
       (select jsonb_build_object('reference', s.reference, 'note', s.note, 'actor', s.actor)
        from railwatch.settlements s where t.subject = 'settlement' and s.id = t.subject_id) as settlement
from chosen d
cross join lateral (select * from railwatch.transitions where seq = d.seq offset 0) t
left join lateral (select * from railwatch.invoices where id = t.invoice_id offset 0) i on true
left join lateral (
    select * from railwatch.detections where t.subject = 'detection' and id = t.subject_id offset 0
) x on true
left join lateral (
    select * from railwatch.unallocated_transfers where t.subject = 'unallocated_transfer' and id = t.subject_id offset 0
) u on true
left join lateral (
    select generation from railwatch.feed_generations where started_after < d.seq order by started_after desc, number desc limit 1
) g on true
where exists (select from railwatch.webhook_endpoints where name = $1 and enabled)
order by d.attempts > 0, d.seq

-- name: record_delivered
-- Accepted events are owed no longer. By their ids too: after a failover another event may have the seq.
with gone as (
    delete from railwatch.webhook_deliveries d using unnest($2::bigint[], $3::uuid[]) as n (seq, event_id)
    where d.endpoint = $1 and d.seq = n.seq and d.event_id = n.event_id returning d.seq
)
update railwatch.webhook_endpoints
set delivered = delivered + (select count(*) from gone), last_delivered_at = now() where name = $1

-- name: record_failed
-- Attempts that failed: when the next may be made, or that there is none ($5: dead).
with tried as (
    update railwatch.webhook_deliveries d
    set attempts = n.attempts, state = n.state, due_at = now() + make_interval(secs => n.pause), tried_at = now(),
        failure = n.failure
    from unnest($2::bigint[], $3::uuid[], $4::int[], $5::text[], $6::float8[], $7::text[])
        as n (seq, event_id, attempts, state, pause, failure)
    where d.endpoint = $1 and d.seq = n.seq and d.event_id = n.event_id and d.state = 'pending'
)
update railwatch.webhook_endpoints set last_failed_at = now(), last_failure = $8 where name = $1

-- name: endpoints_status
-- Every endpoint: how far it has read, what it is owed, what was given up.
select e.name, e.place, e.events, e.enabled, e.configured, e.position, f.last_seq - e.position as lag, o.pending, o.dead,
       o.oldest_pending_at, e.delivered, e.last_delivered_at, e.last_failed_at, e.last_failure
from railwatch.webhook_endpoints e
cross join railwatch.feed_end() as f (last_seq)
cross join lateral (
    select count(*) filter (where state = 'pending') as pending, count(*) filter (where state = 'dead') as dead,
           min(queued_at) filter (where state = 'pending') as oldest_pending_at
    from railwatch.webhook_deliveries where endpoint = e.name
) o
order by e.configured desc, e.name

-- name: set_endpoint_enabled
-- Pause an endpoint, or let it go on; no row if there is none of that name.
update railwatch.webhook_endpoints set enabled = $2 where name = $1 returning name

-- name: forget_endpoint
-- Delete an endpoint that is no longer configured, with all that it was owed; no row otherwise.
delete from railwatch.webhook_endpoints where name = $1 and not configured returning name

-- name: dead_deliveries
-- What was given up, the oldest first.
select d.endpoint, d.seq, d.event_id, railwatch.event_type(t.subject, t.to_state, t.reason) as type, i.merchant_id,
       i.order_id, d.attempts, d.tried_at, d.failure
from railwatch.webhook_deliveries d
join railwatch.transitions t on t.seq = d.seq
left join railwatch.invoices i on i.id = t.invoice_id
where d.state = 'dead' and ($1::text is null or d.endpoint = $1)
order by d.endpoint, d.seq limit $2

-- name: replay_dead
-- Owe an endpoint again what was given up: all of it, or the seqs of $2.
update railwatch.webhook_deliveries set state = 'pending', attempts = 0, due_at = now(), queued_at = now()
where state = 'dead' and endpoint = $1 and ($2::bigint[] is null or seq = any ($2)) returning seq

-- name: drop_dead
-- Forget what was given up: all of it, or the seqs of $2.
delete from railwatch.webhook_deliveries
where state = 'dead' and endpoint = $1 and ($2::bigint[] is null or seq = any ($2)) returning seq

-- name: wake_deliverer
-- Notify the deliverer of an operator's change.
select railwatch.notify('railwatch_webhooks', '')

-- name: acquire_deliverer_lock
-- One deliverer posts: the lock is free if it has no holder, if it has expired, or if the process of its holder has ended.
with me as (
    select pid, backend_start from pg_stat_activity where pid = pg_backend_pid()
)
update railwatch.deliverer_lease held
set holder = $1, token = $2, pid = me.pid, backend_start = me.backend_start,
    expires_at = now() + make_interval(secs => $3)
from me
where held.token is null or held.expires_at <= now() or not railwatch.is_backend_alive(held.pid, held.backend_start)
returning held.one

-- name: renew_deliverer_lock
-- Renew the lock; no row if it has expired and another deliverer acquired it.
update railwatch.deliverer_lease set expires_at = now() + make_interval(secs => $2)
where token = $1 returning one

-- name: deliverer_holder
-- Host and process of the deliverer.
select holder from railwatch.deliverer_lease

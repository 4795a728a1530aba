-- name: load_rail
-- Where a rail was left.
select cursor_height, cursor_hash, cursor_parent, cursor_time, finalized_height, finalized_hash, rewinds, state, reason, origin
from railwatch.rails where name = $1

-- name: load_checkpoints
-- Stored blocks up to the cursor, oldest first. The cursor's own is one of them as soon as the cursor moves on.
select height, hash, parent, time from railwatch.checkpoints where rail = $1 and height <= $2 order by height

-- name: pending_acceptance
-- A person's decision to follow another chain that the daemon has not followed yet.
select id, fork_height, fork_hash from railwatch.chain_acceptances where rail = $1 and applied_at is null

-- name: apply_acceptance
-- This commit reverses everything above the fork. Orders that were closed, and lose what had paid them, are
-- watched again for a week: registered, so that a look-back finds what the other chain holds.
with applied as (
    update railwatch.chain_acceptances set applied_at = now() where id = $1 returning rail, fork_height
), lost as materialized (
    select x.id, x.invoice_id from applied
    cross join lateral (
        select * from railwatch.detections where rail = applied.rail and block_height > applied.fork_height offset 0) x
    where x.state = 'final'
), opened as (
    update railwatch.invoices i set closed_at = null, closes_at = greatest(closes_at, now() + interval '7 days')
    where i.id in (select invoice_id from lost) and i.closed_at is not null returning i.id
), watched as (
    update railwatch.destinations d set watch_state = 'registered'
    from opened, applied where d.invoice_id = opened.id and d.rail = applied.rail and d.watch_state = 'closed'
)
select id, invoice_id from lost

-- name: known_blocks
-- Blocks of the chain that a rail followed, oldest first: those in which payments are, and checkpoints.
select height, min(hash) as hash
from (
    select height, hash from railwatch.checkpoints where rail = $1
    union all
    select block_height, block_hash from railwatch.detections
    where rail = $1 and state in ('included', 'confirmed', 'final')
    union all
    select cursor_height, cursor_hash from railwatch.rails where name = $1
    union all
    select finalized_height, finalized_hash from railwatch.rails where name = $1 and finalized_hash is not null
) known
where height is not null group by height order by height

-- name: history_begins
-- The lowest height from which a rail has been watched for a destination that is watched, or was paid.
select least(
    (select min(covered_from) from railwatch.destinations where rail = $1 and watch_state = 'watching'),
    (select min(d.covered_from) from railwatch.detections x join railwatch.destinations d on d.id = x.destination_id
     where x.rail = $1 and x.state in ('included', 'confirmed', 'final')))

-- name: above_fork
-- What reversing everything above a height affects: transfers, by asset and state.
select x.asset, a.symbol, a.decimals, x.state, count(*) as transfers, sum(x.amount) as amount
from railwatch.detections x left join railwatch.assets a on a.rail = x.rail and a.id = x.asset
where x.rail = $1 and x.block_height > $2 and x.state in ('included', 'confirmed', 'final')
group by x.asset, a.symbol, a.decimals, x.state order by x.asset, x.state

-- name: invoices_above_fork
-- Whose transfers they are.
select i.merchant_id, i.order_id, i.state, count(*) as transfers
from railwatch.detections x join railwatch.invoices i on i.id = x.invoice_id
where x.rail = $1 and x.block_height > $2 and x.state in ('included', 'confirmed', 'final')
group by i.id order by i.created_at, i.id

-- name: load_spends
-- What transfers that can still be displaced consume.
select distinct unnest(spends) as resource, tx_id from railwatch.detections
where rail = $1 and state in ('pending', 'included', 'confirmed', 'orphaned') and spends <> '{}'
union
select unnest(spends), tx_id from railwatch.unallocated_transfers
where rail = $1 and state in ('pending', 'included', 'confirmed', 'orphaned') and spends <> '{}'

-- name: save_rail_state
-- Write a rail's state, if it changed and no other daemon has acquired the rail.
update railwatch.rails set state = $3, reason = $4, updated_at = now()
where name = $1 and epoch = $2 and (state, reason) is distinct from ($3, $4)

-- name: save_rail_halted
-- Write that a defect halted a rail, unless another daemon follows it by now.
update railwatch.rails r set state = 'halted', reason = $2, updated_at = now()
where name = $1 and not exists (select from railwatch.leases l where l.rail = r.name and l.expires_at > now())

-- name: acquire_lease
-- Acquire a rail and raise its epoch, which separates the new holder's steps from the former holder's. It is free if no daemon holds
-- it, if the lease has run out, or if the server process of its holder has ended.
with me as (
    select pid, backend_start from pg_stat_activity where pid = pg_backend_pid()
), taken as (
    insert into railwatch.leases as held (rail, holder, token, pid, backend_start, expires_at)
    select $1, $2, $3, me.pid, me.backend_start, now() + make_interval(secs => $4) from me
    on conflict (rail) do update
    set holder = excluded.holder, token = excluded.token, pid = excluded.pid, backend_start = excluded.backend_start,
        expires_at = excluded.expires_at
    where held.expires_at <= now() or not railwatch.is_backend_alive(held.pid, held.backend_start)
    returning rail
)
update railwatch.rails r set epoch = epoch + 1 from taken where r.name = taken.rail returning epoch

-- name: end_stopped_sessions
-- End sessions of daemons that do not go on (paused, or cut off) while they hold rails, once the lease of $1 has run out.
-- Postgres ends idle transactions itself, but not one whose client stopped in the middle of a COPY or of an answer.
select count(pg_terminate_backend(a.pid))
from pg_stat_activity a
where exists (select from railwatch.leases l where l.rail = $1 and l.expires_at <= now())
  and a.datname = current_database() and a.usename = current_user and a.pid <> pg_backend_pid()
  and a.application_name like 'railwatch%' and a.wait_event_type = 'Client'
  and a.state <> 'idle' and a.state_change < now() - interval '5 seconds'
  and exists (select from pg_locks k where k.pid = a.pid and k.relation = 'railwatch.rails'::regclass
                                       and k.mode in ('RowExclusiveLock', 'RowShareLock'))

-- name: renew_lease
-- Renew the lease; no row if it has expired and another daemon acquired it.
update railwatch.leases set expires_at = now() + make_interval(secs => $3)
where rail = $1 and token = $2 returning rail

-- name: release_lease
-- Release the rail at once, and leave no state behind that passes for followed.
with released as (
    delete from railwatch.leases where rail = $1 and token = $2 returning rail
)
update railwatch.rails r set state = 'stalled', reason = $3, updated_at = now()
from released where r.name = released.rail and r.state <> 'halted'

-- name: lease_holder
-- Who follows a rail now.
select holder, expires_at from railwatch.leases where rail = $1

-- name: rail_state
-- How a rail is said to be.
select state, reason from railwatch.rails where name = $1

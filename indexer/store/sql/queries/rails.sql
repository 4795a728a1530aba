-- name: load_rail
-- Where a rail was left.
select cursor_height, cursor_hash, cursor_parent, cursor_time, finalized_height, finalized_hash, rewinds, state, reason, origin
from railwatch.rails where name = $1

-- name: load_checkpoints
-- Stored blocks below the cursor, oldest first.
select height, hash, parent, time from railwatch.checkpoints where rail = $1 and height < $2 order by height

-- name: load_spends
-- What transfers that can still be displaced consume.
select distinct unnest(spends) as resource, tx_id from railwatch.detections
where rail = $1 and state in ('pending', 'included', 'confirmed', 'orphaned') and spends <> '{}'

-- name: say_state
-- Tell how a rail is, if that changed and nobody else has taken it.
update railwatch.rails set state = $3, reason = $4, updated_at = now()
where name = $1 and epoch = $2 and (state, reason) is distinct from ($3, $4)

-- name: say_halted
-- Tell that a rail was ended by a defect, unless another daemon follows it by now.
update railwatch.rails r set state = 'halted', reason = $2, updated_at = now()
where name = $1 and not exists (select from railwatch.leases l where l.rail = r.name and l.expires_at > now())

-- name: take_lease
-- Take a rail: it is ours if nobody has it, if its holder is known to be dead ($3), or if the lease has run out.
insert into railwatch.leases as held (rail, holder, expires_at)
values ($1, $2, now() + make_interval(secs => $4))
on conflict (rail) do update set holder = excluded.holder, expires_at = excluded.expires_at
where held.holder = $3 or held.expires_at <= now() or held.holder = excluded.holder
returning rail

-- name: lock_lease
-- Show that this holder lives, as long as this connection does.
select pg_try_advisory_lock(hashtextextended('railwatch/lease/' || $1 || '/' || $2, 0))

-- name: dead_holder
-- The holder of a lease if its connection has ended: then nobody has the lock that shows it alive.
select case when pg_try_advisory_xact_lock(hashtextextended('railwatch/lease/' || rail || '/' || holder, 0)) then holder end
from railwatch.leases where rail = $1

-- name: raise_epoch
-- A new holder's steps are told from its forerunner's by this number.
update railwatch.rails set epoch = epoch + 1 where name = $1 returning epoch

-- name: renew_lease
-- Keep the lease for a while longer; no row if it was taken.
update railwatch.leases set expires_at = now() + make_interval(secs => $3)
where rail = $1 and holder = $2 returning rail

-- name: drop_lease
-- Give the rail free at once.
delete from railwatch.leases where rail = $1 and holder = $2

-- name: who_holds
-- Who follows a rail now.
select holder, expires_at from railwatch.leases where rail = $1

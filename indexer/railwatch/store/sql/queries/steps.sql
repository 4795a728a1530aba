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
-- Move the cursor, hold the rail's row to the commit, and return what the step affects in one row; no row if another
-- daemon has the rail or the cursor is elsewhere. `affected_rows` depends on the fence, so it reads after the wait for that row.
-- Checkpoints go with the cursor: those of the step come in, those above $22 (an orphaned branch) and below $23 (final) are
-- forgotten.
with fence as (
    update railwatch.rails r
    set cursor_height = $4, cursor_hash = $5, cursor_parent = $6, cursor_time = $7, tip_height = $8,
        finalized_height = $9, finalized_hash = $10, updated_at = now(), state = $12, reason = $13,
        covered_until = greatest(covered_until, case when $11::timestamptz is not null
            then least($11::timestamptz, now(), $7::timestamptz + r.stall_after) end),
        rewinds = rewinds + $14
    where r.name = $1 and r.epoch = $2 and r.cursor_hash is not distinct from $3
    returning r.name as rail, r.covered_until
), kept as (
    insert into railwatch.checkpoints (rail, height, hash, parent, time)
    select $1, t.height, t.hash, t.parent, t.time from fence, unnest($21::railwatch.checkpoint_row[]) as t
    on conflict (rail, height) do update set hash = excluded.hash, parent = excluded.parent, time = excluded.time
), forgotten as (
    delete from railwatch.checkpoints c using fence
    where c.rail = $1 and (c.height > $22 or c.height < $23)
      and c.height <> all (array(select t.height from unnest($21::railwatch.checkpoint_row[]) as t))
)
select now() as now,
       array(select row(r.name, case when r.name = fence.rail then fence.covered_until else r.covered_until end)
                    ::railwatch.rail_coverage from railwatch.rails r) as coverage,
       affected.due, affected.orphaned, affected.rivals, affected.known, affected.candidates
from fence
cross join lateral railwatch.affected_rows(
    fence.rail, case when $12 = 'stalled' then -1 else $4 end, case when $12 = 'stalled' then -1 else coalesce($9, -1) end,
    $15, $16, $17, $18, $19, $20) as affected

-- name: lock_rail_at_cursor
-- Hold the rail's row for a step that leaves the cursor where it is; no row if another daemon has the rail. Not against
-- registrations, which share the row's key.
select now() as now, rewinds, cursor_height, cursor_hash, cursor_parent, cursor_time, finalized_height, finalized_hash, tip_height,
       state, reason
from railwatch.rails
where name = $1 and epoch = $2
for no key update

-- name: affected_at_cursor
-- What `begin_step` returns, for a step that leaves the cursor.
select array(select row(r.name, r.covered_until)::railwatch.rail_coverage from railwatch.rails r) as coverage,
       affected.due, affected.orphaned, affected.rivals, affected.known, affected.candidates
from railwatch.affected_rows($1, $2, $3, $4, $5, $6, $7, $8, $9) as affected

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

-- name: save_checkpoints
-- Blocks of a look-back that a reorg may have to come back to. Returns what is stored at their heights, which may be
-- another block: then they are of another branch.
insert into railwatch.checkpoints as known (rail, height, hash, parent, time)
select $1, t.height, t.hash, t.parent, t.time from unnest($2::railwatch.checkpoint_row[]) as t
on conflict (rail, height) do update set hash = known.hash
returning height, hash

-- name: replace_checkpoints
-- Blocks that were compared with the chain, in the place of what is stored at their heights. Forget the others from $3 on:
-- who stored an inclusion there that is not on the chain may have stored checkpoints that are not.
with forgotten as (
    delete from railwatch.checkpoints
    where rail = $1 and height >= $3 and height <> all (array(select t.height from unnest($2::railwatch.checkpoint_row[]) as t))
)
insert into railwatch.checkpoints (rail, height, hash, parent, time)
select $1, t.height, t.hash, t.parent, t.time from unnest($2::railwatch.checkpoint_row[]) as t
on conflict (rail, height) do update set hash = excluded.hash, parent = excluded.parent, time = excluded.time

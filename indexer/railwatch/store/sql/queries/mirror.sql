-- name: lock_config
-- One daemon mirrors at a time, to the commit. Only the daemon's role may lock the row.
select name from railwatch.locks where name = 'mirror' for update

-- name: lock_holders
-- Sessions that hold rows of railwatch.locks, for the error of the session that waits.
select string_agg(distinct format('%s (process %s of role %s)', coalesce(nullif(a.application_name, ''), 'a session'),
                                  a.pid, a.usename), ', ')
from pg_locks l join pg_stat_activity a on a.pid = l.pid
where l.relation = 'railwatch.locks'::regclass and l.mode = 'RowShareLock' and l.granted and l.pid <> pg_backend_pid()

-- name: migrations_fault
-- Why a table of migrations is not ours: another owner, or code of another role that runs with it.
select case
    when c.relkind <> 'r' then 'is not a table'
    -- Before migration 1 there is no schema and so no owner of it: null, and not false.
    when (c.relowner = current_user::regrole or o.rolsuper
          or c.relowner = (select nspowner from pg_namespace where nspname = 'railwatch')) is not true
        then format('belongs to %s', o.rolname)
    when exists (select from pg_trigger t where t.tgrelid = c.oid) then 'has triggers'
    when exists (select from pg_rewrite r where r.ev_class = c.oid) then 'has rules'
    when c.relrowsecurity then 'has policies'
    when exists (select from pg_inherits i where c.oid in (i.inhrelid, i.inhparent)) then 'inherits'
    when exists (select from pg_attrdef d join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
                 where d.adrelid = c.oid and a.attname <> 'applied_at') then 'has defaults of its own'
    end
from pg_class c join pg_roles o on o.oid = c.relowner
where c.oid = $1::regclass

-- name: migrations_holders
-- Sessions that hold the table of migrations, for the error of the session that waits.
select string_agg(distinct format('%s (process %s of role %s)', coalesce(nullif(a.application_name, ''), 'a session'),
                                  a.pid, a.usename), ', ')
from pg_locks l join pg_stat_activity a on a.pid = l.pid
where l.relation = $1::regclass and l.granted and l.pid <> pg_backend_pid() and l.mode <> 'AccessShareLock'

-- name: mirrored_chains
-- Which chain each rail's rows belong to, and the name that ids of its transfers derive from.
select name, chain_id, coalesce(origin, name) as origin from railwatch.rails

-- name: mirror_rail
-- A configured rail as a row; where it follows, and how it is, stays as it was.
insert into railwatch.rails as known
    (name, chain_id, family, fold_case, has_finality, max_confirmations, has_references, stuck_after, blind_after,
     stall_after, time_margin, sight_margin)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
on conflict (name) do update
set family = excluded.family, fold_case = excluded.fold_case, has_finality = excluded.has_finality,
    max_confirmations = excluded.max_confirmations, has_references = excluded.has_references,
    stuck_after = excluded.stuck_after, blind_after = excluded.blind_after, stall_after = excluded.stall_after,
    time_margin = excluded.time_margin, sight_margin = excluded.sight_margin, enabled = true,
    given_up = false
where (known.family, known.fold_case, known.has_finality, known.max_confirmations, known.has_references,
       known.stuck_after, known.blind_after, known.stall_after, known.time_margin, known.sight_margin, known.enabled,
       known.given_up)
    is distinct from (excluded.family, excluded.fold_case, excluded.has_finality, excluded.max_confirmations,
                      excluded.has_references, excluded.stuck_after, excluded.blind_after, excluded.stall_after,
                      excluded.time_margin, excluded.sight_margin, true, false)

-- name: left_rails
-- Rails that the configuration no longer has ($1), with the invoices that are open there and the payments not yet final.
select r.name,
       (select count(distinct d.invoice_id) from railwatch.destinations d join railwatch.invoices i on i.id = d.invoice_id
        where d.rail = r.name and d.watch_state in ('registered', 'watching')
          and railwatch.is_open(i.state)) as open,
       (select count(*) from railwatch.detections x
        where x.rail = r.name and x.kind = 'payment' and x.state in ('pending', 'included', 'confirmed')) as moving
from railwatch.rails r where r.name <> all ($1::text[]) order by r.name

-- name: disable_other_rails
-- Rails that the configuration no longer has; their rows and history stay. No end waits for those of $2.
update railwatch.rails
set enabled = false, given_up = name = any ($2::text[]), state = case when state = 'halted' then state else 'stalled' end,
    reason = case when state = 'halted' then reason else 'the configuration has no such rail: no daemon follows it' end
where name <> all ($1::text[]) and (enabled or given_up <> (name = any ($2::text[])))

-- name: assets_in_demand
-- Assets that a rail no longer has, while destinations that are still watched ask for them.
select a.symbol, a.contract, a.decimals, a.min_amount from railwatch.assets a
where a.rail = $1 and not a.enabled and exists (
    select from railwatch.destinations d
    where d.rail = a.rail and d.asset = a.id and d.watch_state in ('registered', 'watching'))
order by a.id

-- name: disable_assets
-- Assets that a rail no longer has, or not under that symbol. They are written before the others: another asset may get the symbol.
update railwatch.assets set enabled = false
where rail = $1 and enabled and (id, symbol) not in (select * from unnest($2::text[], $3::text[]))

-- name: mirror_assets
-- A rail's configured assets.
insert into railwatch.assets as known (rail, id, symbol, contract, decimals, min_amount)
select $1, * from unnest($2::text[], $3::text[], $4::text[], $5::int[], $6::numeric[])
on conflict (rail, id) do update
set symbol = excluded.symbol, contract = excluded.contract, decimals = excluded.decimals, enabled = true,
    min_amount = excluded.min_amount
where (known.symbol, known.contract, known.decimals, known.enabled, known.min_amount)
    is distinct from (excluded.symbol, excluded.contract, excluded.decimals, true, excluded.min_amount)

-- name: forget_policies
-- Before they are written anew: nothing points at these rows, since invoices keep their own copy.
delete from railwatch.policies where rail = $1

-- name: mirror_policies
-- A rail's policies, the configuration's and the defaults.
insert into railwatch.policies (rail, asset, up_to, policy, origin)
select $1, * from unnest($2::text[], $3::numeric[], $4::jsonb[], $5::text[])

-- name: mirror_settings
-- Defaults for functions.
insert into railwatch.settings as known (name, value)
select * from unnest($1::text[], $2::jsonb[])
on conflict (name) do update set value = excluded.value where known.value is distinct from excluded.value

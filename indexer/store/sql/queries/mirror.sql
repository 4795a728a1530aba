-- name: lock_mirror
-- One daemon mirrors at a time, to the commit.
select pg_advisory_xact_lock(hashtextextended('railwatch/mirror', 0))

-- name: mirrored_chains
-- Which chain each rail's rows belong to.
select name, chain_id from railwatch.rails

-- name: mirror_rail
-- A configured rail as a row; where it follows, and how it is, stays as it was.
insert into railwatch.rails as known
    (name, chain_id, family, fold_case, has_finality, max_confirmations, has_references, stuck_after, blind_after)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
on conflict (name) do update
set family = excluded.family, fold_case = excluded.fold_case, has_finality = excluded.has_finality,
    max_confirmations = excluded.max_confirmations, has_references = excluded.has_references,
    stuck_after = excluded.stuck_after, blind_after = excluded.blind_after, enabled = true
where (known.family, known.fold_case, known.has_finality, known.max_confirmations, known.has_references,
       known.stuck_after, known.blind_after, known.enabled)
    is distinct from (excluded.family, excluded.fold_case, excluded.has_finality, excluded.max_confirmations,
                      excluded.has_references, excluded.stuck_after, excluded.blind_after, true)

-- name: disable_other_rails
-- Rails that the configuration no longer has; their rows and history stay.
update railwatch.rails set enabled = false where enabled and name <> all ($1::text[])

-- name: disable_assets
-- Assets that a rail no longer has, or not under that symbol. Before the others are written: one may take the symbol.
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

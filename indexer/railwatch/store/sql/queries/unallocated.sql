-- name: load_unallocated
-- Hold and read the unallocated transfers that a step affects: due by depth ($2) or finality ($3), in an orphaned block
-- (above $4, final ones too if $5; or in the blocks of $6 and $7), of the transactions $8, and those of $9. The owner is read
-- of one that was assigned and whose detection does not exist yet.
with affected as (
    select id, false as orphaned from railwatch.unallocated_transfers
    where rail = $1 and due_basis = 'depth' and due_height <= $2
    union all
    select id, false from railwatch.unallocated_transfers
    where rail = $1 and due_basis = 'finalized' and due_height <= $3
    union all
    select id, true from railwatch.unallocated_transfers
    where rail = $1 and block_height > $4 and state in ('included', 'confirmed')
    union all
    select id, true from railwatch.unallocated_transfers where $5 and rail = $1 and block_height > $4 and state = 'final'
    union all
    select u.id, true from unnest($6::bigint[], $7::text[]) as t (height, hash)
    cross join lateral (
        select * from railwatch.unallocated_transfers
        where rail = $1 and block_height = t.height and state in ('included', 'confirmed') offset 0) u
    where u.block_hash = t.hash
    union all
    select u.id, false from unnest($8::text[]) as t (tx_id)
    cross join lateral (select * from railwatch.unallocated_transfers where rail = $1 and tx_id = t.tx_id offset 0) u
    union all
    select unnest($9::uuid[]), false
), chosen as (
    select id, bool_or(orphaned) as orphaned from affected group by id
)
select u.*, chosen.orphaned, e.resolved_at is not null as exception_resolved, x.destination_id as became_at,
       d.id as owner_destination, d.invoice_id as owner_invoice, d.rail as owner_rail, d.asset as owner_asset,
       d.reference as owner_reference, railwatch.is_open(i.state) as owner_open, i.created_at as owner_created_at,
       d.accepts_from as owner_accepts_from, d.tip_at_creation as owner_tip,
       coalesce((select true from railwatch.destinations w where w.rail = $1 and w.address_key = u.address_key
                   and w.reference is not null and w.watch_state not in ('rejected', 'closed') limit 1), false) as asked
from chosen
join railwatch.unallocated_transfers u on u.id = chosen.id
left join railwatch.exceptions e on e.id = u.exception_id
left join lateral (select * from railwatch.detections where id = u.id and asset = u.asset offset 0) found on true
left join lateral (
    select found.destination_id from railwatch.destinations
    where id = found.destination_id and address_key = u.address_key offset 0) x on true
left join lateral (
    select * from railwatch.destinations where id = u.assigned_destination_id and not u.detected offset 0) d on true
left join lateral (select * from railwatch.invoices where id = d.invoice_id offset 0) i on true
order by u.id
for no key update of u

-- name: shared_addresses
-- Of the addresses $2, those that several payers share, each with the watched destination that accepts the oldest money: of
-- the rail itself, or else of another one of its family, where a payer may have meant to pay.
select distinct on (t.key) t.key, d.id, d.invoice_id, d.rail, d.address, d.asset, d.reference, d.accepts_from,
       d.tip_at_creation, i.created_at, railwatch.is_open(i.state) as open
from unnest($2::bytea[]) as t (key)
cross join (
    select r.name from railwatch.rails r join railwatch.rails own on own.name = $1 and own.family = r.family) as of_family
cross join lateral (
    select * from railwatch.destinations
    where rail = of_family.name and address_key = t.key and reference is not null and watch_state not in ('rejected', 'closed')
    order by accepts_from limit 1) d
join railwatch.invoices i on i.id = d.invoice_id
order by t.key, d.rail = $1 desc, d.accepts_from

-- name: pending_unallocated
-- Unallocated transfers of a rail that were last seen outside any block.
select id, tx_id from railwatch.unallocated_transfers where rail = $1 and state = 'pending'

-- name: undetected_unallocated
-- Unallocated transfers of a rail that are assigned, and that the daemon has not made detections of yet; of invoices in
-- quarantine none, which would hold up the others.
select u.id from railwatch.unallocated_transfers u
where u.rail = $1 and u.assigned_destination_id is not null and not u.detected
  and u.state in ('pending', 'included', 'confirmed', 'final')
  and not exists (select from railwatch.destinations d join railwatch.quarantine q on q.invoice_id = d.invoice_id
                  where d.id = u.assigned_destination_id and q.rail = $1)
order by u.id limit 100

-- name: save_unallocated
-- What a step changed of unallocated transfers, with the exceptions about them. Who assigned one meanwhile keeps it: the
-- row was held since it was read.
with saved as (
    insert into railwatch.unallocated_transfers as known
        (id, rail, asset, amount, address, address_key, tx_id, tx_index, "references", state, block_height, block_hash,
         block_time, first_seen_at, replaced_by, maturity, spends, evidence, due_basis, due_height, assigned_detection_id,
         assigned_destination_id, assigned_by, assigned_at, detected, exception_id, exception_round, version)
    select t.id, $1, t.asset, t.amount, t.address, t.address_key, t.tx_id, t.tx_index,
           t."references", t.state, t.block_height, t.block_hash, t.block_time, t.first_seen_at,
           t.replaced_by, t.maturity, t.spends, t.evidence, t.due_basis, t.due_height,
           t.detection_id, t.destination_id, t.assigned_by, case when t.assigned_by is not null then now() end, t.detected,
           t.exception_id, t.exception_round, t.version
    from unnest($2::railwatch.unallocated_row[]) as t
    on conflict (id) do update
    set amount = excluded.amount, "references" = excluded."references", state = excluded.state,
        block_height = excluded.block_height, block_hash = excluded.block_hash, block_time = excluded.block_time,
        replaced_by = excluded.replaced_by, maturity = excluded.maturity, spends = excluded.spends,
        evidence = excluded.evidence || known.evidence, due_basis = excluded.due_basis, due_height = excluded.due_height,
        assigned_detection_id = excluded.assigned_detection_id, assigned_destination_id = excluded.assigned_destination_id,
        assigned_by = excluded.assigned_by, assigned_at = coalesce(known.assigned_at, excluded.assigned_at),
        detected = excluded.detected, exception_id = excluded.exception_id, exception_round = excluded.exception_round, version = excluded.version
    returning id
), ended as (
    update railwatch.exceptions e
    set ended_at = now(), resolved_at = coalesce(e.resolved_at, now()), resolution = coalesce(e.resolution, 'made good')
    where e.id = any ($3::uuid[])
    returning 1
)
insert into railwatch.exceptions (id, transfer_id, kind, severity, round)
select t.id, t.transfer_id, 'unallocated_transfer', 'warning', t.round
from unnest($4::uuid[], $5::uuid[], $6::int[]) as t (id, transfer_id, round)
where (select count(*) from saved) + (select count(*) from ended) >= 0

-- name: call_assign_transfer
-- Give an unallocated transfer to an invoice.
select railwatch.assign_transfer($1, $2, $3, $4, $5)

-- name: list_unallocated
-- Unallocated transfers, the newest first; assigned ones too if they are asked for.
select u.id, u.rail, u.asset, a.symbol, a.decimals, u.amount, u.address, u.tx_id, u."references", u.state, u.block_height,
       u.first_seen_at, u.assigned_by, u.assigned_at, d.invoice_id
from railwatch.unallocated_transfers u
left join railwatch.assets a on a.rail = u.rail and a.id = u.asset
left join lateral (select * from railwatch.destinations where id = u.assigned_destination_id offset 0) d on true
where $1 or u.assigned_destination_id is null
order by u.first_seen_at desc, u.id limit $2

-- name: show_unallocated
-- One unallocated transfer, with its history and the invoices that it may belong to.
select u.id, u.rail, u.asset, a.symbol, a.decimals, u.amount, u.address, u.tx_id, u.tx_index, u."references", u.state,
       u.block_height, u.block_hash, u.block_time, u.first_seen_at, u.replaced_by, u.evidence, u.assigned_detection_id,
       u.assigned_by, u.assigned_at, d.invoice_id, u.exception_id,
       array(select jsonb_build_object('invoice_id', s.invoice_id, 'merchant_id', s.merchant_id, 'order_id', s.order_id,
                                       'state', s.state, 'created_at', s.created_at)
             from railwatch.transfer_suggestions(u.id) s) as suggestions,
       array(select jsonb_build_object('seq', t.seq, 'from_state', t.from_state, 'to_state', t.to_state, 'reason', t.reason,
                                       'cause', t.cause, 'recorded_at', t.recorded_at, 'evidence', t.evidence)
             from railwatch.transitions t where t.subject_id = u.id and t.subject = 'unallocated_transfer'
             order by t.seq) as transitions
from railwatch.unallocated_transfers u
left join railwatch.assets a on a.rail = u.rail and a.id = u.asset
left join lateral (select * from railwatch.destinations where id = u.assigned_destination_id offset 0) d on true
where u.id = $1

-- name: find_unallocated
-- The unallocated transfers whose ids begin so ($1, at least four digits), or of a transaction ($2).
select id from railwatch.unallocated_transfers
where id::text like $1 || '%' or tx_id = $2 order by assigned_destination_id is not null, first_seen_at desc limit 10

create function railwatch.affected_rows(
    on_rail text, cursor_reached bigint, finalized_reached bigint, fork bigint, displaced text[], of_family text,
    keys bytea[], txs text[]
) returns table (
    what text, detection_id uuid, invoice_id uuid, tx_id text, tx_index text, destination_id uuid, address_key bytea,
    rail text, asset text, reference text, open boolean, at timestamptz, accepts_from timestamptz, height bigint,
    block_hash text, amount numeric
)
language sql volatile set search_path = pg_catalog, pg_temp as $$  -- volatile, so that it sees what was committed while its caller waited for the rail's row
    select 'due', d.id, d.invoice_id, null, null, null::uuid, null::bytea, null, null, null, null::boolean,
           null::timestamptz, null::timestamptz, null::bigint, null, null::numeric
    from railwatch.detections d
    where d.rail = on_rail and d.due_basis = 'depth' and d.due_height <= cursor_reached
    union all
    select 'due', d.id, d.invoice_id, null, null, null, null, null, null, null, null, null, null, null, null,
           null
    from railwatch.detections d
    where d.rail = on_rail and d.due_basis = 'finalized' and d.due_height <= finalized_reached
    union all
    select 'orphaned', d.id, d.invoice_id, null, null, null, null, null, null, null, null, null, null, null, null,
           null
    from railwatch.detections d
    where d.rail = on_rail and d.block_height > fork and d.state in ('included', 'confirmed')
    union all
    select 'rival', d.id, d.invoice_id, d.tx_id, null, null, null, null, null, null, null, null, null, null, null,
           null
    from unnest(displaced) t (tx_id)
    cross join lateral (
        select * from railwatch.detections d where d.rail = on_rail and d.tx_id = t.tx_id offset 0) d
    union all
    -- `open` says here that nothing can move the transfer any more.
    select 'known', d.id, d.invoice_id, d.tx_id, d.tx_index, d.destination_id, w.address_key, w.rail, d.asset, null,
           d.state = 'final', null, w.accepts_from, w.tip_at_creation,
           case when d.state in ('included', 'confirmed', 'final') then d.block_hash end, d.amount
    from unnest(txs) t (tx_id)
    cross join lateral (
        select * from railwatch.detections d where d.rail = on_rail and d.tx_id = t.tx_id offset 0) d
    join railwatch.destinations w on w.id = d.destination_id
    union all
    select 'candidate', null, i.id, null, null, d.id, d.address_key, d.rail, d.asset, d.reference,
           railwatch.is_open(i.state), i.created_at, d.accepts_from,
           d.tip_at_creation, null, null
    from unnest(keys) t (key)
    -- A plan that was made on empty tables must reach every column of the index too.
    cross join lateral (
        select * from railwatch.destinations d
        where d.family = of_family and d.address_key = t.key and d.watch_state not in ('rejected', 'closed') offset 0) d
    join railwatch.invoices i on i.id = d.invoice_id
$$;
comment on function railwatch.affected_rows is 'Whom a step concerns: due, orphaned, displaced and known transfers, and holders of addresses.';

-- Volatile, so that it reads what was committed while its caller waited for the rail's row.
create function railwatch.is_due(on_rail text, cursor_reached bigint, finalized_reached bigint) returns boolean
language sql volatile set search_path = pg_catalog, pg_temp as $$
    select exists (
        select from railwatch.detections d
        where d.rail = on_rail and d.due_basis = 'depth' and d.due_height <= cursor_reached
    ) or exists (
        select from railwatch.detections d
        where d.rail = on_rail and d.due_basis = 'finalized' and d.due_height <= finalized_reached
    ) or exists (
        select from railwatch.unallocated_transfers u
        where u.rail = on_rail and u.due_basis = 'depth' and u.due_height <= cursor_reached
    ) or exists (
        select from railwatch.unallocated_transfers u
        where u.rail = on_rail and u.due_basis = 'finalized' and u.due_height <= finalized_reached)
$$;
comment on function railwatch.is_due is 'Whether a transfer of the rail reaches a depth or finality with these heights.';

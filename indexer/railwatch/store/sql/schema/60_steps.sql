create function railwatch.affected_rows(
    on_rail text, cursor_reached bigint, finalized_reached bigint, fork bigint, displaced text[], of_family text,
    keys bytea[], txs text[], marks text[],
    out due railwatch.affected_detection[], out orphaned railwatch.affected_detection[],
    out rivals railwatch.displaced_detection[], out known railwatch.known_transfer[], out candidates railwatch.candidate[]
)
language sql volatile set search_path = pg_catalog, pg_temp as $$  -- volatile, so that it sees what was committed while its caller waited for the rail's row
    select
        array(
            select row(d.invoice_id, d.id)::railwatch.affected_detection from railwatch.detections d
            where d.rail = on_rail and d.due_basis = 'depth' and d.due_height <= cursor_reached
            union all
            select row(d.invoice_id, d.id)::railwatch.affected_detection from railwatch.detections d
            where d.rail = on_rail and d.due_basis = 'finalized' and d.due_height <= finalized_reached
        ),
        array(
            select row(d.invoice_id, d.id)::railwatch.affected_detection from railwatch.detections d
            where d.rail = on_rail and d.block_height > fork and d.state in ('included', 'confirmed')
        ),
        array(
            select row(d.tx_id, d.invoice_id, d.id)::railwatch.displaced_detection
            from unnest(displaced) t (tx_id)
            cross join lateral (
                select * from railwatch.detections d where d.rail = on_rail and d.tx_id = t.tx_id offset 0) d
        ),
        array(
            select row(
                d.id, d.destination_id, d.invoice_id, d.tx_id, d.tx_index, w.address_key, d.asset,
                case when d.state in ('included', 'confirmed', 'final') then d.block_hash end, d.state = 'final', w.rail,
                w.accepts_from, w.tip_at_creation, d.amount)::railwatch.known_transfer
            from unnest(txs) t (tx_id)
            cross join lateral (
                select * from railwatch.detections d where d.rail = on_rail and d.tx_id = t.tx_id offset 0) d
            join railwatch.destinations w on w.id = d.destination_id
        ),
        array(
            select row(
                d.address_key, d.id, i.id, d.rail, d.asset, d.reference, railwatch.is_open(i.state), i.created_at,
                d.accepts_from, d.tip_at_creation)::railwatch.candidate
            from unnest(keys) t (key)
            -- A plan that was made on empty tables must reach every column of the index too.
            cross join lateral (
                select * from railwatch.destinations d
                where d.family = of_family and d.address_key = t.key and d.watch_state not in ('rejected', 'closed') offset 0) d
            join railwatch.invoices i on i.id = d.invoice_id
            where d.reference is null or d.reference = any (marks)  -- many may share an address, each with a reference
        )
$$;
comment on function railwatch.affected_rows is 'What a step affects: due, orphaned, displaced and known transfers, and candidates, the holders of addresses.';

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

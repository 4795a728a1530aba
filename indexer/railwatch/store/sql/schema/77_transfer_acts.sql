create function railwatch.lock_unallocated(transfer uuid) returns railwatch.unallocated_transfers
language plpgsql as $$
declare
    existing railwatch.unallocated_transfers;
begin
    select * into existing from railwatch.unallocated_transfers where id = transfer for no key update;
    if not found then
        perform railwatch.raise_error('RW047', 'there is no unallocated transfer ' || coalesce(transfer::text, '(null)'),
            'List them with: railwatch unallocated list');
    end if;
    return existing;
end $$;
comment on function railwatch.lock_unallocated is 'Part of acts on an unallocated transfer: hold it to the commit, before any invoice, as the daemon''s steps do.';

create function railwatch.assign_transfer(
    transfer uuid, invoice uuid, actor text, reason text, cause text default 'service'
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    existing railwatch.unallocated_transfers;
    place railwatch.destinations;
    details jsonb;
    case_id uuid;
begin
    perform railwatch.check_actor(actor, cause);
    if reason is null or reason = '' then
        perform railwatch.raise_error('RW001', 'reason is missing, or not a text of 1 to 1000 characters');
    end if;
    perform railwatch.check_note(reason, 'reason', 1000);
    existing := railwatch.lock_unallocated(transfer);
    perform railwatch.lock_invoice(invoice);
    if existing.assigned_destination_id is not null then
        select * into place from railwatch.destinations d where d.id = existing.assigned_destination_id;
        if place.invoice_id <> invoice then
            perform railwatch.raise_error('RW018', 'transfer ' || transfer || ' is assigned to invoice ' || place.invoice_id || ' already',
                'A transfer pays one invoice. Record a refund there, or resolve that invoice''s exception.');
        end if;
        return existing.assigned_detection_id;
    end if;
    if existing.state not in ('pending', 'included', 'confirmed', 'final') then
        perform railwatch.raise_error('RW010', 'transfer ' || transfer || ' is ' || existing.state || ' and cannot be assigned',
            'Wait until the chain holds it again.');
    end if;
    select d.* into place
    from railwatch.destinations d join railwatch.rails r on r.name = existing.rail
    where d.invoice_id = invoice and d.family = r.family and d.address_key = existing.address_key and d.watch_state <> 'rejected'
    order by d.rail = existing.rail desc, d.asset = existing.asset desc, d.position limit 1;
    if not found then
        perform railwatch.raise_error('RW010', 'invoice ' || invoice || ' has no destination at address ' || existing.address,
            'A transfer can only pay an invoice that can be paid at the address that it reached.');
    end if;
    update railwatch.unallocated_transfers u
    set assigned_destination_id = place.id, assigned_detection_id = u.id, assigned_by = actor, assigned_at = now(),
        exception_id = null, version = u.version + 1
    where u.id = transfer;
    update railwatch.exceptions e
    set ended_at = now(), resolved_at = now(), resolution = 'assigned', owner = coalesce(e.owner, actor),
        notes = railwatch.add_note(e.notes, actor, reason)
    where e.id = existing.exception_id and e.resolved_at is null
    returning e.id into case_id;
    update railwatch.exceptions e set ended_at = now() where e.id = existing.exception_id and e.ended_at is null;
    details := jsonb_build_object('actor', actor, 'reason', reason, 'invoice', invoice, 'destination', place.id,
        'asset', existing.asset, 'amount', existing.amount::text);
    perform railwatch.append_manual_transition('unallocated_transfer', transfer, invoice, existing.state, existing.state, 'assigned',
        cause, existing.rail, existing.tx_id, details, existing.version + 1);
    if case_id is not null then
        perform railwatch.append_manual_transition('exception', case_id, null, 'open', 'resolved', 'unallocated_transfer', cause,
            existing.rail, existing.tx_id, details || jsonb_build_object('resolution', 'assigned', 'transfer', transfer));
    end if;
    perform railwatch.notify('railwatch_work', 'assigned');
    return existing.id;
end $$;
comment on function railwatch.assign_transfer is 'Give an unallocated transfer to an invoice that can be paid at its address. The daemon makes a detection of it within about a second, which follows the chain and pays the invoice as any other. Assigning it to the same invoice again is harmless. Returns the detection''s id.';

create function railwatch.transfer_suggestions(transfer uuid)
returns table (invoice_id uuid, merchant_id text, order_id text, state text, missing numeric, created_at timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select i.id, i.merchant_id, i.order_id, i.state, d.expected_amount - d.seen_amount, i.created_at
    from railwatch.unallocated_transfers u
    join railwatch.destinations d on d.rail = u.rail and d.address_key = u.address_key and d.asset = u.asset
        and d.reference is not null and d.watch_state not in ('rejected', 'closed')
        and d.expected_amount - d.seen_amount = u.amount
    join railwatch.invoices i on i.id = d.invoice_id and railwatch.is_open(i.state)
    where u.id = transfer and u.assigned_destination_id is null
    order by i.created_at desc limit 10
$$;
comment on function railwatch.transfer_suggestions is 'Return open invoices at a transfer''s address that still miss exactly its amount, the newest first, at most ten. A person decides: equal amounts prove nothing.';

create function railwatch.refunded_asset(invoice uuid, on_rail text, of_asset text, out rail text, out asset text)
language plpgsql stable as $$
declare
    choices text;
    fitting int;
begin
    with arrived as (
        select distinct x.rail, x.asset, a.symbol
        from railwatch.detections x left join railwatch.assets a on a.rail = x.rail and a.id = x.asset
        where x.invoice_id = invoice and x.block_height is not null
    ), fit as (
        select * from arrived
        where (on_rail is null or arrived.rail = on_rail)
          and (of_asset is null or of_asset in (arrived.asset, arrived.symbol))
    )
    select min(fit.rail), min(fit.asset), count(*),
           (select string_agg(coalesce(each.symbol, each.asset) || ' on ' || each.rail, ', ' order by each.rail, each.symbol)
            from arrived each)
    into rail, asset, fitting, choices from fit;
    if fitting = 0 then
        perform railwatch.raise_error('RW013', 'nothing' || coalesce(' of ' || of_asset, '') || ' has arrived'
            || coalesce(' on rail ' || on_rail, '') || ' for invoice ' || invoice, 'Arrived: ' || coalesce(choices, 'nothing') || '.');
    elsif fitting > 1 then
        perform railwatch.raise_error('RW013', 'invoice ' || invoice || ' was paid in several ways',
            'Name the rail and the asset that are refunded: ' || choices || '.');
    end if;
end $$;
comment on function railwatch.refunded_asset is 'Part of record_refund: which of the arrived assets is meant.';

create function railwatch.is_refunded(invoice uuid, out whole boolean, out of_payments boolean)
language sql stable as $$
    with arrived as (
        select x.rail, x.asset, x.kind in ('payment', 'unexpected') as payment,
               coalesce(sum(x.amount) filter (where x.state in ('pending', 'included', 'confirmed', 'final')), 0) as live
        from railwatch.detections x
        where x.invoice_id = invoice and x.kind <> 'unsupported_asset'
        group by 1, 2, 3
    ), due as (
        -- Payments decide, where there are any; what was sent by mistake decides only where nothing else came.
        select * from arrived where payment = (select bool_or(payment) from arrived)
    ), returned as (
        select r.rail, r.asset, sum(r.amount) as amount from railwatch.refunds r where r.invoice_id = invoice group by 1, 2
    )
    select exists (select from due join returned using (rail, asset))
           and not exists (select from due left join returned using (rail, asset) where due.live > coalesce(returned.amount, 0)),
           coalesce((select bool_or(payment) from arrived), false)
$$;
comment on function railwatch.is_refunded is 'Part of record_refund: whether nothing of the customer''s is left, and whether that is about payments.';

create function railwatch.given_back(
    known railwatch.invoices, on_rail text, of_asset text, amount numeric, out surplus numeric, out waived numeric
)
language plpgsql stable as $$
declare
    excess numeric;
    elsewhere boolean;
begin
    surplus := 0;
    waived := 0;
    if (case when known.state = 'flagged' then railwatch.assess(known) else known.state end)
       not in ('paid', 'overpaid', 'late_paid') then
        return;
    end if;
    -- Ways to pay that have what they ask for; what was waived before is not missing.
    with met as (
        select d.rail, d.asset, came.counted - back.returned - asked.least as excess, came.timely >= asked.least as timely
        from railwatch.destinations d
        cross join lateral (
            select greatest(1, d.expected_amount - div(d.expected_amount * known.tolerance_bps, 10000)) as least) asked
        cross join lateral (
            select coalesce(sum(x.amount), 0) as counted,
                   coalesce(sum(x.amount) filter (where x.destination_id = d.id and x.kind = 'payment'), 0) as arrived,
                   coalesce(sum(x.amount) filter (where x.destination_id = d.id and x.kind = 'payment' and x.in_time), 0)
                       as timely
            from railwatch.detections x
            where x.invoice_id = known.id and x.rail = d.rail and x.asset = d.asset and x.state in ('confirmed', 'final')) came
        cross join lateral (
            select coalesce(sum(r.amount - r.waived), 0) as returned from railwatch.refunds r
            where r.invoice_id = known.id and r.rail = d.rail and r.asset = d.asset) back
        where d.invoice_id = known.id and d.watch_state <> 'rejected' and came.arrived >= asked.least
    )
    -- A way that was paid in time comes before one that was paid late, as it does where the state is judged.
    select coalesce(max(met.excess) filter (where (rail, asset) = (on_rail, of_asset) and timely and met.excess >= 0),
                    max(met.excess) filter (where (rail, asset) = (on_rail, of_asset))),
           coalesce(bool_or(met.excess >= 0) filter (where (rail, asset) <> (on_rail, of_asset)), false)
    into excess, elsewhere
    from met;
    -- An order that another asset has settled asks for nothing here: excess is below zero, or null. What is given back while
    -- it has its money elsewhere came twice, so none of that is waived: should the other go, it is missing here.
    if excess >= 0 then
        surplus := least(amount, excess);
        waived := case when elsewhere then 0 else amount - surplus end;
    end if;
end $$;
comment on function railwatch.given_back is 'Part of record_refund: how much of it the order did not ask for, and how much of what it asked for is given back by choice.';

create function railwatch.record_refund(
    invoice uuid, amount numeric, tx_id text, actor text, reason text default null, rail text default null,
    asset text default null, cause text default 'service'
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    existing railwatch.invoices;
    what record;
    earlier railwatch.refunds;
    arrived numeric;
    returned numeric;
    details jsonb := jsonb_build_object('actor', actor, 'reason', reason, 'amount', amount::text);
    inserted uuid;
    now_whole record;
begin
    perform railwatch.check_actor(actor, cause);
    perform railwatch.check_text(tx_id, 'tx_id', 200);
    perform railwatch.check_note(reason, 'reason', 1000);
    perform railwatch.parse_amount(to_jsonb(amount::text), 'refund');
    existing := railwatch.lock_invoice(invoice);
    what := railwatch.refunded_asset(invoice, rail, asset);
    select * into earlier from railwatch.refunds r
    where r.invoice_id = invoice and r.rail = what.rail and r.asset = what.asset
      and (r.tx_id = record_refund.tx_id
           -- A hash is the same transaction however its digits are written.
           or (lower(r.tx_id) = lower(record_refund.tx_id) and record_refund.tx_id ~* '^(0x)?[0-9a-f]{64}$'));
    if found then
        if earlier.amount <> record_refund.amount then
            perform railwatch.raise_error('RW014', 'refund ' || record_refund.tx_id || ' is recorded already, with the amount ' || earlier.amount,
                'Give another refund the tx_id of its own transaction: nothing recorded is overwritten.');
        end if;
        return earlier.id;
    end if;
    select coalesce(sum(x.amount), 0) into arrived from railwatch.detections x
    where x.invoice_id = invoice and x.rail = what.rail and x.asset = what.asset and x.block_height is not null;
    select coalesce(sum(r.amount), 0) into returned from railwatch.refunds r
    where r.invoice_id = invoice and r.rail = what.rail and r.asset = what.asset;
    if record_refund.amount > arrived - returned then
        perform railwatch.raise_error('RW013', 'a refund of ' || record_refund.amount || ' is more than is left: ' || arrived
            || ' had arrived, and ' || returned || ' is refunded already', 'Amounts are base units of ' || what.asset || '.');
    end if;
    insert into railwatch.refunds (invoice_id, rail, asset, amount, tx_id, reason, actor, surplus, waived)
    select invoice, what.rail, what.asset, record_refund.amount, record_refund.tx_id, record_refund.reason,
           record_refund.actor, part.surplus, part.waived
    from railwatch.given_back(existing, what.rail, what.asset, record_refund.amount) part
    returning id into inserted;
    -- Also where it moves nothing: more may have been given back by it than is still there (docs/exceptions.md, reversed).
    update railwatch.invoices set exceptions_checked_version = 0 where id = invoice;
    perform railwatch.append_manual_transition('refund', inserted, invoice, null, 'recorded', 'refunded', cause, what.rail,
        record_refund.tx_id, details || jsonb_build_object('asset', what.asset));
    now_whole := railwatch.is_refunded(invoice);
    if not now_whole.whole or existing.state = 'refunded' then
        return inserted;
    end if;
    if exists (select from railwatch.allowed_transitions where from_state = existing.state and to_state = 'refunded') then
        perform railwatch.note_absent(invoice, 'refunded');
        perform railwatch.move_invoice(existing, 'refunded', 'refunded', cause,
            jsonb_strip_nulls(details || jsonb_build_object('refund', inserted, 'held', existing.held)));
    elsif now_whole.of_payments then
        perform railwatch.raise_error('RW010', 'invoice ' || invoice || ' is ' || existing.state || ' and cannot become refunded',
            'Its payment does not count yet, or no longer. Wait, or hold the invoice first: then a refund closes it for good.');
    end if;
    return inserted;
end $$;
comment on function railwatch.record_refund is 'Record a refund. When nothing of the customer''s is left the invoice is refunded. The same transaction again is harmless.';

create function railwatch.record_settlement(
    invoice uuid, reference text, actor text, note text default null, cause text default 'service'
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    inserted uuid;
begin
    perform railwatch.check_actor(actor, cause);
    perform railwatch.check_text(reference, 'reference', 200);
    perform railwatch.check_note(note, 'note', 4000);
    perform railwatch.lock_invoice(invoice);
    select s.id into inserted from railwatch.settlements s
    where s.invoice_id = invoice and s.reference = record_settlement.reference;
    if found then
        return inserted;
    end if;
    insert into railwatch.settlements (invoice_id, reference, note, actor)
    values (invoice, record_settlement.reference, record_settlement.note, record_settlement.actor)
    returning id into inserted;
    perform railwatch.append_manual_transition('settlement', inserted, invoice, null, 'recorded', 'settled', cause, null, null,
        jsonb_build_object('actor', actor, 'reference', reference, 'note', note));
    return inserted;
end $$;
comment on function railwatch.record_settlement is 'Record where finance booked an invoice. The same reference again is harmless; another reference adds an entry.';

-- A refund has the invoice's exceptions compared with the facts again, also where it moves no state.

create or replace function railwatch.record_refund(
    invoice uuid, amount numeric, tx_id text, actor text, reason text default null, rail text default null,
    asset text default null, cause text default 'service'
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    known railwatch.invoices;
    what record;
    earlier railwatch.refunds;
    arrived numeric;
    returned numeric;
    told jsonb := jsonb_build_object('actor', actor, 'reason', reason, 'amount', amount::text);
    made uuid;
    now_whole record;
begin
    perform railwatch.check_act(actor, cause);
    perform railwatch.check_text(tx_id, 'tx_id', 200);
    perform railwatch.parse_amount(to_jsonb(amount::text), 'refund');
    known := railwatch.lock_invoice(invoice);
    what := railwatch.refunded_asset(invoice, rail, asset);
    select * into earlier from railwatch.refunds r
    where r.invoice_id = invoice and r.rail = what.rail and r.asset = what.asset and r.tx_id = record_refund.tx_id;
    if found then
        if earlier.amount <> record_refund.amount then
            perform railwatch.refuse('RW014', 'refund ' || record_refund.tx_id || ' is recorded already, with the amount ' || earlier.amount,
                'Nothing recorded is overwritten. Another refund has another transaction.');
        end if;
        return earlier.id;
    end if;
    select coalesce(sum(x.amount), 0) into arrived from railwatch.detections x
    where x.invoice_id = invoice and x.rail = what.rail and x.asset = what.asset and x.block_height is not null;
    select coalesce(sum(r.amount), 0) into returned from railwatch.refunds r
    where r.invoice_id = invoice and r.rail = what.rail and r.asset = what.asset;
    if record_refund.amount > arrived - returned then
        perform railwatch.refuse('RW013', 'a refund of ' || record_refund.amount || ' is more than is left: ' || arrived
            || ' had arrived, and ' || returned || ' is refunded already', 'Amounts are base units of ' || what.asset || '.');
    end if;
    insert into railwatch.refunds (invoice_id, rail, asset, amount, tx_id, reason, actor)
    values (invoice, what.rail, what.asset, record_refund.amount, record_refund.tx_id, record_refund.reason, record_refund.actor)
    returning id into made;
    -- Also where it moves nothing: more may have been given back by it than is still there (docs/exceptions.md, reversed).
    update railwatch.invoices set weighed = 0 where id = invoice;
    perform railwatch.append_act('refund', made, invoice, null, 'recorded', 'refunded', cause, what.rail,
        record_refund.tx_id, told || jsonb_build_object('asset', what.asset));
    now_whole := railwatch.is_refunded(invoice);
    if not now_whole.whole or known.state = 'refunded' then
        return made;
    end if;
    if exists (select from railwatch.invoice_moves where from_state = known.state and to_state = 'refunded') then
        perform railwatch.move_invoice(known, 'refunded', 'refunded', cause,
            jsonb_strip_nulls(told || jsonb_build_object('refund', made, 'held', known.held)));
    elsif now_whole.of_payments then
        perform railwatch.refuse('RW010', 'invoice ' || invoice || ' is ' || known.state || ' and cannot become refunded',
            'Its payment does not count yet, or no longer. Wait, or hold the invoice first: then a refund closes it for good.');
    end if;
    return made;
end $$;

select railwatch.grant_rights();

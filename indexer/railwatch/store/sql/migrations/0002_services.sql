-- What services build on: holds, refunds, resolving, settlement; views; roles, and a feed that nobody can change.

create index invoices_order on railwatch.invoices (order_id);

drop index railwatch.destinations_folded;
create index destinations_folded on railwatch.destinations (address_folded, family);

alter table railwatch.transitions drop constraint transitions_subject_check;
alter table railwatch.transitions add check (subject in ('invoice', 'detection', 'exception', 'refund', 'settlement'));
comment on column railwatch.transitions.subject is 'invoice, detection, exception, refund or settlement.';

create table railwatch.refunds (
    id uuid primary key default gen_random_uuid(),
    invoice_id uuid not null references railwatch.invoices (id),
    rail text not null references railwatch.rails (name),
    asset text not null,
    amount numeric(78, 0) not null check (amount > 0),
    tx_id text not null,
    reason text,
    actor text not null,
    recorded_at timestamptz not null default now(),
    unique (invoice_id, rail, asset, tx_id)
);
create index refunds_tx on railwatch.refunds (tx_id);
comment on table railwatch.refunds is 'What was given back, as people and services recorded it. Append-only.';
comment on column railwatch.refunds.id is 'Returned by record_refund.';
comment on column railwatch.refunds.invoice_id is 'The invoice whose money it was.';
comment on column railwatch.refunds.rail is 'The rail that the money had come on.';
comment on column railwatch.refunds.asset is 'CAIP-19 id of what had come.';
comment on column railwatch.refunds.amount is 'Base units of it that were given back.';
comment on column railwatch.refunds.tx_id is 'The refund''s own transaction, or another reference to it.';
comment on column railwatch.refunds.reason is 'Why.';
comment on column railwatch.refunds.actor is 'Who recorded it.';
comment on column railwatch.refunds.recorded_at is 'The database''s clock.';

create table railwatch.settlements (
    id uuid primary key default gen_random_uuid(),
    invoice_id uuid not null references railwatch.invoices (id),
    reference text not null,
    note text,
    actor text not null,
    recorded_at timestamptz not null default now(),
    unique (invoice_id, reference)
);
comment on table railwatch.settlements is 'Where finance booked an invoice: payout, batch or ledger entry. Append-only.';
comment on column railwatch.settlements.id is 'Returned by record_settlement.';
comment on column railwatch.settlements.invoice_id is 'The invoice.';
comment on column railwatch.settlements.reference is 'Finance''s own reference.';
comment on column railwatch.settlements.note is 'Anything else.';
comment on column railwatch.settlements.actor is 'Who recorded it.';
comment on column railwatch.settlements.recorded_at is 'The database''s clock.';

create table railwatch.rights (
    role text not null,
    object text not null,
    privileges text not null,
    primary key (role, object, privileges)
);
comment on table railwatch.rights is 'What each role may do, as grant_rights gives it.';
comment on column railwatch.rights.role is 'railwatch_daemon, railwatch_service or railwatch_reader.';
comment on column railwatch.rights.object is 'What it is given on, as GRANT names it.';
comment on column railwatch.rights.privileges is 'What is given, as GRANT names it.';

alter function railwatch.create_invoice(jsonb) security definer set search_path = pg_catalog, pg_temp;
alter function railwatch.ack(text, bigint) security definer set search_path = pg_catalog, pg_temp;
alter function railwatch.request_rescan(text, bigint, bigint) security definer set search_path = pg_catalog, pg_temp;

create or replace function railwatch.next_seq(how_many int) returns bigint
language sql security definer set search_path = pg_catalog, pg_temp as $$
    -- Whoever holds the counter and then does nothing holds up everybody: such a session ends after ten seconds.
    select set_config('idle_in_transaction_session_timeout', '10s', true)
    where current_setting('idle_in_transaction_session_timeout')::interval not between '1 ms' and '10 s';
    update railwatch.feed_position set last_seq = last_seq + how_many returning last_seq - how_many + 1;
$$;
comment on function railwatch.next_seq is 'Take seqs for the feed: the first of them. Call it last, it holds up every other writer to the commit.';

drop function railwatch.cancel_invoice(uuid, text, text);

create function railwatch.check_act(actor text, cause text) returns void
language plpgsql immutable as $$
begin
    if actor is null or length(actor) not between 1 and 200 then
        perform railwatch.refuse('RW001', 'actor is missing, or not a text of 1 to 200 characters',
            'Say who does this: the name of a person or a service.');
    end if;
    if cause is null or cause not in ('service', 'operator') then
        perform railwatch.refuse('RW001', 'cause ' || coalesce('"' || cause || '"', '(null)') || ' is not service or operator');
    end if;
end $$;
comment on function railwatch.check_act is 'Part of every manual act: somebody does it, as a service or as an operator.';

create function railwatch.check_text(value text, field text, longest int) returns void
language plpgsql immutable as $$
begin
    if value is null or length(value) not between 1 and longest then
        perform railwatch.refuse('RW001', field || ' is missing, or not a text of 1 to ' || longest || ' characters');
    end if;
end $$;
comment on function railwatch.check_text is 'A required text, or the field that is none.';

create function railwatch.lock_invoice(invoice uuid) returns railwatch.invoices
language plpgsql as $$
declare
    known railwatch.invoices;
begin
    select * into known from railwatch.invoices where id = invoice for update;
    if not found then
        perform railwatch.refuse('RW009', 'there is no invoice ' || coalesce(invoice::text, '(null)'));
    end if;
    return known;
end $$;
comment on function railwatch.lock_invoice is 'Part of every manual act: hold the invoice to the commit, as the daemon''s steps do.';

create function railwatch.assess(known railwatch.invoices) returns text
language plpgsql stable as $$
declare
    standing text := known.state;
    answer text;
begin
    if standing = 'flagged' then
        -- What was decided before the hold still holds.
        select t.from_state into standing from railwatch.transitions t
        where t.invoice_id = known.id and t.subject = 'invoice' and t.to_state = 'flagged'
        order by t.seq desc limit 1;
    end if;
    if standing in ('cancelled', 'refunded') then
        return standing;
    end if;
    with payments as (
        select x.destination_id, x.amount, x.state in ('confirmed', 'final') as counted, x.state <> 'pending' as in_block,
               case when x.state = 'final' and x.in_time is not null then x.in_time
                    else known.expires_at >= case known.time_basis
                        when 'first_seen' then x.first_seen_at
                        when 'block_time' then coalesce(x.block_time, now())
                        else coalesce(x.confirmed_at, now()) end
               end as timely
        from railwatch.detections x
        where x.invoice_id = known.id and x.kind = 'payment' and x.state in ('pending', 'included', 'confirmed', 'final')
    ), sums as (
        select greatest(1, d.expected_amount - div(d.expected_amount * known.tolerance_bps, 10000)) as least,
               d.expected_amount + div(d.expected_amount * known.tolerance_bps, 10000) as most,
               coalesce(sum(p.amount) filter (where p.timely), 0) as seen,
               coalesce(sum(p.amount) filter (where p.timely and p.counted), 0) as confirmed,
               coalesce(sum(p.amount) filter (where not p.timely), 0) as late,
               coalesce(sum(p.amount) filter (where not p.timely and p.counted), 0) as late_confirmed,
               coalesce(bool_or(p.in_block), false) as in_block
        from railwatch.destinations d left join payments p on p.destination_id = d.id
        where d.invoice_id = known.id and d.watch_state <> 'rejected'
        group by d.id
    )
    select case
        when max(confirmed - most) filter (where confirmed >= least) > 0 then 'overpaid'
        when bool_or(confirmed >= least) then 'paid'
        when bool_or(confirmed + late_confirmed >= least) then 'late_paid'
        when bool_or(seen > confirmed or (late > late_confirmed and seen + late >= least))
            then case when bool_or(in_block) then 'confirming' else 'detected' end
        when bool_or(confirmed > 0) then 'underpaid'
    end into answer from sums;
    return coalesce(answer, case
        when standing = 'expired' then 'expired'
        when known.expires_at <= now() and not exists (
            select from railwatch.destinations d join railwatch.rails r on r.name = d.rail
            where d.invoice_id = known.id and d.watch_state <> 'rejected'
              and (d.watch_state = 'registered' or r.covered_until is null or r.covered_until < known.expires_at))
            then 'expired'
        else 'created' end);
end $$;
comment on function railwatch.assess is 'The state that the facts demand, were the invoice not held: the core''s rule, for manual acts. A test keeps them equal.';

create function railwatch.move_invoice(
    known railwatch.invoices, target text, reason text, cause text, evidence jsonb, hold text default null
) returns text
language plpgsql as $$
declare
    moved railwatch.invoices;
begin
    if not exists (select from railwatch.invoice_moves where from_state = known.state and to_state = target) then
        perform railwatch.refuse('RW010', 'invoice ' || known.id || ' is ' || known.state || ' and cannot become ' || target);
    end if;
    update railwatch.invoices
    set state = target, state_since = now(), version = version + 1, held = hold,
        settled_at = coalesce(settled_at, case when target in ('paid', 'overpaid', 'late_paid') then now() end)
    where id = known.id returning * into moved;
    perform railwatch.append_invoice_transition(moved, known.state, reason, cause, evidence);
    return target;
end $$;
comment on function railwatch.move_invoice is 'The only way in which a manual act moves an invoice: by the table of moves, and with its line in the feed.';

create function railwatch.append_act(
    about text, subject_id uuid, invoice uuid, from_state text, to_state text, reason text, cause text, on_rail text,
    tx text, evidence jsonb
) returns void
language plpgsql as $$
declare
    taken bigint := railwatch.next_seq(1);
begin
    insert into railwatch.transitions
        (seq, event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause, rail, tx_id, evidence)
    values (taken, md5('railwatch/' || about || '/' || subject_id || '/' || to_state)::uuid, about, subject_id, invoice,
            from_state, to_state, reason, cause, on_rail, tx, jsonb_strip_nulls(evidence));
    perform pg_notify('railwatch', taken::text);
end $$;
comment on function railwatch.append_act is 'Put an act that is not about an invoice''s state into the feed.';

create function railwatch.hold_invoice(invoice uuid, actor text, reason text, cause text default 'service') returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    known railwatch.invoices;
begin
    perform railwatch.check_act(actor, cause);
    perform railwatch.check_text(reason, 'reason', 1000);
    known := railwatch.lock_invoice(invoice);
    if known.state = 'flagged' then
        return known.state;
    end if;
    return railwatch.move_invoice(known, 'flagged', 'held', cause,
        jsonb_build_object('actor', actor, 'reason', reason), hold => reason);
end $$;
comment on function railwatch.hold_invoice is 'Hold an invoice: it is flagged until somebody releases it, whatever the chain says. Holding twice is harmless.';

create function railwatch.release_invoice(
    invoice uuid, actor text, reason text default null, cause text default 'service'
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    known railwatch.invoices;
begin
    perform railwatch.check_act(actor, cause);
    known := railwatch.lock_invoice(invoice);
    if known.state <> 'flagged' then
        return known.state;
    end if;
    return railwatch.move_invoice(known, railwatch.assess(known), 'released', cause,
        jsonb_strip_nulls(jsonb_build_object('actor', actor, 'reason', reason, 'held', known.held)));
end $$;
comment on function railwatch.release_invoice is 'End a hold: the invoice takes the state that the facts demand by now, and that is returned. Releasing twice is harmless.';

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
        perform railwatch.refuse('RW013', 'nothing' || coalesce(' of ' || of_asset, '') || ' has arrived'
            || coalesce(' on rail ' || on_rail, '') || ' for invoice ' || invoice, 'Arrived: ' || coalesce(choices, 'nothing') || '.');
    elsif fitting > 1 then
        perform railwatch.refuse('RW013', 'invoice ' || invoice || ' was paid in several ways',
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

create function railwatch.record_refund(
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
comment on function railwatch.record_refund is 'Record what was given back. When nothing of the customer''s is left the invoice is refunded. The same transaction again is harmless.';

create function railwatch.record_settlement(
    invoice uuid, reference text, actor text, note text default null, cause text default 'service'
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    made uuid;
begin
    perform railwatch.check_act(actor, cause);
    perform railwatch.check_text(reference, 'reference', 200);
    perform railwatch.lock_invoice(invoice);
    select s.id into made from railwatch.settlements s
    where s.invoice_id = invoice and s.reference = record_settlement.reference;
    if found then
        return made;
    end if;
    insert into railwatch.settlements (invoice_id, reference, note, actor)
    values (invoice, record_settlement.reference, record_settlement.note, record_settlement.actor)
    returning id into made;
    perform railwatch.append_act('settlement', made, invoice, null, 'recorded', 'settled', cause, null, null,
        jsonb_build_object('actor', actor, 'reference', reference, 'note', note));
    return made;
end $$;
comment on function railwatch.record_settlement is 'Write down where finance booked an invoice. The same reference again is harmless; another one stands beside it.';

create function railwatch.lock_exception(exception_id uuid) returns railwatch.exceptions
language plpgsql as $$
declare
    known railwatch.exceptions;
begin
    -- The invoice first, as the daemon does: it must not have read a row that changes under it.
    perform railwatch.lock_invoice(e.invoice_id) from railwatch.exceptions e where e.id = exception_id;
    select * into known from railwatch.exceptions where id = exception_id for update;
    if not found then
        perform railwatch.refuse('RW012', 'there is no exception ' || coalesce(exception_id::text, '(null)'));
    end if;
    return known;
end $$;
comment on function railwatch.lock_exception is 'Part of acts on an exception: hold it and its invoice to the commit.';

create function railwatch.resolve_exception(
    exception_id uuid, actor text, resolution text, note text default null, cause text default 'service'
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    known railwatch.exceptions;
    through railwatch.detections;
begin
    perform railwatch.check_act(actor, cause);
    perform railwatch.check_text(resolution, 'resolution', 1000);
    if resolution = 'made good' then
        perform railwatch.refuse('RW001', 'the resolution "made good" is the chain''s own', 'Say what was decided.');
    end if;
    known := railwatch.lock_exception(exception_id);
    if known.resolved_at is not null then
        return coalesce(known.resolution, 'resolved');
    end if;
    update railwatch.exceptions e
    set resolved_at = now(), resolution = resolve_exception.resolution, owner = coalesce(e.owner, actor),
        notes = railwatch.add_note(e.notes, actor, note)
    where e.id = exception_id;
    select * into through from railwatch.detections x where x.id = known.detection_id;
    perform railwatch.append_act('exception', exception_id, known.invoice_id, 'open', 'resolved', known.kind, cause,
        through.rail, through.tx_id, jsonb_build_object('actor', actor, 'resolution', resolution, 'note', note));
    return resolution;
end $$;
comment on function railwatch.resolve_exception is 'Close an exception by a person''s word. It stays closed while the facts stand. Resolving twice is harmless: the first word counts.';

create function railwatch.annotate_exception(
    exception_id uuid, actor text, note text default null, owner text default null
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform railwatch.check_act(actor, 'service');
    if note is null and owner is null then
        perform railwatch.refuse('RW001', 'give a note, an owner or both');
    end if;
    perform railwatch.lock_exception(exception_id);
    update railwatch.exceptions e
    set owner = coalesce(annotate_exception.owner, e.owner),
        notes = railwatch.add_note(
            railwatch.add_note(e.notes, actor, 'owner: ' || coalesce(e.owner, 'nobody') || ' -> ' || annotate_exception.owner), actor, note)
    where e.id = exception_id;
end $$;
comment on function railwatch.annotate_exception is 'Say who looks at an exception, or what was found out. Notes are added, never replaced.';

create function railwatch.add_note(notes text, actor text, note text) returns text
language sql stable as $$
    select case when coalesce(note, '') = '' then notes
                else concat_ws(E'\n', notes, to_char(now() at time zone 'UTC', 'YYYY-MM-DD HH24:MI') || ' ' || actor || ': ' || note) end
$$;
comment on function railwatch.add_note is 'Notes with one more line: when, who, what.';

create function railwatch.cancel_invoice(
    invoice uuid, actor text default 'service', note text default null, cause text default 'service'
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    known railwatch.invoices;
    standing text;
begin
    perform railwatch.check_act(actor, cause);
    known := railwatch.lock_invoice(invoice);
    if known.state = 'cancelled' then
        return known.state;
    end if;
    -- A hold is no way around the rule: what counts is where the invoice would stand without it.
    standing := case when known.state = 'flagged' then railwatch.assess(known) else known.state end;
    if standing <> 'cancelled'
       and not exists (select from railwatch.invoice_moves where from_state = standing and to_state = 'cancelled') then
        perform railwatch.refuse('RW010', 'invoice ' || invoice || ' is ' || standing
            || case when standing <> known.state then ' (and held)' else '' end || ' and cannot be cancelled',
            'Money is on its way or has arrived; a refund is recorded, not cancelled.');
    end if;
    return railwatch.move_invoice(known, 'cancelled', 'cancelled', cause,
        jsonb_strip_nulls(jsonb_build_object('actor', actor, 'note', note)));
end $$;
comment on function railwatch.cancel_invoice is 'Withdraw an invoice that is not paid and has nothing on its way; its address stays watched. Cancelling twice is harmless.';

create function railwatch.display(amount numeric, decimals int) returns numeric
language sql immutable as $$ select trim_scale((trunc(amount)::text || 'e-' || decimals)::numeric) $$;
comment on function railwatch.display is 'Base units in display units, exactly; null where the decimals are not known.';

create function railwatch.customer_state(state text, settled_at timestamptz) returns text
language sql immutable as $$
    select case
        when state = 'created' then case when settled_at is null then 'waiting' else 'issue' end
        when state = 'detected' then 'received'
        when state = 'confirming' then 'confirming'
        when state in ('paid', 'overpaid') then 'complete'
        else 'issue' end
$$;
comment on function railwatch.customer_state is 'What a customer is told of a state: waiting, received, confirming, complete or issue.';

create view railwatch.orders as
select i.merchant_id, i.order_id, i.id as invoice_id, i.state, railwatch.customer_state(i.state, i.settled_at) as customer_state,
       i.state_since, i.created_at, i.expires_at, i.settled_at, i.held,
       exists (select from railwatch.destinations d where d.invoice_id = i.id and d.watch_state = 'watching') as payable,
       not exists (select from railwatch.destinations d join railwatch.rails r on r.name = d.rail
                   where d.invoice_id = i.id and d.watch_state <> 'rejected' and r.state <> 'live') as rails_live,
       (select count(*) from railwatch.exceptions e where e.invoice_id = i.id and e.resolved_at is null) as exceptions,
       (select (array['critical', 'warning', 'info'])[min(array_position(array['critical', 'warning', 'info'], e.severity))]
        from railwatch.exceptions e where e.invoice_id = i.id and e.resolved_at is null) as severity,
       i.fiat_amount, i.fiat_currency, i.metadata
from railwatch.invoices i;
comment on view railwatch.orders is 'One row an invoice: the operator''s state and the customer''s, and what stands beside it.';
comment on column railwatch.orders.merchant_id is 'The merchant.';
comment on column railwatch.orders.order_id is 'The order.';
comment on column railwatch.orders.invoice_id is 'The invoice.';
comment on column railwatch.orders.state is 'The operator''s state.';
comment on column railwatch.orders.customer_state is 'waiting, received, confirming, complete or issue.';
comment on column railwatch.orders.state_since is 'Since when.';
comment on column railwatch.orders.created_at is 'When it was registered.';
comment on column railwatch.orders.expires_at is 'End of the payment window, inclusive.';
comment on column railwatch.orders.settled_at is 'When it was first paid.';
comment on column railwatch.orders.held is 'Why it is held; null: not held.';
comment on column railwatch.orders.payable is 'Whether an address of it may be shown: it is watched.';
comment on column railwatch.orders.rails_live is 'Whether silence means that nothing came.';
comment on column railwatch.orders.exceptions is 'How many exceptions are open.';
comment on column railwatch.orders.severity is 'The worst of them.';
comment on column railwatch.orders.fiat_amount is 'The order''s total.';
comment on column railwatch.orders.fiat_currency is 'Its currency.';
comment on column railwatch.orders.metadata is 'The registering service''s own.';

create view railwatch.order_destinations as
select i.merchant_id, i.order_id, i.id as invoice_id, d.id as destination_id, d.position, d.rail, a.symbol, d.address, d.reference,
       d.watch_state, d.watch_error, railwatch.display(d.expected_amount, a.decimals) as expected,
       railwatch.display(d.seen_amount, a.decimals) as seen, railwatch.display(d.confirmed_amount, a.decimals) as confirmed,
       railwatch.display(d.late_amount, a.decimals) as late, d.policy, d.policy_origin, r.state as rail_state
from railwatch.destinations d
join railwatch.invoices i on i.id = d.invoice_id
join railwatch.assets a on a.rail = d.rail and a.id = d.asset
join railwatch.rails r on r.name = d.rail;
comment on view railwatch.order_destinations is 'Where an order can be paid, and what arrived there, in display units.';
comment on column railwatch.order_destinations.merchant_id is 'The merchant.';
comment on column railwatch.order_destinations.order_id is 'The order.';
comment on column railwatch.order_destinations.invoice_id is 'The invoice.';
comment on column railwatch.order_destinations.destination_id is 'The destination.';
comment on column railwatch.order_destinations.position is 'Its place in the invoice''s list, from 1.';
comment on column railwatch.order_destinations.rail is 'The rail.';
comment on column railwatch.order_destinations.symbol is 'The asset''s symbol.';
comment on column railwatch.order_destinations.address is 'The address.';
comment on column railwatch.order_destinations.reference is 'Memo, tag or reference key.';
comment on column railwatch.order_destinations.watch_state is 'Show payment instructions only when watching.';
comment on column railwatch.order_destinations.watch_error is 'Why it was rejected.';
comment on column railwatch.order_destinations.expected is 'Asked for, in display units.';
comment on column railwatch.order_destinations.seen is 'Live and in time, in display units.';
comment on column railwatch.order_destinations.confirmed is 'Of that confirmed, in display units.';
comment on column railwatch.order_destinations.late is 'Live and late, in display units.';
comment on column railwatch.order_destinations.policy is 'When a payment counts here.';
comment on column railwatch.order_destinations.policy_origin is 'invoice, configuration or default.';
comment on column railwatch.order_destinations.rail_state is 'How the rail is.';

create view railwatch.order_transfers as
select x.tx_id, x.tx_index, i.merchant_id, i.order_id, i.id as invoice_id, i.state as invoice_state, x.id as detection_id, x.rail,
       coalesce(a.symbol, x.asset) as symbol, railwatch.display(x.amount, a.decimals) as amount, x.amount as base_amount,
       x.kind, x.state, x.in_time, x.replaced_by, d.address, d.policy, d.policy_origin, x.evidence ->> 'node' as node,
       x.first_seen_at, x.block_height, x.block_hash, x.block_time, x.confirmed_at,
       case when x.state in ('included', 'confirmed', 'final')
            then greatest(r.cursor_height - x.block_height + 1, 0) end as confirmations
from railwatch.detections x
join railwatch.invoices i on i.id = x.invoice_id
join railwatch.destinations d on d.id = x.destination_id
join railwatch.rails r on r.name = x.rail
left join railwatch.assets a on a.rail = x.rail and a.id = x.asset;
comment on view railwatch.order_transfers is 'Every transfer with the order that it is for, in display units.';
comment on column railwatch.order_transfers.tx_id is 'The transaction.';
comment on column railwatch.order_transfers.tx_index is 'Which credit of it.';
comment on column railwatch.order_transfers.merchant_id is 'The merchant.';
comment on column railwatch.order_transfers.order_id is 'The order.';
comment on column railwatch.order_transfers.invoice_id is 'The invoice.';
comment on column railwatch.order_transfers.invoice_state is 'Where the invoice stands.';
comment on column railwatch.order_transfers.detection_id is 'The detection.';
comment on column railwatch.order_transfers.rail is 'The rail that it was seen on.';
comment on column railwatch.order_transfers.symbol is 'The asset''s symbol; its CAIP-19 id where it is not configured.';
comment on column railwatch.order_transfers.amount is 'In display units; null where the decimals are not known.';
comment on column railwatch.order_transfers.base_amount is 'In base units.';
comment on column railwatch.order_transfers.kind is 'payment, or what else it is.';
comment on column railwatch.order_transfers.state is 'Where the transfer stands on its chain.';
comment on column railwatch.order_transfers.in_time is 'Whether it counts as within the window.';
comment on column railwatch.order_transfers.replaced_by is 'The transaction that displaced it.';
comment on column railwatch.order_transfers.address is 'The address that it was for.';
comment on column railwatch.order_transfers.policy is 'The policy that it has to meet.';
comment on column railwatch.order_transfers.policy_origin is 'invoice, configuration or default.';
comment on column railwatch.order_transfers.node is 'The node that told of it.';
comment on column railwatch.order_transfers.first_seen_at is 'When it was first seen.';
comment on column railwatch.order_transfers.block_height is 'Its newest block.';
comment on column railwatch.order_transfers.block_hash is 'Hash of that block.';
comment on column railwatch.order_transfers.block_time is 'Chain time of that block.';
comment on column railwatch.order_transfers.confirmed_at is 'Chain time at which the policy was met.';
comment on column railwatch.order_transfers.confirmations is 'Its depth now, inclusive; null: in no block.';

create view railwatch.order_money as
select i.merchant_id, i.order_id, i.id as invoice_id, i.state, i.settled_at, i.fiat_amount, i.fiat_currency, i.rate_locked_at,
       way.rail, way.asset, a.symbol, asked.expected_amount, came.received_amount, gone.refunded_amount,
       railwatch.display(asked.expected_amount, a.decimals) as expected,
       railwatch.display(came.received_amount, a.decimals) as received,
       railwatch.display(gone.refunded_amount, a.decimals) as refunded,
       asked.policy, asked.policy_origin,
       (select array_agg(s.reference order by s.recorded_at, s.reference) from railwatch.settlements s
        where s.invoice_id = i.id) as settlement_references
from railwatch.invoices i
cross join lateral (
    select d.rail, d.asset from railwatch.destinations d where d.invoice_id = i.id
    union
    select x.rail, x.asset from railwatch.detections x where x.invoice_id = i.id and x.kind <> 'unsupported_asset'
    union
    select r.rail, r.asset from railwatch.refunds r where r.invoice_id = i.id
) way
left join lateral (
    select d.expected_amount, d.policy, d.policy_origin from railwatch.destinations d
    where d.invoice_id = i.id and d.rail = way.rail and d.asset = way.asset order by d.position limit 1
) asked on true
cross join lateral (
    select coalesce(sum(x.amount), 0) as received_amount from railwatch.detections x
    where x.invoice_id = i.id and x.rail = way.rail and x.asset = way.asset and x.state in ('confirmed', 'final')
) came
cross join lateral (
    select coalesce(sum(r.amount), 0) as refunded_amount from railwatch.refunds r
    where r.invoice_id = i.id and r.rail = way.rail and r.asset = way.asset
) gone
left join railwatch.assets a on a.rail = way.rail and a.id = way.asset;
comment on view railwatch.order_money is 'For finance: one row an invoice and asset, with what was asked, what came and what was given back.';
comment on column railwatch.order_money.merchant_id is 'The merchant.';
comment on column railwatch.order_money.order_id is 'The order.';
comment on column railwatch.order_money.invoice_id is 'The invoice.';
comment on column railwatch.order_money.state is 'Where the invoice stands.';
comment on column railwatch.order_money.settled_at is 'When it was first paid.';
comment on column railwatch.order_money.fiat_amount is 'The order''s total at price lock.';
comment on column railwatch.order_money.fiat_currency is 'Its currency.';
comment on column railwatch.order_money.rate_locked_at is 'When the price was locked.';
comment on column railwatch.order_money.rail is 'The rail.';
comment on column railwatch.order_money.asset is 'CAIP-19 id.';
comment on column railwatch.order_money.symbol is 'The asset''s symbol.';
comment on column railwatch.order_money.expected_amount is 'Asked for, in base units; null: this asset was not asked for.';
comment on column railwatch.order_money.received_amount is 'Confirmed, in base units: in time, late or sent by mistake.';
comment on column railwatch.order_money.refunded_amount is 'Given back, in base units.';
comment on column railwatch.order_money.expected is 'Asked for, in display units.';
comment on column railwatch.order_money.received is 'Confirmed, in display units.';
comment on column railwatch.order_money.refunded is 'Given back, in display units.';
comment on column railwatch.order_money.policy is 'The policy by which it counts.';
comment on column railwatch.order_money.policy_origin is 'invoice, configuration or default.';
comment on column railwatch.order_money.settlement_references is 'Where finance booked the invoice, oldest first; null: nowhere yet.';

create view railwatch.consumer_lag as
select c.name, c.position, f.last_seq - c.position as lag,
       (select t.recorded_at from railwatch.transitions t where t.seq = c.position + 1) as waiting_since, c.updated_at
from railwatch.consumers c, railwatch.feed_position f;
comment on view railwatch.consumer_lag is 'How far each reader of the feed has come, and how far that is behind.';
comment on column railwatch.consumer_lag.name is 'The reader''s own name.';
comment on column railwatch.consumer_lag.position is 'The last seq that it has dealt with.';
comment on column railwatch.consumer_lag.lag is 'How many lines it has not dealt with.';
comment on column railwatch.consumer_lag.waiting_since is 'When the first of them was recorded; null: none waits.';
comment on column railwatch.consumer_lag.updated_at is 'When it last acknowledged.';

create function railwatch.find_orders(what text)
returns table (found_by text, invoice_id uuid, merchant_id text, order_id text, state text, customer_state text)
language sql stable as $$
    select hit.found_by, o.invoice_id, o.merchant_id, o.order_id, o.state, o.customer_state
    from (
        select 'invoice' as found_by, i.id from railwatch.invoices i
        where i.id = case when what ~* '^[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}$' then what::uuid end
        union
        select 'order', i.id from railwatch.invoices i where i.order_id = what
        union
        select 'order', i.id
        from generate_series(1, length(what)) cut
        join railwatch.invoices i on i.merchant_id = left(what, cut - 1) and i.order_id = substr(what, cut + 1)
        where substr(what, cut, 1) = '/'
        union
        select 'transaction', x.invoice_id from railwatch.detections x where x.tx_id in (what, lower(what))
        union
        select 'refund', f.invoice_id from railwatch.refunds f where f.tx_id in (what, lower(what))
        union
        select 'address', d.invoice_id
        from railwatch.destinations d join railwatch.rails r on r.name = d.rail
        where d.address_folded in (what, lower(what)) and (d.address_folded = what or r.fold_case)
    ) hit
    join railwatch.orders o on o.invoice_id = hit.id
    order by o.created_at desc, hit.found_by
$$;
comment on function railwatch.find_orders is 'The orders that a text may mean: an id, an order, merchant/order, a transaction or an address. The newest first.';

create function railwatch.refuse_change() returns trigger
language plpgsql as $$
begin
    perform railwatch.refuse('RW015', tg_table_name || ' is append-only: nothing in it is changed or deleted',
        'What turned out wrong is followed by what is right.');
    return null;
end $$;
comment on function railwatch.refuse_change is 'Keeps a table append-only, also for its owner.';

create trigger append_only before update or delete or truncate on railwatch.transitions
    for each statement execute function railwatch.refuse_change();
create trigger append_only before update or delete or truncate on railwatch.refunds
    for each statement execute function railwatch.refuse_change();
create trigger append_only before update or delete or truncate on railwatch.settlements
    for each statement execute function railwatch.refuse_change();
alter table railwatch.transitions enable always trigger append_only;
alter table railwatch.refunds enable always trigger append_only;
alter table railwatch.settlements enable always trigger append_only;

create function railwatch.require_line() returns trigger
language plpgsql as $$
declare
    told text;
begin
    -- The owner may have to repair what is broken. Nobody else comes past the feed.
    if pg_has_role(current_user, (select nspowner from pg_namespace where nspname = 'railwatch'), 'usage') then
        return null;
    end if;
    select t.to_state into told from railwatch.transitions t
    where t.invoice_id = new.id and t.subject = 'invoice' order by t.seq desc limit 1;
    if told is distinct from (select state from railwatch.invoices where id = new.id) then
        perform railwatch.refuse('RW016', 'invoice ' || new.id || ' cannot become ' || new.state || ' without a line in the feed',
            'States are moved by the daemon and by the functions of the contract.');
    end if;
    return null;
end $$;
comment on function railwatch.require_line is 'No state by hand: at the commit an invoice''s state must be the one that the feed told last.';

create constraint trigger told_in_the_feed after update of state on railwatch.invoices
    deferrable initially deferred for each row when (old.state is distinct from new.state)
    execute function railwatch.require_line();

insert into railwatch.rights (role, object, privileges)
select role, object, privileges
from (values
    (array['railwatch_daemon', 'railwatch_service', 'railwatch_reader'], 'usage', array['schema railwatch']),
    (array['railwatch_daemon', 'railwatch_service', 'railwatch_reader'], 'select', array[
        'railwatch.rails', 'railwatch.leases', 'railwatch.checkpoints', 'railwatch.assets', 'railwatch.policies',
        'railwatch.settings', 'railwatch.invoices', 'railwatch.destinations', 'railwatch.detections',
        'railwatch.transitions', 'railwatch.feed_position', 'railwatch.exceptions', 'railwatch.consumers',
        'railwatch.rescans', 'railwatch.invoice_moves', 'railwatch.refunds', 'railwatch.settlements', 'railwatch.rights',
        'railwatch.orders', 'railwatch.order_destinations', 'railwatch.order_transfers', 'railwatch.order_money',
        'railwatch.consumer_lag', 'public.railwatch_migrations']),
    (array['railwatch_daemon', 'railwatch_service', 'railwatch_reader'], 'execute', array[
        'function railwatch.display', 'function railwatch.customer_state', 'function railwatch.find_orders']),
    (array['railwatch_daemon', 'railwatch_service'], 'execute', array[
        'function railwatch.create_invoice', 'function railwatch.cancel_invoice', 'function railwatch.hold_invoice',
        'function railwatch.release_invoice', 'function railwatch.record_refund', 'function railwatch.record_settlement',
        'function railwatch.resolve_exception', 'function railwatch.annotate_exception',
        'function railwatch.request_rescan', 'function railwatch.ack']),
    -- What `select ... for update` asks for, and no more: a reader of the feed locks its own row.
    (array['railwatch_service'], 'update (updated_at)', array['railwatch.consumers']),
    (array['railwatch_daemon'], 'execute', array[
        'function railwatch.touched', 'function railwatch.next_seq', 'function railwatch.refuse']),
    (array['railwatch_daemon'], 'insert, update', array[
        'railwatch.rails', 'railwatch.assets', 'railwatch.settings', 'railwatch.detections', 'railwatch.exceptions']),
    (array['railwatch_daemon'], 'insert, update, delete', array['railwatch.leases', 'railwatch.checkpoints']),
    (array['railwatch_daemon'], 'insert, delete', array['railwatch.policies']),
    (array['railwatch_daemon'], 'insert', array['railwatch.transitions']),
    (array['railwatch_daemon'], 'update', array['railwatch.rescans']),
    (array['railwatch_daemon'], 'update (state, state_since, version, settled_at, closed_at)',
        array['railwatch.invoices']),
    (array['railwatch_daemon'], 'update (address, address_key, keyed_at, watch_state, watch_error, covered_from, seen_amount, '
        'confirmed_amount, late_amount)', array['railwatch.destinations'])
) as given (roles, privileges, objects), unnest(roles) as role, unnest(objects) as object;

create function railwatch.grant_rights() returns text[]
language plpgsql as $$
declare
    of_role text;
    given railwatch.rights;
    missing text[] := '{}';
begin
    revoke execute on all functions in schema railwatch from public;
    for of_role in select distinct role from railwatch.rights order by role loop
        begin
            if not exists (select from pg_roles where rolname = of_role) then
                execute format('create role %I nologin', of_role);
            end if;
        exception
            when duplicate_object or unique_violation then
                null;  -- Roles belong to the whole cluster: another database's migration was quicker.
            when insufficient_privilege then
                missing := missing || of_role;
                raise warning '% may not create the role %, which nobody has now', current_user, of_role
                    using hint = 'As a superuser: create role ' || of_role || ' nologin; then, as the owner of the schema: select railwatch.grant_rights();';
                continue;
        end;
        for given in select * from railwatch.rights where role = of_role order by object, privileges loop
            -- The book of migrations is not there while the schema is written down without them.
            continue when given.object = 'public.railwatch_migrations' and to_regclass(given.object) is null;
            execute format('grant %s on %s to %I', given.privileges, given.object, of_role);
        end loop;
    end loop;
    return missing;
end $$;
comment on function railwatch.grant_rights is 'Make the roles, where that may be done, and give them what the table rights says. Returns the roles that are missing. Doing it again is harmless.';

select railwatch.grant_rights();

-- A session that listens and rests in a transaction keeps the server from emptying its queue of notifications. From half of
-- it on Railwatch sends none, because every commit that notifies fails once the queue is full.

create function railwatch.notify(channel text, payload text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if channel in ('railwatch', 'railwatch_work', 'railwatch_webhooks') is not true then
        perform railwatch.refuse('RW001', 'notify: unknown channel');
    end if;
    perform pg_notify(channel, left(payload, 100)) where pg_notification_queue_usage() < 0.5;
end $$;
comment on function railwatch.notify is 'The one way to notify: a hint, left out while the server''s queue of notifications is half full. Once that is full, every commit that notifies fails.';

create or replace function railwatch.append_invoice_transition(
    invoice railwatch.invoices, from_state text, reason text, cause text, evidence jsonb
) returns void
language plpgsql as $$
declare
    taken bigint := railwatch.next_seq(1);
begin
    insert into railwatch.transitions
        (seq, event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause, seen_amount,
         confirmed_amount, evidence)
    select taken, md5('railwatch/' || invoice.id || '/' || invoice.version || '/' || invoice.state)::uuid, 'invoice',
           invoice.id, invoice.id, from_state, invoice.state, reason, cause, d.seen_amount, d.confirmed_amount,
           evidence || jsonb_build_object('login', session_user)
    from railwatch.destinations d
    where d.invoice_id = invoice.id
    order by d.confirmed_amount / d.expected_amount desc, (d.seen_amount + d.late_amount) / d.expected_amount desc, d.position
    limit 1;
    perform railwatch.notify('railwatch', taken::text);
end $$;

create or replace function railwatch.register_invoice(request jsonb) returns uuid
language plpgsql as $$
declare
    merchant text;
    order_no text;
    known railwatch.invoices;
    made railwatch.invoices;
    expiry timestamptz;
    closes_in bigint;
begin
    merchant := railwatch.parse_text(request, 'merchant_id');
    order_no := railwatch.parse_text(request, 'order_id');
    select * into known from railwatch.invoices where merchant_id = merchant and order_id = order_no;
    if found then
        return railwatch.same_order(known, request);
    end if;
    expiry := railwatch.parse_expiry(request);
    closes_in := case when request ? 'closes_in'
        then railwatch.parse_count(request -> 'closes_in', 'closes_in', 0, 315360000, 'RW005')
        else coalesce((select (value #>> '{}')::bigint from railwatch.settings where name = 'closes_in'), 2592000) end;
    insert into railwatch.invoices
        (merchant_id, order_id, state, expires_at, closes_at, fiat_amount, fiat_currency, rate_locked_at, policy,
         time_basis, metadata, tolerance_bps, accept_before, terms)
    values (merchant, order_no, 'created', expiry, expiry + make_interval(secs => closes_in),
            (request ->> 'fiat_amount')::numeric, request ->> 'fiat_currency',
            case when request ? 'rate_locked_at' then railwatch.parse_moment(request -> 'rate_locked_at', 'rate_locked_at') end,
            '{}', coalesce(request ->> 'time_basis', 'first_seen'), coalesce(request -> 'metadata', '{}'),
            case when request ? 'tolerance_bps'
                then railwatch.parse_count(request -> 'tolerance_bps', 'tolerance_bps', 0, 10000, 'RW001') else 0 end,
            -- A look-back reaches at least an hour: what is older than that nobody would find.
            case when request ? 'accept_before'
                then railwatch.parse_count(request -> 'accept_before', 'accept_before', 0, 3600, 'RW005') else 600 end,
            railwatch.terms_of(request))
    -- Who registers the same order just now is waited for here.
    on conflict (merchant_id, order_id) do nothing
    returning * into made;
    if not found then
        select * into known from railwatch.invoices where merchant_id = merchant and order_id = order_no;
        return railwatch.same_order(known, request);
    end if;
    perform railwatch.create_destination(made, wish, place::int)
    from jsonb_array_elements(request -> 'destinations') with ordinality as wishes (wish, place);
    update railwatch.invoices
    set policy = (select policy from railwatch.destinations where invoice_id = made.id order by position limit 1)
    where id = made.id;
    perform railwatch.append_invoice_transition(made, null, 'created', 'service', '{}');
    perform railwatch.notify('railwatch_work', 'registered');
    return made.id;
end $$;

create or replace function railwatch.append_act(
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
            from_state, to_state, reason, cause, on_rail, tx,
            jsonb_strip_nulls(evidence) || jsonb_build_object('login', session_user));
    perform railwatch.notify('railwatch', taken::text);
end $$;

create or replace function railwatch.request_rescan(on_rail text, from_height bigint, to_height bigint default null) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    made uuid;
begin
    -- As the foreign key locks it: a rail that is being renamed just now is waited for, and then unknown.
    perform from railwatch.rails where name = on_rail for key share;
    if not found then
        perform railwatch.refuse('RW002', 'unknown rail "' || coalesce(on_rail, '') || '"');
    end if;
    if from_height is null or from_height < 0 or to_height < from_height or greatest(from_height, to_height) > 1000000000000 then
        perform railwatch.refuse('RW001', 'rescan takes from_height of at least 0 and to_height of at least from_height, at most 10^12');
    end if;
    insert into railwatch.rescans as known (rail, from_height, to_height, next_height)
    values (on_rail, request_rescan.from_height, request_rescan.to_height, request_rescan.from_height)
    on conflict (rail) where finished_at is null do update
    set from_height = least(known.from_height, excluded.from_height),
        to_height = case when known.to_height is not null and excluded.to_height is not null
                         then greatest(known.to_height, excluded.to_height) end,
        next_height = least(known.next_height, excluded.from_height),
        tries = 0, retry_at = now()
    returning id into made;
    perform railwatch.notify('railwatch_work', 'rescan');
    return made;
end $$;

create or replace function railwatch.resume_rail(on_rail text, actor text, reason text default null) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    known railwatch.rails;
begin
    perform railwatch.check_text(actor, 'actor', 200);
    if reason is not null then
        perform railwatch.check_text(reason, 'reason', 1000);
    end if;
    select * into known from railwatch.rails where name = on_rail for no key update;
    if not found then
        perform railwatch.refuse('RW002', 'unknown rail "' || coalesce(on_rail, '') || '"');
    end if;
    if known.state <> 'halted' then
        perform railwatch.refuse('RW031', 'rail ' || on_rail || ' is ' || known.state || ', not halted');
    end if;
    update railwatch.rails
    set state = 'starting', updated_at = now(),
        reason = 'resumed by ' || actor || coalesce(': ' || resume_rail.reason, '') || '; it had halted because: ' || coalesce(known.reason, '')
    where name = on_rail;
    perform railwatch.notify('railwatch_work', 'resume');
    return 'starting';
end $$;

create or replace function railwatch.accept_chain(
    on_rail text, height bigint, hash text, common boolean, actor text, reason text
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    known railwatch.rails;
    made uuid;
begin
    perform railwatch.check_text(actor, 'actor', 200);
    perform railwatch.check_text(reason, 'reason', 1000);
    perform railwatch.check_text(hash, 'hash', 200);
    if common is null then
        perform railwatch.refuse('RW001', 'common is missing: true where the fork is a block that we had followed too');
    end if;
    select * into known from railwatch.rails where name = on_rail for no key update;
    if not found then
        perform railwatch.refuse('RW002', 'unknown rail "' || coalesce(on_rail, '') || '"');
    end if;
    if known.state <> 'halted' or coalesce(known.reason, '') !~ '^DeepReorg' then
        perform railwatch.refuse('RW031', 'rail ' || on_rail || ' is not halted by a DeepReorg: there is no other chain to accept');
    end if;
    if height is null or height < 0 or height >= known.cursor_height then
        perform railwatch.refuse('RW001', 'the fork is a height from 0 to below the cursor (' || known.cursor_height || ')');
    end if;
    delete from railwatch.chain_acceptances a where a.rail = on_rail and a.applied_at is null;
    insert into railwatch.chain_acceptances (rail, fork_height, fork_hash, is_common, left_height, left_hash, actor, reason)
    values (on_rail, height, hash, common, known.cursor_height, known.cursor_hash, actor, reason) returning id into made;
    -- What was final, and what time was covered, was so on the other chain.
    update railwatch.rails
    set state = 'starting', updated_at = now(), finalized_height = null, finalized_hash = null, covered_until = null,
        reason = 'another chain was accepted by ' || actor || ': ' || accept_chain.reason
    where name = on_rail;
    update railwatch.balances b set settled_height = null, settled_balance = null, settled_spent = null
    where b.rail = on_rail and b.settled_height > height;
    perform railwatch.notify('railwatch_work', 'resume');
    return made;
end $$;

-- What a transfer means for its invoice follows the block that holds it; no sum and no look at a balance outgrows a column.

alter table railwatch.detections add column seen_waiting boolean not null default false;
comment on column railwatch.detections.seen_waiting is 'Whether it was first seen outside any block. Then no block''s timestamp says when it was sent.';
-- What is final is not seen in another block.
update railwatch.detections d set seen_waiting = true
where d.state <> 'final' and exists (
    select from railwatch.observations o where o.detection_id = d.id and o.version = 1 and o.state = 'pending');

drop function railwatch.touched;
create function railwatch.touched(
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
           i.state in ('created', 'detected', 'confirming', 'underpaid', 'flagged'), i.created_at, d.accepts_from,
           d.tip_at_creation, null, null
    from unnest(keys) t (key)
    -- A plan that was made on empty tables must reach every column of the index too.
    cross join lateral (
        select * from railwatch.destinations d
        where d.family = of_family and d.address_key = t.key and d.watch_state not in ('rejected', 'closed') offset 0) d
    join railwatch.invoices i on i.id = d.invoice_id
$$;
comment on function railwatch.touched is 'Whom a step concerns: due, orphaned, displaced and known transfers, and holders of addresses.';


-- Whatever ends a window or a watch waits for the same.

create function railwatch.margin(on_rail railwatch.rails, time_basis text) returns interval
language sql immutable
return case when time_basis = 'first_seen' then on_rail.sight_margin else on_rail.time_margin end;
comment on function railwatch.margin is 'For how long after a window a payment that counts as within it may still arrive on a rail.';

create function railwatch.covers(on_rail railwatch.rails, moment timestamptz, time_basis text) returns boolean
language sql immutable
return coalesce(on_rail.covered_until >= moment + railwatch.margin(on_rail, time_basis), false);
comment on function railwatch.covers is 'Whether no payment that counts as before the moment can still be unseen on a rail: the core''s Coverage.reaches.';

create or replace function railwatch.assess(known railwatch.invoices) returns text
language plpgsql stable as $$
declare
    standing text := coalesce(known.held_from, known.state);  -- what was decided before a hold still holds
    answer text;
begin
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
    ), counted as (
        select x.rail, x.asset, sum(x.amount) as amount from railwatch.detections x
        where x.invoice_id = known.id and x.state in ('confirmed', 'final') group by x.rail, x.asset
    ), returned as (
        select r.rail, r.asset, sum(r.amount) as amount, sum(r.surplus) as surplus, sum(r.waived) as waived
        from railwatch.refunds r where r.invoice_id = known.id group by r.rail, r.asset
    ), sums as (
        select d.rail, d.asset,
               greatest(1, d.expected_amount - div(d.expected_amount * known.tolerance_bps, 10000)) as least,
               d.expected_amount + div(d.expected_amount * known.tolerance_bps, 10000) as most,
               coalesce(sum(p.amount) filter (where p.timely), 0) as seen,
               coalesce(sum(p.amount) filter (where p.timely and p.counted), 0) as confirmed,
               coalesce(sum(p.amount) filter (where not p.timely), 0) as late,
               coalesce(sum(p.amount) filter (where not p.timely and p.counted), 0) as late_confirmed,
               coalesce(bool_or(p.in_block), false) as in_block
        from railwatch.destinations d left join payments p on p.destination_id = d.id
        where d.invoice_id = known.id and d.watch_state <> 'rejected'
        group by d.id
    ), judged as (
        -- What was given back is not there. Of a settled order the merchant may give back by choice (waived).
        select sums.*, r.amount is null or coalesce(c.amount, 0) - r.amount >= sums.least - r.waived as held,
               sums.most + coalesce(r.amount - r.surplus - r.waived, 0) as at_most
        from sums left join counted c using (rail, asset) left join returned r using (rail, asset)
    )
    select case
        when max(confirmed - at_most) filter (where confirmed >= least and held) > 0 then 'overpaid'
        when bool_or(confirmed >= least and held) then 'paid'
        when bool_or(confirmed + late_confirmed >= least and held) then 'late_paid'
        when bool_or(seen > confirmed or (late > late_confirmed and seen + late >= least))
            then case when bool_or(in_block) then 'confirming' else 'detected' end
        when bool_or(confirmed > 0) then 'underpaid'
    end into answer from judged;
    return coalesce(answer, case
        when standing = 'expired' then 'expired'
        when known.expires_at <= now() and not exists (
            select from railwatch.destinations d join railwatch.rails r on r.name = d.rail
            where d.invoice_id = known.id and d.watch_state <> 'rejected'
              and (d.watch_state = 'registered' or not railwatch.covers(r, known.expires_at, known.time_basis)))
             and not exists (select from railwatch.quarantine q where q.invoice_id = known.id)
            then 'expired'
        else 'created' end);
end $$;

insert into railwatch.rights (role, object, privileges)
values ('railwatch_daemon', 'function railwatch.margin', 'execute'),
       ('railwatch_daemon', 'function railwatch.covers', 'execute'),
       ('railwatch_daemon', 'function railwatch.notify', 'execute'),
       ('railwatch_deliverer', 'function railwatch.notify', 'execute'),
       ('railwatch_deliverer', 'function railwatch.refuse', 'execute');

-- Who closes an order expects nothing more of what a reorg had taken away by then; a hash is one refund however it is written.

create function railwatch.note_absent(invoice uuid, ended text) returns void
language sql as $$
    update railwatch.detections x set invoice_ended = ended
    where x.invoice_id = invoice and x.state = 'orphaned' and x.invoice_ended is null
      -- What was refunded may be what has vanished: then it is that which comes back.
      and coalesce((select sum(r.amount) from railwatch.refunds r
                    where r.invoice_id = x.invoice_id and r.rail = x.rail and r.asset = x.asset), 0)
       <= coalesce((select sum(there.amount) from railwatch.detections there
                    where there.invoice_id = x.invoice_id and there.rail = x.rail and there.asset = x.asset
                      and there.state in ('included', 'confirmed', 'final')), 0);
$$;
comment on function railwatch.note_absent is 'Part of acts that close an invoice: transfers that a reorg has taken away by then are expected no more, and are told when they come back.';

comment on column railwatch.detections.invoice_ended is 'The invoice''s state at first sight, or when it was closed while a reorg had taken the transfer away, if that was an end state.';

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
    perform railwatch.check_note(reason, 'reason', 1000);
    perform railwatch.parse_amount(to_jsonb(amount::text), 'refund');
    known := railwatch.lock_invoice(invoice);
    what := railwatch.refunded_asset(invoice, rail, asset);
    select * into earlier from railwatch.refunds r
    where r.invoice_id = invoice and r.rail = what.rail and r.asset = what.asset
      and (r.tx_id = record_refund.tx_id
           -- A hash is the same transaction however its digits are written.
           or (lower(r.tx_id) = lower(record_refund.tx_id) and record_refund.tx_id ~* '^(0x)?[0-9a-f]{64}$'));
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
    insert into railwatch.refunds (invoice_id, rail, asset, amount, tx_id, reason, actor, surplus, waived)
    select invoice, what.rail, what.asset, record_refund.amount, record_refund.tx_id, record_refund.reason,
           record_refund.actor, part.surplus, part.waived
    from railwatch.given_back(known, what.rail, what.asset, record_refund.amount) part
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
        perform railwatch.note_absent(invoice, 'refunded');
        perform railwatch.move_invoice(known, 'refunded', 'refunded', cause,
            jsonb_strip_nulls(told || jsonb_build_object('refund', made, 'held', known.held)));
    elsif now_whole.of_payments then
        perform railwatch.refuse('RW010', 'invoice ' || invoice || ' is ' || known.state || ' and cannot become refunded',
            'Its payment does not count yet, or no longer. Wait, or hold the invoice first: then a refund closes it for good.');
    end if;
    return made;
end $$;

create or replace function railwatch.cancel_invoice(
    invoice uuid, actor text default 'service', note text default null, cause text default 'service'
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    known railwatch.invoices;
    standing text;
begin
    perform railwatch.check_act(actor, cause);
    perform railwatch.check_note(note, 'note', 4000);
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
    perform railwatch.note_absent(invoice, 'cancelled');
    return railwatch.move_invoice(known, 'cancelled', 'cancelled', cause,
        jsonb_strip_nulls(jsonb_build_object('actor', actor, 'note', note)));
end $$;

-- What was made above is nobody's but those that the rights name.
select railwatch.grant_rights();

-- Content follows the chain, refunds are netted, and money belongs to its invoice's time. What a destination received is
-- kept as sums, so that one more payment costs no more than the first.

alter table railwatch.assets add column min_amount numeric(78, 0) not null default 0 check (min_amount >= 0);
comment on column railwatch.assets.min_amount is 'Base units. A smaller transfer is counted on its destination, and moves nothing.';

alter table railwatch.invoices add column accept_before int not null default 600 check (accept_before between 0 and 3600);
alter table railwatch.invoices add column held_from text;
comment on column railwatch.invoices.accept_before is 'Seconds. Money that came longer than this before created_at is unexpected.';
comment on column railwatch.invoices.held_from is 'The state that a hold took it from; null: it is not flagged.';
update railwatch.invoices i set held_from = (
    select t.from_state from railwatch.transitions t
    where t.invoice_id = i.id and t.subject = 'invoice' and t.to_state = 'flagged' order by t.seq desc limit 1)
where i.state = 'flagged';

alter table railwatch.destinations add column accepts_from timestamptz;
alter table railwatch.destinations add column tip_at_creation bigint;
alter table railwatch.destinations add column tallies jsonb not null default '[]';
alter table railwatch.destinations add column small_count bigint not null default 0;
alter table railwatch.destinations add column small_amount numeric not null default 0;
comment on column railwatch.destinations.accepts_from is 'A transfer from before this time is unexpected: created_at less accept_before, or created_at where the address had another invoice before.';
comment on column railwatch.destinations.tip_at_creation is 'The rail''s newest height at registration, if a daemon followed it then: a block above it is newer, whatever its timestamp says.';
comment on column railwatch.destinations.tallies is 'Not for readers: what the destination received, as sums by rail, asset, kind, state and timeliness. A test keeps it equal to the detections.';
comment on column railwatch.destinations.small_count is 'Transfers below the asset''s min_amount, as blocks showed them. They are counted and move nothing.';
comment on column railwatch.destinations.small_amount is 'Their sum in base units.';
update railwatch.destinations d set accepts_from = i.created_at - interval '10 minutes'
from railwatch.invoices i where i.id = d.invoice_id;
alter table railwatch.destinations alter column accepts_from set not null;
alter table railwatch.destinations alter column accepts_from set default '1970-01-01 00:00:00+00';
update railwatch.destinations d set tallies = known.tallies
from (
    select destination_id, jsonb_agg(jsonb_build_array(rail, asset, kind, state, in_time, amount::text, number)) as tallies
    from (
        select destination_id, rail, asset, kind, state, in_time, sum(amount) as amount, count(*) as number
        from railwatch.detections group by 1, 2, 3, 4, 5, 6) sums
    group by destination_id) known
where known.destination_id = d.id;

create index detections_replaced on railwatch.detections (invoice_id, first_seen_at) where state = 'replaced';
create index exceptions_detection on railwatch.exceptions (detection_id) where detection_id is not null;
create index exceptions_balance on railwatch.exceptions (invoice_id) where balance_id is not null;
create index exceptions_newest on railwatch.exceptions (invoice_id, kind, round) where detection_id is null and balance_id is null;

alter table railwatch.refunds add column surplus numeric(78, 0) not null default 0;
alter table railwatch.refunds add column waived numeric(78, 0) not null default 0;
comment on column railwatch.refunds.surplus is 'Base units of it that were more than the order asked for when it was recorded.';
comment on column railwatch.refunds.waived is 'Base units of it that were given back of a settled order by choice: the order does not ask for them again.';
-- What was given back of an order that is settled by now was given back by choice.
alter table railwatch.refunds disable trigger append_only;
update railwatch.refunds r set waived = r.amount from railwatch.invoices i
where i.id = r.invoice_id and coalesce(i.held_from, i.state) in ('paid', 'overpaid', 'late_paid');
alter table railwatch.refunds enable always trigger append_only;

drop function railwatch.touched;
create function railwatch.touched(
    on_rail text, cursor_reached bigint, finalized_reached bigint, fork bigint, displaced text[], of_family text,
    keys bytea[], txs text[]
) returns table (
    what text, detection_id uuid, invoice_id uuid, tx_id text, tx_index text, destination_id uuid, address_key bytea,
    rail text, asset text, reference text, open boolean, at timestamptz, accepts_from timestamptz, height bigint,
    block_hash text
)
language sql volatile as $$  -- volatile, so that it sees what was committed while its caller waited for the rail's row
    select 'due', d.id, d.invoice_id, null, null, null::uuid, null::bytea, null, null, null, null::boolean,
           null::timestamptz, null::timestamptz, null::bigint, null
    from railwatch.detections d
    where d.rail = on_rail and d.due_basis = 'depth' and d.due_height <= cursor_reached
    union all
    select 'due', d.id, d.invoice_id, null, null, null, null, null, null, null, null, null, null, null, null
    from railwatch.detections d
    where d.rail = on_rail and d.due_basis = 'finalized' and d.due_height <= finalized_reached
    union all
    select 'orphaned', d.id, d.invoice_id, null, null, null, null, null, null, null, null, null, null, null, null
    from railwatch.detections d
    where d.rail = on_rail and d.block_height > fork and d.state in ('included', 'confirmed')
    union all
    select 'rival', d.id, d.invoice_id, d.tx_id, null, null, null, null, null, null, null, null, null, null, null
    from unnest(displaced) t (tx_id)
    cross join lateral (
        select * from railwatch.detections d where d.rail = on_rail and d.tx_id = t.tx_id offset 0) d
    union all
    -- `open` says here that nothing can move the transfer any more.
    select 'known', d.id, d.invoice_id, d.tx_id, d.tx_index, d.destination_id, w.address_key, null, d.asset, null,
           d.state = 'final', null, null, null,
           case when d.state in ('included', 'confirmed', 'final') then d.block_hash end
    from unnest(txs) t (tx_id)
    cross join lateral (
        select * from railwatch.detections d where d.rail = on_rail and d.tx_id = t.tx_id offset 0) d
    join railwatch.destinations w on w.id = d.destination_id
    union all
    select 'candidate', null, i.id, null, null, d.id, d.address_key, d.rail, d.asset, d.reference,
           i.state in ('created', 'detected', 'confirming', 'underpaid', 'flagged'), i.created_at, d.accepts_from,
           d.tip_at_creation, null
    from unnest(keys) t (key)
    -- A plan that was made on empty tables must reach every column of the index too.
    cross join lateral (
        select * from railwatch.destinations d
        where d.family = of_family and d.address_key = t.key and d.watch_state not in ('rejected', 'closed') offset 0) d
    join railwatch.invoices i on i.id = d.invoice_id
$$;
comment on function railwatch.touched is 'Whom a step concerns: due, orphaned, displaced and known transfers, and holders of addresses.';

create or replace function railwatch.check_fields(request jsonb) returns void
language plpgsql immutable as $$
declare
    unknown text;
begin
    if jsonb_typeof(request) is distinct from 'object' then
        perform railwatch.refuse('RW001', 'create_invoice takes a JSON object');
    end if;
    select key into unknown from jsonb_object_keys(request) key
    where key not in ('merchant_id', 'order_id', 'expires_at', 'expires_in', 'destinations', 'policy', 'time_basis',
                      'tolerance_bps', 'fiat_amount', 'fiat_currency', 'rate_locked_at', 'closes_in', 'accept_before',
                      'metadata')
    limit 1;
    if unknown is not null then
        perform railwatch.refuse('RW001', 'unknown field "' || unknown || '"');
    end if;
    if coalesce(request ->> 'time_basis', 'first_seen') not in ('first_seen', 'block_time', 'confirmed') then
        perform railwatch.refuse('RW001', 'time_basis "' || (request ->> 'time_basis')
            || '" is not first_seen, block_time or confirmed');
    end if;
    if jsonb_typeof(request -> 'destinations') is distinct from 'array'
       or jsonb_array_length(request -> 'destinations') not between 1 and 20 then
        perform railwatch.refuse('RW001', 'destinations is not a list of 1 to 20 destinations');
    end if;
    if request ? 'policy' and jsonb_typeof(request -> 'policy') <> 'object' then
        perform railwatch.refuse('RW008', 'policy is not an object');
    end if;
    if request ? 'metadata' and jsonb_typeof(request -> 'metadata') <> 'object' then
        perform railwatch.refuse('RW001', 'metadata is not an object');
    end if;
    if request ? 'fiat_currency' and coalesce(request ->> 'fiat_currency', '') !~ '^[A-Z]{3,10}$' then
        perform railwatch.refuse('RW001', 'fiat_currency ' || (request -> 'fiat_currency')::text || ' is not a code such as "EUR"');
    end if;
    if request ? 'fiat_amount' and (request ->> 'fiat_amount') !~ '^[0-9]{1,30}([.][0-9]{1,8})?$' then
        perform railwatch.refuse('RW001', 'fiat_amount ' || (request -> 'fiat_amount')::text
            || ' is not a decimal of at most 8 places', 'Give a string such as "49.90".');
    end if;
end $$;

create or replace function railwatch.create_invoice(request jsonb) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    merchant text;
    order_no text;
    known railwatch.invoices;
    made railwatch.invoices;
    expiry timestamptz;
    closes_in bigint;
begin
    perform railwatch.check_fields(request);
    merchant := railwatch.parse_text(request, 'merchant_id');
    order_no := railwatch.parse_text(request, 'order_id');
    perform pg_advisory_xact_lock(hashtextextended('railwatch/order/' || merchant || '/' || order_no, 0));
    select * into known from railwatch.invoices where merchant_id = merchant and order_id = order_no;
    if found then
        if known.terms is distinct from railwatch.terms_of(request) then
            perform railwatch.refuse('RW006', 'order ' || order_no || ' of merchant ' || merchant
                || ' is registered with other terms, as invoice ' || known.id,
                'Registering the very same terms again returns that id; other terms need another order_id.');
        end if;
        return known.id;
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
    returning * into made;
    perform railwatch.create_destination(made, wish, place::int)
    from jsonb_array_elements(request -> 'destinations') with ordinality as wishes (wish, place);
    update railwatch.invoices
    set policy = (select policy from railwatch.destinations where invoice_id = made.id order by position limit 1)
    where id = made.id;
    perform railwatch.append_invoice_transition(made, null, 'created', 'service', '{}');
    perform pg_notify('railwatch_work', 'registered');
    return made.id;
end $$;

create or replace function railwatch.lock_invoice(invoice uuid) returns railwatch.invoices
language plpgsql as $$
declare
    known railwatch.invoices;
begin
    select * into known from railwatch.invoices where id = invoice for no key update;
    if not found then
        perform railwatch.refuse('RW009', 'there is no invoice ' || coalesce(invoice::text, '(null)'));
    end if;
    return known;
end $$;

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
              and (d.watch_state = 'registered' or r.covered_until is null or r.covered_until < known.expires_at))
            then 'expired'
        else 'created' end);
end $$;

create or replace function railwatch.move_invoice(
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
        held_from = case when target = 'flagged' then known.state end,
        settled_at = coalesce(settled_at, case when target in ('paid', 'overpaid', 'late_paid') then now() end)
    where id = known.id returning * into moved;
    perform railwatch.append_invoice_transition(moved, known.state, reason, cause, evidence);
    return target;
end $$;

create function railwatch.given_back(
    known railwatch.invoices, on_rail text, of_asset text, amount numeric, out surplus numeric, out waived numeric
)
language plpgsql stable as $$
declare
    excess numeric;
begin
    surplus := 0;
    waived := 0;
    if (case when known.state = 'flagged' then railwatch.assess(known) else known.state end)
       not in ('paid', 'overpaid', 'late_paid') then
        return;
    end if;
    with came as (
        select coalesce(sum(x.amount), 0) as amount from railwatch.detections x
        where x.invoice_id = known.id and x.rail = on_rail and x.asset = of_asset and x.state in ('confirmed', 'final')
    ), returned as (
        select coalesce(sum(r.amount - r.waived), 0) as amount from railwatch.refunds r
        where r.invoice_id = known.id and r.rail = on_rail and r.asset = of_asset
    )
    select max(came.amount - returned.amount
               - greatest(1, d.expected_amount - div(d.expected_amount * known.tolerance_bps, 10000)))
    into excess
    from railwatch.destinations d, came, returned
    where d.invoice_id = known.id and d.rail = on_rail and d.asset = of_asset and d.watch_state <> 'rejected';
    -- An order that another asset has settled asks for nothing here: excess is below zero, or null.
    if excess >= 0 then
        surplus := least(amount, excess);
        waived := amount - surplus;
    end if;
end $$;
comment on function railwatch.given_back is 'Part of record_refund: how much of it the order did not ask for, and how much of what it asked for is given back by choice.';

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
        perform railwatch.move_invoice(known, 'refunded', 'refunded', cause,
            jsonb_strip_nulls(told || jsonb_build_object('refund', made, 'held', known.held)));
    elsif now_whole.of_payments then
        perform railwatch.refuse('RW010', 'invoice ' || invoice || ' is ' || known.state || ' and cannot become refunded',
            'Its payment does not count yet, or no longer. Wait, or hold the invoice first: then a refund closes it for good.');
    end if;
    return made;
end $$;

insert into railwatch.rights (role, object, privileges)
values ('railwatch_daemon', 'railwatch.destinations', 'update (tallies, small_count, small_amount)');
select railwatch.grant_rights();

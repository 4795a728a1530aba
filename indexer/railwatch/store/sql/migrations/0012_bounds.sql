-- Values are bounded where they enter, an address stays its merchant's, and nobody else can hold what we lock.

-- The book of migrations stands in our own schema, where nobody else can make anything.
create table railwatch.migrations (
    version int primary key,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now()
);
comment on table railwatch.migrations is 'Which migrations have been applied here. A migrator locks this table.';
comment on column railwatch.migrations.version is 'The number in its file''s name.';
comment on column railwatch.migrations.name is 'The rest of that name.';
comment on column railwatch.migrations.checksum is 'SHA-256 of its text.';
comment on column railwatch.migrations.applied_at is 'When.';

insert into railwatch.migrations select version, name, checksum, applied_at from public.railwatch_migrations;
drop table public.railwatch_migrations;
update railwatch.rights set object = 'railwatch.migrations' where object = 'public.railwatch_migrations';

create table railwatch.address_locks (
    family text not null,
    address_folded text not null,
    primary key (family, address_folded)
);
comment on table railwatch.address_locks is 'One row for each address: who registers it holds the row to the commit, so that two registrations of it take turns.';
comment on column railwatch.address_locks.family is 'The address space.';
comment on column railwatch.address_locks.address_folded is 'The address as it is compared.';

-- A deliverer shall lock nothing that a daemon waits for, so what it holds stands in a table of its own.
create table railwatch.deliverer_lease (
    one boolean primary key default true check (one),
    holder text,
    token uuid,
    pid int,
    backend_start timestamptz,
    expires_at timestamptz
);
comment on table railwatch.deliverer_lease is 'Which deliverer posts webhooks. A table of its own, because whoever may change a table may lock all of it.';
comment on column railwatch.deliverer_lease.one is 'There is one row.';
comment on column railwatch.deliverer_lease.holder is 'Host and process of the holder; null: nobody has held it.';
comment on column railwatch.deliverer_lease.token is 'Random, and new each time it is acquired.';
comment on column railwatch.deliverer_lease.pid is 'The server process of the holder''s connection.';
comment on column railwatch.deliverer_lease.backend_start is 'When that process started.';
comment on column railwatch.deliverer_lease.expires_at is 'When others may take it, unless it is renewed.';
insert into railwatch.deliverer_lease (holder, token, pid, backend_start, expires_at)
select holder, token, pid, backend_start, expires_at from railwatch.locks where name = 'deliver';
delete from railwatch.locks where name = 'deliver';
alter table railwatch.locks drop column holder, drop column token, drop column pid, drop column backend_start, drop column expires_at;
comment on table railwatch.locks is 'What one daemon at a time may do. Rows, because readers, services and deliverers may not lock them.';
comment on column railwatch.locks.name is 'mirror: to write the configuration into tables, locked for one transaction.';
insert into railwatch.rights (role, object, privileges)
select role, 'railwatch.deliverer_lease', 'select'
from unnest(array['railwatch_daemon', 'railwatch_service', 'railwatch_reader']) as role;
insert into railwatch.rights (role, object, privileges) values ('railwatch_daemon', 'railwatch.deliverer_lease', 'update');

-- What was registered before there were bounds is brought within them. Nothing that anybody pays by changes.
update railwatch.invoices set expires_at = least(greatest(expires_at, '2009-01-01 00:00:00+00'), '2100-01-01 00:00:00+00')
where expires_at not between '2009-01-01 00:00:00+00' and '2100-01-01 00:00:00+00';
update railwatch.invoices set closes_at = least(greatest(closes_at, '2009-01-01 00:00:00+00'), '2120-01-01 00:00:00+00')
where closes_at not between '2009-01-01 00:00:00+00' and '2120-01-01 00:00:00+00';
update railwatch.invoices set rate_locked_at = null where rate_locked_at not between '2009-01-01 00:00:00+00' and '2100-01-01 00:00:00+00';
update railwatch.consumers set updated_at = now() where updated_at not between '2009-01-01 00:00:00+00' and '2120-01-01 00:00:00+00';
alter table railwatch.invoices
    add constraint invoices_expires_at_bounds check (expires_at between '2009-01-01 00:00:00+00' and '2100-01-01 00:00:00+00'),
    add constraint invoices_closes_at_bounds check (closes_at between '2009-01-01 00:00:00+00' and '2120-01-01 00:00:00+00'),
    add constraint invoices_rate_locked_at_bounds check (rate_locked_at between '2009-01-01 00:00:00+00' and '2100-01-01 00:00:00+00');
alter table railwatch.consumers
    add constraint consumers_updated_at_bounds check (updated_at between '2009-01-01 00:00:00+00' and '2120-01-01 00:00:00+00');

drop function railwatch.parse_text(jsonb, text);

create or replace function railwatch.touched(
    on_rail text, cursor_reached bigint, finalized_reached bigint, fork bigint, displaced text[], of_family text,
    keys bytea[], txs text[]
) returns table (
    what text, detection_id uuid, invoice_id uuid, tx_id text, tx_index text, destination_id uuid, address_key bytea,
    rail text, asset text, reference text, open boolean, at timestamptz, accepts_from timestamptz, height bigint,
    block_hash text
)
language sql volatile set search_path = pg_catalog, pg_temp as $$  -- volatile, so that it sees what was committed while its caller waited for the rail's row
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

create or replace function railwatch.refuse(code text, message text, hint text default null) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    -- What a caller gave stands in it: as much as a person can read, and nothing that moves a terminal's cursor.
    control constant text := '[\u0001-\u0009\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]';
begin
    raise exception using errcode = case when code ~ '^RW[0-9]{3}$' then code else 'RW001' end,
        message = regexp_replace(left(coalesce(message, ''), 2000), control, '?', 'g'),
        hint = regexp_replace(left(coalesce(hint, ''), 2000), control, '?', 'g');
end $$;
comment on function railwatch.refuse is 'Raise an error with a SQLSTATE of our own (class RW; listed in docs/contract.md).';

create or replace function railwatch.feed_instance() returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    -- A promoted standby, a restored snapshot and a crash all begin with a start of the server; a restored dump with new
    -- files. Neither needs rights to ask. A plain restart looks the same, and costs readers nothing.
    select extract(epoch from pg_postmaster_start_time()) || ' ' || pg_relation_filepath('railwatch.feed_position')
$$;
comment on function railwatch.feed_instance is 'Which run of which server this is, and on which files of the feed.';

create or replace function railwatch.begin_generation() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    -- As in next_seq: whoever holds this row and then does nothing is ended after ten seconds.
    if current_setting('idle_in_transaction_session_timeout')::interval not between '1 ms' and '10 s' then
        perform set_config('idle_in_transaction_session_timeout', '10s', true);
    end if;
    if new.generation = old.generation then
        new.generation := railwatch.generation_after(old.generation, railwatch.feed_instance());
    end if;
    new.instance := railwatch.feed_instance();
    insert into railwatch.feed_generations (number, generation, started_after)
    select coalesce(max(number), 0) + 1, new.generation, old.last_seq from railwatch.feed_generations;
    return new;
end $$;
comment on function railwatch.begin_generation is 'Write a generation down with the first line that another instance writes, or by itself.';

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
    perform pg_notify('railwatch', taken::text);
end $$;
comment on function railwatch.append_invoice_transition is 'Put an act of a service or an operator into the feed.';

create or replace function railwatch.create_destination(invoice railwatch.invoices, wish jsonb, place int) returns void
language plpgsql as $$
declare
    label text := 'destinations[' || place || ']';
    on_rail railwatch.rails;
    of_asset text;
    chosen jsonb;
    chosen_origin text;
    folded text;
    amount numeric;
    taken uuid;
    unknown text;
begin
    if jsonb_typeof(wish) is distinct from 'object' then
        perform railwatch.refuse('RW001', label || ' is not an object');
    end if;
    select key into unknown from jsonb_object_keys(wish) key
    where key not in ('rail', 'asset', 'address', 'amount', 'reference', 'derivation') limit 1;
    if unknown is not null then
        perform railwatch.refuse('RW001', label || ': unknown field "' || unknown || '"');
    end if;
    select * into on_rail from railwatch.rails where name = wish ->> 'rail' and enabled;
    if not found then
        perform railwatch.refuse('RW002', label || ': unknown rail ' || coalesce('"' || (wish ->> 'rail') || '"', '(none given)'),
            'Enabled rails: ' || coalesce((select string_agg(name, ', ' order by name) from railwatch.rails where enabled),
            'none yet; has the daemon been started with this database?'));
    end if;
    select id into of_asset from railwatch.assets
    where rail = on_rail.name and enabled
      and (symbol = wish ->> 'asset' or id = wish ->> 'asset' or (on_rail.fold_case and lower(id) = lower(wish ->> 'asset')))
    for share;  -- An asset that leaves the configuration waits for this order, and then goes on being looked for.
    if not found then
        perform railwatch.refuse('RW003', label || ': unknown asset ' || coalesce('"' || (wish ->> 'asset') || '"', '(none given)')
            || ' on rail ' || on_rail.name,
            'Configured there: ' || coalesce((select string_agg(symbol, ', ' order by symbol) from railwatch.assets
                                              where rail = on_rail.name and enabled), 'none'));
    end if;
    amount := railwatch.parse_amount(wish -> 'amount', label);
    perform railwatch.parse_text(wish, 'address', label || ': ');
    if wish ? 'derivation' then
        perform railwatch.parse_text(wish, 'derivation', label || ': ');
    end if;
    if wish ? 'reference' and not on_rail.has_references then
        perform railwatch.refuse('RW011', label || ': rail ' || on_rail.name || ' knows no references',
            'Leave it out, and derive a new address for each invoice.');
    end if;
    if wish ? 'reference' then
        perform railwatch.parse_text(wish, 'reference', label || ': ');
    end if;
    folded := case when on_rail.fold_case then lower(wish ->> 'address') else wish ->> 'address' end;
    if exists (select from railwatch.destinations d
               where d.invoice_id = invoice.id and d.rail = on_rail.name and d.asset = of_asset and d.address_folded = folded
                 and d.reference is not distinct from wish ->> 'reference') then
        perform railwatch.refuse('RW001', label || ': the same rail, asset, address and reference are there twice',
            'Ask for one amount at each.');
    end if;
    -- What reaches an address late belongs to the merchant whose customers were given it, for ever. A reference tells
    -- apart whom one address serves; without one, whatever arrives there unmarked is that merchant's.
    if exists (select from railwatch.destinations d join railwatch.invoices i on i.id = d.invoice_id
               where d.family = on_rail.family and d.address_folded = folded and i.merchant_id <> invoice.merchant_id
                 and d.watch_state <> 'rejected'
                 and (d.reference is null or d.reference = coalesce(wish ->> 'reference', d.reference))) then
        perform railwatch.refuse('RW007', label || ': address ' || (wish ->> 'address') || ' belongs to another merchant',
            'Derive a new address for each invoice. Once given to a merchant''s customers, an address stays that merchant''s.');
    end if;
    select i.id into taken
    from railwatch.destinations d join railwatch.invoices i on i.id = d.invoice_id
    where d.family = on_rail.family and d.address_folded = folded and d.reference is not distinct from wish ->> 'reference'
      and i.id <> invoice.id and d.watch_state not in ('rejected', 'closed')
      and i.state in ('created', 'detected', 'confirming', 'underpaid', 'flagged')
    limit 1;
    if found then
        perform railwatch.refuse('RW007', label || ': address ' || (wish ->> 'address') || ' belongs to open invoice ' || taken,
            'Derive a new address for each invoice.');
    end if;
    if invoice.terms ? 'policy' then
        chosen := railwatch.parse_policy(invoice.terms -> 'policy', on_rail);
        chosen_origin := 'invoice';
    else
        select policy, origin into chosen, chosen_origin
        from railwatch.resolve_policy(on_rail.name, of_asset, invoice.fiat_amount);
    end if;
    insert into railwatch.destinations
        (invoice_id, rail, asset, address, reference, derivation, expected_amount, policy, policy_origin, family,
         address_folded, position, accepts_from, tip_at_creation)
    values (invoice.id, on_rail.name, of_asset, wish ->> 'address', wish ->> 'reference', wish ->> 'derivation',
            amount, chosen, chosen_origin, on_rail.family, folded, place,
            -- Money that came to an address of an earlier invoice before this one was made is that invoice's.
            case when exists (select from railwatch.destinations d
                              where d.family = on_rail.family and d.address_folded = folded and d.invoice_id <> invoice.id
                                and d.reference is not distinct from wish ->> 'reference' and d.watch_state <> 'rejected')
                 then invoice.created_at else invoice.created_at - make_interval(secs => invoice.accept_before) end,
            case when on_rail.state = 'live' and exists (
                select from railwatch.leases l where l.rail = on_rail.name and l.expires_at > now())
                 then on_rail.tip_height end);
end $$;
comment on function railwatch.create_destination is 'Part of create_invoice: one destination, checked and resolved.';

create or replace function railwatch.parse_moment(value jsonb, field text) returns timestamptz
language plpgsql stable as $$
declare
    moment timestamptz;
begin
    if jsonb_typeof(value) is distinct from 'string'
       or (value #>> '{}') !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)$' then
        perform railwatch.refuse('RW005', field || ' ' || coalesce(value::text, '') || ' is not a time',
            'Give ISO 8601 with an offset, such as "2030-01-31T12:00:00Z".');
    end if;
    moment := (value #>> '{}')::timestamptz;
    if moment not between '2009-01-01 00:00:00+00' and now() + interval '20 years' then
        perform railwatch.refuse('RW005', field || ' ' || value::text || ' is before 2009, or more than 20 years ahead');
    end if;
    return moment;
exception when invalid_datetime_format or datetime_field_overflow or invalid_time_zone_displacement_value then
    perform railwatch.refuse('RW005', field || ' ' || value::text || ' is not a time',
        'Give ISO 8601 with an offset, such as "2030-01-31T12:00:00Z".');
end $$;
comment on function railwatch.parse_moment is 'Read a time, or say which field is none.';

create function railwatch.parse_text(request jsonb, field text, place text default '') returns text
language plpgsql immutable as $$
begin
    perform railwatch.check_text(case when jsonb_typeof(request -> field) = 'string' then request ->> field end, place || field, 200);
    return request ->> field;
end $$;
comment on function railwatch.parse_text is 'Read a required text, or say which field is none.';

create or replace function railwatch.check_fields(request jsonb) returns void
language plpgsql immutable as $$
declare
    unknown text;
begin
    if jsonb_typeof(request) is distinct from 'object' then
        perform railwatch.refuse('RW001', 'create_invoice takes a JSON object');
    end if;
    if octet_length(request::text) > 131072 then
        perform railwatch.refuse('RW001', 'the request has ' || octet_length(request::text) || ' bytes; at most 131072 are taken');
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
    if request ? 'policy' and (jsonb_typeof(request -> 'policy') <> 'object' or length((request -> 'policy')::text) > 200) then
        perform railwatch.refuse('RW008', 'policy is not an object of at most 200 characters');
    end if;
    if request ? 'metadata' then
        if jsonb_typeof(request -> 'metadata') <> 'object' then
            perform railwatch.refuse('RW001', 'metadata is not an object');
        end if;
        if octet_length((request -> 'metadata')::text) > 65536 or jsonb_path_exists(request -> 'metadata', '$.**{33}') then
            perform railwatch.refuse('RW001', 'metadata has more than 65536 bytes, or more than 32 levels',
                'Keep it with you, and give a key to it.');
        end if;
        if jsonb_path_exists(request -> 'metadata', '$.** ? (@ > 1e100 || @ < -1e100)') then
            perform railwatch.refuse('RW001', 'metadata holds a number beyond 1e100', 'Give it as a text.');
        end if;
    end if;
    if request ? 'fiat_currency' and coalesce(request ->> 'fiat_currency', '') !~ '^[A-Z]{3,10}$' then
        perform railwatch.refuse('RW001', 'fiat_currency ' || (request -> 'fiat_currency')::text || ' is not a code such as "EUR"');
    end if;
    if request ? 'fiat_amount' and (request ->> 'fiat_amount') !~ '^[0-9]{1,30}([.][0-9]{1,8})?$' then
        perform railwatch.refuse('RW001', 'fiat_amount ' || (request -> 'fiat_amount')::text
            || ' is not a decimal of at most 8 places', 'Give a string such as "49.90".');
    end if;
end $$;
comment on function railwatch.check_fields is 'Part of create_invoice: what can be refused before anything is written.';

create function railwatch.same_order(known railwatch.invoices, request jsonb) returns uuid
language plpgsql immutable as $$
begin
    if known.terms is distinct from railwatch.terms_of(request) then
        perform railwatch.refuse('RW006', 'order ' || known.order_id || ' of merchant ' || known.merchant_id
            || ' is registered with other terms, as invoice ' || known.id,
            'Registering the very same terms again returns that id; other terms need another order_id.');
    end if;
    return known.id;
end $$;
comment on function railwatch.same_order is 'Part of create_invoice: the id of an order that is registered already, if the terms are the same.';

create function railwatch.lock_addresses(requests jsonb[]) returns void
language plpgsql as $$
declare
    only_one jsonb := requests[1] -> 'destinations';
begin
    -- Two registrations of one address wait for each other here, in one order of addresses; the later then sees the earlier.
    if cardinality(requests) = 1 and jsonb_typeof(only_one) = 'array' and only_one -> 1 is null then
        -- Most orders have one destination. The sort below would cost them a quarter of all that create_invoice does.
        insert into railwatch.address_locks as held (family, address_folded)
        select r.family, case when r.fold_case then lower(only_one -> 0 ->> 'address') else only_one -> 0 ->> 'address' end
        from railwatch.rails r
        where r.name = only_one -> 0 ->> 'rail' and length(only_one -> 0 ->> 'address') between 1 and 200
        on conflict (family, address_folded) do update set family = held.family;
        return;
    end if;
    insert into railwatch.address_locks as held (family, address_folded)
    select distinct r.family, case when r.fold_case then lower(wish ->> 'address') else wish ->> 'address' end as folded
    from unnest(requests) each
    cross join lateral jsonb_array_elements(
        case when jsonb_typeof(each -> 'destinations') = 'array' then each -> 'destinations' else '[]' end) wish
    join railwatch.rails r on r.name = wish ->> 'rail'
    where length(wish ->> 'address') between 1 and 200
    order by 1, 2
    on conflict (family, address_folded) do update set family = held.family;
end $$;
comment on function railwatch.lock_addresses is 'Part of create_invoice and create_invoices: hold the addresses of requests to the commit.';

create function railwatch.register_invoice(request jsonb) returns uuid
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
    perform pg_notify('railwatch_work', 'registered');
    return made.id;
end $$;
comment on function railwatch.register_invoice is 'Part of create_invoice and create_invoices, which hold the addresses before.';

create or replace function railwatch.create_invoice(request jsonb) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform railwatch.check_fields(request);
    perform railwatch.lock_addresses(array[request]);
    return railwatch.register_invoice(request);
end $$;
comment on function railwatch.create_invoice is 'Register an invoice and return its id. The same order with the same terms returns the same id. Errors: docs/contract.md.';

create or replace function railwatch.create_invoices(requests jsonb[]) returns setof uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    wish record;
    made uuid[];
begin
    if coalesce(cardinality(requests), 0) not between 1 and 1000 then
        perform railwatch.refuse('RW001', 'create_invoices takes 1 to 1000 requests');
    end if;
    perform railwatch.check_fields(each) from unnest(requests) each;
    -- Whatever order the requests come in, addresses and then orders are taken in one order: nobody waits in a circle.
    perform railwatch.lock_addresses(requests);
    for wish in
        select given.request, given.place::int from unnest(requests) with ordinality as given (request, place)
        order by given.request ->> 'merchant_id', given.request ->> 'order_id', given.place
    loop
        made[wish.place] := railwatch.register_invoice(wish.request);
    end loop;
    return query select unnest(made);
end $$;
comment on function railwatch.create_invoices is 'Register many invoices in one commit, all or none, and return their ids in order. One wait for the feed instead of many.';

create function railwatch.may_act_as_operator() returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select pg_has_role(session_user, (select nspowner from pg_namespace where nspname = 'railwatch'), 'usage')
           or exists (select from pg_roles where rolname in ('railwatch_operator', 'railwatch_daemon') and pg_has_role(session_user, oid, 'usage'))
$$;
comment on function railwatch.may_act_as_operator is 'Whether the login''s acts may stand in the feed as an operator''s.';

create or replace function railwatch.check_act(actor text, cause text) returns void
language plpgsql stable as $$
begin
    if actor is null then
        perform railwatch.refuse('RW001', 'actor is missing, or not a text of 1 to 200 characters',
            'Say who does this: the name of a person or a service.');
    end if;
    perform railwatch.check_text(actor, 'actor', 200);
    if cause is null or cause not in ('service', 'operator') then
        perform railwatch.refuse('RW001', 'cause ' || coalesce('"' || cause || '"', '(null)') || ' is not service or operator');
    end if;
    if cause = 'operator' and not railwatch.may_act_as_operator() then
        perform railwatch.refuse('RW024', 'login ' || session_user || ' acts as a service, and not as an operator',
            'Leave cause out, or make the login a member of railwatch_operator.');
    end if;
end $$;
comment on function railwatch.check_act is 'Part of every manual act: somebody does it, as a service or as an operator.';

create or replace function railwatch.check_text(value text, field text, longest int) returns void
language plpgsql immutable as $$
begin
    if value is null or length(value) not between 1 and longest then
        perform railwatch.refuse('RW001', field || ' is missing, or not a text of 1 to ' || longest || ' characters');
    end if;
    if value ~ '[\u0001-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]' then
        perform railwatch.refuse('RW001', field || ' holds a control character', 'Names are shown to people: letters, digits, signs and blanks.');
    end if;
end $$;
comment on function railwatch.check_text is 'A required text of one line, or the field that is none.';

create function railwatch.check_note(value text, field text, longest int) returns void
language plpgsql immutable as $$
begin
    if length(value) > longest then
        perform railwatch.refuse('RW001', field || ' has ' || length(value) || ' characters; at most ' || longest || ' are taken');
    end if;
    if value ~ '[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]' then
        perform railwatch.refuse('RW001', field || ' holds a control character', 'Line feeds and tabs are taken, others are not.');
    end if;
end $$;
comment on function railwatch.check_note is 'An optional text of several lines, or the field that is none.';

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
    perform pg_notify('railwatch', taken::text);
end $$;
comment on function railwatch.append_act is 'Put an act that is not about an invoice''s state into the feed.';

create or replace function railwatch.hold_invoice(invoice uuid, actor text, reason text, cause text default 'service') returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    known railwatch.invoices;
begin
    perform railwatch.check_act(actor, cause);
    if reason is null or reason = '' then
        perform railwatch.refuse('RW001', 'reason is missing, or not a text of 1 to 1000 characters');
    end if;
    perform railwatch.check_note(reason, 'reason', 1000);
    known := railwatch.lock_invoice(invoice);
    if known.state = 'flagged' then
        return known.state;
    end if;
    return railwatch.move_invoice(known, 'flagged', 'held', cause,
        jsonb_build_object('actor', actor, 'reason', reason), hold => reason);
end $$;
comment on function railwatch.hold_invoice is 'Hold an invoice: it is flagged until somebody releases it, whatever the chain says. Holding twice is harmless.';

create or replace function railwatch.release_invoice(
    invoice uuid, actor text, reason text default null, cause text default 'service'
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    known railwatch.invoices;
begin
    perform railwatch.check_act(actor, cause);
    perform railwatch.check_note(reason, 'reason', 1000);
    known := railwatch.lock_invoice(invoice);
    if known.state <> 'flagged' then
        return known.state;
    end if;
    return railwatch.move_invoice(known, railwatch.assess(known), 'released', cause,
        jsonb_strip_nulls(jsonb_build_object('actor', actor, 'reason', reason, 'held', known.held)));
end $$;
comment on function railwatch.release_invoice is 'End a hold: the invoice takes the state that the facts demand by now, and that is returned. Releasing twice is harmless.';

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
comment on function railwatch.record_refund is 'Record what was given back. When nothing of the customer''s is left the invoice is refunded. The same transaction again is harmless.';

create or replace function railwatch.record_settlement(
    invoice uuid, reference text, actor text, note text default null, cause text default 'service'
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    made uuid;
begin
    perform railwatch.check_act(actor, cause);
    perform railwatch.check_text(reference, 'reference', 200);
    perform railwatch.check_note(note, 'note', 4000);
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

create or replace function railwatch.resolve_exception(
    exception_id uuid, actor text, resolution text, note text default null, cause text default 'service',
    verdict text default null
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    known railwatch.exceptions;
    through railwatch.detections;
begin
    perform railwatch.check_act(actor, cause);
    perform railwatch.check_text(resolution, 'resolution', 1000);
    perform railwatch.check_note(note, 'note', 4000);
    if resolution = 'made good' then
        perform railwatch.refuse('RW001', 'the resolution "made good" is the chain''s own', 'Say what was decided.');
    end if;
    known := railwatch.lock_exception(exception_id);
    if known.resolved_at is not null then
        return coalesce(known.resolution, 'resolved');
    end if;
    if (known.kind = 'content_mismatch') <> (verdict is not null) or verdict not in ('accepted', 'rejected') then
        perform railwatch.refuse('RW001', case when known.kind = 'content_mismatch'
            then 'a content_mismatch is resolved with a verdict, accepted or rejected'
            else 'a verdict is given on a content_mismatch, and not on ' || known.kind end,
            'accepted: the payment stands as it was first told, and becomes final. rejected: it is dropped.');
    end if;
    -- The daemon follows it with the rail's next block.
    update railwatch.detections x set second_look = verdict, due_basis = 'depth', due_height = 0
    where verdict is not null and x.id = known.detection_id and x.second_look = 'mismatch' and x.looked_at_block = x.block_hash
      and x.state in ('included', 'confirmed');
    update railwatch.exceptions e
    set resolved_at = now(), resolution = resolve_exception.resolution, owner = coalesce(e.owner, actor),
        notes = railwatch.add_note(e.notes, actor, note)
    where e.id = exception_id;
    select * into through from railwatch.detections x where x.id = known.detection_id;
    perform railwatch.append_act('exception', exception_id, known.invoice_id, 'open', 'resolved', known.kind, cause,
        through.rail, through.tx_id, jsonb_build_object('actor', actor, 'resolution', resolution, 'note', note, 'verdict', verdict,
            'transfers', case when known.destination_id is not null then known.transfers end,
            'sum', case when known.destination_id is not null then known.amount::text end));
    return resolution;
end $$;
comment on function railwatch.resolve_exception is 'Close an exception by a person''s word. It stays closed while the facts stand. Resolving twice is harmless: the first word counts. A content_mismatch takes a verdict: accepted (the payment becomes final) or rejected (it is dropped).';

create or replace function railwatch.annotate_exception(
    exception_id uuid, actor text, note text default null, owner text default null
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform railwatch.check_act(actor, 'service');
    if note is null and owner is null then
        perform railwatch.refuse('RW001', 'give a note, an owner or both');
    end if;
    perform railwatch.check_note(note, 'note', 4000);
    if owner is not null then
        perform railwatch.check_text(owner, 'owner', 200);
    end if;
    perform railwatch.lock_exception(exception_id);
    update railwatch.exceptions e
    set owner = coalesce(annotate_exception.owner, e.owner),
        notes = railwatch.add_note(
            railwatch.add_note(e.notes, actor, 'owner: ' || coalesce(e.owner, 'nobody') || ' -> ' || annotate_exception.owner), actor, note)
    where e.id = exception_id;
end $$;
comment on function railwatch.annotate_exception is 'Say who looks at an exception, or what was found out. Notes are added, never replaced.';

create or replace function railwatch.add_note(notes text, actor text, note text) returns text
language plpgsql stable as $$
declare
    longer text := concat_ws(E'\n', notes, to_char(now() at time zone 'UTC', 'YYYY-MM-DD HH24:MI') || ' ' || actor || ': ' || note);
begin
    if coalesce(note, '') = '' then
        return notes;
    end if;
    if length(longer) > 100000 then
        perform railwatch.refuse('RW001', 'the exception''s notes would have ' || length(longer) || ' characters; at most 100000 are kept',
            'Keep what is long elsewhere, and note where it is.');
    end if;
    return longer;
end $$;
comment on function railwatch.add_note is 'Notes with one more line: when, who, what.';

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
    return railwatch.move_invoice(known, 'cancelled', 'cancelled', cause,
        jsonb_strip_nulls(jsonb_build_object('actor', actor, 'note', note)));
end $$;
comment on function railwatch.cancel_invoice is 'Withdraw an invoice that is not paid and has nothing on its way; its address stays watched. Cancelling twice is harmless.';

create or replace function railwatch.lock_consumer(consumer text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    known railwatch.consumers;
begin
    if consumer is null or length(consumer) not between 1 and 200 or consumer like 'webhook:%' then
        perform railwatch.refuse('RW001', 'a consumer''s name is a text of 1 to 200 characters that does not begin with "webhook:"');
    end if;
    perform railwatch.check_text(consumer, 'the consumer''s name', 200);
    select * into known from railwatch.consumers c where c.name = consumer for update;
    if not found then
        if (select count(*) from railwatch.consumers) >= 200 then
            perform railwatch.refuse('RW022', 'there are 200 consumers already, and no ' || consumer || ' among them',
                'Is the name made anew at each start? An operator deletes rows of railwatch.consumers that nobody uses.');
        end if;
        if (select count(*) from railwatch.consumers where owner = session_user) >= 50 then
            perform railwatch.refuse('RW022', 'login ' || session_user || ' has 50 consumers already, and no ' || consumer || ' among them',
                'Is the name made anew at each start? An operator deletes rows of railwatch.consumers that nobody uses.');
        end if;
        insert into railwatch.consumers (name, position, generation, owner)
        values (consumer, 0, railwatch.feed_generation(), session_user) on conflict do nothing;
        select * into known from railwatch.consumers c where c.name = consumer for update;
    end if;
    if known.owner is null then
        update railwatch.consumers set owner = session_user where name = consumer;
    elsif known.owner <> session_user
          and not pg_has_role(session_user, (select nspowner from pg_namespace where nspname = 'railwatch'), 'usage') then
        perform railwatch.refuse('RW021', 'consumer ' || consumer || ' belongs to the login ' || known.owner || ', not to ' || session_user,
            'Use a name of your own.');
    end if;
    return known.position;
end $$;
comment on function railwatch.lock_consumer is 'Hold a consumer to the commit, so that two copies of a reader take turns. Returns its position; a new one begins at 0.';

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
    perform pg_notify('railwatch_work', 'rescan');
    return made;
end $$;
comment on function railwatch.request_rescan is 'Ask the daemon to look through blocks again, both ends inclusive. What is known stays as it is. A rail has one open request: a second one widens it, and returns the same id.';

create or replace function railwatch.display(amount numeric, decimals int) returns numeric
language sql immutable
return case when decimals between 0 and 255 and amount not in ('NaN', 'Infinity', '-Infinity')
            then trim_scale((trunc(amount)::text || 'e-' || decimals)::numeric) end;
comment on function railwatch.display is 'Base units in display units, exactly; null where the decimals are not known.';

create or replace function railwatch.customer_state(state text, settled_at timestamptz) returns text
language sql immutable
return case
    when state = 'created' then case when settled_at is null then 'waiting' else 'issue' end
    when state = 'detected' then 'received'
    when state = 'confirming' then 'confirming'
    when state in ('paid', 'overpaid') then 'complete'
    else 'issue' end;
comment on function railwatch.customer_state is 'What a customer is told of a state: waiting, received, confirming, complete or issue.';

create or replace function railwatch.state_now(on_rail railwatch.rails) returns text
language sql stable
-- What the row says is true while somebody follows the rail. A halted one is halted until a person acts.
return case when on_rail.state = 'halted' then 'halted'
            when exists (select from railwatch.leases l where l.rail = on_rail.name and l.expires_at > now())
            then on_rail.state else 'not followed' end;
comment on function railwatch.state_now is 'How a rail is: its state, or "not followed" while no daemon holds its lease.';

create or replace function railwatch.find_orders(what text)
returns table (found_by text, invoice_id uuid, merchant_id text, order_id text, state text, customer_state text)
language sql stable set search_path = pg_catalog, pg_temp as $$
    select hit.found_by, o.invoice_id, o.merchant_id, o.order_id, o.state, o.customer_state
    from (
        select 'invoice' as found_by, i.id from railwatch.invoices i
        where i.id = case when what ~* '^[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}$' then what::uuid end
        union
        select 'order', i.id from railwatch.invoices i where i.order_id = what
        union
        select 'order', i.id
        -- A merchant and an order have at most 200 characters each. What is longer is no name, and is not cut up.
        from generate_series(1, case when length(what) <= 401 then length(what) end) cut
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

create or replace function railwatch.refuse_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform railwatch.refuse('RW015', tg_table_name || ' is append-only: nothing in it is changed or deleted',
        'What turned out wrong is followed by what is right.');
    return null;
end $$;
comment on function railwatch.refuse_change is 'Keeps a table append-only, also for its owner.';

create or replace function railwatch.require_line() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
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

create or replace function railwatch.event_type(subject text, to_state text, reason text) returns text
language sql immutable
-- A reversal has a type of its own: an invoice that fell back to created must not pass for a new one. If only a surplus
-- was taken back, the invoice is settled as before, and nothing has to be stopped.
return case when subject = 'invoice' and reason = 'reversed' and to_state not in ('paid', 'overpaid', 'late_paid')
            then 'invoice.reversed'
            when subject = 'exception' then concat_ws('.', subject, to_state, reason)
            else concat_ws('.', subject, to_state) end;
comment on function railwatch.event_type is 'What a webhook calls a transition: invoice.paid, invoice.reversed, detection.final, exception.open.underpaid ...';

create or replace function railwatch.grant_rights() returns text[]
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
            execute format('grant %s on %s to %I', given.privileges, given.object, of_role);
        end loop;
    end loop;
    begin
        if not missing && array['railwatch_operator', 'railwatch_service'] and not pg_has_role('railwatch_operator', 'railwatch_service', 'member') then
            grant railwatch_service to railwatch_operator;
        end if;
    exception when insufficient_privilege then
        raise warning '% may not make railwatch_operator a member of railwatch_service', current_user
            using hint = 'As a superuser: grant railwatch_service to railwatch_operator;';
    end;
    return missing;
end $$;
comment on function railwatch.grant_rights is 'Make the roles, where that may be done, and give them what the table rights says. Returns the roles that are missing. Doing it again is harmless.';

create or replace function railwatch.set_aside(on_rail text, invoice uuid, why text, retry_in float8) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    nth int;
    made uuid;
begin
    if not exists (select from railwatch.rails r where r.name = on_rail) then
        perform railwatch.refuse('RW002', 'unknown rail "' || coalesce(on_rail, '') || '"');
    end if;
    -- It is not locked: this step may hold the feed already, for which whoever holds the invoice may wait.
    if not exists (select from railwatch.invoices i where i.id = set_aside.invoice) then
        perform railwatch.refuse('RW009', 'there is no invoice ' || coalesce(invoice::text, '(null)'));
    end if;
    why := left(coalesce(why, ''), 4000);
    -- NaN and null are no pause either: it is tried again within a day.
    insert into railwatch.quarantine (rail, invoice_id, reason, retry_at)
    values (on_rail, invoice, why, now() + make_interval(secs => greatest(0, least(retry_in, 86400))))
    on conflict (invoice_id, rail) do update set reason = excluded.reason, retry_at = excluded.retry_at;
    -- One exception, on however many rails the invoice cannot be processed.
    if exists (select from railwatch.exceptions e
               where e.kind = 'processing_failed' and e.invoice_id = set_aside.invoice and e.ended_at is null) then
        return;
    end if;
    select coalesce(max(e.round), 0) + 1 into nth from railwatch.exceptions e
    where e.invoice_id = set_aside.invoice and e.kind = 'processing_failed';
    made := md5('railwatch/processing_failed/' || invoice || '/' || nth)::uuid;
    insert into railwatch.exceptions (id, invoice_id, kind, severity, round)
    values (made, invoice, 'processing_failed', 'critical', nth);
    perform railwatch.append_act('exception', made, invoice, null, 'open', 'processing_failed', 'chain', on_rail, null,
        jsonb_build_object('why', why));
end $$;
comment on function railwatch.set_aside is 'Put an invoice into quarantine on a rail, and open processing_failed. Only the daemon calls it, within the step that could not process it.';

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
    perform pg_notify('railwatch_work', 'resume');
    return made;
end $$;
comment on function railwatch.accept_chain is 'Let a rail that a DeepReorg has halted follow the other chain: the daemon takes back everything above the fork, once, also what was final, and tells it. A decision of a person, which is written down.';

-- What a deliverer reads to make an event, and what it writes: nothing that the feed tells.
insert into railwatch.rights (role, object, privileges)
select 'railwatch_deliverer', object, privileges
from (values
    ('usage', array['schema railwatch']),
    ('select', array['railwatch.migrations', 'railwatch.rails', 'railwatch.settings', 'railwatch.transitions', 'railwatch.feed_position',
        'railwatch.feed_generations', 'railwatch.invoices', 'railwatch.destinations', 'railwatch.detections', 'railwatch.assets',
        'railwatch.refunds', 'railwatch.settlements', 'railwatch.exceptions', 'railwatch.exception_transfers',
        'railwatch.deliverer_lease']),
    ('select, insert, update, delete', array['railwatch.webhook_endpoints', 'railwatch.webhook_deliveries']),
    ('update', array['railwatch.deliverer_lease']),
    ('execute', array['function railwatch.event_type', 'function railwatch.feed_generation', 'function railwatch.note_generation',
        'function railwatch.feed_check', 'function railwatch.customer_state', 'function railwatch.is_backend_alive'])
) as given (privileges, objects), unnest(objects) as object;
-- An operator is a service whose acts may stand in the feed as a person's, and who lets a halted rail go on.
insert into railwatch.rights (role, object, privileges)
values ('railwatch_operator', 'schema railwatch', 'usage'),
       ('railwatch_operator', 'function railwatch.resume_rail', 'execute'),
       ('railwatch_operator', 'function railwatch.accept_chain', 'execute'),
       ('railwatch_operator', 'railwatch.consumers', 'delete');

comment on column railwatch.rights.role is 'railwatch_daemon, railwatch_deliverer, railwatch_operator, railwatch_service or railwatch_reader.';

-- The feed's counter: one entry of its index for each version of the row, so that the newest is found without reading those
-- that an old snapshot (a backup) keeps. With 10,000 of them a seq read 129 pages, under the lock of every writer.
alter table railwatch.feed_position drop constraint feed_position_pkey, alter one set not null, add primary key (last_seq);
alter table railwatch.feed_position set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
comment on column railwatch.feed_position.last_seq is 'The last seq that was given out. Ask feed_end().';

create or replace function railwatch.feed_end() returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
    select last_seq from railwatch.feed_position order by last_seq desc limit 1
$$;
comment on function railwatch.feed_end is 'The feed''s last seq, whatever a backup keeps of older ones.';

create or replace function railwatch.feed_generation() returns uuid
language sql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
    -- A standby shows what its primary wrote. Whoever is promoted is a new instance, from the first question on.
    select case when p.instance is distinct from railwatch.feed_instance() and not pg_is_in_recovery()
                then railwatch.generation_after(p.generation, railwatch.feed_instance()) else p.generation end
    from railwatch.feed_position p order by p.last_seq desc limit 1
$$;
comment on function railwatch.feed_generation is 'The feed''s generation: another one after every failover, restore or restart. Readers keep it beside their position.';

create or replace function railwatch.note_generation() returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
begin
    update railwatch.feed_position set last_seq = last_seq
    where last_seq >= railwatch.feed_end() and instance is distinct from railwatch.feed_instance();
    return (select p.generation from railwatch.feed_position p order by p.last_seq desc limit 1);
end $$;
comment on function railwatch.note_generation is 'Write down that the server is another one than the last, if it is. Daemon and deliverer call it every few seconds.';

create or replace function railwatch.renew_feed(last_common bigint) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
    newest bigint;
    made uuid;
begin
    update railwatch.feed_position set generation = gen_random_uuid() where last_seq >= railwatch.feed_end()
    returning last_seq, generation into newest, made;
    if last_common is null or last_common not between 0 and newest then
        perform railwatch.refuse('RW001', 'renew_feed(' || coalesce(last_common::text, 'null')
            || '): give the last seq that is the same as before, from 0 to ' || newest);
    end if;
    update railwatch.feed_generations set started_after = last_common where started_after > last_common;
    return made;
end $$;
comment on function railwatch.renew_feed is 'Begin a generation by hand, where the feed went back and Postgres cannot tell. Every reader goes back to last_common.';

create or replace function railwatch.feed_check(generation uuid, seq bigint, event_id uuid) returns bigint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    newest bigint := railwatch.feed_end();
    known railwatch.feed_generations;
    common bigint;
begin
    if feed_check.seq is null or feed_check.seq < 0 then
        perform railwatch.refuse('RW001', 'feed_check takes a seq of at least 0');
    end if;
    select * into known from railwatch.feed_generations g where g.generation = feed_check.generation;
    if found then
        -- The generation that followed began where the two may part: up to there they are one.
        common := (select g.started_after from railwatch.feed_generations g where g.number = known.number + 1);
    elsif feed_check.generation <> railwatch.feed_generation() then
        return 0;
    end if;
    if common is null then
        common := newest;
    end if;
    if feed_check.seq > common then
        -- Beyond the end of a generation that nobody has left: it went back, and nothing tells how far.
        return case when known.generation = railwatch.feed_generation() then known.started_after else common end;
    end if;
    if feed_check.seq > 0 and feed_check.event_id is not null and not exists (
        select from railwatch.transitions t where t.seq = feed_check.seq and t.event_id = feed_check.event_id) then
        return least(feed_check.seq, coalesce(known.started_after, 0));
    end if;
    return feed_check.seq;
end $$;
comment on function railwatch.feed_check is 'The seq that a reader goes on from, given its last line: the same where all is well, else the last that is surely common.';

create or replace function railwatch.next_seq(how_many int) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
    first bigint;
begin
    if how_many is null or how_many not between 0 and 100000000 then
        perform railwatch.refuse('RW001', 'next_seq(' || coalesce(how_many::text, 'null') || '): at most 10^8 seqs are taken at once');
    end if;
    -- Whoever holds the counter and then does nothing holds up everybody: such a session ends after ten seconds.
    if current_setting('idle_in_transaction_session_timeout')::interval not between '1 ms' and '10 s' then
        perform set_config('idle_in_transaction_session_timeout', '10s', true);
    end if;
    -- A line that somebody has read must not be lost by a crash, however the server is tuned.
    if current_setting('synchronous_commit') = 'off' then
        perform set_config('synchronous_commit', 'on', true);
    end if;
    -- By the newest version's place in the index, and at or above it: who had to wait finds the row moved on by then.
    update railwatch.feed_position set last_seq = last_seq + how_many
    where last_seq >= (select p.last_seq from railwatch.feed_position p order by p.last_seq desc limit 1)
    returning last_seq - how_many + 1 into first;
    return first;
end $$;
comment on function railwatch.next_seq is 'Take seqs for the feed: the first of them. Call it last, it holds up every other writer to the commit.';

create or replace function railwatch.ack(consumer text, seq bigint, generation uuid default null) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    newest bigint := railwatch.feed_end();
    present uuid := railwatch.feed_generation();
    reached bigint;
begin
    if ack.generation is distinct from present and ack.generation is not null and ack.seq >= 0 then
        perform railwatch.refuse('RW020', 'ack(' || coalesce(consumer, 'null') || ', ' || ack.seq
            || '): the position is from another generation of the feed, which has gone back since',
            'Go on from seq ' || railwatch.feed_check(ack.generation, ack.seq, null) || ': docs/contract.md, "The feed''s generation".');
    end if;
    if ack.seq is null or ack.seq < 0 or ack.seq > newest then
        perform railwatch.refuse('RW001', 'ack(' || coalesce(consumer, 'null') || ', ' || coalesce(ack.seq::text, 'null')
            || '): give a name, and a seq that the feed has reached (' || newest || ')');
    end if;
    perform railwatch.lock_consumer(consumer);
    update railwatch.consumers c
    set position = greatest(c.position, ack.seq), generation = present, updated_at = now()
    where c.name = consumer returning c.position into reached;
    return reached;
end $$;
comment on function railwatch.ack is 'Remember how far a consumer has come; never goes back. Returns the position.';

create or replace view railwatch.consumer_lag as
select c.name, c.position, f.last_seq - c.position as lag,
       (select t.recorded_at from railwatch.transitions t where t.seq = c.position + 1) as waiting_since, c.updated_at
from (
    select name, position, updated_at from railwatch.consumers
    union all
    select 'webhook:' || name, position, moved_at from railwatch.webhook_endpoints
) c, railwatch.feed_end() as f (last_seq);

create or replace function railwatch.given_back(
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

-- A hold that is released within a rail's margin must not end a window that the clock would not end.
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
              and (d.watch_state = 'registered' or r.covered_until is null
                   or r.covered_until < known.expires_at + case when known.time_basis = 'first_seen'
                                                                then r.sight_margin else r.time_margin end))
             and not exists (select from railwatch.quarantine q where q.invoice_id = known.id)
            then 'expired'
        else 'created' end);
end $$;

-- Whoever looks for an address's holders must not go by this one, which knows the family only: a plan that was made on
-- empty tables could, for `address_key is not null` follows from any comparison with the key.
drop index railwatch.destinations_keyed;
create index destinations_keyed on railwatch.destinations (family, keyed_seq) where keyed_seq is not null;

insert into railwatch.rights (role, object, privileges)
select role, 'function railwatch.feed_end', 'execute'
from unnest(array['railwatch_daemon', 'railwatch_deliverer', 'railwatch_service', 'railwatch_reader']) as role;

select railwatch.grant_rights();

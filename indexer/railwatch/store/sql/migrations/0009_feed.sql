-- The feed has a generation, so that no reader is fooled by a failover; consumers belong to their logins.

alter table railwatch.feed_position add generation uuid not null default gen_random_uuid(), add instance text;
comment on column railwatch.feed_position.generation is 'The feed''s generation when it was last written to. Ask feed_generation().';
comment on column railwatch.feed_position.instance is 'Which run of which server wrote it last, as feed_instance() tells. Another one begins a generation.';

create table railwatch.feed_generations (
    number bigint primary key,
    generation uuid not null unique,
    started_after bigint not null,
    started_at timestamptz not null default now()
);
create index feed_generations_after on railwatch.feed_generations (started_after, number);
insert into railwatch.feed_generations (number, generation, started_after) select 1, generation, 0 from railwatch.feed_position;
comment on table railwatch.feed_generations is 'Each time from which the feed may have gone on differently: after a failover, a restore, a restart.';
comment on column railwatch.feed_generations.number is 'In their order, from 1.';
comment on column railwatch.feed_generations.generation is 'What a reader keeps beside its position.';
comment on column railwatch.feed_generations.started_after is 'The last seq before it: up to there the feed is the same for readers of the generation before.';
comment on column railwatch.feed_generations.started_at is 'The database''s clock, when it was noticed.';

create function railwatch.feed_instance() returns text
language sql stable as $$
    -- A promoted standby, a restored snapshot and a crash all begin with a start of the server; a restored dump with new
    -- files. Neither needs rights to ask. A plain restart looks the same, and costs readers nothing.
    select extract(epoch from pg_postmaster_start_time()) || ' ' || pg_relation_filepath('railwatch.feed_position')
$$;
comment on function railwatch.feed_instance is 'Which run of which server this is, and on which files of the feed.';

create function railwatch.generation_after(generation uuid, instance text) returns uuid
language sql immutable as $$ select md5(generation || '/' || instance)::uuid $$;
comment on function railwatch.generation_after is 'The generation that another instance begins: known before anybody has written it down.';

create function railwatch.feed_generation() returns uuid
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    -- A standby shows what its primary wrote. Whoever is promoted is a new instance, from the first question on.
    select case when p.instance is distinct from railwatch.feed_instance() and not pg_is_in_recovery()
                then railwatch.generation_after(p.generation, railwatch.feed_instance()) else p.generation end
    from railwatch.feed_position p
$$;
comment on function railwatch.feed_generation is 'The feed''s generation: another one after every failover, restore or restart. Readers keep it beside their position.';

create function railwatch.begin_generation() returns trigger
language plpgsql as $$
begin
    if new.generation = old.generation then
        new.generation := railwatch.generation_after(old.generation, railwatch.feed_instance());
    end if;
    new.instance := railwatch.feed_instance();
    insert into railwatch.feed_generations (number, generation, started_after)
    select coalesce(max(number), 0) + 1, new.generation, old.last_seq from railwatch.feed_generations;
    return new;
end $$;
comment on function railwatch.begin_generation is 'Write a generation down with the first line that another instance writes, or by itself.';

create trigger begin_generation before update on railwatch.feed_position
    for each row when (new.instance is distinct from railwatch.feed_instance() or new.generation <> old.generation)
    execute function railwatch.begin_generation();

create function railwatch.note_generation() returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    update railwatch.feed_position set last_seq = last_seq where instance is distinct from railwatch.feed_instance();
    return (select generation from railwatch.feed_position);
end $$;
comment on function railwatch.note_generation is 'Write down that the server is another one than the last, if it is. Daemon and deliverer call it every few seconds.';

create function railwatch.renew_feed(last_common bigint) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    newest bigint;
    made uuid;
begin
    update railwatch.feed_position set generation = gen_random_uuid() returning last_seq, generation into newest, made;
    if last_common is null or last_common not between 0 and newest then
        perform railwatch.refuse('RW001', 'renew_feed(' || coalesce(last_common::text, 'null')
            || '): give the last seq that is the same as before, from 0 to ' || newest);
    end if;
    update railwatch.feed_generations set started_after = last_common where started_after > last_common;
    return made;
end $$;
comment on function railwatch.renew_feed is 'Begin a generation by hand, where the feed went back and Postgres cannot tell. Every reader goes back to last_common.';

create function railwatch.feed_check(generation uuid, seq bigint, event_id uuid) returns bigint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    newest bigint := (select last_seq from railwatch.feed_position);
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

drop function railwatch.next_seq(int);
create function railwatch.next_seq(how_many int) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    first bigint;
begin
    -- Whoever holds the counter and then does nothing holds up everybody: such a session ends after ten seconds.
    if current_setting('idle_in_transaction_session_timeout')::interval not between '1 ms' and '10 s' then
        perform set_config('idle_in_transaction_session_timeout', '10s', true);
    end if;
    -- A line that somebody has read must not be lost by a crash, however the server is tuned.
    if current_setting('synchronous_commit') = 'off' then
        perform set_config('synchronous_commit', 'on', true);
    end if;
    update railwatch.feed_position set last_seq = last_seq + how_many returning last_seq - how_many + 1 into first;
    return first;
end $$;
comment on function railwatch.next_seq is 'Take seqs for the feed: the first of them. Call it last, it holds up every other writer to the commit.';

alter table railwatch.consumers add generation uuid, add owner text;
comment on column railwatch.consumers.generation is 'The feed''s generation at that moment; null: before there were any.';
comment on column railwatch.consumers.owner is 'The login that made it: only that one moves it. Null: the first login that comes.';

-- The deliverer's positions move to the endpoints that they belong to: no service reaches them there.
alter table railwatch.webhook_endpoints
    add position bigint not null default 0, add moved_at timestamptz not null default now();
comment on table railwatch.webhook_endpoints is 'Where events are posted to, mirrored from the configuration when the deliverer starts.';
comment on column railwatch.webhook_endpoints.position is 'The last seq of the feed that was read for it.';
comment on column railwatch.webhook_endpoints.moved_at is 'When that was.';
update railwatch.webhook_endpoints e set position = c.position, moved_at = c.updated_at
from railwatch.consumers c where c.name = 'webhook:' || e.name;
delete from railwatch.consumers where name like 'webhook:%';

create or replace view railwatch.consumer_lag as
select c.name, c.position, f.last_seq - c.position as lag,
       (select t.recorded_at from railwatch.transitions t where t.seq = c.position + 1) as waiting_since, c.updated_at
from (
    select name, position, updated_at from railwatch.consumers
    union all
    select 'webhook:' || name, position, moved_at from railwatch.webhook_endpoints
) c, railwatch.feed_position f;
comment on view railwatch.consumer_lag is 'How far each reader of the feed has come, and how far that is behind; the deliverer''s endpoints as webhook:NAME.';

create function railwatch.lock_consumer(consumer text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    known railwatch.consumers;
begin
    if consumer is null or length(consumer) not between 1 and 200 or consumer like 'webhook:%' then
        perform railwatch.refuse('RW001', 'a consumer''s name is a text of 1 to 200 characters that does not begin with "webhook:"');
    end if;
    select * into known from railwatch.consumers c where c.name = consumer for update;
    if not found then
        if (select count(*) from railwatch.consumers) >= 200 then
            perform railwatch.refuse('RW022', 'there are 200 consumers already, and no ' || consumer || ' among them',
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

drop function railwatch.ack(text, bigint);
create function railwatch.ack(consumer text, seq bigint, generation uuid default null) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    newest bigint := (select last_seq from railwatch.feed_position);
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

create function railwatch.create_invoices(requests jsonb[]) returns setof uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    request jsonb;
begin
    if coalesce(cardinality(requests), 0) not between 1 and 1000 then
        perform railwatch.refuse('RW001', 'create_invoices takes 1 to 1000 requests');
    end if;
    -- Locks are taken in one order, whatever order the requests come in: by order first, then by address.
    perform pg_advisory_xact_lock(key) from (
        select distinct hashtextextended('railwatch/order/' || (each ->> 'merchant_id') || '/' || (each ->> 'order_id'), 0) as key
        from unnest(requests) each order by key
    ) orders where key is not null;
    perform pg_advisory_xact_lock(key) from (
        select distinct hashtextextended('railwatch/' || r.family || '/'
                   || case when r.fold_case then lower(wish ->> 'address') else wish ->> 'address' end, 0) as key
        from unnest(requests) each
        cross join lateral jsonb_array_elements(
            case when jsonb_typeof(each -> 'destinations') = 'array' then each -> 'destinations' else '[]' end) wish
        join railwatch.rails r on r.name = wish ->> 'rail'
        order by key
    ) addresses where key is not null;
    foreach request in array requests loop
        return next railwatch.create_invoice(request);
    end loop;
end $$;
comment on function railwatch.create_invoices is 'Register many invoices in one commit, all or none, and return their ids in order. One wait for the feed instead of many.';

-- Rails: what their ids derive from, whether anybody follows them, and how they are renamed.
alter table railwatch.rails add origin text, add given_up boolean not null default false;
create function railwatch.state_now(on_rail railwatch.rails) returns text
language sql stable as $$
    -- What the row says is true while somebody follows the rail. A halted one is halted until a person acts.
    select case when on_rail.state = 'halted' then 'halted'
                when exists (select from railwatch.leases l where l.rail = on_rail.name and l.expires_at > now())
                then on_rail.state else 'not followed' end
$$;
comment on function railwatch.state_now is 'How a rail is: its state, or "not followed" while no daemon holds its lease.';

create function railwatch.rename_rail(old_name text, new_name text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    holder text;
    place record;
begin
    -- Nobody takes the lease, and no step begins, until this is done.
    perform from railwatch.rails where name = old_name for update;
    if not found then
        perform railwatch.refuse('RW002', 'unknown rail "' || coalesce(old_name, '') || '"');
    end if;
    if new_name is null or new_name !~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'
       or exists (select from railwatch.rails where new_name in (name, origin) and name <> old_name) or new_name = old_name then
        perform railwatch.refuse('RW001', 'a rail cannot be renamed to "' || coalesce(new_name, '')
            || '": that is no name, or one that a rail has or had', 'Letters, digits, dots, hyphens and underscores.');
    end if;
    select l.holder into holder from railwatch.leases l where l.rail = old_name and l.expires_at > now();
    if found then
        perform railwatch.refuse('RW023', 'rail ' || old_name || ' is followed by ' || holder || ', and cannot be renamed now',
            'Stop that daemon first.');
    end if;
    delete from railwatch.leases where rail = old_name;
    insert into railwatch.rails
    select (jsonb_populate_record(r, jsonb_build_object('name', new_name, 'origin', coalesce(r.origin, r.name)))).*
    from railwatch.rails r where r.name = old_name;
    insert into railwatch.assets
    select (jsonb_populate_record(a, jsonb_build_object('rail', new_name))).* from railwatch.assets a where a.rail = old_name;
    -- Every table that names a rail, but the feed: its lines keep the name that the rail had then.
    for place in
        select c.oid::regclass as of_table, exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgname = 'append_only') as fixed
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'rail' and not a.attisdropped
        where c.relnamespace = 'railwatch'::regnamespace and c.relkind = 'r' and c.relname not in ('assets', 'transitions')
        order by c.relname
    loop
        if place.fixed then
            execute format('alter table %s disable trigger append_only', place.of_table);
        end if;
        execute format('update %s set rail = $1 where rail = $2', place.of_table) using new_name, old_name;
        if place.fixed then
            execute format('alter table %s enable always trigger append_only', place.of_table);
        end if;
    end loop;
    -- A destination's sums name rails too, also of what came on another rail than its own.
    update railwatch.destinations d
    set tallies = (select jsonb_agg(case when t ->> 0 = old_name then jsonb_set(t, '{0}', to_jsonb(new_name)) else t end)
                   from jsonb_array_elements(d.tallies) t)
    where exists (select from jsonb_array_elements(d.tallies) t where t ->> 0 = old_name);
    delete from railwatch.assets where rail = old_name;
    delete from railwatch.rails where name = old_name;
end $$;
comment on function railwatch.rename_rail is 'Give a rail another name, with all that belongs to it. Ids of transfers stay as they are. Refused while a daemon follows it.';

create or replace view railwatch.orders as
select i.merchant_id, i.order_id, i.id as invoice_id, i.state, railwatch.customer_state(i.state, i.settled_at) as customer_state,
       i.state_since, i.created_at, i.expires_at, i.settled_at, i.held,
       exists (select from railwatch.destinations d
               join railwatch.rails r on r.name = d.rail and r.enabled
               join railwatch.leases l on l.rail = r.name and l.expires_at > now()
               where d.invoice_id = i.id and d.watch_state = 'watching') as payable,
       not exists (select from railwatch.destinations d join railwatch.rails r on r.name = d.rail
                   where d.invoice_id = i.id and d.watch_state <> 'rejected' and railwatch.state_now(r) <> 'live') as rails_live,
       (select count(*) from railwatch.exceptions e where e.invoice_id = i.id and e.resolved_at is null) as exceptions,
       (select (array['critical', 'warning', 'info'])[min(array_position(array['critical', 'warning', 'info'], e.severity))]
        from railwatch.exceptions e where e.invoice_id = i.id and e.resolved_at is null) as severity,
       i.fiat_amount, i.fiat_currency, i.metadata
from railwatch.invoices i;

create or replace view railwatch.order_destinations as
select i.merchant_id, i.order_id, i.id as invoice_id, d.id as destination_id, d.position, d.rail, a.symbol, d.address, d.reference,
       d.watch_state, d.watch_error, railwatch.display(d.expected_amount, a.decimals) as expected,
       railwatch.display(d.seen_amount, a.decimals) as seen, railwatch.display(d.confirmed_amount, a.decimals) as confirmed,
       railwatch.display(d.late_amount, a.decimals) as late, d.policy, d.policy_origin, railwatch.state_now(r) as rail_state
from railwatch.destinations d
join railwatch.invoices i on i.id = d.invoice_id
join railwatch.assets a on a.rail = d.rail and a.id = d.asset
join railwatch.rails r on r.name = d.rail;
comment on column railwatch.rails.state is 'starting, syncing, live, stalled or halted, when it was last followed. Ask state_now: only while live is silence an answer.';
comment on column railwatch.rails.origin is 'The name that ids of its transfers derive from, if it was renamed; null: its name.';
comment on column railwatch.rails.given_up is 'Whether the configuration says that nobody follows it any more: then no invoice''s end waits for it.';
comment on column railwatch.orders.payable is 'Whether an address of it may be shown: it is watched, on a rail that somebody follows now.';
comment on column railwatch.orders.rails_live is 'Whether silence means that nothing came: every rail of it is live, and followed now.';
comment on column railwatch.order_destinations.rail_state is 'How the rail is: its state, or "not followed".';

-- What is closed no longer holds its address.
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
    if coalesce(wish ->> 'address', '') = '' or length(wish ->> 'address') > 200 then
        perform railwatch.refuse('RW001', label || ': address is missing or longer than 200 characters');
    end if;
    if wish ? 'reference' and not on_rail.has_references then
        perform railwatch.refuse('RW011', label || ': rail ' || on_rail.name || ' knows no references',
            'Leave it out, and derive a new address for each invoice.');
    end if;
    folded := case when on_rail.fold_case then lower(wish ->> 'address') else wish ->> 'address' end;
    if exists (select from railwatch.destinations d
               where d.invoice_id = invoice.id and d.rail = on_rail.name and d.asset = of_asset and d.address_folded = folded
                 and d.reference is not distinct from wish ->> 'reference') then
        perform railwatch.refuse('RW001', label || ': the same rail, asset, address and reference are there twice',
            'Ask for one amount at each.');
    end if;
    -- Two registrations of one address wait for each other here; the later one then sees the earlier.
    perform pg_advisory_xact_lock(hashtextextended('railwatch/' || on_rail.family || '/' || folded, 0));
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

drop index railwatch.invoices_to_close;
create index invoices_to_close on railwatch.invoices (closes_at, id) where closed_at is null;

-- Walks over many that wait go by place, and what can be displaced is found without reading what cannot.
drop index railwatch.invoices_open_window;
create index invoices_open_window on railwatch.invoices (expires_at, id) where state = 'created';
drop index railwatch.invoices_waiting;
create index invoices_waiting on railwatch.invoices (state_since, id) where state in ('detected', 'confirming');
create index detections_spending on railwatch.detections (rail)
    where state in ('pending', 'included', 'confirmed', 'orphaned') and spends <> '{}';

-- `lock_consumer` takes the place of the right to lock any consumer's row.
delete from railwatch.rights where object = 'railwatch.consumers' and privileges = 'update (updated_at)';
do $$
begin
    if exists (select from pg_roles where rolname = 'railwatch_service') then
        revoke update (updated_at) on railwatch.consumers from railwatch_service;
    end if;
    if exists (select from pg_roles where rolname = 'railwatch_daemon') then
        revoke update (updated_at) on railwatch.consumers from railwatch_daemon;
    end if;
end $$;

insert into railwatch.rights (role, object, privileges)
select role, object, privileges
from (values
    (array['railwatch_daemon', 'railwatch_service', 'railwatch_reader'], 'select', array['railwatch.feed_generations']),
    (array['railwatch_daemon', 'railwatch_service', 'railwatch_reader'], 'execute', array[
        'function railwatch.feed_generation', 'function railwatch.feed_check', 'function railwatch.state_now']),
    (array['railwatch_daemon', 'railwatch_service'], 'execute', array[
        'function railwatch.lock_consumer', 'function railwatch.create_invoices']),
    (array['railwatch_daemon'], 'execute', array['function railwatch.note_generation', 'function railwatch.renew_feed',
        'function railwatch.rename_rail'])
) as given (roles, privileges, objects), unnest(roles) as role, unnest(objects) as object;

select railwatch.grant_rights();

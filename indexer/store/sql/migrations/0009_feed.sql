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
        'function railwatch.feed_generation', 'function railwatch.feed_check']),
    (array['railwatch_daemon', 'railwatch_service'], 'execute', array['function railwatch.lock_consumer']),
    (array['railwatch_daemon'], 'execute', array['function railwatch.note_generation', 'function railwatch.renew_feed'])
) as given (roles, privileges, objects), unnest(roles) as role, unnest(objects) as object;

select railwatch.grant_rights();

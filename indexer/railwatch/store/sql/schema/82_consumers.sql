create table railwatch.consumers (
    name text primary key,
    position bigint not null,
    updated_at timestamptz not null default now(),
    generation uuid,
    owner text,
    constraint consumers_updated_at_bounds check (updated_at between '2009-01-01 00:00:00+00' and '2120-01-01 00:00:00+00')
);
comment on table railwatch.consumers is 'How far each reader of the feed has come.';
comment on column railwatch.consumers.name is 'The reader''s own name.';
comment on column railwatch.consumers.position is 'The last seq that it has processed.';
comment on column railwatch.consumers.updated_at is 'When it said so.';
comment on column railwatch.consumers.generation is 'The feed''s generation at that moment; null: before there were any.';
comment on column railwatch.consumers.owner is 'The login that made it: only that one moves it. Null: the first login that comes.';

create function railwatch.lock_consumer(consumer text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    existing railwatch.consumers;
begin
    if consumer is null or length(consumer) not between 1 and 200 or consumer like 'webhook:%' then
        perform railwatch.raise_error('RW001', 'a consumer''s name is a text of 1 to 200 characters that does not begin with "webhook:"');
    end if;
    perform railwatch.check_text(consumer, 'the consumer''s name', 200);
    select * into existing from railwatch.consumers c where c.name = consumer for update;
    if not found then
        if (select count(*) from railwatch.consumers) >= 200 then
            perform railwatch.raise_error('RW042', 'there are 200 consumers already, and no ' || consumer || ' among them',
                'Use the same name at each start. An operator can delete unused rows of railwatch.consumers.');
        end if;
        if (select count(*) from railwatch.consumers where owner = session_user) >= 50 then
            perform railwatch.raise_error('RW042', 'login ' || session_user || ' has 50 consumers already, and no ' || consumer || ' among them',
                'Use the same name at each start. An operator can delete unused rows of railwatch.consumers.');
        end if;
        insert into railwatch.consumers (name, position, generation, owner)
        values (consumer, 0, railwatch.feed_generation(), session_user) on conflict do nothing;
        select * into existing from railwatch.consumers c where c.name = consumer for update;
    end if;
    if existing.owner is null then
        update railwatch.consumers set owner = session_user where name = consumer;
    elsif existing.owner <> session_user
          and not pg_has_role(session_user, (select nspowner from pg_namespace where nspname = 'railwatch'), 'usage') then
        perform railwatch.raise_error('RW041', 'consumer ' || consumer || ' belongs to the login ' || existing.owner || ', not to ' || session_user,
            'Use a name of your own.');
    end if;
    return existing.position;
end $$;
comment on function railwatch.lock_consumer is 'Hold a consumer to the commit, so that two copies of a reader take turns. Returns its position; a new one begins at 0.';

create function railwatch.ack(consumer text, seq bigint, generation uuid default null) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    newest bigint := railwatch.feed_end();
    present uuid := railwatch.feed_generation();
    reached bigint;
begin
    if ack.generation is distinct from present and ack.generation is not null and ack.seq >= 0 then
        perform railwatch.raise_error('RW040', 'ack(' || coalesce(consumer, 'null') || ', ' || ack.seq
            || '): the position is from another generation of the feed, which has gone back since',
            'Continue from seq ' || railwatch.feed_check(ack.generation, ack.seq, null) || ': docs/contract/feed.md, "The feed''s generation".');
    end if;
    if ack.seq is null or ack.seq < 0 or ack.seq > newest then
        perform railwatch.raise_error('RW001', 'ack(' || coalesce(consumer, 'null') || ', ' || coalesce(ack.seq::text, 'null')
            || '): give a name, and a seq that the feed has reached (' || newest || ')');
    end if;
    perform railwatch.lock_consumer(consumer);
    update railwatch.consumers c
    set position = greatest(c.position, ack.seq), generation = present, updated_at = now()
    where c.name = consumer returning c.position into reached;
    return reached;
end $$;
comment on function railwatch.ack is 'Store how far a consumer has read, never backwards, and return the position.';

create view railwatch.consumer_lag as
select c.name, c.position, f.last_seq - c.position as lag,
       (select t.recorded_at from railwatch.transitions t where t.seq = c.position + 1) as waiting_since, c.updated_at
from (
    select name, position, updated_at from railwatch.consumers
    union all
    select 'webhook:' || name, position, moved_at from railwatch.webhook_endpoints
) c, railwatch.feed_end() as f (last_seq);
comment on view railwatch.consumer_lag is 'How far each reader of the feed has come, and how far that is behind; the deliverer''s endpoints as webhook:NAME.';
comment on column railwatch.consumer_lag.name is 'The reader''s own name.';
comment on column railwatch.consumer_lag.position is 'The last seq that it has processed.';
comment on column railwatch.consumer_lag.lag is 'How many lines it has not processed.';
comment on column railwatch.consumer_lag.waiting_since is 'When the first of them was recorded; null: none waits.';
comment on column railwatch.consumer_lag.updated_at is 'When it last acknowledged.';

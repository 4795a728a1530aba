-- Leases whose row alone decides, locks that only the daemon may take, a watch whose additions are numbered in the order
-- of commits, rescans that can be merged, cancelled and fail alone, and halted rails that can be resumed.

delete from railwatch.leases;
alter table railwatch.leases
    add column token uuid not null, add column pid int not null, add column backend_start timestamptz not null;
comment on column railwatch.leases.token is 'Random, and new each time the lease is acquired: only who knows it renews or releases.';
comment on column railwatch.leases.pid is 'The server process of the holder''s connection. If it has ended, others may take the lease at once.';
comment on column railwatch.leases.backend_start is 'When that process started, because the numbers of processes come again.';

create table railwatch.locks (
    name text primary key,
    holder text,
    token uuid,
    pid int,
    backend_start timestamptz,
    expires_at timestamptz
);
comment on table railwatch.locks is 'What one process at a time may do. Rows, because readers and services may not lock them.';
comment on column railwatch.locks.name is 'mirror: to write the configuration into tables, locked for one transaction. deliver: to post webhooks, held as a lease.';
comment on column railwatch.locks.holder is 'Host and process of the holder; null: nobody has held it.';
comment on column railwatch.locks.token is 'Random, and new each time it is acquired.';
comment on column railwatch.locks.pid is 'The server process of the holder''s connection.';
comment on column railwatch.locks.backend_start is 'When that process started.';
comment on column railwatch.locks.expires_at is 'When others may take it, unless it is renewed.';
insert into railwatch.locks (name) values ('mirror'), ('deliver');

create table railwatch.watch_position (
    family text primary key,
    last_seq bigint not null
);
comment on table railwatch.watch_position is 'How many times addresses of a family were added to the watch. Held to the commit, so that numbers have no gaps and come in the order of commits.';
comment on column railwatch.watch_position.family is 'The address space.';
comment on column railwatch.watch_position.last_seq is 'The newest keyed_seq of its destinations.';

create function railwatch.is_backend_alive(backend int, started timestamptz) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    -- Another role's start is not shown to everybody. Then the process counts as alive, and the lease runs out instead.
    select exists (select from pg_stat_activity where pid = backend and coalesce(backend_start = started, true));
$$;
comment on function railwatch.is_backend_alive is 'Whether the connection that noted this process is still there. No other connection can be made to look like it.';

-- Addresses that were keyed before are numbered by their time, so that the order of what is known stays.
alter table railwatch.destinations add column keyed_seq bigint;
update railwatch.destinations d set keyed_seq = t.seq
from (select id, row_number() over (partition by family order by keyed_at, id) as seq
      from railwatch.destinations where address_key is not null) as t
where d.id = t.id;
insert into railwatch.watch_position (family, last_seq)
select family, max(keyed_seq) from railwatch.destinations where keyed_seq is not null group by family;
drop index railwatch.destinations_keyed;
create index destinations_keyed on railwatch.destinations (family, keyed_seq) where address_key is not null;
create index destinations_keyed_at on railwatch.destinations (keyed_at) where address_key is not null;
comment on column railwatch.destinations.keyed_at is 'When it was parsed.';
comment on column railwatch.destinations.keyed_seq is 'In which order the family''s addresses were added to the watch, which is the order of commits: followers catch up by this.';

create temporary table neighbours_before on commit drop as
select r.name, (select count(*) from railwatch.destinations d
                where d.family = r.family and d.address_key is not null
                  and d.keyed_at <= r.neighbours_at - interval '1 minute') as seq
from railwatch.rails r where r.neighbours_at is not null;
alter table railwatch.rails alter column neighbours_at type bigint using null;
alter table railwatch.rails rename column neighbours_at to neighbours_seq;
update railwatch.rails r set neighbours_seq = b.seq from neighbours_before b where b.name = r.name;
comment on column railwatch.rails.neighbours_seq is 'Addresses that other rails of the family added to the watch up to this keyed_seq were looked back for here too.';

-- Requests keep their order as their number. Of several open ones of a rail the first takes in the ranges of the others.
create temporary table rescans_before on commit drop as select * from railwatch.rescans;
drop table railwatch.rescans;
drop function railwatch.request_rescan(text, bigint, bigint);

create table railwatch.rescans (
    id uuid primary key default gen_random_uuid(),
    number bigint generated always as identity unique,
    rail text not null references railwatch.rails (name),
    from_height bigint not null check (from_height >= 0),
    to_height bigint,
    next_height bigint not null,
    found int not null default 0,
    requested_at timestamptz not null default now(),
    finished_at timestamptz,
    outcome text check (outcome in ('done', 'failed', 'cancelled', 'merged')),
    error text,
    tries int not null default 0,
    retry_at timestamptz not null default now(),
    ended_by text,
    check ((finished_at is null) = (outcome is null))
);
create unique index rescans_open on railwatch.rescans (rail) where finished_at is null;
comment on table railwatch.rescans is 'Ranges that somebody asked to be looked through again, and how far that is. At most one of a rail is open.';
comment on column railwatch.rescans.id is 'The request.';
comment on column railwatch.rescans.number is 'The order of requests.';
comment on column railwatch.rescans.rail is 'The rail.';
comment on column railwatch.rescans.from_height is 'First block, inclusive.';
comment on column railwatch.rescans.to_height is 'Last block, inclusive; null: the cursor at the time.';
comment on column railwatch.rescans.next_height is 'The next block to look at.';
comment on column railwatch.rescans.found is 'Transfers that were not known before.';
comment on column railwatch.rescans.requested_at is 'When it was asked for.';
comment on column railwatch.rescans.finished_at is 'When it ended; null: it is open.';
comment on column railwatch.rescans.outcome is 'done, failed, cancelled, or merged into another request; null: it is open.';
comment on column railwatch.rescans.error is 'Why it failed, was cancelled, or does not get on now.';
comment on column railwatch.rescans.tries is 'Attempts in a row that failed.';
comment on column railwatch.rescans.retry_at is 'When the daemon goes on with it.';
comment on column railwatch.rescans.ended_by is 'Who cancelled it.';

insert into railwatch.rescans
    (number, rail, from_height, to_height, next_height, found, requested_at, finished_at, outcome, error)
overriding system value
select b.id, b.rail, coalesce(w.from_height, b.from_height),
       case when w.id is null then b.to_height when not w.endless then w.to_height end,
       coalesce(w.next_height, b.next_height), b.found, b.requested_at,
       case when b.finished_at is null and w.id is null then now() else b.finished_at end,
       case when b.finished_at is not null then 'done' when w.id is null then 'merged' end,
       case when b.finished_at is null and w.id is null then 'merged into an earlier request' else b.error end
from rescans_before b
left join (select min(id) as id, rail, min(from_height) as from_height, max(to_height) as to_height,
                  bool_or(to_height is null) as endless, min(next_height) as next_height
           from rescans_before where finished_at is null group by rail) as w on w.id = b.id
order by b.id;
select setval(pg_get_serial_sequence('railwatch.rescans', 'number'), greatest((select max(number) from railwatch.rescans), 1),
              exists (select from railwatch.rescans));

create function railwatch.request_rescan(on_rail text, from_height bigint, to_height bigint default null) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    made uuid;
begin
    if not exists (select from railwatch.rails where name = on_rail) then
        perform railwatch.refuse('RW002', 'unknown rail "' || coalesce(on_rail, '') || '"');
    end if;
    if from_height is null or from_height < 0 or to_height < from_height then
        perform railwatch.refuse('RW001', 'rescan takes from_height of at least 0 and to_height of at least from_height');
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

create function railwatch.cancel_rescan(rescan uuid, actor text, reason text default null) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    known railwatch.rescans;
begin
    perform railwatch.check_text(actor, 'actor', 200);
    if reason is not null then
        perform railwatch.check_text(reason, 'reason', 1000);
    end if;
    select * into known from railwatch.rescans where id = rescan for update;
    if not found then
        perform railwatch.refuse('RW030', 'there is no rescan ' || coalesce(rescan::text, '(null)'),
            'List them with: railwatch rescan list');
    end if;
    if known.finished_at is not null then
        return known.outcome;
    end if;
    update railwatch.rescans
    set finished_at = now(), outcome = 'cancelled', ended_by = actor, error = coalesce(reason, error)
    where id = rescan;
    return 'cancelled';
end $$;
comment on function railwatch.cancel_rescan is 'End an open rescan. What it found stays. Returns the outcome; a rescan that has ended keeps the one that it has.';

create function railwatch.resume_rail(on_rail text, actor text, reason text default null) returns text
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
    perform pg_notify('railwatch_work', 'resume');
    return 'starting';
end $$;
comment on function railwatch.resume_rail is 'Let a halted rail go on from its last committed block, once its cause is gone. It accepts no other chain: after a DeepReorg the rail goes on only where the node has our chain again.';

insert into railwatch.rights (role, object, privileges)
select role, object, 'select'
from unnest(array['railwatch_daemon', 'railwatch_service', 'railwatch_reader']) as role,
     unnest(array['railwatch.locks', 'railwatch.watch_position']) as object;
insert into railwatch.rights (role, object, privileges)
values ('railwatch_daemon', 'railwatch.locks', 'update'),
       ('railwatch_daemon', 'railwatch.watch_position', 'insert, update'),
       ('railwatch_daemon', 'railwatch.destinations', 'update (keyed_seq)'),
       ('railwatch_daemon', 'function railwatch.is_backend_alive', 'execute'),
       ('railwatch_daemon', 'function railwatch.cancel_rescan', 'execute'),
       ('railwatch_service', 'function railwatch.cancel_rescan', 'execute'),
       ('railwatch_daemon', 'function railwatch.resume_rail', 'execute');
select railwatch.grant_rights();

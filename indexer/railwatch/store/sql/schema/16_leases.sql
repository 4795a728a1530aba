create table railwatch.leases (
    rail text primary key references railwatch.rails (name),
    holder text not null,
    expires_at timestamptz not null,
    token uuid not null,
    pid int not null,
    backend_start timestamptz not null
);
comment on table railwatch.leases is 'Which daemon follows a rail. A lease outlives its holder by at most 15 seconds.';
comment on column railwatch.leases.rail is 'The rail.';
comment on column railwatch.leases.holder is 'Host, process and a random part: who holds it.';
comment on column railwatch.leases.expires_at is 'When other holders may acquire it, unless it is renewed.';
comment on column railwatch.leases.token is 'Random, and new each time the lease is acquired: only its owner can renew or release.';
comment on column railwatch.leases.pid is 'The server process of the holder''s connection. If it has ended, others may acquire the lease at once.';
comment on column railwatch.leases.backend_start is 'When that process started, because process numbers repeat.';

create table railwatch.locks (
    name text primary key
);
comment on table railwatch.locks is 'Locks for what one daemon at a time may do. They are rows, because readers, services and deliverers may not lock rows.';
comment on column railwatch.locks.name is 'mirror: to write the configuration into tables, locked for one transaction.';
insert into railwatch.locks (name) values ('mirror');

create table railwatch.deliverer_lease (
    one boolean primary key default true check (one),
    holder text,
    token uuid,
    pid int,
    backend_start timestamptz,
    expires_at timestamptz
);
comment on table railwatch.deliverer_lease is 'Which deliverer posts webhooks. It has its own table, because a role that may change a table may lock all of it.';
comment on column railwatch.deliverer_lease.one is 'There is one row.';
comment on column railwatch.deliverer_lease.holder is 'Host and process of the holder; null: it was never held.';
comment on column railwatch.deliverer_lease.token is 'Random, and new each time it is acquired.';
comment on column railwatch.deliverer_lease.pid is 'The server process of the holder''s connection.';
comment on column railwatch.deliverer_lease.backend_start is 'When that process started.';
comment on column railwatch.deliverer_lease.expires_at is 'When other holders may acquire it, unless it is renewed.';
insert into railwatch.deliverer_lease default values;

create table railwatch.address_locks (
    family text not null,
    address_folded text not null,
    primary key (family, address_folded)
);
comment on table railwatch.address_locks is 'One row for each address: a registration holds it until the commit, so that two registrations of one address take turns.';
comment on column railwatch.address_locks.family is 'The address space.';
comment on column railwatch.address_locks.address_folded is 'The address as it is compared.';

create table railwatch.watch_position (
    family text primary key,
    last_seq bigint not null
);
comment on table railwatch.watch_position is 'How many times addresses of a family were added to the watch. Held to the commit, so that numbers have no gaps and come in the order of commits.';
comment on column railwatch.watch_position.family is 'The address space.';
comment on column railwatch.watch_position.last_seq is 'The newest keyed_seq of its destinations.';

create function railwatch.is_backend_alive(backend int, started timestamptz) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    -- Postgres may hide the start of another role's process. Then the process counts as alive, and the lease expires instead.
    select exists (select from pg_stat_activity where pid = backend and coalesce(backend_start = started, true));
$$;
comment on function railwatch.is_backend_alive is 'Return whether the connection that recorded this process still exists. No other connection can imitate it.';

create function railwatch.state_now(on_rail railwatch.rails) returns text
language sql stable
-- The row's state holds while a daemon follows the rail. A halted rail is halted until an operator acts.
return case when on_rail.state = 'halted' then 'halted'
            when exists (select from railwatch.leases l where l.rail = on_rail.name and l.expires_at > now())
            then on_rail.state else 'not followed' end;
comment on function railwatch.state_now is 'Return a rail''s state, or "not followed" while no daemon holds its lease.';

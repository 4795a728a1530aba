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
comment on table railwatch.rescans is 'Requests to scan ranges of blocks again, and their progress. A rail has at most one open request.';
comment on column railwatch.rescans.id is 'The request.';
comment on column railwatch.rescans.number is 'The order of requests.';
comment on column railwatch.rescans.rail is 'The rail.';
comment on column railwatch.rescans.from_height is 'First block, inclusive.';
comment on column railwatch.rescans.to_height is 'Last block, inclusive; null: the cursor at the time.';
comment on column railwatch.rescans.next_height is 'The next block to scan.';
comment on column railwatch.rescans.found is 'Transfers that were not known before.';
comment on column railwatch.rescans.requested_at is 'When it was requested.';
comment on column railwatch.rescans.finished_at is 'When it ended; null: it is open.';
comment on column railwatch.rescans.outcome is 'done, failed, cancelled, or merged into another request; null: it is open.';
comment on column railwatch.rescans.error is 'Why it failed, was cancelled, or does not progress now.';
comment on column railwatch.rescans.tries is 'Attempts in a row that failed.';
comment on column railwatch.rescans.retry_at is 'When the daemon continues it.';
comment on column railwatch.rescans.ended_by is 'Who cancelled it.';

create function railwatch.request_rescan(on_rail text, from_height bigint, to_height bigint default null) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    inserted uuid;
begin
    -- As the foreign key locks it: a rail that is being renamed just now is waited for, and then unknown.
    perform from railwatch.rails where name = on_rail for key share;
    if not found then
        perform railwatch.raise_error('RW002', 'unknown rail "' || coalesce(on_rail, '') || '"');
    end if;
    if from_height is null or from_height < 0 or to_height < from_height or greatest(from_height, to_height) > 1000000000000 then
        perform railwatch.raise_error('RW001', 'a rescan needs from_height of at least 0 and to_height of at least from_height, at most 10^12');
    end if;
    insert into railwatch.rescans as known (rail, from_height, to_height, next_height)
    values (on_rail, request_rescan.from_height, request_rescan.to_height, request_rescan.from_height)
    on conflict (rail) where finished_at is null do update
    set from_height = least(known.from_height, excluded.from_height),
        to_height = case when known.to_height is not null and excluded.to_height is not null
                         then greatest(known.to_height, excluded.to_height) end,
        next_height = least(known.next_height, excluded.from_height),
        tries = 0, retry_at = now()
    returning id into inserted;
    perform railwatch.notify('railwatch_work', 'rescan');
    return inserted;
end $$;
comment on function railwatch.request_rescan is 'Ask the daemon to scan blocks again, both ends inclusive. What is known stays as it is. A rail has one open request: a second one widens it, and returns the same id.';

create function railwatch.cancel_rescan(rescan uuid, actor text, reason text default null) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    existing railwatch.rescans;
begin
    perform railwatch.check_text(actor, 'actor', 200);
    if reason is not null then
        perform railwatch.check_text(reason, 'reason', 1000);
    end if;
    select * into existing from railwatch.rescans where id = rescan for update;
    if not found then
        perform railwatch.raise_error('RW045', 'there is no rescan ' || coalesce(rescan::text, '(null)'),
            'List them with: railwatch rescan list');
    end if;
    if existing.finished_at is not null then
        return existing.outcome;
    end if;
    update railwatch.rescans
    set finished_at = now(), outcome = 'cancelled', ended_by = actor, error = coalesce(reason, error)
    where id = rescan;
    return 'cancelled';
end $$;
comment on function railwatch.cancel_rescan is 'End an open rescan. What it found stays. Returns the outcome; a rescan that has ended keeps the one that it has.';

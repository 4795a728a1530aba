create table railwatch.quarantine (
    rail text not null references railwatch.rails (name),
    invoice_id uuid not null references railwatch.invoices (id),
    reason text not null,
    since timestamptz not null default now(),
    tries int not null default 0,
    retry_at timestamptz not null,
    fork_height bigint,
    primary key (invoice_id, rail)
);
create index quarantine_next on railwatch.quarantine (rail, retry_at);
comment on table railwatch.quarantine is 'Invoices that the daemon could not process on a rail. The rail continues without them; the daemon retries them, and they lose nothing.';
comment on column railwatch.quarantine.rail is 'The rail whose step failed.';
comment on column railwatch.quarantine.invoice_id is 'The invoice.';
comment on column railwatch.quarantine.reason is 'What failed, at the newest attempt.';
comment on column railwatch.quarantine.since is 'When the quarantine began.';
comment on column railwatch.quarantine.tries is 'How many attempts have failed since.';
comment on column railwatch.quarantine.retry_at is 'When the daemon tries again.';
comment on column railwatch.quarantine.fork_height is 'The lowest fork point of reorgs since: inclusions above it are reversed first. Null: there was no reorg.';

create table railwatch.deferred_transfers (
    invoice_id uuid not null references railwatch.invoices (id),
    rail text not null references railwatch.rails (name),
    detection_id uuid not null,
    tx_id text not null,
    block_height bigint,
    seen_at timestamptz not null default now(),
    orphaned boolean not null default false,
    transfer bytea not null,
    primary key (invoice_id, rail, detection_id)
);
comment on table railwatch.deferred_transfers is 'Transfers to invoices in quarantine, to be processed when the daemon can process the invoice again.';
comment on column railwatch.deferred_transfers.invoice_id is 'The invoice.';
comment on column railwatch.deferred_transfers.rail is 'The rail that it was seen on.';
comment on column railwatch.deferred_transfers.detection_id is 'The id of the detection that it becomes.';
comment on column railwatch.deferred_transfers.tx_id is 'The transaction, for people.';
comment on column railwatch.deferred_transfers.block_height is 'Its newest block; null: it waited for one.';
comment on column railwatch.deferred_transfers.seen_at is 'When it was first seen.';
comment on column railwatch.deferred_transfers.orphaned is 'Whether a reorg has removed that block, and no other block has held it since.';
comment on column railwatch.deferred_transfers.transfer is 'Not for readers: all that the node reported of it, as JSON.';

create function railwatch.set_aside(on_rail text, invoice uuid, why text, retry_in float8) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    nth int;
    inserted uuid;
begin
    if not exists (select from railwatch.rails r where r.name = on_rail) then
        perform railwatch.raise_error('RW002', 'unknown rail "' || coalesce(on_rail, '') || '"');
    end if;
    -- The invoice is not locked: this step may hold the feed already, and the invoice's holder may wait for the feed.
    if not exists (select from railwatch.invoices i where i.id = set_aside.invoice) then
        perform railwatch.raise_error('RW009', 'there is no invoice ' || coalesce(invoice::text, '(null)'));
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
    inserted := md5('railwatch/processing_failed/' || invoice || '/' || nth)::uuid;
    insert into railwatch.exceptions (id, invoice_id, kind, severity, round)
    values (inserted, invoice, 'processing_failed', 'critical', nth);
    perform railwatch.append_manual_transition('exception', inserted, invoice, null, 'open', 'processing_failed', 'chain', on_rail, null,
        jsonb_build_object('why', why));
end $$;
comment on function railwatch.set_aside is 'Put an invoice into quarantine on a rail, and open processing_failed. Only the daemon calls it, within the step that could not process it.';

create function railwatch.take_back(on_rail text, invoice uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    state_before_hold railwatch.exceptions;
begin
    delete from railwatch.deferred_transfers t where t.invoice_id = take_back.invoice and t.rail = on_rail;
    delete from railwatch.quarantine q where q.invoice_id = take_back.invoice and q.rail = on_rail;
    if exists (select from railwatch.quarantine q where q.invoice_id = take_back.invoice) then
        return;
    end if;
    for state_before_hold in
        update railwatch.exceptions e
        set ended_at = now(), resolved_at = coalesce(e.resolved_at, now()), resolution = coalesce(e.resolution, 'made good')
        where e.kind = 'processing_failed' and e.invoice_id = take_back.invoice and e.ended_at is null
        returning e.*
    loop
        -- The feed has reported a manual resolution already.
        if state_before_hold.resolution = 'made good' then
            perform railwatch.append_manual_transition('exception', state_before_hold.id, invoice, 'open', 'resolved', 'processing_failed', 'chain',
                on_rail, null, '{}');
        end if;
    end loop;
end $$;
comment on function railwatch.take_back is 'End an invoice''s quarantine on a rail, and processing_failed with its last one. Only the daemon calls it, within the step that caught up.';

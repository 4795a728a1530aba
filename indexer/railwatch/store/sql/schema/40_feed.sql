create table railwatch.transitions (
    seq bigint primary key,
    event_id uuid not null unique,
    subject text not null check (subject in ('invoice', 'detection', 'exception', 'refund', 'settlement', 'unallocated_transfer')),
    subject_id uuid not null,
    invoice_id uuid,
    from_state text,
    to_state text not null,
    reason text not null,
    cause text not null check (cause in ('chain', 'clock', 'operator', 'service')),
    rail text,
    tx_id text,
    block_height bigint,
    block_hash text,
    confirmations bigint,
    seen_amount numeric(78, 0),
    confirmed_amount numeric(78, 0),
    chain_time timestamptz,
    recorded_at timestamptz not null default now(),
    evidence jsonb not null default '{}'
);
create index transitions_invoice on railwatch.transitions (invoice_id, seq);
create index transitions_unallocated on railwatch.transitions (subject_id, seq) where subject = 'unallocated_transfer';
comment on table railwatch.transitions is 'The feed: append-only. Read with "where seq > $last order by seq"; nothing can be lost by that.';
comment on column railwatch.transitions.seq is 'Without gaps, and in commit order.';
comment on column railwatch.transitions.event_id is 'Derived from what happened: the same on every replay.';
comment on column railwatch.transitions.subject is 'invoice, detection, exception, refund, settlement or unallocated_transfer.';
comment on column railwatch.transitions.subject_id is 'Id in the subject''s table.';
comment on column railwatch.transitions.invoice_id is 'The invoice that it concerns; null: none, as for an unallocated transfer.';
comment on column railwatch.transitions.from_state is 'The state before; null: none.';
comment on column railwatch.transitions.to_state is 'The state after.';
comment on column railwatch.transitions.reason is 'Why, in one word: included, confirmed, orphaned, reversed, expired ...';
comment on column railwatch.transitions.cause is 'chain, clock, operator or service.';
comment on column railwatch.transitions.rail is 'The rail that it happened on.';
comment on column railwatch.transitions.tx_id is 'The transaction that it happened through.';
comment on column railwatch.transitions.block_height is 'That transaction''s block.';
comment on column railwatch.transitions.block_hash is 'Hash of that block.';
comment on column railwatch.transitions.confirmations is 'Depth at that moment, inclusive: the including block is 1.';
comment on column railwatch.transitions.seen_amount is 'Seen by then at the destination that is met, or nearest to it.';
comment on column railwatch.transitions.confirmed_amount is 'Confirmed by then at the destination that is met, or nearest to it.';
comment on column railwatch.transitions.chain_time is 'Chain time of the block.';
comment on column railwatch.transitions.recorded_at is 'The database''s clock.';
comment on column railwatch.transitions.evidence is 'The rule''s inputs.';

create table railwatch.feed_position (
    one boolean not null default true check (one),
    last_seq bigint not null,
    generation uuid not null default gen_random_uuid(),
    instance text,
    -- Each version of the row has its own entry in this index, the newest last: while an old snapshot (a backup) keeps all
    -- versions, the newest one is found without reading the others. A second index would have to be searched through them.
    primary key (last_seq)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
insert into railwatch.feed_position (last_seq) values (0);
comment on table railwatch.feed_position is 'The feed''s last seq. Each append holds this row until the commit, so that seq order is commit order.';
comment on column railwatch.feed_position.one is 'There is one row.';
comment on column railwatch.feed_position.last_seq is 'The last seq that was given out. Ask feed_end().';
comment on column railwatch.feed_position.generation is 'The feed''s generation when it was last written to. Ask feed_generation().';
comment on column railwatch.feed_position.instance is 'Which run of which server wrote it last, as feed_instance() returns. Another one begins a generation.';

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
comment on column railwatch.feed_generations.generation is 'What a reader stores with its position.';
comment on column railwatch.feed_generations.started_after is 'The last seq before it: up to there the feed is the same for readers of the generation before.';
comment on column railwatch.feed_generations.started_at is 'The database''s clock, when it was noticed.';

create function railwatch.feed_instance() returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    -- A promoted standby, a restored snapshot and a crash all begin with a start of the server; a restored dump with new
    -- files. Both need no rights to read. A plain restart appears the same, and costs readers nothing.
    select extract(epoch from pg_postmaster_start_time()) || ' ' || pg_relation_filepath('railwatch.feed_position')
$$;
comment on function railwatch.feed_instance is 'Which run of which server this is, and on which files of the feed.';

create function railwatch.generation_after(generation uuid, instance text) returns uuid
language sql immutable as $$ select md5(generation || '/' || instance)::uuid $$;
comment on function railwatch.generation_after is 'Return the generation that another instance begins, before it is recorded.';

create function railwatch.feed_end() returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
    select last_seq from railwatch.feed_position order by last_seq desc limit 1
$$;
comment on function railwatch.feed_end is 'The feed''s last seq, whatever a backup keeps of older ones.';

create function railwatch.feed_generation() returns uuid
language sql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
    -- A standby shows what its primary wrote. A promoted standby is a new instance, from its first query on.
    select case when p.instance is distinct from railwatch.feed_instance() and not pg_is_in_recovery()
                then railwatch.generation_after(p.generation, railwatch.feed_instance()) else p.generation end
    from railwatch.feed_position p order by p.last_seq desc limit 1
$$;
comment on function railwatch.feed_generation is 'The feed''s generation: another one after every failover, restore or restart. Readers store it with their position.';

create function railwatch.begin_generation() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    -- As in next_seq: Postgres ends a session that holds this row and idles for ten seconds.
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
comment on function railwatch.begin_generation is 'Record a generation with the first line that another instance writes, or on its own.';

create trigger begin_generation before update on railwatch.feed_position
    for each row when (new.instance is distinct from railwatch.feed_instance() or new.generation <> old.generation)
    execute function railwatch.begin_generation();

create function railwatch.note_generation() returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
begin
    update railwatch.feed_position set last_seq = last_seq
    where last_seq >= railwatch.feed_end() and instance is distinct from railwatch.feed_instance();
    return (select p.generation from railwatch.feed_position p order by p.last_seq desc limit 1);
end $$;
comment on function railwatch.note_generation is 'Record a new generation if the server is another one than the last. Daemon and deliverer call it every few seconds.';

create function railwatch.renew_feed(last_common bigint) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
    newest bigint;
    inserted uuid;
begin
    update railwatch.feed_position set generation = gen_random_uuid() where last_seq >= railwatch.feed_end()
    returning last_seq, generation into newest, inserted;
    if last_common is null or last_common not between 0 and newest then
        perform railwatch.raise_error('RW001', 'renew_feed(' || coalesce(last_common::text, 'null')
            || '): give the last seq that is the same as before, from 0 to ' || newest);
    end if;
    update railwatch.feed_generations set started_after = last_common where started_after > last_common;
    return inserted;
end $$;
comment on function railwatch.renew_feed is 'Begin a generation by hand, where the feed went back and Postgres cannot detect it. Every reader returns to last_common.';

create function railwatch.feed_check(generation uuid, seq bigint, event_id uuid) returns bigint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    newest bigint := railwatch.feed_end();
    existing railwatch.feed_generations;
    common bigint;
begin
    if feed_check.seq is null or feed_check.seq < 0 then
        perform railwatch.raise_error('RW001', 'feed_check takes a seq of at least 0');
    end if;
    select * into existing from railwatch.feed_generations g where g.generation = feed_check.generation;
    if found then
        -- The generation that followed began where the two may part: up to there they are one.
        common := (select g.started_after from railwatch.feed_generations g where g.number = existing.number + 1);
    elsif feed_check.generation <> railwatch.feed_generation() then
        return 0;
    end if;
    if common is null then
        common := newest;
    end if;
    if feed_check.seq > common then
        -- Beyond the end of the newest generation: the feed went back, and its extent is unknown.
        return case when existing.generation = railwatch.feed_generation() then existing.started_after else common end;
    end if;
    if feed_check.seq > 0 and feed_check.event_id is not null and not exists (
        select from railwatch.transitions t where t.seq = feed_check.seq and t.event_id = feed_check.event_id) then
        return least(feed_check.seq, coalesce(existing.started_after, 0));
    end if;
    return feed_check.seq;
end $$;
comment on function railwatch.feed_check is 'Return the seq from which a reader continues, given its last line: the same where all is well, else the last that is surely common.';

create function railwatch.next_seq(how_many int) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
    first bigint;
begin
    if how_many is null or how_many not between 0 and 100000000 then
        perform railwatch.raise_error('RW001', 'next_seq(' || coalesce(how_many::text, 'null') || '): at most 10^8 seqs are allocated at once');
    end if;
    -- A session that holds the counter and idles blocks every writer: Postgres ends it after ten seconds.
    if current_setting('idle_in_transaction_session_timeout')::interval not between '1 ms' and '10 s' then
        perform set_config('idle_in_transaction_session_timeout', '10s', true);
    end if;
    -- A crash must not lose a line that a reader has read, however the server is tuned.
    if current_setting('synchronous_commit') = 'off' then
        perform set_config('synchronous_commit', 'on', true);
    end if;
    -- By the newest version's place in the index, and at or above it: who had to wait finds the row moved on by then.
    update railwatch.feed_position set last_seq = last_seq + how_many
    where last_seq >= (select p.last_seq from railwatch.feed_position p order by p.last_seq desc limit 1)
    returning last_seq - how_many + 1 into first;
    return first;
end $$;
comment on function railwatch.next_seq is 'Allocate seqs for the feed, and return the first. Call it last: it blocks every other writer until the commit.';

create function railwatch.notify(channel text, payload text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if channel in ('railwatch', 'railwatch_work', 'railwatch_webhooks') is not true then
        perform railwatch.raise_error('RW001', 'notify: unknown channel');
    end if;
    perform pg_notify(channel, left(payload, 100)) where pg_notification_queue_usage() < 0.5;
end $$;
comment on function railwatch.notify is 'Send a notification, unless the server''s queue is half full: once it is full, every commit that notifies fails. A notification is only a hint.';

create function railwatch.append_invoice_transition(
    invoice railwatch.invoices, from_state text, reason text, cause text, evidence jsonb
) returns void
language plpgsql as $$
declare
    holder bigint := railwatch.next_seq(1);
begin
    insert into railwatch.transitions
        (seq, event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause, seen_amount,
         confirmed_amount, evidence)
    select holder, md5('railwatch/' || invoice.id || '/' || invoice.version || '/' || invoice.state)::uuid, 'invoice',
           invoice.id, invoice.id, from_state, invoice.state, reason, cause, d.seen_amount, d.confirmed_amount,
           evidence || jsonb_build_object('login', session_user)
    from railwatch.destinations d
    where d.invoice_id = invoice.id
    order by d.confirmed_amount / d.expected_amount desc, (d.seen_amount + d.late_amount) / d.expected_amount desc, d.position
    limit 1;
    perform railwatch.notify('railwatch', holder::text);
end $$;
comment on function railwatch.append_invoice_transition is 'Append an invoice''s manual transition to the feed.';

create function railwatch.append_manual_transition(
    about text, subject_id uuid, invoice uuid, from_state text, to_state text, reason text, cause text, on_rail text,
    tx text, evidence jsonb, version int default null
) returns void
language plpgsql as $$
declare
    holder bigint := railwatch.next_seq(1);
begin
    insert into railwatch.transitions
        (seq, event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause, rail, tx_id, evidence)
    values (holder, md5(concat_ws('/', 'railwatch', about, subject_id, version, to_state))::uuid, about, subject_id, invoice,
            from_state, to_state, reason, cause, on_rail, tx,
            jsonb_strip_nulls(evidence) || jsonb_build_object('login', session_user));
    perform railwatch.notify('railwatch', holder::text);
end $$;
comment on function railwatch.append_manual_transition is 'Append a manual transition of another subject than an invoice to the feed. A subject that may reach a state more than once gives its version.';

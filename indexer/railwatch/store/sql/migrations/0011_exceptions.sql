-- An invoice that no step can be taken with is set aside alone, and what the chain brings for it meanwhile is kept.

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
comment on table railwatch.quarantine is 'Invoices that the daemon could not process on a rail. The rail goes on without them; they are tried again, and lose nothing.';
comment on column railwatch.quarantine.rail is 'The rail whose step failed.';
comment on column railwatch.quarantine.invoice_id is 'The invoice.';
comment on column railwatch.quarantine.reason is 'What failed, at the newest attempt.';
comment on column railwatch.quarantine.since is 'When it was set aside.';
comment on column railwatch.quarantine.tries is 'How many attempts have failed since.';
comment on column railwatch.quarantine.retry_at is 'When the daemon tries again.';
comment on column railwatch.quarantine.fork_height is 'The lowest fork point of reorgs since: inclusions above it are taken back first. Null: there was no reorg.';

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
comment on table railwatch.deferred_transfers is 'What the chain showed for invoices in quarantine, to be taken in when they can be processed again.';
comment on column railwatch.deferred_transfers.invoice_id is 'The invoice.';
comment on column railwatch.deferred_transfers.rail is 'The rail that it was seen on.';
comment on column railwatch.deferred_transfers.detection_id is 'The id of the detection that it becomes.';
comment on column railwatch.deferred_transfers.tx_id is 'The transaction, for people.';
comment on column railwatch.deferred_transfers.block_height is 'Its newest block; null: it waited for one.';
comment on column railwatch.deferred_transfers.seen_at is 'When it was first seen.';
comment on column railwatch.deferred_transfers.orphaned is 'Whether a reorg has taken that block away, and no other has shown it since.';
comment on column railwatch.deferred_transfers.transfer is 'Not for readers: all that the node told of it, as JSON.';

create function railwatch.set_aside(on_rail text, invoice uuid, why text, retry_in float8) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    nth int;
    made uuid;
begin
    insert into railwatch.quarantine (rail, invoice_id, reason, retry_at)
    values (on_rail, invoice, why, now() + make_interval(secs => retry_in))
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

create function railwatch.take_back(on_rail text, invoice uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    standing railwatch.exceptions;
begin
    delete from railwatch.deferred_transfers t where t.invoice_id = take_back.invoice and t.rail = on_rail;
    delete from railwatch.quarantine q where q.invoice_id = take_back.invoice and q.rail = on_rail;
    if exists (select from railwatch.quarantine q where q.invoice_id = take_back.invoice) then
        return;
    end if;
    for standing in
        update railwatch.exceptions e
        set ended_at = now(), resolved_at = coalesce(e.resolved_at, now()), resolution = coalesce(e.resolution, 'made good')
        where e.kind = 'processing_failed' and e.invoice_id = take_back.invoice and e.ended_at is null
        returning e.*
    loop
        -- What a person has resolved was told then.
        if standing.resolution = 'made good' then
            perform railwatch.append_act('exception', standing.id, invoice, 'open', 'resolved', 'processing_failed', 'chain',
                on_rail, null, '{}');
        end if;
    end loop;
end $$;
comment on function railwatch.take_back is 'End an invoice''s quarantine on a rail, and processing_failed with its last one. Only the daemon calls it, within the step that caught up.';

-- Exceptions about transfers: one row for each destination, kind and asset, with a count and a sum.

alter table railwatch.exceptions
    add column destination_id uuid references railwatch.destinations (id),
    add column rail text,
    add column asset text,
    add column transfers int not null default 0,
    add column amount numeric not null default 0,
    add column told_transfers int not null default 0,
    add column told_amount numeric not null default 0;
comment on column railwatch.exceptions.detection_id is 'The transfer that it is about; where it is about several, the one that opened it.';
comment on column railwatch.exceptions.destination_id is 'The destination whose transfers it is about, all of one rail and asset; null: it is not about several.';
comment on column railwatch.exceptions.rail is 'The rail of those transfers.';
comment on column railwatch.exceptions.asset is 'CAIP-19 id of what they brought.';
comment on column railwatch.exceptions.transfers is 'How many of them it holds now. Which ones: exception_transfers.';
comment on column railwatch.exceptions.amount is 'Their sum in base units.';
comment on column railwatch.exceptions.told_transfers is 'The most of them that the feed has heard of.';
comment on column railwatch.exceptions.told_amount is 'The largest sum that the feed has heard of.';

create table railwatch.exception_transfers (
    exception_id uuid not null references railwatch.exceptions (id),
    detection_id uuid not null references railwatch.detections (id),
    amount numeric(78, 0) not null,
    joined_at timestamptz not null default now(),
    left_at timestamptz,
    primary key (exception_id, detection_id)
);
create index exception_transfers_held on railwatch.exception_transfers (detection_id) where left_at is null;
comment on table railwatch.exception_transfers is 'Which transfers an exception about transfers holds, and held.';
comment on column railwatch.exception_transfers.exception_id is 'The exception.';
comment on column railwatch.exception_transfers.detection_id is 'The transfer.';
comment on column railwatch.exception_transfers.amount is 'With which amount it is counted there, in base units.';
comment on column railwatch.exception_transfers.joined_at is 'When it came to be counted there.';
comment on column railwatch.exception_transfers.left_at is 'When it ceased to be, because the facts changed; null: it is counted, or was when the exception ended.';

-- What was a row for each transfer. All rows of a group are numbered anew; of several open ones the oldest holds all.
with grouped as (
    select e.id, x.destination_id, x.rail, x.asset, x.amount, e.ended_at,
           row_number() over (partition by e.kind, x.destination_id, x.rail, x.asset
                              order by e.resolved_at is null and e.ended_at is null, e.opened_at, e.id) as nth
    from railwatch.exceptions e join railwatch.detections x on x.id = e.detection_id
    where e.kind in ('late', 'wrong_asset', 'wrong_network', 'unsupported_asset', 'unexpected_payment', 'double_spend')
)
update railwatch.exceptions e
set destination_id = g.destination_id, rail = g.rail, asset = g.asset, round = g.nth,
    transfers = case when g.ended_at is null then 1 else 0 end, amount = case when g.ended_at is null then g.amount else 0 end,
    told_transfers = 1, told_amount = g.amount
from grouped g where e.id = g.id;

insert into railwatch.exception_transfers (exception_id, detection_id, amount, joined_at, left_at)
select e.id, e.detection_id, e.told_amount, e.opened_at, e.ended_at from railwatch.exceptions e where e.destination_id is not null;

create index exceptions_groups on railwatch.exceptions (invoice_id, kind, destination_id, rail, asset, round)
    where destination_id is not null;
drop index railwatch.exceptions_newest;
create index exceptions_newest on railwatch.exceptions (invoice_id, kind, round)
    where detection_id is null and balance_id is null and destination_id is null;

do $$
declare
    kept record;
    other railwatch.exceptions;
begin
    for kept in
        select e.kind, e.destination_id, e.rail, e.asset, count(*) as transfers, sum(e.amount) as amount,
               (array_agg(e.id order by e.opened_at, e.id))[1] as id, max(e.round) as newest
        from railwatch.exceptions e
        where e.destination_id is not null and e.resolved_at is null and e.ended_at is null
        group by e.kind, e.destination_id, e.rail, e.asset having count(*) > 1
    loop
        for other in
            select * from railwatch.exceptions e
            where (e.kind, e.destination_id, e.rail, e.asset) = (kept.kind, kept.destination_id, kept.rail, kept.asset)
              and e.resolved_at is null and e.ended_at is null and e.id <> kept.id order by e.opened_at, e.id
        loop
            update railwatch.exception_transfers set exception_id = kept.id where exception_id = other.id;
            update railwatch.exceptions
            set resolved_at = now(), ended_at = now(), resolution = 'merged into ' || kept.id, transfers = 0, amount = 0, round = round - 1
            where id = other.id;
            perform railwatch.append_act('exception', other.id, other.invoice_id, 'open', 'resolved', other.kind, 'operator',
                other.rail, (select tx_id from railwatch.detections where id = other.detection_id),
                jsonb_build_object('resolution', 'merged into ' || kept.id));
        end loop;
        update railwatch.exceptions
        set transfers = kept.transfers, amount = kept.amount, told_transfers = kept.transfers, told_amount = kept.amount,
            round = kept.newest
        where id = kept.id;
    end loop;
end $$;

drop view railwatch.open_exceptions;
create view railwatch.open_exceptions as
select e.id, e.severity, e.kind, now() - e.opened_at as age, i.merchant_id, i.order_id, i.state as invoice_state, e.owner, e.notes,
       e.opened_at, e.round, e.invoice_id, e.detection_id, coalesce(e.rail, x.rail, b.rail) as rail,
       coalesce(e.asset, x.asset, b.asset) as asset,
       case when e.destination_id is not null then e.amount else coalesce(x.amount, b.unattributed) end as amount,
       x.tx_id, x.tx_index, x.state as transfer,
       case when e.destination_id is not null then e.transfers when e.detection_id is not null then 1 end as transfers
from railwatch.exceptions e
join railwatch.invoices i on i.id = e.invoice_id
left join railwatch.detections x on x.id = e.detection_id
left join railwatch.balances b on b.id = e.balance_id
where e.resolved_at is null
order by array_position(array['critical', 'warning', 'info'], e.severity), e.opened_at, e.id;
comment on view railwatch.open_exceptions is 'What somebody has to look at now, with its age and its transfers; the worst and oldest first.';
comment on column railwatch.open_exceptions.id is 'The exception.';
comment on column railwatch.open_exceptions.severity is 'info, warning or critical.';
comment on column railwatch.open_exceptions.kind is 'See docs/exceptions.md.';
comment on column railwatch.open_exceptions.age is 'For how long it has been open.';
comment on column railwatch.open_exceptions.merchant_id is 'The invoice''s merchant.';
comment on column railwatch.open_exceptions.order_id is 'The invoice''s order.';
comment on column railwatch.open_exceptions.invoice_state is 'Where the invoice stands now.';
comment on column railwatch.open_exceptions.owner is 'Who looks at it.';
comment on column railwatch.open_exceptions.notes is 'What was found out.';
comment on column railwatch.open_exceptions.opened_at is 'When it opened.';
comment on column railwatch.open_exceptions.round is 'Which occurrence of the same thing it is, from 1.';
comment on column railwatch.open_exceptions.invoice_id is 'The invoice.';
comment on column railwatch.open_exceptions.detection_id is 'The transfer that it is about; of several, the one that opened it.';
comment on column railwatch.open_exceptions.rail is 'The rail of those transfers, or of the balance that it is about.';
comment on column railwatch.open_exceptions.asset is 'CAIP-19 id of what arrived.';
comment on column railwatch.open_exceptions.amount is 'Base units that arrived, in all of its transfers; of a balance, those that no transfer explains.';
comment on column railwatch.open_exceptions.tx_id is 'The transaction that opened it.';
comment on column railwatch.open_exceptions.tx_index is 'Which credit of that transaction.';
comment on column railwatch.open_exceptions.transfer is 'The state of that transfer now.';
comment on column railwatch.open_exceptions.transfers is 'How many transfers it holds; null: it is about none.';

-- A person decides what becomes of a payment that a second look has contradicted.
alter table railwatch.detections drop constraint detections_second_look_check;
alter table railwatch.detections add constraint detections_second_look_check
    check (second_look in ('verified', 'unverified', 'mismatch', 'accepted', 'rejected'));
comment on column railwatch.detections.second_look is 'What reading its block once more said: verified; unverified, as no node could tell; mismatch. accepted or rejected: a person''s verdict on a mismatch. Null: not asked yet.';

-- One that was resolved without a verdict is opened anew: nothing says what was decided.
do $$
declare
    old railwatch.exceptions;
    made uuid;
begin
    for old in
        update railwatch.exceptions set ended_at = now()
        where kind = 'content_mismatch' and resolved_at is not null and ended_at is null returning *
    loop
        made := md5('railwatch/content_mismatch/' || old.id)::uuid;
        insert into railwatch.exceptions (id, invoice_id, detection_id, kind, severity, round, owner, notes)
        values (made, old.invoice_id, old.detection_id, old.kind, old.severity, old.round + 1, old.owner, old.notes);
        perform railwatch.append_act('exception', made, old.invoice_id, null, 'open', old.kind, 'operator', x.rail, x.tx_id,
            jsonb_build_object('resolved_without_verdict', old.resolution))
        from railwatch.detections x where x.id = old.detection_id;
    end loop;
end $$;

drop function railwatch.resolve_exception(uuid, text, text, text, text);
create function railwatch.resolve_exception(
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

-- A balance is read again, once no reorg can undo its block, before anybody is told what it holds beyond.
alter table railwatch.balances
    add column suspect_height bigint,
    add column suspect_hash text,
    add column suspect_balance numeric(78, 0),
    add column suspect_node text,
    add column second_look text check (second_look in ('verified', 'unverified')),
    add column second_node text;
comment on column railwatch.balances.suspect_height is 'The block at which the node first told more than is known. Null: nothing is unattributed.';
comment on column railwatch.balances.suspect_hash is 'Hash of that block.';
comment on column railwatch.balances.suspect_balance is 'What the address held then, as that node told it.';
comment on column railwatch.balances.suspect_node is 'That node.';
comment on column railwatch.balances.second_look is 'What reading that balance again said, once no reorg could undo its block: verified; unverified, as no node could tell. Null: not yet, so that nobody is told.';
comment on column railwatch.balances.second_node is 'The node that told it again.';
update railwatch.balances
set suspect_height = block_height, suspect_hash = block_hash, suspect_balance = balance, suspect_node = node, second_look = 'unverified'
where unattributed > 0;
create index balances_suspect on railwatch.balances (rail, suspect_height) where suspect_height is not null and second_look is null;

insert into railwatch.rights (role, object, privileges)
select role, object, 'select'
from unnest(array['railwatch_daemon', 'railwatch_service', 'railwatch_reader']) as role,
     unnest(array['railwatch.quarantine', 'railwatch.deferred_transfers', 'railwatch.exception_transfers']) as object;
insert into railwatch.rights (role, object, privileges)
values ('railwatch_daemon', 'railwatch.quarantine', 'update'),
       ('railwatch_daemon', 'railwatch.deferred_transfers', 'insert, update'),
       ('railwatch_daemon', 'railwatch.exception_transfers', 'insert, update'),
       ('railwatch_daemon', 'function railwatch.set_aside', 'execute'),
       ('railwatch_daemon', 'function railwatch.take_back', 'execute');

-- A person may decide to follow another chain.
create table railwatch.chain_acceptances (
    id uuid primary key default gen_random_uuid(),
    rail text not null references railwatch.rails (name),
    fork_height bigint not null,
    fork_hash text not null,
    is_common boolean not null,
    left_height bigint not null,
    left_hash text not null,
    actor text not null,
    reason text not null,
    accepted_at timestamptz not null default now(),
    applied_at timestamptz
);
create unique index chain_acceptances_open on railwatch.chain_acceptances (rail) where applied_at is null;
comment on table railwatch.chain_acceptances is 'Decisions of people to follow a chain that left ours below what no reorg may pass.';
comment on column railwatch.chain_acceptances.id is 'The decision.';
comment on column railwatch.chain_acceptances.rail is 'The rail.';
comment on column railwatch.chain_acceptances.fork_height is 'Everything above this height is taken back.';
comment on column railwatch.chain_acceptances.fork_hash is 'The block there on the chain that is followed from then on.';
comment on column railwatch.chain_acceptances.is_common is 'Whether it is a block that we had followed too; false: the two chains have no block in common that we know.';
comment on column railwatch.chain_acceptances.left_height is 'Where the rail stood on the chain that was left.';
comment on column railwatch.chain_acceptances.left_hash is 'Hash of that block.';
comment on column railwatch.chain_acceptances.actor is 'Who decided.';
comment on column railwatch.chain_acceptances.reason is 'Why.';
comment on column railwatch.chain_acceptances.accepted_at is 'When.';
comment on column railwatch.chain_acceptances.applied_at is 'When the daemon took everything above the fork back; null: it has not yet.';

create function railwatch.accept_chain(
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

insert into railwatch.rights (role, object, privileges)
select role, 'railwatch.chain_acceptances', 'select'
from unnest(array['railwatch_daemon', 'railwatch_service', 'railwatch_reader']) as role;
insert into railwatch.rights (role, object, privileges)
values ('railwatch_daemon', 'railwatch.chain_acceptances', 'update (applied_at)'),
       ('railwatch_daemon', 'railwatch.invoices', 'update (closes_at)'),
       ('railwatch_daemon', 'function railwatch.accept_chain', 'execute');

select railwatch.grant_rights();

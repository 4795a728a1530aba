-- Exceptions that time brings, what a person's word is about, and observations that nothing overwrites.

alter table railwatch.rails add column stuck_after interval not null default '2 hours';
alter table railwatch.rails add column blind_after interval not null default '5 minutes';
alter table railwatch.rails add column neighbours_at timestamptz;
comment on column railwatch.rails.stuck_after is 'How long a payment may wait here before stuck_confirming opens.';
comment on column railwatch.rails.blind_after is 'How long nothing may be seen here before detection_delayed opens.';
comment on column railwatch.rails.neighbours_at is 'Addresses that other rails of the family took in up to then were looked back for here too.';

alter table railwatch.invoices add column weighed int not null default 1;
update railwatch.invoices set weighed = version;
create index invoices_open on railwatch.invoices (created_at, id)
    where state in ('created', 'detected', 'confirming', 'underpaid', 'flagged');
create index invoices_waiting on railwatch.invoices (state_since) where state in ('detected', 'confirming');
create index invoices_unweighed on railwatch.invoices (id) where weighed <> version;
comment on column railwatch.invoices.weighed is 'The version at which its exceptions were last compared with the facts.';

alter table railwatch.destinations add column left_out bigint not null default 0;
comment on column railwatch.destinations.left_out is 'Sightings of tokens that are not configured, beyond the ten that are kept as detections.';

alter table railwatch.exceptions add column ended_at timestamptz;
update railwatch.exceptions set ended_at = resolved_at where resolution = 'made good';
create index exceptions_standing on railwatch.exceptions (kind, invoice_id) where ended_at is null;
comment on column railwatch.exceptions.ended_at is 'When what it is about was over, whoever resolved it; null: the facts stand. Only then can a new one open.';

comment on column railwatch.detections.evidence is 'Decoded facts: sender, position, source, node. What is here is never overwritten, only added to.';

create table railwatch.observations (
    detection_id uuid not null,
    version int not null,
    state text not null,
    block_height bigint,
    block_hash text,
    block_time timestamptz,
    node text,
    facts jsonb not null,
    raw jsonb,
    recorded_at timestamptz not null default now(),
    primary key (detection_id, version)
);
comment on table railwatch.observations is 'Each sighting of a transfer as a node told it: append-only, even for its owner.';
comment on column railwatch.observations.detection_id is 'The transfer.';
comment on column railwatch.observations.version is 'The detection''s version that told of it; transitions name it in their evidence.';
comment on column railwatch.observations.state is 'pending, or included: in a block.';
comment on column railwatch.observations.block_height is 'The block that it was seen in.';
comment on column railwatch.observations.block_hash is 'Hash of that block, orphaned or not.';
comment on column railwatch.observations.block_time is 'Chain time of that block.';
comment on column railwatch.observations.node is 'The node that told it.';
comment on column railwatch.observations.facts is 'What the adapter decoded.';
comment on column railwatch.observations.raw is 'What the node said, as far as the adapter keeps it: at most 4 kB, else its size and digest.';
comment on column railwatch.observations.recorded_at is 'The database''s clock.';

create trigger append_only before update or delete or truncate on railwatch.observations
    for each statement execute function railwatch.refuse_change();
alter table railwatch.observations enable always trigger append_only;

create view railwatch.open_exceptions as
select e.id, e.severity, e.kind, now() - e.opened_at as age, i.merchant_id, i.order_id, i.state as invoice_state, e.owner, e.notes,
       e.opened_at, e.round, e.invoice_id, e.detection_id, x.rail, x.asset, x.amount, x.tx_id, x.tx_index, x.state as transfer
from railwatch.exceptions e
join railwatch.invoices i on i.id = e.invoice_id
left join railwatch.detections x on x.id = e.detection_id
where e.resolved_at is null
order by array_position(array['critical', 'warning', 'info'], e.severity), e.opened_at, e.id;
comment on view railwatch.open_exceptions is 'What somebody has to look at now, with its age and its transfer; the worst and oldest first.';
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
comment on column railwatch.open_exceptions.detection_id is 'The transfer that it is about, if it is about one.';
comment on column railwatch.open_exceptions.rail is 'The rail of that transfer.';
comment on column railwatch.open_exceptions.asset is 'CAIP-19 id of what arrived.';
comment on column railwatch.open_exceptions.amount is 'Base units that arrived.';
comment on column railwatch.open_exceptions.tx_id is 'The transaction.';
comment on column railwatch.open_exceptions.tx_index is 'Which credit of the transaction.';
comment on column railwatch.open_exceptions.transfer is 'The transfer''s state now.';

insert into railwatch.rights (role, object, privileges)
select role, object, 'select'
from unnest(array['railwatch_daemon', 'railwatch_service', 'railwatch_reader']) as role,
     unnest(array['railwatch.observations', 'railwatch.open_exceptions']) as object;
insert into railwatch.rights (role, object, privileges)
values ('railwatch_daemon', 'railwatch.observations', 'insert'),
       ('railwatch_daemon', 'railwatch.invoices', 'update (weighed)'),
       ('railwatch_daemon', 'railwatch.destinations', 'update (left_out)');

select railwatch.grant_rights();

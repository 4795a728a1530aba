create table railwatch.webhook_endpoints (
    name text primary key,
    place text not null,
    events text[] not null,
    enabled boolean not null default true,
    configured boolean not null default true,
    delivered bigint not null default 0,
    last_delivered_at timestamptz,
    last_failed_at timestamptz,
    last_failure text,
    created_at timestamptz not null default now(),
    position bigint not null default 0,
    moved_at timestamptz not null default now()
);
comment on table railwatch.webhook_endpoints is 'Where events are posted to, mirrored from the configuration when the deliverer starts.';
comment on column railwatch.webhook_endpoints.name is 'The endpoint''s name in the configuration.';
comment on column railwatch.webhook_endpoints.place is 'Scheme, host and port of its URL. The rest may be secret, and stays in the configuration.';
comment on column railwatch.webhook_endpoints.events is 'Which events it gets: types, in which * stands for anything.';
comment on column railwatch.webhook_endpoints.enabled is 'False: an operator has paused it. Nothing is read for it or sent to it, and nothing is lost.';
comment on column railwatch.webhook_endpoints.configured is 'Whether the configuration of the deliverer''s last start had it.';
comment on column railwatch.webhook_endpoints.delivered is 'How many events it has accepted.';
comment on column railwatch.webhook_endpoints.last_delivered_at is 'When it last accepted one.';
comment on column railwatch.webhook_endpoints.last_failed_at is 'When an attempt last failed.';
comment on column railwatch.webhook_endpoints.last_failure is 'Why it did.';
comment on column railwatch.webhook_endpoints.created_at is 'When it was first mirrored.';
comment on column railwatch.webhook_endpoints.position is 'The last seq of the feed that was read for it.';
comment on column railwatch.webhook_endpoints.moved_at is 'When that was.';

create table railwatch.webhook_deliveries (
    endpoint text not null references railwatch.webhook_endpoints (name) on delete cascade,
    seq bigint not null,
    event_id uuid not null,
    lane uuid not null,
    state text not null default 'pending' check (state in ('pending', 'dead')),
    attempts int not null default 0,
    due_at timestamptz not null default now(),
    queued_at timestamptz not null default now(),
    tried_at timestamptz,
    failure text,
    primary key (endpoint, seq)
);
create index webhook_deliveries_next on railwatch.webhook_deliveries (endpoint, lane, seq) where state = 'pending';
create index webhook_deliveries_dead on railwatch.webhook_deliveries (endpoint, seq) where state = 'dead';
comment on table railwatch.webhook_deliveries is 'Pending deliveries. A row is deleted when the endpoint accepts the event.';
comment on column railwatch.webhook_deliveries.endpoint is 'The endpoint.';
comment on column railwatch.webhook_deliveries.seq is 'The event: its transition.';
comment on column railwatch.webhook_deliveries.event_id is 'That transition''s event_id, sent as webhook-id with every attempt.';
comment on column railwatch.webhook_deliveries.lane is 'The invoice, or the subject of an event that belongs to none. A lane''s events go out one after another.';
comment on column railwatch.webhook_deliveries.state is 'pending, or dead: given up after the last attempt, until an operator replays it.';
comment on column railwatch.webhook_deliveries.attempts is 'How many have failed.';
comment on column railwatch.webhook_deliveries.due_at is 'Not before this moment; the pauses grow with the attempts.';
comment on column railwatch.webhook_deliveries.queued_at is 'When it was read from the feed, or replayed.';
comment on column railwatch.webhook_deliveries.tried_at is 'When the last attempt ended.';
comment on column railwatch.webhook_deliveries.failure is 'Why the last attempt failed.';

create function railwatch.event_type(subject text, to_state text, reason text) returns text
language sql immutable
-- A reversal has a type of its own: an invoice that fell back to created must not pass for a new one. If only a surplus
-- was lost, the invoice is settled as before, and nothing has to be stopped.
return case when subject = 'invoice' and reason = 'reversed' and to_state not in ('paid', 'overpaid', 'late_paid')
            then 'invoice.reversed'
            when subject = 'unallocated_transfer' and reason = 'assigned' then 'unallocated_transfer.assigned'
            when subject = 'exception' then concat_ws('.', subject, to_state, reason)
            else concat_ws('.', subject, to_state) end;
comment on function railwatch.event_type is 'What a webhook calls a transition: invoice.paid, invoice.reversed, detection.final, exception.open.underpaid ...';

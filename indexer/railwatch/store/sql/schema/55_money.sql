create table railwatch.refunds (
    id uuid primary key default gen_random_uuid(),
    invoice_id uuid not null references railwatch.invoices (id),
    rail text not null references railwatch.rails (name),
    asset text not null,
    amount numeric(78, 0) not null check (amount > 0),
    tx_id text not null,
    reason text,
    actor text not null,
    recorded_at timestamptz not null default now(),
    surplus numeric(78, 0) not null default 0,
    waived numeric(78, 0) not null default 0,
    unique (invoice_id, rail, asset, tx_id)
);
create index refunds_tx on railwatch.refunds (tx_id);
comment on table railwatch.refunds is 'What was given back, as people and services recorded it. Append-only.';
comment on column railwatch.refunds.id is 'Returned by record_refund.';
comment on column railwatch.refunds.invoice_id is 'The invoice whose money it was.';
comment on column railwatch.refunds.rail is 'The rail that the money had come on.';
comment on column railwatch.refunds.asset is 'CAIP-19 id of what had come.';
comment on column railwatch.refunds.amount is 'Base units of it that were given back.';
comment on column railwatch.refunds.tx_id is 'The refund''s own transaction, or another reference to it.';
comment on column railwatch.refunds.reason is 'Why.';
comment on column railwatch.refunds.actor is 'Who recorded it.';
comment on column railwatch.refunds.recorded_at is 'The database''s clock.';
comment on column railwatch.refunds.surplus is 'Base units of it that were more than the order asked for when it was recorded.';
comment on column railwatch.refunds.waived is 'Base units of it that were given back of a settled order by choice: the order does not ask for them again.';

create table railwatch.settlements (
    id uuid primary key default gen_random_uuid(),
    invoice_id uuid not null references railwatch.invoices (id),
    reference text not null,
    note text,
    actor text not null,
    recorded_at timestamptz not null default now(),
    unique (invoice_id, reference)
);
comment on table railwatch.settlements is 'Where finance booked an invoice: payout, batch or ledger entry. Append-only.';
comment on column railwatch.settlements.id is 'Returned by record_settlement.';
comment on column railwatch.settlements.invoice_id is 'The invoice.';
comment on column railwatch.settlements.reference is 'Finance''s own reference.';
comment on column railwatch.settlements.note is 'Anything else.';
comment on column railwatch.settlements.actor is 'Who recorded it.';
comment on column railwatch.settlements.recorded_at is 'The database''s clock.';

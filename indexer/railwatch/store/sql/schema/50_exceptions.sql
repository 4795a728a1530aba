create table railwatch.exceptions (
    id uuid primary key,
    invoice_id uuid references railwatch.invoices (id),
    detection_id uuid references railwatch.detections (id),
    kind text not null,
    severity text not null check (severity in ('info', 'warning', 'critical')),
    opened_at timestamptz not null default now(),
    resolved_at timestamptz,
    resolution text,
    owner text,
    notes text,
    round int not null default 1,
    ended_at timestamptz,
    balance_id uuid references railwatch.balances (id),
    destination_id uuid references railwatch.destinations (id),
    rail text,
    asset text,
    transfers int not null default 0,
    amount numeric not null default 0,
    told_transfers int not null default 0,
    told_amount numeric not null default 0,
    transfer_id uuid references railwatch.unallocated_transfers (id),
    subject text not null generated always as (case when transfer_id is null then 'invoice' else 'unallocated_transfer' end) stored,
    subject_id uuid not null generated always as (coalesce(transfer_id, invoice_id)) stored,
    check (num_nonnulls(invoice_id, transfer_id) = 1)
);
create index exceptions_invoice on railwatch.exceptions (invoice_id);
create index exceptions_transfer on railwatch.exceptions (transfer_id) where transfer_id is not null;
create index exceptions_open on railwatch.exceptions (opened_at) where resolved_at is null;
create index exceptions_open_occurrence on railwatch.exceptions (kind, invoice_id) where ended_at is null;
create index exceptions_detection on railwatch.exceptions (detection_id) where detection_id is not null;
create index exceptions_balance on railwatch.exceptions (invoice_id) where balance_id is not null;
create index exceptions_newest on railwatch.exceptions (invoice_id, kind, round)
    where detection_id is null and balance_id is null and destination_id is null;
create index exceptions_groups on railwatch.exceptions (invoice_id, kind, destination_id, rail, asset, round)
    where destination_id is not null;
comment on table railwatch.exceptions is 'What a person must know or decide: about an invoice, in addition to its state, or about another subject. Several can be open at once.';
comment on column railwatch.exceptions.id is 'Derived from what it is about.';
comment on column railwatch.exceptions.invoice_id is 'The invoice; null: it is about another subject.';
comment on column railwatch.exceptions.detection_id is 'The transfer that it is about; where it is about several, the one that opened it.';
comment on column railwatch.exceptions.kind is 'underpaid, overpaid, late, wrong_asset, reversed ...';
comment on column railwatch.exceptions.severity is 'info, warning or critical.';
comment on column railwatch.exceptions.opened_at is 'When it opened.';
comment on column railwatch.exceptions.resolved_at is 'When it was resolved; null: open.';
comment on column railwatch.exceptions.resolution is 'How: "made good" by the chain, or a person''s words.';
comment on column railwatch.exceptions.owner is 'Who handles it.';
comment on column railwatch.exceptions.notes is 'What was found out.';
comment on column railwatch.exceptions.round is 'How often the same thing has been opened.';
comment on column railwatch.exceptions.ended_at is 'When its cause ended, whether a person had resolved it or not; null: the cause persists. Only then can a new one open.';
comment on column railwatch.exceptions.balance_id is 'The balance that it is about, if it is about one.';
comment on column railwatch.exceptions.destination_id is 'The destination whose transfers it is about, all of one rail and asset; null: it is not about several.';
comment on column railwatch.exceptions.rail is 'The rail of those transfers.';
comment on column railwatch.exceptions.asset is 'CAIP-19 id of what they brought.';
comment on column railwatch.exceptions.transfers is 'How many of them it holds now. Which ones: exception_transfers.';
comment on column railwatch.exceptions.amount is 'Their sum in base units.';
comment on column railwatch.exceptions.told_transfers is 'The most of them that the feed has reported.';
comment on column railwatch.exceptions.told_amount is 'The largest sum that the feed has reported.';
comment on column railwatch.exceptions.transfer_id is 'The unallocated transfer that it is about, if it is about one.';
comment on column railwatch.exceptions.subject is 'What it is about: invoice or unallocated_transfer.';
comment on column railwatch.exceptions.subject_id is 'Id in the subject''s table.';

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

create view railwatch.open_exceptions as
select e.id, e.severity, e.kind, now() - e.opened_at as age, i.merchant_id, i.order_id, i.state as invoice_state, e.owner, e.notes,
       e.opened_at, e.round, e.invoice_id, e.detection_id, coalesce(e.rail, x.rail, b.rail, u.rail) as rail,
       coalesce(e.asset, x.asset, b.asset, u.asset) as asset,
       case when e.destination_id is not null then e.amount else coalesce(x.amount, b.unattributed, u.amount) end as amount,
       coalesce(x.tx_id, u.tx_id) as tx_id, coalesce(x.tx_index, u.tx_index) as tx_index, coalesce(x.state, u.state) as transfer,
       case when e.destination_id is not null then e.transfers
            when e.detection_id is not null or e.transfer_id is not null then 1 end as transfers,
       e.subject, e.subject_id
from railwatch.exceptions e
left join railwatch.invoices i on i.id = e.invoice_id
left join railwatch.detections x on x.id = e.detection_id
left join railwatch.balances b on b.id = e.balance_id
left join railwatch.unallocated_transfers u on u.id = e.transfer_id
where e.resolved_at is null
order by array_position(array['critical', 'warning', 'info'], e.severity), e.opened_at, e.id;
comment on view railwatch.open_exceptions is 'Open exceptions, with age and transfers; the worst and oldest first.';
comment on column railwatch.open_exceptions.id is 'The exception.';
comment on column railwatch.open_exceptions.severity is 'info, warning or critical.';
comment on column railwatch.open_exceptions.kind is 'See docs/exceptions.md.';
comment on column railwatch.open_exceptions.age is 'For how long it has been open.';
comment on column railwatch.open_exceptions.merchant_id is 'The invoice''s merchant.';
comment on column railwatch.open_exceptions.order_id is 'The invoice''s order.';
comment on column railwatch.open_exceptions.invoice_state is 'The invoice''s state now.';
comment on column railwatch.open_exceptions.owner is 'Who handles it.';
comment on column railwatch.open_exceptions.notes is 'What was found out.';
comment on column railwatch.open_exceptions.opened_at is 'When it opened.';
comment on column railwatch.open_exceptions.round is 'Which occurrence of the same thing it is, from 1.';
comment on column railwatch.open_exceptions.invoice_id is 'The invoice; null: it is about another subject.';
comment on column railwatch.open_exceptions.detection_id is 'The transfer that it is about; of several, the one that opened it.';
comment on column railwatch.open_exceptions.rail is 'The rail of those transfers, or of the balance that it is about.';
comment on column railwatch.open_exceptions.asset is 'CAIP-19 id of what arrived.';
comment on column railwatch.open_exceptions.amount is 'Base units that arrived, in all of its transfers; of a balance, those that no transfer explains.';
comment on column railwatch.open_exceptions.tx_id is 'The transaction that opened it.';
comment on column railwatch.open_exceptions.tx_index is 'Which credit of that transaction.';
comment on column railwatch.open_exceptions.transfer is 'The state of that transfer now.';
comment on column railwatch.open_exceptions.subject is 'What it is about: invoice or unallocated_transfer.';
comment on column railwatch.open_exceptions.subject_id is 'Id in the subject''s table.';
comment on column railwatch.open_exceptions.transfers is 'How many transfers it holds; null: it is about none.';

-- Balances: what an address holds is compared with what was seen to arrive there, so that a gap is visible.

create table railwatch.balances (
    id uuid primary key,
    invoice_id uuid not null references railwatch.invoices (id),
    destination_id uuid not null references railwatch.destinations (id),
    rail text not null references railwatch.rails (name),
    asset text not null,
    baseline numeric(78, 0) not null,
    baseline_height bigint not null,
    baseline_hash text not null,
    balance numeric(78, 0) not null,
    detected numeric(78, 0) not null,
    spent numeric(78, 0) not null,
    unattributed numeric(78, 0) not null check (unattributed >= 0),
    block_height bigint not null,
    block_hash text not null,
    node text not null,
    settled_height bigint,
    settled_balance numeric(78, 0),
    settled_spent numeric(78, 0),
    looked_at timestamptz not null default now(),
    unique (destination_id, asset)
);
create index balances_unattributed on railwatch.balances (invoice_id) where unattributed > 0;
comment on table railwatch.balances is 'The newest look at what an address holds of an asset, on rails that can tell. unattributed is what no transfer explains.';
comment on column railwatch.balances.id is 'Derived from destination and asset.';
comment on column railwatch.balances.invoice_id is 'The invoice that holds the address.';
comment on column railwatch.balances.destination_id is 'The destination whose address it is.';
comment on column railwatch.balances.rail is 'Its rail.';
comment on column railwatch.balances.asset is 'CAIP-19 id of what is counted: the destination''s asset, or the rail''s native one.';
comment on column railwatch.balances.baseline is 'Base units that were there before, and those that a person has accounted for since.';
comment on column railwatch.balances.baseline_height is 'The block of which that was the balance: the one before covered_from, or the first look''s.';
comment on column railwatch.balances.baseline_hash is 'Hash of that block.';
comment on column railwatch.balances.balance is 'What the address held at the newest look.';
comment on column railwatch.balances.detected is 'What the tables hold above the baseline''s block, up to the look''s: live transfers in blocks, of every kind.';
comment on column railwatch.balances.spent is 'What has left the address since the baseline, as far as looks can tell: at least so much.';
comment on column railwatch.balances.unattributed is 'balance + spent - baseline - detected: what came without being seen, at least so much.';
comment on column railwatch.balances.block_height is 'The block of the newest look: the rail''s cursor then.';
comment on column railwatch.balances.block_hash is 'Hash of that block.';
comment on column railwatch.balances.node is 'The node that told it.';
comment on column railwatch.balances.settled_height is 'The newest earlier look that no reorg can undo: counting goes on from it when one has undone the newest. Null: none yet.';
comment on column railwatch.balances.settled_balance is 'What the address held then.';
comment on column railwatch.balances.settled_spent is 'What had left by then.';
comment on column railwatch.balances.looked_at is 'When.';

create index destinations_watching on railwatch.destinations (rail, address_key) where watch_state = 'watching';

alter table railwatch.exceptions add column balance_id uuid references railwatch.balances (id);
comment on column railwatch.exceptions.balance_id is 'The balance that it is about, if it is about one.';

create or replace view railwatch.open_exceptions as
select e.id, e.severity, e.kind, now() - e.opened_at as age, i.merchant_id, i.order_id, i.state as invoice_state, e.owner, e.notes,
       e.opened_at, e.round, e.invoice_id, e.detection_id, coalesce(x.rail, b.rail) as rail, coalesce(x.asset, b.asset) as asset,
       coalesce(x.amount, b.unattributed) as amount, x.tx_id, x.tx_index, x.state as transfer
from railwatch.exceptions e
join railwatch.invoices i on i.id = e.invoice_id
left join railwatch.detections x on x.id = e.detection_id
left join railwatch.balances b on b.id = e.balance_id
where e.resolved_at is null
order by array_position(array['critical', 'warning', 'info'], e.severity), e.opened_at, e.id;
comment on column railwatch.open_exceptions.rail is 'The rail of that transfer, or of the balance that it is about.';
comment on column railwatch.open_exceptions.asset is 'CAIP-19 id of what arrived.';
comment on column railwatch.open_exceptions.amount is 'Base units that arrived; of a balance, those that no transfer explains.';

insert into railwatch.rights (role, object, privileges)
select role, 'railwatch.balances', 'select'
from unnest(array['railwatch_daemon', 'railwatch_service', 'railwatch_reader']) as role;
insert into railwatch.rights (role, object, privileges)
values ('railwatch_daemon', 'railwatch.balances', 'insert, update');

select railwatch.grant_rights();

create table railwatch.unallocated_transfers (
    id uuid primary key,
    rail text not null references railwatch.rails (name),
    asset text not null,
    amount numeric(78, 0) not null check (amount > 0),
    address text not null,
    address_key bytea not null,
    tx_id text not null,
    tx_index text not null,
    "references" text[] not null default '{}',
    state text not null
        check (state in ('pending', 'included', 'confirmed', 'final', 'replaced', 'dropped', 'orphaned')),
    block_height bigint,
    block_hash text,
    block_time timestamptz,
    first_seen_at timestamptz not null,
    replaced_by text,
    maturity int not null default 1,
    spends text[] not null default '{}',
    evidence jsonb not null default '{}',
    due_basis text check (due_basis in ('depth', 'finalized')),
    due_height bigint,
    assigned_detection_id uuid,
    assigned_destination_id uuid references railwatch.destinations (id),
    assigned_by text,
    assigned_at timestamptz,
    detected boolean not null default false,
    exception_id uuid,
    exception_round int not null default 0,
    version int not null default 0,
    unique (tx_id, rail, tx_index),
    check ((assigned_detection_id is null) = (assigned_destination_id is null)
           and (assigned_by is null) = (assigned_destination_id is null)
           and (assigned_at is null) = (assigned_destination_id is null))
);
create index unallocated_transfers_due on railwatch.unallocated_transfers (rail, due_basis, due_height)
    where due_height is not null;
create index unallocated_transfers_reorgable on railwatch.unallocated_transfers (rail, block_height)
    where state in ('included', 'confirmed');
create index unallocated_transfers_pending on railwatch.unallocated_transfers (rail) where state = 'pending';
create index unallocated_transfers_spending on railwatch.unallocated_transfers (rail)
    where state in ('pending', 'included', 'confirmed', 'orphaned') and spends <> '{}';
create index unallocated_transfers_open on railwatch.unallocated_transfers (first_seen_at, id)
    where assigned_destination_id is null;
create index unallocated_transfers_undetected on railwatch.unallocated_transfers (rail)
    where assigned_destination_id is not null and not detected;
create index destinations_by_reference on railwatch.destinations (rail, address_key, accepts_from)
    where reference is not null and watch_state not in ('rejected', 'closed');
comment on table railwatch.unallocated_transfers is 'Transfers to an address that several payers share, which carry the reference of none of them. Railwatch never guesses whose one is: a person calls assign_transfer.';
comment on column railwatch.unallocated_transfers.id is 'Derived from rail, tx_id and tx_index, as a detection''s is: the same on every replay.';
comment on column railwatch.unallocated_transfers.rail is 'The rail that it was seen on.';
comment on column railwatch.unallocated_transfers.asset is 'CAIP-19 id of what arrived.';
comment on column railwatch.unallocated_transfers.amount is 'Base units.';
comment on column railwatch.unallocated_transfers.address is 'The address that it reached, as an invoice there has it.';
comment on column railwatch.unallocated_transfers.address_key is 'That address as the chain compares it.';
comment on column railwatch.unallocated_transfers.tx_id is 'The transaction.';
comment on column railwatch.unallocated_transfers.tx_index is 'Which credit of the transaction; opaque, and never depends on the block.';
comment on column railwatch.unallocated_transfers.references is 'The references that it carries; none belongs to an open invoice at the address.';
comment on column railwatch.unallocated_transfers.state is 'pending, included, confirmed, final, replaced, dropped or orphaned, as of a detection. It is confirmed once it is final.';
comment on column railwatch.unallocated_transfers.block_height is 'The newest inclusion, also of an orphaned transfer; null: never in a block.';
comment on column railwatch.unallocated_transfers.block_hash is 'Hash of that block.';
comment on column railwatch.unallocated_transfers.block_time is 'Chain time of that block.';
comment on column railwatch.unallocated_transfers.first_seen_at is 'When we first saw it; the block''s time if it was first seen in a block.';
comment on column railwatch.unallocated_transfers.replaced_by is 'The transaction that displaced it.';
comment on column railwatch.unallocated_transfers.maturity is 'The least depth at which it may count.';
comment on column railwatch.unallocated_transfers.spends is 'What the transaction consumes: another transaction that consumes the same is a rival.';
comment on column railwatch.unallocated_transfers.evidence is 'Decoded facts: sender, position, source, node.';
comment on column railwatch.unallocated_transfers.due_basis is 'What due_height counts in: depth of the cursor, or finality.';
comment on column railwatch.unallocated_transfers.due_height is 'The height at which it becomes final; null: it waits for nothing.';
comment on column railwatch.unallocated_transfers.assigned_detection_id is 'The detection that it became, or becomes with the daemon''s next step; null: it is not assigned.';
comment on column railwatch.unallocated_transfers.assigned_destination_id is 'The destination that it was assigned to.';
comment on column railwatch.unallocated_transfers.assigned_by is 'Who assigned it. "railwatch": an invoice with its reference was registered after it.';
comment on column railwatch.unallocated_transfers.assigned_at is 'When it was assigned.';
comment on column railwatch.unallocated_transfers.detected is 'Whether the daemon has made that detection.';
comment on column railwatch.unallocated_transfers.exception_id is 'The exception about it that has not ended; null: none.';
comment on column railwatch.unallocated_transfers.exception_round is 'How often an exception was opened about it.';
comment on column railwatch.unallocated_transfers.version is 'How many transitions it has had.';

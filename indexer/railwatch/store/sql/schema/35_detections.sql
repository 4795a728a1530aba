create table railwatch.detections (
    id uuid primary key,
    invoice_id uuid not null,
    destination_id uuid not null references railwatch.destinations (id),
    rail text not null,
    asset text not null,
    tx_id text not null,
    tx_index text not null,
    amount numeric(78, 0) not null check (amount > 0),
    state text not null,
    kind text not null check (kind in ('payment', 'wrong_asset', 'wrong_network', 'unsupported_asset', 'unexpected')),
    block_height bigint,
    block_hash text,
    block_time timestamptz,
    first_seen_at timestamptz not null,
    confirmed_at timestamptz,
    in_time boolean,
    replaced_by text,
    evidence jsonb not null default '{}',
    maturity int not null default 1,
    spends text[] not null default '{}',
    invoice_ended text,
    version int not null default 0,
    due_basis text check (due_basis in ('depth', 'finalized', 'look_depth', 'look_finalized')),
    due_height bigint,
    second_look text check (second_look in ('verified', 'unverified', 'mismatch', 'accepted', 'rejected')),
    looked_at_block text,
    seen_waiting boolean not null default false,
    unique (tx_id, rail, tx_index)
);
create index detections_invoice on railwatch.detections (invoice_id);
create index detections_due on railwatch.detections (rail, due_basis, due_height) where due_height is not null;
create index detections_reorgable on railwatch.detections (rail, block_height) where state in ('included', 'confirmed');
create index detections_replaced on railwatch.detections (invoice_id, first_seen_at) where state = 'replaced';
create index detections_unconfirmed on railwatch.detections (rail) where state in ('pending', 'orphaned');
create index detections_spending on railwatch.detections (rail)
    where state in ('pending', 'included', 'confirmed', 'orphaned') and spends <> '{}';
comment on table railwatch.detections is 'Transfers that reached a watched address. A row is never deleted; its inclusion can come and go.';
comment on column railwatch.detections.id is 'Derived from rail, tx_id and tx_index: the same on every replay.';
comment on column railwatch.detections.invoice_id is 'The invoice that holds the address.';
comment on column railwatch.detections.destination_id is 'The destination that it reached, or the nearest to it.';
comment on column railwatch.detections.rail is 'The rail that it was seen on.';
comment on column railwatch.detections.asset is 'CAIP-19 id of what arrived.';
comment on column railwatch.detections.tx_id is 'The transaction.';
comment on column railwatch.detections.tx_index is 'Which credit of the transaction; opaque, and never depends on the block.';
comment on column railwatch.detections.amount is 'Base units.';
comment on column railwatch.detections.state is 'pending, included, confirmed, final, replaced, dropped or orphaned.';
comment on column railwatch.detections.kind is 'payment, wrong_asset, wrong_network, unsupported_asset or unexpected. Only payments count.';
comment on column railwatch.detections.block_height is 'The newest inclusion, also of an orphaned transfer; null: never in a block.';
comment on column railwatch.detections.block_hash is 'Hash of that block.';
comment on column railwatch.detections.block_time is 'Chain time of that block.';
comment on column railwatch.detections.first_seen_at is 'When we first saw it; the block''s time if it was first seen in a block.';
comment on column railwatch.detections.confirmed_at is 'Chain time at which its policy was met.';
comment on column railwatch.detections.in_time is 'Whether it counts as within the payment window.';
comment on column railwatch.detections.replaced_by is 'The transaction that displaced it.';
comment on column railwatch.detections.evidence is 'Decoded facts: sender, position, source, node. What is here is never overwritten, only added to.';
comment on column railwatch.detections.maturity is 'The least depth at which it may count, whatever the policy says.';
comment on column railwatch.detections.spends is 'What the transaction consumes: another transaction that consumes the same is a rival.';
comment on column railwatch.detections.invoice_ended is 'The invoice''s state at first sight, or when it was closed while the transfer was orphaned, if that was an end state.';
comment on column railwatch.detections.version is 'How many transitions it has had.';
comment on column railwatch.detections.due_basis is 'What due_height counts in: depth of the cursor, or finality.';
comment on column railwatch.detections.due_height is 'The height at which it moves on; null: it waits for nothing.';
comment on column railwatch.detections.second_look is 'The result of a second reading of its block: verified, unverified (no node could serve it) or mismatch. accepted or rejected: an operator''s verdict on a mismatch. Null: not read yet.';
comment on column railwatch.detections.looked_at_block is 'Hash of the block of that reading. In another block the daemon reads it again.';
comment on column railwatch.detections.seen_waiting is 'Whether it was first seen outside any block. Then no block''s timestamp says when it was sent.';

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
comment on table railwatch.observations is 'Each observation of a transfer as a node reported it: append-only, even for its owner.';
comment on column railwatch.observations.detection_id is 'The transfer.';
comment on column railwatch.observations.version is 'The detection''s version at that transition; transitions name it in their evidence.';
comment on column railwatch.observations.state is 'pending, or included: in a block.';
comment on column railwatch.observations.block_height is 'The block that it was seen in.';
comment on column railwatch.observations.block_hash is 'Hash of that block, orphaned or not.';
comment on column railwatch.observations.block_time is 'Chain time of that block.';
comment on column railwatch.observations.node is 'The node that reported it.';
comment on column railwatch.observations.facts is 'What the adapter decoded.';
comment on column railwatch.observations.raw is 'What the node said, as far as the adapter keeps it: at most 4 kB, else its size and digest.';
comment on column railwatch.observations.recorded_at is 'The database''s clock.';

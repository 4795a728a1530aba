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
    suspect_height bigint,
    suspect_hash text,
    suspect_balance numeric(78, 0),
    suspect_node text,
    second_look text check (second_look in ('verified', 'unverified')),
    second_node text,
    unique (destination_id, asset)
);
create index balances_suspect on railwatch.balances (rail, suspect_height) where suspect_height is not null and second_look is null;
create index balances_unattributed on railwatch.balances (invoice_id) where unattributed > 0;
comment on table railwatch.balances is 'The newest balance reading of an address and asset, on rails that serve balances. unattributed is what no transfer explains.';
comment on column railwatch.balances.id is 'Derived from destination and asset.';
comment on column railwatch.balances.invoice_id is 'The invoice that holds the address.';
comment on column railwatch.balances.destination_id is 'The destination whose address it is.';
comment on column railwatch.balances.rail is 'Its rail.';
comment on column railwatch.balances.asset is 'CAIP-19 id of what is counted: the destination''s asset, or the rail''s native one.';
comment on column railwatch.balances.baseline is 'Base units that were there before, and those that a person has accounted for since.';
comment on column railwatch.balances.baseline_height is 'The block of which that was the balance: the one before covered_from, or that of the first reading.';
comment on column railwatch.balances.baseline_hash is 'Hash of that block.';
comment on column railwatch.balances.balance is 'The balance at the newest reading.';
comment on column railwatch.balances.detected is 'What the tables hold above the baseline''s block, up to the reading''s: live transfers in blocks, of every kind.';
comment on column railwatch.balances.spent is 'What has left the address since the baseline, as far as readings show: at least so much.';
comment on column railwatch.balances.unattributed is 'balance + spent - baseline - detected: what came without being seen, at least so much.';
comment on column railwatch.balances.block_height is 'The block of the newest reading: the rail''s cursor then.';
comment on column railwatch.balances.block_hash is 'Hash of that block.';
comment on column railwatch.balances.node is 'The node that reported it.';
comment on column railwatch.balances.settled_height is 'The newest earlier reading that no reorg can undo: counting continues from it when a reorg has undone the newest. Null: none yet.';
comment on column railwatch.balances.settled_balance is 'What the address held then.';
comment on column railwatch.balances.settled_spent is 'What had left by then.';
comment on column railwatch.balances.looked_at is 'When.';
comment on column railwatch.balances.suspect_height is 'The block at which the node first reported more than is known. Null: nothing is unattributed.';
comment on column railwatch.balances.suspect_hash is 'Hash of that block.';
comment on column railwatch.balances.suspect_balance is 'The balance then, as that node reported it.';
comment on column railwatch.balances.suspect_node is 'That node.';
comment on column railwatch.balances.second_look is 'The result of a second reading, once no reorg could undo the block: verified, or unverified (no node could serve it). Null: not read yet, so no exception opens.';
comment on column railwatch.balances.second_node is 'The node of the second reading.';

create table railwatch.rails (
    name text primary key,
    chain_id text not null,
    state text not null default 'starting' check (state in ('starting', 'syncing', 'live', 'stalled', 'halted')),
    reason text,
    cursor_height bigint,
    cursor_hash text,
    tip_height bigint,
    finalized_height bigint,
    updated_at timestamptz not null default now(),
    cursor_parent text,
    cursor_time timestamptz,
    finalized_hash text,
    covered_until timestamptz,
    epoch bigint not null default 0,
    rewinds bigint not null default 0,
    family text not null,
    fold_case boolean not null,
    has_finality boolean not null,
    max_confirmations int,
    has_references boolean not null default false,
    enabled boolean not null default true,
    stuck_after interval not null default '2 hours',
    blind_after interval not null default '5 minutes',
    siblings_looked_back_seq bigint,
    origin text,
    given_up boolean not null default false,
    stall_after interval,
    time_margin interval not null default '0',
    sight_margin interval not null default '0'
);
comment on table railwatch.rails is 'One row for each rail: its position on the chain, and its state.';
comment on column railwatch.rails.name is 'The rail''s name in the configuration.';
comment on column railwatch.rails.chain_id is 'CAIP-2 id of the chain, compared with the node''s own at each connect.';
comment on column railwatch.rails.state is 'starting, syncing, live, stalled or halted, when it was last followed. Read state_now: only while a rail is live, silence means that nothing came.';
comment on column railwatch.rails.reason is 'Why it is not live, or what a live rail cannot see.';
comment on column railwatch.rails.cursor_height is 'The last block whose content is committed here, inclusive.';
comment on column railwatch.rails.cursor_hash is 'Hash of that block.';
comment on column railwatch.rails.tip_height is 'The node''s newest block when the cursor was written.';
comment on column railwatch.rails.finalized_height is 'The highest final block at or below the cursor. Never goes back.';
comment on column railwatch.rails.updated_at is 'When this row last changed; at least every ten seconds or so while the rail is live.';
comment on column railwatch.rails.cursor_parent is 'Parent hash of the cursor''s block.';
comment on column railwatch.rails.cursor_time is 'Chain time of the cursor''s block.';
comment on column railwatch.rails.finalized_hash is 'Hash of the finalized block: no reorg may pass it.';
comment on column railwatch.rails.covered_until is 'No payment before this time can still be unseen. Expiry waits for it.';
comment on column railwatch.rails.epoch is 'Raised whenever a daemon acquires the rail; every step compares it.';
comment on column railwatch.rails.rewinds is 'How many reorgs the daemon followed. A look-back that began before one runs again.';
comment on column railwatch.rails.family is 'Rails of one family share an address space.';
comment on column railwatch.rails.fold_case is 'Addresses that differ only in case are the same.';
comment on column railwatch.rails.has_finality is 'Whether the rail reports which blocks are final.';
comment on column railwatch.rails.max_confirmations is 'The largest confirmation count that means anything here; null: any.';
comment on column railwatch.rails.has_references is 'Whether a reference distinguishes the payers of one address.';
comment on column railwatch.rails.enabled is 'Whether the configuration of the last start had it.';
comment on column railwatch.rails.stuck_after is 'How long a payment may wait here before stuck_confirming opens.';
comment on column railwatch.rails.blind_after is 'How long nothing may be seen here before detection_delayed opens.';
comment on column railwatch.rails.siblings_looked_back_seq is 'Addresses that other rails of the family added to the watch up to this keyed_seq were looked back for here too.';
comment on column railwatch.rails.stall_after is 'How old the newest block may be; coverage never runs ahead of it by more. Null: no bound.';
comment on column railwatch.rails.time_margin is 'By how much a block''s time may lie before its arrival. A window that blocks decide is open for that long.';
comment on column railwatch.rails.sight_margin is 'The same for first sight; nothing where a mempool shows a payment before its block.';

comment on column railwatch.rails.origin is 'The name that ids of its transfers derive from, if it was renamed; null: its name.';
comment on column railwatch.rails.given_up is 'Whether the configuration lists it in unfollowed_rails: then no invoice''s end waits for it.';

create table railwatch.checkpoints (
    rail text not null references railwatch.rails (name),
    height bigint not null,
    hash text not null,
    parent text not null,
    time timestamptz not null,
    primary key (rail, height)
);
comment on table railwatch.checkpoints is 'Followed blocks above finality: each with a transfer, and some of the others.';
comment on column railwatch.checkpoints.rail is 'The rail.';
comment on column railwatch.checkpoints.height is 'The block''s height.';
comment on column railwatch.checkpoints.hash is 'The block''s hash.';
comment on column railwatch.checkpoints.parent is 'Its parent''s hash.';
comment on column railwatch.checkpoints.time is 'Its chain time.';

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
comment on table railwatch.chain_acceptances is 'Decisions of operators to follow a chain that forks below the deepest allowed reorg.';
comment on column railwatch.chain_acceptances.id is 'The decision.';
comment on column railwatch.chain_acceptances.rail is 'The rail.';
comment on column railwatch.chain_acceptances.fork_height is 'The daemon reverses everything above this height.';
comment on column railwatch.chain_acceptances.fork_hash is 'The block there on the chain that is followed from then on.';
comment on column railwatch.chain_acceptances.is_common is 'Whether it is a block that we had followed too; false: the two chains have no block in common that we know.';
comment on column railwatch.chain_acceptances.left_height is 'The rail''s cursor on the abandoned chain.';
comment on column railwatch.chain_acceptances.left_hash is 'Hash of that block.';
comment on column railwatch.chain_acceptances.actor is 'Who decided.';
comment on column railwatch.chain_acceptances.reason is 'Why.';
comment on column railwatch.chain_acceptances.accepted_at is 'When.';
comment on column railwatch.chain_acceptances.applied_at is 'When the daemon reversed everything above the fork; null: it has not yet.';

create function railwatch.margin(on_rail railwatch.rails, time_basis text) returns interval
language sql immutable
return case when time_basis = 'first_seen' then on_rail.sight_margin else on_rail.time_margin end;
comment on function railwatch.margin is 'For how long after a window a payment that counts as within it may still arrive on a rail.';

create function railwatch.covers(on_rail railwatch.rails, moment timestamptz, time_basis text) returns boolean
language sql stable  -- as the sum of a time and an interval is: declared immutable, it would not be inlined
return coalesce(on_rail.covered_until >= moment + railwatch.margin(on_rail, time_basis), false);
comment on function railwatch.covers is 'Whether no payment that counts as before the moment can still be unseen on a rail: the core''s Coverage.reaches.';

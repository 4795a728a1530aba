-- The schema of the first release, as schema.sql writes it down. Forward only: later versions add files beside this one.

create schema railwatch;
comment on schema railwatch is 'Payments to per-invoice addresses: what was asked, what was seen, what followed. Read docs/contract.md.';

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
comment on table railwatch.rails is 'One row a rail: where it follows, and whether it can be believed now.';
comment on column railwatch.rails.name is 'The rail''s name in the configuration.';
comment on column railwatch.rails.chain_id is 'CAIP-2 id of the chain, compared with the node''s own at each connect.';
comment on column railwatch.rails.state is 'starting, syncing, live, stalled or halted, when it was last followed. Ask state_now: only while live is silence an answer.';
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
comment on column railwatch.rails.epoch is 'Raised whenever a daemon takes the rail; every step compares it.';
comment on column railwatch.rails.rewinds is 'How many reorgs were followed. A look-back that began before one is done again.';
comment on column railwatch.rails.family is 'Rails of one family share an address space.';
comment on column railwatch.rails.fold_case is 'Addresses that differ only in case are the same.';
comment on column railwatch.rails.has_finality is 'Whether the rail tells which blocks are final.';
comment on column railwatch.rails.max_confirmations is 'The largest confirmation count that means anything here; null: any.';
comment on column railwatch.rails.has_references is 'Whether payers of one address can be told apart by a reference.';
comment on column railwatch.rails.enabled is 'Whether the configuration of the last start had it.';
comment on column railwatch.rails.stuck_after is 'How long a payment may wait here before stuck_confirming opens.';
comment on column railwatch.rails.blind_after is 'How long nothing may be seen here before detection_delayed opens.';
comment on column railwatch.rails.siblings_looked_back_seq is 'Addresses that other rails of the family added to the watch up to this keyed_seq were looked back for here too.';
comment on column railwatch.rails.stall_after is 'How old the newest block may be; coverage never runs ahead of it by more. Null: no bound.';
comment on column railwatch.rails.time_margin is 'By how much a block''s time may lie before its arrival. A window that blocks decide is open for that long.';
comment on column railwatch.rails.sight_margin is 'The same for first sight; nothing where a mempool shows a payment before its block.';

comment on column railwatch.rails.origin is 'The name that ids of its transfers derive from, if it was renamed; null: its name.';
comment on column railwatch.rails.given_up is 'Whether the configuration says that nobody follows it any more: then no invoice''s end waits for it.';

create table railwatch.leases (
    rail text primary key references railwatch.rails (name),
    holder text not null,
    expires_at timestamptz not null,
    token uuid not null,
    pid int not null,
    backend_start timestamptz not null
);
comment on table railwatch.leases is 'Which daemon follows a rail. A lease outlives its holder by at most 15 seconds.';
comment on column railwatch.leases.rail is 'The rail.';
comment on column railwatch.leases.holder is 'Host, process and a random part: who holds it.';
comment on column railwatch.leases.expires_at is 'When others may take it, unless it is renewed.';
comment on column railwatch.leases.token is 'Random, and new each time the lease is acquired: only who knows it renews or releases.';
comment on column railwatch.leases.pid is 'The server process of the holder''s connection. If it has ended, others may take the lease at once.';
comment on column railwatch.leases.backend_start is 'When that process started, because the numbers of processes come again.';

create table railwatch.locks (
    name text primary key
);
comment on table railwatch.locks is 'What one daemon at a time may do. Rows, because readers, services and deliverers may not lock them.';
comment on column railwatch.locks.name is 'mirror: to write the configuration into tables, locked for one transaction.';
insert into railwatch.locks (name) values ('mirror');

create table railwatch.deliverer_lease (
    one boolean primary key default true check (one),
    holder text,
    token uuid,
    pid int,
    backend_start timestamptz,
    expires_at timestamptz
);
comment on table railwatch.deliverer_lease is 'Which deliverer posts webhooks. A table of its own, because whoever may change a table may lock all of it.';
comment on column railwatch.deliverer_lease.one is 'There is one row.';
comment on column railwatch.deliverer_lease.holder is 'Host and process of the holder; null: nobody has held it.';
comment on column railwatch.deliverer_lease.token is 'Random, and new each time it is acquired.';
comment on column railwatch.deliverer_lease.pid is 'The server process of the holder''s connection.';
comment on column railwatch.deliverer_lease.backend_start is 'When that process started.';
comment on column railwatch.deliverer_lease.expires_at is 'When others may take it, unless it is renewed.';
insert into railwatch.deliverer_lease default values;

create table railwatch.address_locks (
    family text not null,
    address_folded text not null,
    primary key (family, address_folded)
);
comment on table railwatch.address_locks is 'One row for each address: who registers it holds the row to the commit, so that two registrations of it take turns.';
comment on column railwatch.address_locks.family is 'The address space.';
comment on column railwatch.address_locks.address_folded is 'The address as it is compared.';

create table railwatch.migrations (
    version int primary key,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now()
);
comment on table railwatch.migrations is 'Which migrations have been applied here. A migrator locks this table.';
comment on column railwatch.migrations.version is 'The number in its file''s name.';
comment on column railwatch.migrations.name is 'The rest of that name.';
comment on column railwatch.migrations.checksum is 'SHA-256 of its text.';
comment on column railwatch.migrations.applied_at is 'When.';

create table railwatch.watch_position (
    family text primary key,
    last_seq bigint not null
);
comment on table railwatch.watch_position is 'How many times addresses of a family were added to the watch. Held to the commit, so that numbers have no gaps and come in the order of commits.';
comment on column railwatch.watch_position.family is 'The address space.';
comment on column railwatch.watch_position.last_seq is 'The newest keyed_seq of its destinations.';

create function railwatch.is_backend_alive(backend int, started timestamptz) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    -- Another role's start is not shown to everybody. Then the process counts as alive, and the lease runs out instead.
    select exists (select from pg_stat_activity where pid = backend and coalesce(backend_start = started, true));
$$;
comment on function railwatch.is_backend_alive is 'Whether the connection that noted this process is still there. No other connection can be made to look like it.';

create table railwatch.checkpoints (
    rail text not null references railwatch.rails (name),
    height bigint not null,
    hash text not null,
    parent text not null,
    time timestamptz not null,
    primary key (rail, height)
);
comment on table railwatch.checkpoints is 'Followed blocks above finality: each in which something was found, and a sparse row of others.';
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

create table railwatch.assets (
    id text not null,
    rail text not null references railwatch.rails (name),
    symbol text not null,
    contract text,
    decimals int not null,
    enabled boolean not null default true,
    min_amount numeric(78, 0) not null default 0 check (min_amount >= 0),
    primary key (rail, id)
);
create unique index assets_symbol on railwatch.assets (rail, symbol) where enabled;
comment on table railwatch.assets is 'Configured assets, mirrored from the configuration at start.';
comment on column railwatch.assets.id is 'CAIP-19 id.';
comment on column railwatch.assets.rail is 'The rail it lives on.';
comment on column railwatch.assets.symbol is 'For people. Unique on its rail, and proof of nothing.';
comment on column railwatch.assets.contract is 'The token''s contract; null for the native asset.';
comment on column railwatch.assets.decimals is 'Display units = amount / 10^decimals.';
comment on column railwatch.assets.enabled is 'Whether the configuration of the last start had it.';
comment on column railwatch.assets.min_amount is 'Base units. A smaller transfer is counted on its destination, and moves nothing.';

create table railwatch.policies (
    rail text not null references railwatch.rails (name),
    asset text,
    up_to numeric(40, 8),
    policy jsonb not null,
    origin text not null check (origin in ('configuration', 'default'))
);
comment on table railwatch.policies is 'Confirmation policies by rail, asset and value tier, mirrored at start. Invoices keep their own copy.';
comment on column railwatch.policies.rail is 'The rail.';
comment on column railwatch.policies.asset is 'CAIP-19 id of the asset; null: every asset of the rail.';
comment on column railwatch.policies.up_to is 'Fiat total up to which the tier holds, inclusive; null: above all others.';
comment on column railwatch.policies.policy is '{"confirmations": n} or {"finalized": true, "plus": n}.';
comment on column railwatch.policies.origin is 'configuration, or default (the table of the manual).';

create table railwatch.settings (
    name text primary key,
    value jsonb not null
);
comment on table railwatch.settings is 'Defaults for functions, mirrored from the configuration at start.';
comment on column railwatch.settings.name is 'Such as closes_in.';
comment on column railwatch.settings.value is 'The value.';

create table railwatch.invoices (
    id uuid primary key default gen_random_uuid(),
    merchant_id text not null,
    order_id text not null,
    state text not null,
    state_since timestamptz not null default now(),
    version int not null default 1,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    closes_at timestamptz not null,
    fiat_amount numeric(40, 8),
    fiat_currency text,
    rate_locked_at timestamptz,
    policy jsonb not null,
    time_basis text not null check (time_basis in ('first_seen', 'block_time', 'confirmed')),
    held text,
    metadata jsonb not null default '{}',
    tolerance_bps int not null default 0 check (tolerance_bps between 0 and 10000),
    settled_at timestamptz,
    closed_at timestamptz,
    terms jsonb not null,
    exceptions_checked_version int not null default 1,
    accept_before int not null default 600 check (accept_before between 0 and 3600),
    held_from text,
    unique (merchant_id, order_id),
    constraint invoices_expires_at_bounds check (expires_at between '2009-01-01 00:00:00+00' and '2100-01-01 00:00:00+00'),
    constraint invoices_closes_at_bounds check (closes_at between '2009-01-01 00:00:00+00' and '2120-01-01 00:00:00+00'),
    constraint invoices_rate_locked_at_bounds check (rate_locked_at between '2009-01-01 00:00:00+00' and '2100-01-01 00:00:00+00')
);
create index invoices_open_window on railwatch.invoices (expires_at, id) where state = 'created';
create index invoices_to_close on railwatch.invoices (closes_at, id) where closed_at is null;
create index invoices_recent on railwatch.invoices (created_at);
create index invoices_order on railwatch.invoices (order_id);
create index invoices_open on railwatch.invoices (created_at, id)
    where state in ('created', 'detected', 'confirming', 'underpaid', 'flagged');
create index invoices_waiting on railwatch.invoices (state_since, id) where state in ('detected', 'confirming');
create index invoices_unchecked on railwatch.invoices (id) where exceptions_checked_version <> version;
comment on table railwatch.invoices is 'What a merchant asked to be paid, and where that stands.';
comment on column railwatch.invoices.id is 'Returned by create_invoice.';
comment on column railwatch.invoices.merchant_id is 'The merchant, in the registering service''s words.';
comment on column railwatch.invoices.order_id is 'The order; unique for its merchant, so that registering again is harmless.';
comment on column railwatch.invoices.state is 'created, detected, confirming, paid, overpaid, underpaid, late_paid, expired, cancelled, flagged or refunded.';
comment on column railwatch.invoices.state_since is 'When it took that state.';
comment on column railwatch.invoices.version is 'Raised by one at each transition.';
comment on column railwatch.invoices.created_at is 'When it was registered.';
comment on column railwatch.invoices.expires_at is 'End of the payment window, inclusive.';
comment on column railwatch.invoices.closes_at is 'Until when its addresses are watched.';
comment on column railwatch.invoices.fiat_amount is 'The order''s total at price lock: decides the value tier.';
comment on column railwatch.invoices.fiat_currency is 'Currency of fiat_amount.';
comment on column railwatch.invoices.rate_locked_at is 'When the price was locked.';
comment on column railwatch.invoices.policy is 'When a payment counts. Each destination holds the policy that was resolved for it.';
comment on column railwatch.invoices.time_basis is 'Which moment must lie in the window: first_seen, block_time or confirmed.';
comment on column railwatch.invoices.held is 'Why a person or a policy holds it; null: not held.';
comment on column railwatch.invoices.metadata is 'The registering service''s own, returned as it came.';
comment on column railwatch.invoices.tolerance_bps is 'How far the amount may be off, either way, in 1/100 percent.';
comment on column railwatch.invoices.settled_at is 'When it was first paid; stays when that is reversed.';
comment on column railwatch.invoices.closed_at is 'When watching ended.';
comment on column railwatch.invoices.terms is 'What create_invoice was given, to tell a repeat from another order.';
comment on column railwatch.invoices.exceptions_checked_version is 'The version at which its exceptions were last compared with the facts.';
comment on column railwatch.invoices.accept_before is 'Seconds. Money that came longer than this before created_at is unexpected.';
comment on column railwatch.invoices.held_from is 'The state that a hold took it from; null: it is not flagged.';

create table railwatch.destinations (
    id uuid primary key default gen_random_uuid(),
    invoice_id uuid not null references railwatch.invoices (id),
    rail text not null references railwatch.rails (name),
    asset text not null,
    address text not null,
    reference text,
    derivation text,
    expected_amount numeric(78, 0) not null check (expected_amount > 0),
    watch_state text not null default 'registered' check (watch_state in ('registered', 'watching', 'rejected', 'closed')),
    watch_error text,
    covered_from bigint,
    seen_amount numeric(78, 0) not null default 0,
    confirmed_amount numeric(78, 0) not null default 0,
    late_amount numeric(78, 0) not null default 0,
    policy jsonb not null,
    policy_origin text not null,
    family text not null,
    address_folded text not null,
    address_key bytea,
    accepted_at timestamptz,
    position int not null,
    left_out bigint not null default 0,
    accepts_from timestamptz not null default '1970-01-01 00:00:00+00',
    tip_at_creation bigint,
    tallies jsonb not null default '[]',
    small_count bigint not null default 0,
    small_amount numeric not null default 0,
    keyed_seq bigint,
    foreign key (rail, asset) references railwatch.assets (rail, id)
);
create index destinations_invoice on railwatch.destinations (invoice_id);
create index destinations_key on railwatch.destinations (family, address_key);
create index destinations_keyed on railwatch.destinations (family, keyed_seq) where keyed_seq is not null;
create index destinations_accepted_at on railwatch.destinations (accepted_at) where address_key is not null;
create index destinations_case_folded on railwatch.destinations (address_folded, family);
create index destinations_registered on railwatch.destinations (rail) where watch_state = 'registered';
create index destinations_watching on railwatch.destinations (rail, address_key) where watch_state = 'watching';
comment on table railwatch.destinations is 'Where an invoice can be paid: rail, asset, address, amount. One of them must be met.';
comment on column railwatch.destinations.id is 'The destination.';
comment on column railwatch.destinations.invoice_id is 'Its invoice.';
comment on column railwatch.destinations.rail is 'The rail.';
comment on column railwatch.destinations.asset is 'CAIP-19 id.';
comment on column railwatch.destinations.address is 'As registered; in the rail''s display form once it is watched.';
comment on column railwatch.destinations.reference is 'Memo, tag or reference key, on rails that have one.';
comment on column railwatch.destinations.derivation is 'Where the merchant''s wallet derived it from; not read here.';
comment on column railwatch.destinations.expected_amount is 'Base units asked for.';
comment on column railwatch.destinations.watch_state is 'registered, watching, rejected or closed. Show payment instructions only when watching.';
comment on column railwatch.destinations.watch_error is 'Why it was rejected.';
comment on column railwatch.destinations.covered_from is 'The height from which its history is known, inclusive.';
comment on column railwatch.destinations.seen_amount is 'All live transfers in time, confirmed or not.';
comment on column railwatch.destinations.confirmed_amount is 'Those of them that meet the policy.';
comment on column railwatch.destinations.late_amount is 'Live transfers after the window.';
comment on column railwatch.destinations.policy is 'The confirmation policy that was resolved at registration.';
comment on column railwatch.destinations.policy_origin is 'invoice, configuration or default.';
comment on column railwatch.destinations.family is 'The address space that the address belongs to.';
comment on column railwatch.destinations.address_folded is 'The address as it is compared at registration.';
comment on column railwatch.destinations.address_key is 'The address as the chain compares it; null until it was parsed.';
comment on column railwatch.destinations.accepted_at is 'When it was parsed.';
comment on column railwatch.destinations.keyed_seq is 'In which order the family''s addresses were added to the watch, which is the order of commits: followers catch up by this.';
comment on column railwatch.destinations.position is 'Its place in the invoice''s list, from 1.';
comment on column railwatch.destinations.accepts_from is 'A transfer from before this time is unexpected: created_at less accept_before, or created_at where the address had another invoice before.';
comment on column railwatch.destinations.tip_at_creation is 'The rail''s newest height at registration, if a daemon followed it then: a block above it is newer, whatever its timestamp says.';
comment on column railwatch.destinations.tallies is 'Not for readers: what the destination received, as sums by rail, asset, kind, state and timeliness. A test keeps it equal to the detections.';
comment on column railwatch.destinations.small_count is 'Transfers below the asset''s min_amount, as blocks showed them. They are counted and move nothing.';
comment on column railwatch.destinations.small_amount is 'Their sum in base units.';
comment on column railwatch.destinations.left_out is 'Sightings of tokens that are not configured, beyond the ten that are kept as detections.';

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
comment on column railwatch.detections.spends is 'What the transaction consumes: another that takes the same is a rival.';
comment on column railwatch.detections.invoice_ended is 'The invoice''s state at first sight, or when it was closed while a reorg had taken the transfer away, if that was an end state.';
comment on column railwatch.detections.version is 'How many transitions it has had.';
comment on column railwatch.detections.due_basis is 'What due_height counts in: depth of the cursor, or finality.';
comment on column railwatch.detections.due_height is 'The height at which it moves on; null: it waits for nothing.';
comment on column railwatch.detections.second_look is 'What reading its block once more said: verified; unverified, as no node could tell; mismatch. accepted or rejected: a person''s verdict on a mismatch. Null: not asked yet.';
comment on column railwatch.detections.looked_at_block is 'Hash of the block that was read for that. In another block it is asked again.';
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

create table railwatch.transitions (
    seq bigint primary key,
    event_id uuid not null unique,
    subject text not null check (subject in ('invoice', 'detection', 'exception', 'refund', 'settlement')),
    subject_id uuid not null,
    invoice_id uuid not null,
    from_state text,
    to_state text not null,
    reason text not null,
    cause text not null check (cause in ('chain', 'clock', 'operator', 'service')),
    rail text,
    tx_id text,
    block_height bigint,
    block_hash text,
    confirmations bigint,
    seen_amount numeric(78, 0),
    confirmed_amount numeric(78, 0),
    chain_time timestamptz,
    recorded_at timestamptz not null default now(),
    evidence jsonb not null default '{}'
);
create index transitions_invoice on railwatch.transitions (invoice_id, seq);
comment on table railwatch.transitions is 'The feed: append-only. Read with "where seq > $last order by seq"; nothing can be lost by that.';
comment on column railwatch.transitions.seq is 'Without gaps, and in commit order.';
comment on column railwatch.transitions.event_id is 'Derived from what happened: the same on every replay.';
comment on column railwatch.transitions.subject is 'invoice, detection, exception, refund or settlement.';
comment on column railwatch.transitions.subject_id is 'Id in the subject''s table.';
comment on column railwatch.transitions.invoice_id is 'The invoice that it concerns.';
comment on column railwatch.transitions.from_state is 'The state before; null: none.';
comment on column railwatch.transitions.to_state is 'The state after.';
comment on column railwatch.transitions.reason is 'Why, in one word: included, confirmed, orphaned, reversed, expired ...';
comment on column railwatch.transitions.cause is 'chain, clock, operator or service.';
comment on column railwatch.transitions.rail is 'The rail that it happened on.';
comment on column railwatch.transitions.tx_id is 'The transaction that it happened through.';
comment on column railwatch.transitions.block_height is 'That transaction''s block.';
comment on column railwatch.transitions.block_hash is 'Hash of that block.';
comment on column railwatch.transitions.confirmations is 'Depth at that moment, inclusive: the including block is 1.';
comment on column railwatch.transitions.seen_amount is 'Seen by then at the destination that is met, or nearest to it.';
comment on column railwatch.transitions.confirmed_amount is 'Confirmed by then at the destination that is met, or nearest to it.';
comment on column railwatch.transitions.chain_time is 'Chain time of the block.';
comment on column railwatch.transitions.recorded_at is 'The database''s clock.';
comment on column railwatch.transitions.evidence is 'The rule''s inputs.';

create table railwatch.feed_position (
    one boolean not null default true check (one),
    last_seq bigint not null,
    generation uuid not null default gen_random_uuid(),
    instance text,
    -- Each version of the row has its own entry in this index, the newest last: while an old snapshot (a backup) keeps all
    -- versions, the newest one is found without reading the others. A second index would have to be searched through them.
    primary key (last_seq)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
insert into railwatch.feed_position (last_seq) values (0);
comment on table railwatch.feed_position is 'The feed''s last seq. Whoever appends holds this row to the commit, so that seq order is commit order.';
comment on column railwatch.feed_position.one is 'There is one row.';
comment on column railwatch.feed_position.last_seq is 'The last seq that was given out. Ask feed_end().';
comment on column railwatch.feed_position.generation is 'The feed''s generation when it was last written to. Ask feed_generation().';
comment on column railwatch.feed_position.instance is 'Which run of which server wrote it last, as feed_instance() tells. Another one begins a generation.';

create table railwatch.feed_generations (
    number bigint primary key,
    generation uuid not null unique,
    started_after bigint not null,
    started_at timestamptz not null default now()
);
create index feed_generations_after on railwatch.feed_generations (started_after, number);
insert into railwatch.feed_generations (number, generation, started_after) select 1, generation, 0 from railwatch.feed_position;
comment on table railwatch.feed_generations is 'Each time from which the feed may have gone on differently: after a failover, a restore, a restart.';
comment on column railwatch.feed_generations.number is 'In their order, from 1.';
comment on column railwatch.feed_generations.generation is 'What a reader keeps beside its position.';
comment on column railwatch.feed_generations.started_after is 'The last seq before it: up to there the feed is the same for readers of the generation before.';
comment on column railwatch.feed_generations.started_at is 'The database''s clock, when it was noticed.';

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
comment on column railwatch.balances.suspect_height is 'The block at which the node first told more than is known. Null: nothing is unattributed.';
comment on column railwatch.balances.suspect_hash is 'Hash of that block.';
comment on column railwatch.balances.suspect_balance is 'What the address held then, as that node told it.';
comment on column railwatch.balances.suspect_node is 'That node.';
comment on column railwatch.balances.second_look is 'What reading that balance again said, once no reorg could undo its block: verified; unverified, as no node could tell. Null: not yet, so that nobody is told.';
comment on column railwatch.balances.second_node is 'The node that told it again.';

create table railwatch.exceptions (
    id uuid primary key,
    invoice_id uuid not null references railwatch.invoices (id),
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
    told_amount numeric not null default 0
);
create index exceptions_invoice on railwatch.exceptions (invoice_id);
create index exceptions_open on railwatch.exceptions (opened_at) where resolved_at is null;
create index exceptions_open_occurrence on railwatch.exceptions (kind, invoice_id) where ended_at is null;
create index exceptions_detection on railwatch.exceptions (detection_id) where detection_id is not null;
create index exceptions_balance on railwatch.exceptions (invoice_id) where balance_id is not null;
create index exceptions_newest on railwatch.exceptions (invoice_id, kind, round)
    where detection_id is null and balance_id is null and destination_id is null;
create index exceptions_groups on railwatch.exceptions (invoice_id, kind, destination_id, rail, asset, round)
    where destination_id is not null;
comment on table railwatch.exceptions is 'What a person or a policy has to look at, beside the state; several can be open at once.';
comment on column railwatch.exceptions.id is 'Derived from what it is about.';
comment on column railwatch.exceptions.invoice_id is 'The invoice.';
comment on column railwatch.exceptions.detection_id is 'The transfer that it is about; where it is about several, the one that opened it.';
comment on column railwatch.exceptions.kind is 'underpaid, overpaid, late, wrong_asset, reversed ...';
comment on column railwatch.exceptions.severity is 'info, warning or critical.';
comment on column railwatch.exceptions.opened_at is 'When it opened.';
comment on column railwatch.exceptions.resolved_at is 'When it was resolved; null: open.';
comment on column railwatch.exceptions.resolution is 'How: "made good" by the chain, or a person''s words.';
comment on column railwatch.exceptions.owner is 'Who looks at it.';
comment on column railwatch.exceptions.notes is 'What was found out.';
comment on column railwatch.exceptions.round is 'How often the same thing has been opened.';
comment on column railwatch.exceptions.ended_at is 'When what it is about was over, whoever resolved it; null: the facts stand. Only then can a new one open.';
comment on column railwatch.exceptions.balance_id is 'The balance that it is about, if it is about one.';
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

create table railwatch.consumers (
    name text primary key,
    position bigint not null,
    updated_at timestamptz not null default now(),
    generation uuid,
    owner text,
    constraint consumers_updated_at_bounds check (updated_at between '2009-01-01 00:00:00+00' and '2120-01-01 00:00:00+00')
);
comment on table railwatch.consumers is 'How far each reader of the feed has come.';
comment on column railwatch.consumers.name is 'The reader''s own name.';
comment on column railwatch.consumers.position is 'The last seq that it has dealt with.';
comment on column railwatch.consumers.updated_at is 'When it said so.';
comment on column railwatch.consumers.generation is 'The feed''s generation at that moment; null: before there were any.';
comment on column railwatch.consumers.owner is 'The login that made it: only that one moves it. Null: the first login that comes.';

create table railwatch.rescans (
    id uuid primary key default gen_random_uuid(),
    number bigint generated always as identity unique,
    rail text not null references railwatch.rails (name),
    from_height bigint not null check (from_height >= 0),
    to_height bigint,
    next_height bigint not null,
    found int not null default 0,
    requested_at timestamptz not null default now(),
    finished_at timestamptz,
    outcome text check (outcome in ('done', 'failed', 'cancelled', 'merged')),
    error text,
    tries int not null default 0,
    retry_at timestamptz not null default now(),
    ended_by text,
    check ((finished_at is null) = (outcome is null))
);
create unique index rescans_open on railwatch.rescans (rail) where finished_at is null;
comment on table railwatch.rescans is 'Ranges that somebody asked to be looked through again, and how far that is. At most one of a rail is open.';
comment on column railwatch.rescans.id is 'The request.';
comment on column railwatch.rescans.number is 'The order of requests.';
comment on column railwatch.rescans.rail is 'The rail.';
comment on column railwatch.rescans.from_height is 'First block, inclusive.';
comment on column railwatch.rescans.to_height is 'Last block, inclusive; null: the cursor at the time.';
comment on column railwatch.rescans.next_height is 'The next block to look at.';
comment on column railwatch.rescans.found is 'Transfers that were not known before.';
comment on column railwatch.rescans.requested_at is 'When it was asked for.';
comment on column railwatch.rescans.finished_at is 'When it ended; null: it is open.';
comment on column railwatch.rescans.outcome is 'done, failed, cancelled, or merged into another request; null: it is open.';
comment on column railwatch.rescans.error is 'Why it failed, was cancelled, or does not get on now.';
comment on column railwatch.rescans.tries is 'Attempts in a row that failed.';
comment on column railwatch.rescans.retry_at is 'When the daemon goes on with it.';
comment on column railwatch.rescans.ended_by is 'Who cancelled it.';

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

create table railwatch.rights (
    role text not null,
    object text not null,
    privileges text not null,
    primary key (role, object, privileges)
);
comment on table railwatch.rights is 'What each role may do, as grant_rights gives it.';
comment on column railwatch.rights.role is 'railwatch_daemon, railwatch_deliverer, railwatch_operator, railwatch_service or railwatch_reader.';
comment on column railwatch.rights.object is 'What it is given on, as GRANT names it.';
comment on column railwatch.rights.privileges is 'What is given, as GRANT names it.';

create table railwatch.allowed_transitions (
    from_state text not null,
    to_state text not null,
    primary key (from_state, to_state)
);
comment on table railwatch.allowed_transitions is 'Which state may follow which: a copy of the core''s table, for functions. A test keeps them equal.';
comment on column railwatch.allowed_transitions.from_state is 'The state before.';
comment on column railwatch.allowed_transitions.to_state is 'A state that may follow it.';
insert into railwatch.allowed_transitions (from_state, to_state)
select from_state, unnest(to_states)
from (values
    ('created', array['detected', 'confirming', 'expired', 'cancelled', 'flagged']),
    ('detected', array['created', 'confirming', 'flagged']),
    ('confirming', array['created', 'detected', 'paid', 'overpaid', 'underpaid', 'late_paid', 'flagged']),
    ('paid', array['overpaid', 'underpaid', 'late_paid', 'confirming', 'detected', 'created', 'flagged', 'refunded']),
    ('overpaid', array['paid', 'underpaid', 'late_paid', 'confirming', 'detected', 'created', 'flagged', 'refunded']),
    ('late_paid', array['paid', 'overpaid', 'underpaid', 'confirming', 'detected', 'created', 'flagged', 'refunded']),
    ('underpaid', array['created', 'detected', 'confirming', 'cancelled', 'flagged', 'refunded']),
    ('expired', array['detected', 'confirming', 'cancelled', 'flagged', 'refunded']),
    ('cancelled', array['flagged', 'refunded']),
    ('flagged', array['created', 'detected', 'confirming', 'paid', 'overpaid', 'underpaid', 'late_paid', 'expired',
                      'cancelled', 'refunded']),
    ('refunded', array['flagged'])
) as moves (from_state, to_states);

create function railwatch.affected_rows(
    on_rail text, cursor_reached bigint, finalized_reached bigint, fork bigint, displaced text[], of_family text,
    keys bytea[], txs text[]
) returns table (
    what text, detection_id uuid, invoice_id uuid, tx_id text, tx_index text, destination_id uuid, address_key bytea,
    rail text, asset text, reference text, open boolean, at timestamptz, accepts_from timestamptz, height bigint,
    block_hash text, amount numeric
)
language sql volatile set search_path = pg_catalog, pg_temp as $$  -- volatile, so that it sees what was committed while its caller waited for the rail's row
    select 'due', d.id, d.invoice_id, null, null, null::uuid, null::bytea, null, null, null, null::boolean,
           null::timestamptz, null::timestamptz, null::bigint, null, null::numeric
    from railwatch.detections d
    where d.rail = on_rail and d.due_basis = 'depth' and d.due_height <= cursor_reached
    union all
    select 'due', d.id, d.invoice_id, null, null, null, null, null, null, null, null, null, null, null, null,
           null
    from railwatch.detections d
    where d.rail = on_rail and d.due_basis = 'finalized' and d.due_height <= finalized_reached
    union all
    select 'orphaned', d.id, d.invoice_id, null, null, null, null, null, null, null, null, null, null, null, null,
           null
    from railwatch.detections d
    where d.rail = on_rail and d.block_height > fork and d.state in ('included', 'confirmed')
    union all
    select 'rival', d.id, d.invoice_id, d.tx_id, null, null, null, null, null, null, null, null, null, null, null,
           null
    from unnest(displaced) t (tx_id)
    cross join lateral (
        select * from railwatch.detections d where d.rail = on_rail and d.tx_id = t.tx_id offset 0) d
    union all
    -- `open` says here that nothing can move the transfer any more.
    select 'known', d.id, d.invoice_id, d.tx_id, d.tx_index, d.destination_id, w.address_key, w.rail, d.asset, null,
           d.state = 'final', null, w.accepts_from, w.tip_at_creation,
           case when d.state in ('included', 'confirmed', 'final') then d.block_hash end, d.amount
    from unnest(txs) t (tx_id)
    cross join lateral (
        select * from railwatch.detections d where d.rail = on_rail and d.tx_id = t.tx_id offset 0) d
    join railwatch.destinations w on w.id = d.destination_id
    union all
    select 'candidate', null, i.id, null, null, d.id, d.address_key, d.rail, d.asset, d.reference,
           i.state in ('created', 'detected', 'confirming', 'underpaid', 'flagged'), i.created_at, d.accepts_from,
           d.tip_at_creation, null, null
    from unnest(keys) t (key)
    -- A plan that was made on empty tables must reach every column of the index too.
    cross join lateral (
        select * from railwatch.destinations d
        where d.family = of_family and d.address_key = t.key and d.watch_state not in ('rejected', 'closed') offset 0) d
    join railwatch.invoices i on i.id = d.invoice_id
$$;
comment on function railwatch.affected_rows is 'Whom a step concerns: due, orphaned, displaced and known transfers, and holders of addresses.';

create function railwatch.raise_error(code text, message text, hint text default null) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    -- What a caller gave stands in it: as much as a person can read, and nothing that moves a terminal's cursor.
    control constant text := '[\u0001-\u0009\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]';
begin
    raise exception using errcode = case when code ~ '^RW[0-9]{3}$' then code else 'RW001' end,
        message = regexp_replace(left(coalesce(message, ''), 2000), control, '?', 'g'),
        hint = regexp_replace(left(coalesce(hint, ''), 2000), control, '?', 'g');
end $$;
comment on function railwatch.raise_error is 'Raise an error with a SQLSTATE of our own (class RW; listed in docs/contract.md).';

create function railwatch.feed_instance() returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    -- A promoted standby, a restored snapshot and a crash all begin with a start of the server; a restored dump with new
    -- files. Neither needs rights to ask. A plain restart looks the same, and costs readers nothing.
    select extract(epoch from pg_postmaster_start_time()) || ' ' || pg_relation_filepath('railwatch.feed_position')
$$;
comment on function railwatch.feed_instance is 'Which run of which server this is, and on which files of the feed.';

create function railwatch.generation_after(generation uuid, instance text) returns uuid
language sql immutable as $$ select md5(generation || '/' || instance)::uuid $$;
comment on function railwatch.generation_after is 'The generation that another instance begins: known before anybody has written it down.';

create function railwatch.feed_end() returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
    select last_seq from railwatch.feed_position order by last_seq desc limit 1
$$;
comment on function railwatch.feed_end is 'The feed''s last seq, whatever a backup keeps of older ones.';

create function railwatch.feed_generation() returns uuid
language sql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
    -- A standby shows what its primary wrote. Whoever is promoted is a new instance, from the first question on.
    select case when p.instance is distinct from railwatch.feed_instance() and not pg_is_in_recovery()
                then railwatch.generation_after(p.generation, railwatch.feed_instance()) else p.generation end
    from railwatch.feed_position p order by p.last_seq desc limit 1
$$;
comment on function railwatch.feed_generation is 'The feed''s generation: another one after every failover, restore or restart. Readers keep it beside their position.';

create function railwatch.begin_generation() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    -- As in next_seq: whoever holds this row and then does nothing is ended after ten seconds.
    if current_setting('idle_in_transaction_session_timeout')::interval not between '1 ms' and '10 s' then
        perform set_config('idle_in_transaction_session_timeout', '10s', true);
    end if;
    if new.generation = old.generation then
        new.generation := railwatch.generation_after(old.generation, railwatch.feed_instance());
    end if;
    new.instance := railwatch.feed_instance();
    insert into railwatch.feed_generations (number, generation, started_after)
    select coalesce(max(number), 0) + 1, new.generation, old.last_seq from railwatch.feed_generations;
    return new;
end $$;
comment on function railwatch.begin_generation is 'Write a generation down with the first line that another instance writes, or by itself.';

create trigger begin_generation before update on railwatch.feed_position
    for each row when (new.instance is distinct from railwatch.feed_instance() or new.generation <> old.generation)
    execute function railwatch.begin_generation();

create function railwatch.note_generation() returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
begin
    update railwatch.feed_position set last_seq = last_seq
    where last_seq >= railwatch.feed_end() and instance is distinct from railwatch.feed_instance();
    return (select p.generation from railwatch.feed_position p order by p.last_seq desc limit 1);
end $$;
comment on function railwatch.note_generation is 'Write down that the server is another one than the last, if it is. Daemon and deliverer call it every few seconds.';

create function railwatch.renew_feed(last_common bigint) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
    newest bigint;
    inserted uuid;
begin
    update railwatch.feed_position set generation = gen_random_uuid() where last_seq >= railwatch.feed_end()
    returning last_seq, generation into newest, inserted;
    if last_common is null or last_common not between 0 and newest then
        perform railwatch.raise_error('RW001', 'renew_feed(' || coalesce(last_common::text, 'null')
            || '): give the last seq that is the same as before, from 0 to ' || newest);
    end if;
    update railwatch.feed_generations set started_after = last_common where started_after > last_common;
    return inserted;
end $$;
comment on function railwatch.renew_feed is 'Begin a generation by hand, where the feed went back and Postgres cannot tell. Every reader goes back to last_common.';

create function railwatch.feed_check(generation uuid, seq bigint, event_id uuid) returns bigint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    newest bigint := railwatch.feed_end();
    existing railwatch.feed_generations;
    common bigint;
begin
    if feed_check.seq is null or feed_check.seq < 0 then
        perform railwatch.raise_error('RW001', 'feed_check takes a seq of at least 0');
    end if;
    select * into existing from railwatch.feed_generations g where g.generation = feed_check.generation;
    if found then
        -- The generation that followed began where the two may part: up to there they are one.
        common := (select g.started_after from railwatch.feed_generations g where g.number = existing.number + 1);
    elsif feed_check.generation <> railwatch.feed_generation() then
        return 0;
    end if;
    if common is null then
        common := newest;
    end if;
    if feed_check.seq > common then
        -- Beyond the end of a generation that nobody has left: it went back, and nothing tells how far.
        return case when existing.generation = railwatch.feed_generation() then existing.started_after else common end;
    end if;
    if feed_check.seq > 0 and feed_check.event_id is not null and not exists (
        select from railwatch.transitions t where t.seq = feed_check.seq and t.event_id = feed_check.event_id) then
        return least(feed_check.seq, coalesce(existing.started_after, 0));
    end if;
    return feed_check.seq;
end $$;
comment on function railwatch.feed_check is 'The seq that a reader goes on from, given its last line: the same where all is well, else the last that is surely common.';

create function railwatch.next_seq(how_many int) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
    first bigint;
begin
    if how_many is null or how_many not between 0 and 100000000 then
        perform railwatch.raise_error('RW001', 'next_seq(' || coalesce(how_many::text, 'null') || '): at most 10^8 seqs are taken at once');
    end if;
    -- Whoever holds the counter and then does nothing holds up everybody: such a session ends after ten seconds.
    if current_setting('idle_in_transaction_session_timeout')::interval not between '1 ms' and '10 s' then
        perform set_config('idle_in_transaction_session_timeout', '10s', true);
    end if;
    -- A line that somebody has read must not be lost by a crash, however the server is tuned.
    if current_setting('synchronous_commit') = 'off' then
        perform set_config('synchronous_commit', 'on', true);
    end if;
    -- By the newest version's place in the index, and at or above it: who had to wait finds the row moved on by then.
    update railwatch.feed_position set last_seq = last_seq + how_many
    where last_seq >= (select p.last_seq from railwatch.feed_position p order by p.last_seq desc limit 1)
    returning last_seq - how_many + 1 into first;
    return first;
end $$;
comment on function railwatch.next_seq is 'Take seqs for the feed: the first of them. Call it last, it holds up every other writer to the commit.';

create function railwatch.notify(channel text, payload text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if channel in ('railwatch', 'railwatch_work', 'railwatch_webhooks') is not true then
        perform railwatch.raise_error('RW001', 'notify: unknown channel');
    end if;
    perform pg_notify(channel, left(payload, 100)) where pg_notification_queue_usage() < 0.5;
end $$;
comment on function railwatch.notify is 'The one way to notify: a hint, left out while the server''s queue of notifications is half full. Once that is full, every commit that notifies fails.';

create function railwatch.append_invoice_transition(
    invoice railwatch.invoices, from_state text, reason text, cause text, evidence jsonb
) returns void
language plpgsql as $$
declare
    holder bigint := railwatch.next_seq(1);
begin
    insert into railwatch.transitions
        (seq, event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause, seen_amount,
         confirmed_amount, evidence)
    select holder, md5('railwatch/' || invoice.id || '/' || invoice.version || '/' || invoice.state)::uuid, 'invoice',
           invoice.id, invoice.id, from_state, invoice.state, reason, cause, d.seen_amount, d.confirmed_amount,
           evidence || jsonb_build_object('login', session_user)
    from railwatch.destinations d
    where d.invoice_id = invoice.id
    order by d.confirmed_amount / d.expected_amount desc, (d.seen_amount + d.late_amount) / d.expected_amount desc, d.position
    limit 1;
    perform railwatch.notify('railwatch', holder::text);
end $$;
comment on function railwatch.append_invoice_transition is 'Put an act of a service or an operator into the feed.';

create function railwatch.parse_amount(value jsonb, place text) returns numeric
language plpgsql immutable as $$
declare
    digits text := value #>> '{}';
begin
    if value is null or jsonb_typeof(value) not in ('number', 'string') or digits !~ '^[0-9]{1,100}$' then
        perform railwatch.raise_error('RW004', place || ': amount ' || coalesce(value::text, 'is missing')
            || ' is not a whole number of base units', 'Give an integer or a string of digits, such as "1500000".');
    end if;
    if digits::numeric = 0 or digits::numeric >= 2::numeric ^ 256 then
        perform railwatch.raise_error('RW004', place || ': amount ' || digits || ' is not between 1 and 2^256 - 1');
    end if;
    return digits::numeric(78, 0);
end $$;
comment on function railwatch.parse_amount is 'Read an amount in base units; floats, signs and zero are refused.';

create function railwatch.parse_policy(value jsonb, rail railwatch.rails) returns jsonb
language plpgsql immutable as $$
declare
    confirmations text := value ->> 'confirmations';
    plus text := coalesce(value ->> 'plus', '0');
begin
    if value -> 'finalized' = 'true'::jsonb and confirmations is null and plus ~ '^[0-9]{1,6}$' then
        if not rail.has_finality then
            perform railwatch.raise_error('RW008', 'rail ' || rail.name || ' tells no finality, so no policy can wait for it',
                'Use {"confirmations": n}.');
        end if;
        return jsonb_build_object('finalized', true, 'plus', plus::int);
    end if;
    if confirmations !~ '^[1-9][0-9]{0,5}$' or confirmations is null or value ? 'finalized' or value ? 'plus' then
        perform railwatch.raise_error('RW008', 'policy ' || value::text || ' is not one that can be met',
            'Use {"confirmations": n} with n of at least 1, or {"finalized": true, "plus": n}.');
    end if;
    if confirmations::int > rail.max_confirmations then
        perform railwatch.raise_error('RW008', 'rail ' || rail.name || ' knows at most ' || rail.max_confirmations
            || ' confirmations, not ' || confirmations, 'Use {"finalized": true}.');
    end if;
    return jsonb_build_object('confirmations', confirmations::int);
end $$;
comment on function railwatch.parse_policy is 'Check a confirmation policy against what the rail can tell.';

create function railwatch.resolve_policy(on_rail text, for_asset text, fiat numeric, out policy jsonb, out origin text)
language sql stable as $$
    -- The configuration's before the default, the asset's before the rail's; then the smallest tier that holds the
    -- total. Without a total the strictest tier counts, which is the one above all others.
    select p.policy, p.origin
    from railwatch.policies p
    where p.rail = on_rail and (p.asset is null or p.asset = for_asset)
      and (p.up_to is null or fiat <= p.up_to)
    order by p.origin = 'configuration' desc, p.asset is not null desc, p.up_to asc nulls last
    limit 1;
$$;
comment on function railwatch.resolve_policy is 'The policy for an asset and a fiat total, and where it comes from.';

create function railwatch.create_destination(invoice railwatch.invoices, wish jsonb, place int) returns void
language plpgsql as $$
declare
    label text := 'destinations[' || place || ']';
    on_rail railwatch.rails;
    of_asset text;
    chosen jsonb;
    chosen_origin text;
    folded text;
    amount numeric;
    holder uuid;
    unknown text;
begin
    if jsonb_typeof(wish) is distinct from 'object' then
        perform railwatch.raise_error('RW001', label || ' is not an object');
    end if;
    select key into unknown from jsonb_object_keys(wish) key
    where key not in ('rail', 'asset', 'address', 'amount', 'reference', 'derivation') limit 1;
    if unknown is not null then
        perform railwatch.raise_error('RW001', label || ': unknown field "' || unknown || '"');
    end if;
    select * into on_rail from railwatch.rails where name = wish ->> 'rail' and enabled;
    if not found then
        perform railwatch.raise_error('RW002', label || ': unknown rail ' || coalesce('"' || (wish ->> 'rail') || '"', '(none given)'),
            'Enabled rails: ' || coalesce((select string_agg(name, ', ' order by name) from railwatch.rails where enabled),
            'none yet; has the daemon been started with this database?'));
    end if;
    select id into of_asset from railwatch.assets
    where rail = on_rail.name and enabled
      and (symbol = wish ->> 'asset' or id = wish ->> 'asset' or (on_rail.fold_case and lower(id) = lower(wish ->> 'asset')))
    for share;  -- An asset that leaves the configuration waits for this order, and then goes on being looked for.
    if not found then
        perform railwatch.raise_error('RW003', label || ': unknown asset ' || coalesce('"' || (wish ->> 'asset') || '"', '(none given)')
            || ' on rail ' || on_rail.name,
            'Configured there: ' || coalesce((select string_agg(symbol, ', ' order by symbol) from railwatch.assets
                                              where rail = on_rail.name and enabled), 'none'));
    end if;
    amount := railwatch.parse_amount(wish -> 'amount', label);
    perform railwatch.parse_text(wish, 'address', label || ': ');
    if wish ? 'derivation' then
        perform railwatch.parse_text(wish, 'derivation', label || ': ');
    end if;
    if wish ? 'reference' and not on_rail.has_references then
        perform railwatch.raise_error('RW011', label || ': rail ' || on_rail.name || ' knows no references',
            'Leave it out, and derive a new address for each invoice.');
    end if;
    if wish ? 'reference' then
        perform railwatch.parse_text(wish, 'reference', label || ': ');
    end if;
    folded := case when on_rail.fold_case then lower(wish ->> 'address') else wish ->> 'address' end;
    if exists (select from railwatch.destinations d
               where d.invoice_id = invoice.id and d.rail = on_rail.name and d.asset = of_asset and d.address_folded = folded
                 and d.reference is not distinct from wish ->> 'reference') then
        perform railwatch.raise_error('RW001', label || ': the same rail, asset, address and reference are there twice',
            'Ask for one amount at each.');
    end if;
    -- What reaches an address late belongs to the merchant whose customers were given it, for ever. A reference tells
    -- apart whom one address serves; without one, whatever arrives there unmarked is that merchant's.
    if exists (select from railwatch.destinations d join railwatch.invoices i on i.id = d.invoice_id
               where d.family = on_rail.family and d.address_folded = folded and i.merchant_id <> invoice.merchant_id
                 and d.watch_state <> 'rejected'
                 and (d.reference is null or d.reference = coalesce(wish ->> 'reference', d.reference))) then
        perform railwatch.raise_error('RW007', label || ': address ' || (wish ->> 'address') || ' belongs to another merchant',
            'Derive a new address for each invoice. Once given to a merchant''s customers, an address stays that merchant''s.');
    end if;
    select i.id into holder
    from railwatch.destinations d join railwatch.invoices i on i.id = d.invoice_id
    where d.family = on_rail.family and d.address_folded = folded and d.reference is not distinct from wish ->> 'reference'
      and i.id <> invoice.id and d.watch_state not in ('rejected', 'closed')
      and i.state in ('created', 'detected', 'confirming', 'underpaid', 'flagged')
    limit 1;
    if found then
        perform railwatch.raise_error('RW007', label || ': address ' || (wish ->> 'address') || ' belongs to open invoice ' || holder,
            'Derive a new address for each invoice.');
    end if;
    if invoice.terms ? 'policy' then
        chosen := railwatch.parse_policy(invoice.terms -> 'policy', on_rail);
        chosen_origin := 'invoice';
    else
        select policy, origin into chosen, chosen_origin
        from railwatch.resolve_policy(on_rail.name, of_asset, invoice.fiat_amount);
    end if;
    insert into railwatch.destinations
        (invoice_id, rail, asset, address, reference, derivation, expected_amount, policy, policy_origin, family,
         address_folded, position, accepts_from, tip_at_creation)
    values (invoice.id, on_rail.name, of_asset, wish ->> 'address', wish ->> 'reference', wish ->> 'derivation',
            amount, chosen, chosen_origin, on_rail.family, folded, place,
            -- Money that came to an address of an earlier invoice before this one was made is that invoice's.
            case when exists (select from railwatch.destinations d
                              where d.family = on_rail.family and d.address_folded = folded and d.invoice_id <> invoice.id
                                and d.reference is not distinct from wish ->> 'reference' and d.watch_state <> 'rejected')
                 then invoice.created_at else invoice.created_at - make_interval(secs => invoice.accept_before) end,
            case when on_rail.state = 'live' and exists (
                select from railwatch.leases l where l.rail = on_rail.name and l.expires_at > now())
                 then on_rail.tip_height end);
end $$;
comment on function railwatch.create_destination is 'Part of create_invoice: one destination, checked and resolved.';

create function railwatch.parse_timestamp(value jsonb, field text) returns timestamptz
language plpgsql stable as $$
declare
    moment timestamptz;
begin
    if jsonb_typeof(value) is distinct from 'string'
       or (value #>> '{}') !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)$' then
        perform railwatch.raise_error('RW005', field || ' ' || coalesce(value::text, '') || ' is not a time',
            'Give ISO 8601 with an offset, such as "2030-01-31T12:00:00Z".');
    end if;
    moment := (value #>> '{}')::timestamptz;
    if moment not between '2009-01-01 00:00:00+00' and now() + interval '20 years' then
        perform railwatch.raise_error('RW005', field || ' ' || value::text || ' is before 2009, or more than 20 years ahead');
    end if;
    return moment;
exception when invalid_datetime_format or datetime_field_overflow or invalid_time_zone_displacement_value then
    perform railwatch.raise_error('RW005', field || ' ' || value::text || ' is not a time',
        'Give ISO 8601 with an offset, such as "2030-01-31T12:00:00Z".');
end $$;
comment on function railwatch.parse_timestamp is 'Read a time, or say which field is none.';

create function railwatch.parse_count(value jsonb, field text, lowest bigint, highest bigint, code text) returns bigint
language plpgsql immutable as $$
begin
    if value is null or jsonb_typeof(value) <> 'number' or value::text !~ '^-?[0-9]{1,18}$'
       or value::text::bigint not between lowest and highest then
        perform railwatch.raise_error(code, field || ' ' || coalesce(value::text, 'is missing') || ' is not a whole number from '
            || lowest || ' to ' || highest);
    end if;
    return value::text::bigint;
end $$;
comment on function railwatch.parse_count is 'Read a whole number within bounds, or say which field is none.';

create function railwatch.parse_text(request jsonb, field text, place text default '') returns text
language plpgsql immutable as $$
begin
    perform railwatch.check_text(case when jsonb_typeof(request -> field) = 'string' then request ->> field end, place || field, 200);
    return request ->> field;
end $$;
comment on function railwatch.parse_text is 'Read a required text, or say which field is none.';

create function railwatch.parse_expiry(request jsonb) returns timestamptz
language plpgsql stable as $$
declare
    expiry timestamptz;
begin
    if (request ? 'expires_at') = (request ? 'expires_in') then
        perform railwatch.raise_error('RW005', 'give either expires_at or expires_in (seconds)');
    end if;
    if request ? 'expires_in' then
        return now() + make_interval(secs =>
            railwatch.parse_count(request -> 'expires_in', 'expires_in', 1, 315360000, 'RW005'));
    end if;
    expiry := railwatch.parse_timestamp(request -> 'expires_at', 'expires_at');
    if expiry <= now() then
        perform railwatch.raise_error('RW005', 'expires_at ' || (request ->> 'expires_at') || ' is in the past');
    end if;
    return expiry;
end $$;
comment on function railwatch.parse_expiry is 'End of the payment window, from expires_at or expires_in.';

create function railwatch.check_fields(request jsonb) returns void
language plpgsql immutable as $$
declare
    unknown text;
begin
    if jsonb_typeof(request) is distinct from 'object' then
        perform railwatch.raise_error('RW001', 'create_invoice takes a JSON object');
    end if;
    if octet_length(request::text) > 131072 then
        perform railwatch.raise_error('RW001', 'the request has ' || octet_length(request::text) || ' bytes; at most 131072 are taken');
    end if;
    select key into unknown from jsonb_object_keys(request) key
    where key not in ('merchant_id', 'order_id', 'expires_at', 'expires_in', 'destinations', 'policy', 'time_basis',
                      'tolerance_bps', 'fiat_amount', 'fiat_currency', 'rate_locked_at', 'closes_in', 'accept_before',
                      'metadata')
    limit 1;
    if unknown is not null then
        perform railwatch.raise_error('RW001', 'unknown field "' || unknown || '"');
    end if;
    if coalesce(request ->> 'time_basis', 'first_seen') not in ('first_seen', 'block_time', 'confirmed') then
        perform railwatch.raise_error('RW001', 'time_basis "' || (request ->> 'time_basis')
            || '" is not first_seen, block_time or confirmed');
    end if;
    if jsonb_typeof(request -> 'destinations') is distinct from 'array'
       or jsonb_array_length(request -> 'destinations') not between 1 and 20 then
        perform railwatch.raise_error('RW001', 'destinations is not a list of 1 to 20 destinations');
    end if;
    if request ? 'policy' and (jsonb_typeof(request -> 'policy') <> 'object' or length((request -> 'policy')::text) > 200) then
        perform railwatch.raise_error('RW008', 'policy is not an object of at most 200 characters');
    end if;
    if request ? 'metadata' then
        if jsonb_typeof(request -> 'metadata') <> 'object' then
            perform railwatch.raise_error('RW001', 'metadata is not an object');
        end if;
        if octet_length((request -> 'metadata')::text) > 65536 or jsonb_path_exists(request -> 'metadata', '$.**{33}') then
            perform railwatch.raise_error('RW001', 'metadata has more than 65536 bytes, or more than 32 levels',
                'Keep it with you, and give a key to it.');
        end if;
        if jsonb_path_exists(request -> 'metadata', '$.** ? (@ > 1e100 || @ < -1e100)') then
            perform railwatch.raise_error('RW001', 'metadata holds a number beyond 1e100', 'Give it as a text.');
        end if;
    end if;
    if request ? 'fiat_currency' and coalesce(request ->> 'fiat_currency', '') !~ '^[A-Z]{3,10}$' then
        perform railwatch.raise_error('RW001', 'fiat_currency ' || (request -> 'fiat_currency')::text || ' is not a code such as "EUR"');
    end if;
    if request ? 'fiat_amount' and (request ->> 'fiat_amount') !~ '^[0-9]{1,30}([.][0-9]{1,8})?$' then
        perform railwatch.raise_error('RW001', 'fiat_amount ' || (request -> 'fiat_amount')::text
            || ' is not a decimal of at most 8 places', 'Give a string such as "49.90".');
    end if;
end $$;
comment on function railwatch.check_fields is 'Part of create_invoice: what can be refused before anything is written.';

create function railwatch.canonical_terms(request jsonb) returns jsonb
language sql immutable as $$
    -- What makes a repeat the same order: all but the metadata, and amounts as digits, however they were written.
    select (request - 'metadata')
        || case when request ? 'fiat_amount' then jsonb_build_object('fiat_amount', request ->> 'fiat_amount') else '{}' end
        || jsonb_build_object('destinations', (
            select jsonb_agg(case when jsonb_typeof(wish) = 'object' and wish ? 'amount'
                                  then wish || jsonb_build_object('amount', wish ->> 'amount') else wish end order by place)
            from jsonb_array_elements(request -> 'destinations') with ordinality as wishes (wish, place)));
$$;
comment on function railwatch.canonical_terms is 'The part of a request that a repeat of the order must share.';

create function railwatch.same_order(known railwatch.invoices, request jsonb) returns uuid
language plpgsql immutable as $$
begin
    if known.terms is distinct from railwatch.canonical_terms(request) then
        perform railwatch.raise_error('RW006', 'order ' || known.order_id || ' of merchant ' || known.merchant_id
            || ' is registered with other terms, as invoice ' || known.id,
            'Registering the very same terms again returns that id; other terms need another order_id.');
    end if;
    return known.id;
end $$;
comment on function railwatch.same_order is 'Part of create_invoice: the id of an order that is registered already, if the terms are the same.';

create function railwatch.lock_addresses(requests jsonb[]) returns void
language plpgsql as $$
declare
    only_one jsonb := requests[1] -> 'destinations';
begin
    -- Two registrations of one address wait for each other here, in one order of addresses; the later then sees the earlier.
    if cardinality(requests) = 1 and jsonb_typeof(only_one) = 'array' and only_one -> 1 is null then
        -- Most orders have one destination. The sort below would cost them a quarter of all that create_invoice does.
        insert into railwatch.address_locks as held (family, address_folded)
        select r.family, case when r.fold_case then lower(only_one -> 0 ->> 'address') else only_one -> 0 ->> 'address' end
        from railwatch.rails r
        where r.name = only_one -> 0 ->> 'rail' and length(only_one -> 0 ->> 'address') between 1 and 200
        on conflict (family, address_folded) do update set family = held.family;
        return;
    end if;
    insert into railwatch.address_locks as held (family, address_folded)
    select distinct r.family, case when r.fold_case then lower(wish ->> 'address') else wish ->> 'address' end as folded
    from unnest(requests) each
    cross join lateral jsonb_array_elements(
        case when jsonb_typeof(each -> 'destinations') = 'array' then each -> 'destinations' else '[]' end) wish
    join railwatch.rails r on r.name = wish ->> 'rail'
    where length(wish ->> 'address') between 1 and 200
    order by 1, 2
    on conflict (family, address_folded) do update set family = held.family;
end $$;
comment on function railwatch.lock_addresses is 'Part of create_invoice and create_invoices: hold the addresses of requests to the commit.';

create function railwatch.register_invoice(request jsonb) returns uuid
language plpgsql as $$
declare
    merchant text;
    order_no text;
    existing railwatch.invoices;
    inserted railwatch.invoices;
    expiry timestamptz;
    closes_in bigint;
begin
    merchant := railwatch.parse_text(request, 'merchant_id');
    order_no := railwatch.parse_text(request, 'order_id');
    select * into existing from railwatch.invoices where merchant_id = merchant and order_id = order_no;
    if found then
        return railwatch.same_order(existing, request);
    end if;
    expiry := railwatch.parse_expiry(request);
    closes_in := case when request ? 'closes_in'
        then railwatch.parse_count(request -> 'closes_in', 'closes_in', 0, 315360000, 'RW005')
        else coalesce((select (value #>> '{}')::bigint from railwatch.settings where name = 'closes_in'), 2592000) end;
    insert into railwatch.invoices
        (merchant_id, order_id, state, expires_at, closes_at, fiat_amount, fiat_currency, rate_locked_at, policy,
         time_basis, metadata, tolerance_bps, accept_before, terms)
    values (merchant, order_no, 'created', expiry, expiry + make_interval(secs => closes_in),
            (request ->> 'fiat_amount')::numeric, request ->> 'fiat_currency',
            case when request ? 'rate_locked_at' then railwatch.parse_timestamp(request -> 'rate_locked_at', 'rate_locked_at') end,
            '{}', coalesce(request ->> 'time_basis', 'first_seen'), coalesce(request -> 'metadata', '{}'),
            case when request ? 'tolerance_bps'
                then railwatch.parse_count(request -> 'tolerance_bps', 'tolerance_bps', 0, 10000, 'RW001') else 0 end,
            -- A look-back reaches at least an hour: what is older than that nobody would find.
            case when request ? 'accept_before'
                then railwatch.parse_count(request -> 'accept_before', 'accept_before', 0, 3600, 'RW005') else 600 end,
            railwatch.canonical_terms(request))
    -- Who registers the same order just now is waited for here.
    on conflict (merchant_id, order_id) do nothing
    returning * into inserted;
    if not found then
        select * into existing from railwatch.invoices where merchant_id = merchant and order_id = order_no;
        return railwatch.same_order(existing, request);
    end if;
    perform railwatch.create_destination(inserted, wish, place::int)
    from jsonb_array_elements(request -> 'destinations') with ordinality as wishes (wish, place);
    update railwatch.invoices
    set policy = (select policy from railwatch.destinations where invoice_id = inserted.id order by position limit 1)
    where id = inserted.id;
    perform railwatch.append_invoice_transition(inserted, null, 'created', 'service', '{}');
    perform railwatch.notify('railwatch_work', 'registered');
    return inserted.id;
end $$;
comment on function railwatch.register_invoice is 'Part of create_invoice and create_invoices, which hold the addresses before.';

create function railwatch.create_invoice(request jsonb) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform railwatch.check_fields(request);
    perform railwatch.lock_addresses(array[request]);
    return railwatch.register_invoice(request);
end $$;
comment on function railwatch.create_invoice is 'Register an invoice and return its id. The same order with the same terms returns the same id. Errors: docs/contract.md.';

create function railwatch.create_invoices(requests jsonb[]) returns setof uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    wish record;
    inserted uuid[];
begin
    if coalesce(cardinality(requests), 0) not between 1 and 1000 then
        perform railwatch.raise_error('RW001', 'create_invoices takes 1 to 1000 requests');
    end if;
    perform railwatch.check_fields(each) from unnest(requests) each;
    -- Whatever order the requests come in, addresses and then orders are taken in one order: nobody waits in a circle.
    perform railwatch.lock_addresses(requests);
    for wish in
        select given.request, given.place::int from unnest(requests) with ordinality as given (request, place)
        order by given.request ->> 'merchant_id', given.request ->> 'order_id', given.place
    loop
        inserted[wish.place] := railwatch.register_invoice(wish.request);
    end loop;
    return query select unnest(inserted);
end $$;
comment on function railwatch.create_invoices is 'Register many invoices in one commit, all or none, and return their ids in order. One wait for the feed instead of many.';

create function railwatch.may_act_as_operator() returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select pg_has_role(session_user, (select nspowner from pg_namespace where nspname = 'railwatch'), 'usage')
           or exists (select from pg_roles where rolname in ('railwatch_operator', 'railwatch_daemon') and pg_has_role(session_user, oid, 'usage'))
$$;
comment on function railwatch.may_act_as_operator is 'Whether the login''s acts may stand in the feed as an operator''s.';

create function railwatch.check_actor(actor text, cause text) returns void
language plpgsql stable as $$
begin
    if actor is null then
        perform railwatch.raise_error('RW001', 'actor is missing, or not a text of 1 to 200 characters',
            'Say who does this: the name of a person or a service.');
    end if;
    perform railwatch.check_text(actor, 'actor', 200);
    if cause is null or cause not in ('service', 'operator') then
        perform railwatch.raise_error('RW001', 'cause ' || coalesce('"' || cause || '"', '(null)') || ' is not service or operator');
    end if;
    if cause = 'operator' and not railwatch.may_act_as_operator() then
        perform railwatch.raise_error('RW024', 'login ' || session_user || ' acts as a service, and not as an operator',
            'Leave cause out, or make the login a member of railwatch_operator.');
    end if;
end $$;
comment on function railwatch.check_actor is 'Part of every manual act: somebody does it, as a service or as an operator.';

create function railwatch.check_text(value text, field text, longest int) returns void
language plpgsql immutable as $$
begin
    if value is null or length(value) not between 1 and longest then
        perform railwatch.raise_error('RW001', field || ' is missing, or not a text of 1 to ' || longest || ' characters');
    end if;
    if value ~ '[\u0001-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]' then
        perform railwatch.raise_error('RW001', field || ' holds a control character', 'Names are shown to people: letters, digits, signs and blanks.');
    end if;
end $$;
comment on function railwatch.check_text is 'A required text of one line, or the field that is none.';

create function railwatch.check_note(value text, field text, longest int) returns void
language plpgsql immutable as $$
begin
    if length(value) > longest then
        perform railwatch.raise_error('RW001', field || ' has ' || length(value) || ' characters; at most ' || longest || ' are taken');
    end if;
    if value ~ '[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]' then
        perform railwatch.raise_error('RW001', field || ' holds a control character', 'Line feeds and tabs are taken, others are not.');
    end if;
end $$;
comment on function railwatch.check_note is 'An optional text of several lines, or the field that is none.';

create function railwatch.lock_invoice(invoice uuid) returns railwatch.invoices
language plpgsql as $$
declare
    existing railwatch.invoices;
begin
    select * into existing from railwatch.invoices where id = invoice for no key update;
    if not found then
        perform railwatch.raise_error('RW009', 'there is no invoice ' || coalesce(invoice::text, '(null)'));
    end if;
    return existing;
end $$;
comment on function railwatch.lock_invoice is 'Part of every manual act: hold the invoice to the commit, as the daemon''s steps do.';

create function railwatch.margin(on_rail railwatch.rails, time_basis text) returns interval
language sql immutable
return case when time_basis = 'first_seen' then on_rail.sight_margin else on_rail.time_margin end;
comment on function railwatch.margin is 'For how long after a window a payment that counts as within it may still arrive on a rail.';

create function railwatch.covers(on_rail railwatch.rails, moment timestamptz, time_basis text) returns boolean
language sql immutable
return coalesce(on_rail.covered_until >= moment + railwatch.margin(on_rail, time_basis), false);
comment on function railwatch.covers is 'Whether no payment that counts as before the moment can still be unseen on a rail: the core''s Coverage.reaches.';

create function railwatch.assess(known railwatch.invoices) returns text
language plpgsql stable as $$
declare
    state_before_hold text := coalesce(known.held_from, known.state);  -- what was decided before a hold still holds
    result text;
begin
    if state_before_hold in ('cancelled', 'refunded') then
        return state_before_hold;
    end if;
    with payments as (
        select x.destination_id, x.amount, x.state in ('confirmed', 'final') as counted, x.state <> 'pending' as in_block,
               case when x.state = 'final' and x.in_time is not null then x.in_time
                    else known.expires_at >= case known.time_basis
                        when 'first_seen' then x.first_seen_at
                        when 'block_time' then coalesce(x.block_time, now())
                        else coalesce(x.confirmed_at, now()) end
               end as timely
        from railwatch.detections x
        where x.invoice_id = known.id and x.kind = 'payment' and x.state in ('pending', 'included', 'confirmed', 'final')
    ), counted as (
        select x.rail, x.asset, sum(x.amount) as amount from railwatch.detections x
        where x.invoice_id = known.id and x.state in ('confirmed', 'final') group by x.rail, x.asset
    ), returned as (
        select r.rail, r.asset, sum(r.amount) as amount, sum(r.surplus) as surplus, sum(r.waived) as waived
        from railwatch.refunds r where r.invoice_id = known.id group by r.rail, r.asset
    ), sums as (
        select d.rail, d.asset,
               greatest(1, d.expected_amount - div(d.expected_amount * known.tolerance_bps, 10000)) as least,
               d.expected_amount + div(d.expected_amount * known.tolerance_bps, 10000) as most,
               coalesce(sum(p.amount) filter (where p.timely), 0) as seen,
               coalesce(sum(p.amount) filter (where p.timely and p.counted), 0) as confirmed,
               coalesce(sum(p.amount) filter (where not p.timely), 0) as late,
               coalesce(sum(p.amount) filter (where not p.timely and p.counted), 0) as late_confirmed,
               coalesce(bool_or(p.in_block), false) as in_block
        from railwatch.destinations d left join payments p on p.destination_id = d.id
        where d.invoice_id = known.id and d.watch_state <> 'rejected'
        group by d.id
    ), judged as (
        -- What was given back is not there. Of a settled order the merchant may give back by choice (waived).
        select sums.*, r.amount is null or coalesce(c.amount, 0) - r.amount >= sums.least - r.waived as held,
               sums.most + coalesce(r.amount - r.surplus - r.waived, 0) as at_most
        from sums left join counted c using (rail, asset) left join returned r using (rail, asset)
    )
    select case
        when max(confirmed - at_most) filter (where confirmed >= least and held) > 0 then 'overpaid'
        when bool_or(confirmed >= least and held) then 'paid'
        when bool_or(confirmed + late_confirmed >= least and held) then 'late_paid'
        when bool_or(seen > confirmed or (late > late_confirmed and seen + late >= least))
            then case when bool_or(in_block) then 'confirming' else 'detected' end
        when bool_or(confirmed > 0) then 'underpaid'
    end into result from judged;
    return coalesce(result, case
        when state_before_hold = 'expired' then 'expired'
        when known.expires_at <= now() and not exists (
            select from railwatch.destinations d join railwatch.rails r on r.name = d.rail
            where d.invoice_id = known.id and d.watch_state <> 'rejected'
              and (d.watch_state = 'registered' or not railwatch.covers(r, known.expires_at, known.time_basis)))
             and not exists (select from railwatch.quarantine q where q.invoice_id = known.id)
            then 'expired'
        else 'created' end);
end $$;
comment on function railwatch.assess is 'The state that the facts demand, were the invoice not held: the core''s rule, for manual acts. A test keeps them equal.';

create function railwatch.move_invoice(
    known railwatch.invoices, target text, reason text, cause text, evidence jsonb, hold text default null
) returns text
language plpgsql as $$
declare
    moved railwatch.invoices;
begin
    if not exists (select from railwatch.allowed_transitions where from_state = known.state and to_state = target) then
        perform railwatch.raise_error('RW010', 'invoice ' || known.id || ' is ' || known.state || ' and cannot become ' || target);
    end if;
    update railwatch.invoices
    set state = target, state_since = now(), version = version + 1, held = hold,
        held_from = case when target = 'flagged' then known.state end,
        settled_at = coalesce(settled_at, case when target in ('paid', 'overpaid', 'late_paid') then now() end)
    where id = known.id returning * into moved;
    perform railwatch.append_invoice_transition(moved, known.state, reason, cause, evidence);
    return target;
end $$;
comment on function railwatch.move_invoice is 'The only way in which a manual act moves an invoice: by the table of moves, and with its line in the feed.';

create function railwatch.append_manual_transition(
    about text, subject_id uuid, invoice uuid, from_state text, to_state text, reason text, cause text, on_rail text,
    tx text, evidence jsonb
) returns void
language plpgsql as $$
declare
    holder bigint := railwatch.next_seq(1);
begin
    insert into railwatch.transitions
        (seq, event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause, rail, tx_id, evidence)
    values (holder, md5('railwatch/' || about || '/' || subject_id || '/' || to_state)::uuid, about, subject_id, invoice,
            from_state, to_state, reason, cause, on_rail, tx,
            jsonb_strip_nulls(evidence) || jsonb_build_object('login', session_user));
    perform railwatch.notify('railwatch', holder::text);
end $$;
comment on function railwatch.append_manual_transition is 'Put an act that is not about an invoice''s state into the feed.';

create function railwatch.hold_invoice(invoice uuid, actor text, reason text, cause text default 'service') returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    existing railwatch.invoices;
begin
    perform railwatch.check_actor(actor, cause);
    if reason is null or reason = '' then
        perform railwatch.raise_error('RW001', 'reason is missing, or not a text of 1 to 1000 characters');
    end if;
    perform railwatch.check_note(reason, 'reason', 1000);
    existing := railwatch.lock_invoice(invoice);
    if existing.state = 'flagged' then
        return existing.state;
    end if;
    return railwatch.move_invoice(existing, 'flagged', 'held', cause,
        jsonb_build_object('actor', actor, 'reason', reason), hold => reason);
end $$;
comment on function railwatch.hold_invoice is 'Hold an invoice: it is flagged until somebody releases it, whatever the chain says. Holding twice is harmless.';

create function railwatch.release_invoice(
    invoice uuid, actor text, reason text default null, cause text default 'service'
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    existing railwatch.invoices;
begin
    perform railwatch.check_actor(actor, cause);
    perform railwatch.check_note(reason, 'reason', 1000);
    existing := railwatch.lock_invoice(invoice);
    if existing.state <> 'flagged' then
        return existing.state;
    end if;
    return railwatch.move_invoice(existing, railwatch.assess(existing), 'released', cause,
        jsonb_strip_nulls(jsonb_build_object('actor', actor, 'reason', reason, 'held', existing.held)));
end $$;
comment on function railwatch.release_invoice is 'End a hold: the invoice takes the state that the facts demand by now, and that is returned. Releasing twice is harmless.';

create function railwatch.note_absent(invoice uuid, ended text) returns void
language sql as $$
    update railwatch.detections x set invoice_ended = ended
    where x.invoice_id = invoice and x.state = 'orphaned' and x.invoice_ended is null
      -- What was refunded may be what has vanished: then it is that which comes back.
      and coalesce((select sum(r.amount) from railwatch.refunds r
                    where r.invoice_id = x.invoice_id and r.rail = x.rail and r.asset = x.asset), 0)
       <= coalesce((select sum(there.amount) from railwatch.detections there
                    where there.invoice_id = x.invoice_id and there.rail = x.rail and there.asset = x.asset
                      and there.state in ('included', 'confirmed', 'final')), 0);
$$;
comment on function railwatch.note_absent is 'Part of acts that close an invoice: transfers that a reorg has taken away by then are expected no more, and are told when they come back.';

create function railwatch.refunded_asset(invoice uuid, on_rail text, of_asset text, out rail text, out asset text)
language plpgsql stable as $$
declare
    choices text;
    fitting int;
begin
    with arrived as (
        select distinct x.rail, x.asset, a.symbol
        from railwatch.detections x left join railwatch.assets a on a.rail = x.rail and a.id = x.asset
        where x.invoice_id = invoice and x.block_height is not null
    ), fit as (
        select * from arrived
        where (on_rail is null or arrived.rail = on_rail)
          and (of_asset is null or of_asset in (arrived.asset, arrived.symbol))
    )
    select min(fit.rail), min(fit.asset), count(*),
           (select string_agg(coalesce(each.symbol, each.asset) || ' on ' || each.rail, ', ' order by each.rail, each.symbol)
            from arrived each)
    into rail, asset, fitting, choices from fit;
    if fitting = 0 then
        perform railwatch.raise_error('RW013', 'nothing' || coalesce(' of ' || of_asset, '') || ' has arrived'
            || coalesce(' on rail ' || on_rail, '') || ' for invoice ' || invoice, 'Arrived: ' || coalesce(choices, 'nothing') || '.');
    elsif fitting > 1 then
        perform railwatch.raise_error('RW013', 'invoice ' || invoice || ' was paid in several ways',
            'Name the rail and the asset that are refunded: ' || choices || '.');
    end if;
end $$;
comment on function railwatch.refunded_asset is 'Part of record_refund: which of the arrived assets is meant.';

create function railwatch.is_refunded(invoice uuid, out whole boolean, out of_payments boolean)
language sql stable as $$
    with arrived as (
        select x.rail, x.asset, x.kind in ('payment', 'unexpected') as payment,
               coalesce(sum(x.amount) filter (where x.state in ('pending', 'included', 'confirmed', 'final')), 0) as live
        from railwatch.detections x
        where x.invoice_id = invoice and x.kind <> 'unsupported_asset'
        group by 1, 2, 3
    ), due as (
        -- Payments decide, where there are any; what was sent by mistake decides only where nothing else came.
        select * from arrived where payment = (select bool_or(payment) from arrived)
    ), returned as (
        select r.rail, r.asset, sum(r.amount) as amount from railwatch.refunds r where r.invoice_id = invoice group by 1, 2
    )
    select exists (select from due join returned using (rail, asset))
           and not exists (select from due left join returned using (rail, asset) where due.live > coalesce(returned.amount, 0)),
           coalesce((select bool_or(payment) from arrived), false)
$$;
comment on function railwatch.is_refunded is 'Part of record_refund: whether nothing of the customer''s is left, and whether that is about payments.';

create function railwatch.given_back(
    known railwatch.invoices, on_rail text, of_asset text, amount numeric, out surplus numeric, out waived numeric
)
language plpgsql stable as $$
declare
    excess numeric;
    elsewhere boolean;
begin
    surplus := 0;
    waived := 0;
    if (case when known.state = 'flagged' then railwatch.assess(known) else known.state end)
       not in ('paid', 'overpaid', 'late_paid') then
        return;
    end if;
    -- Ways to pay that have what they ask for; what was waived before is not missing.
    with met as (
        select d.rail, d.asset, came.counted - back.returned - asked.least as excess, came.timely >= asked.least as timely
        from railwatch.destinations d
        cross join lateral (
            select greatest(1, d.expected_amount - div(d.expected_amount * known.tolerance_bps, 10000)) as least) asked
        cross join lateral (
            select coalesce(sum(x.amount), 0) as counted,
                   coalesce(sum(x.amount) filter (where x.destination_id = d.id and x.kind = 'payment'), 0) as arrived,
                   coalesce(sum(x.amount) filter (where x.destination_id = d.id and x.kind = 'payment' and x.in_time), 0)
                       as timely
            from railwatch.detections x
            where x.invoice_id = known.id and x.rail = d.rail and x.asset = d.asset and x.state in ('confirmed', 'final')) came
        cross join lateral (
            select coalesce(sum(r.amount - r.waived), 0) as returned from railwatch.refunds r
            where r.invoice_id = known.id and r.rail = d.rail and r.asset = d.asset) back
        where d.invoice_id = known.id and d.watch_state <> 'rejected' and came.arrived >= asked.least
    )
    -- A way that was paid in time comes before one that was paid late, as it does where the state is judged.
    select coalesce(max(met.excess) filter (where (rail, asset) = (on_rail, of_asset) and timely and met.excess >= 0),
                    max(met.excess) filter (where (rail, asset) = (on_rail, of_asset))),
           coalesce(bool_or(met.excess >= 0) filter (where (rail, asset) <> (on_rail, of_asset)), false)
    into excess, elsewhere
    from met;
    -- An order that another asset has settled asks for nothing here: excess is below zero, or null. What is given back while
    -- it has its money elsewhere came twice, so none of that is waived: should the other go, it is missing here.
    if excess >= 0 then
        surplus := least(amount, excess);
        waived := case when elsewhere then 0 else amount - surplus end;
    end if;
end $$;
comment on function railwatch.given_back is 'Part of record_refund: how much of it the order did not ask for, and how much of what it asked for is given back by choice.';

create function railwatch.record_refund(
    invoice uuid, amount numeric, tx_id text, actor text, reason text default null, rail text default null,
    asset text default null, cause text default 'service'
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    existing railwatch.invoices;
    what record;
    earlier railwatch.refunds;
    arrived numeric;
    returned numeric;
    told jsonb := jsonb_build_object('actor', actor, 'reason', reason, 'amount', amount::text);
    inserted uuid;
    now_whole record;
begin
    perform railwatch.check_actor(actor, cause);
    perform railwatch.check_text(tx_id, 'tx_id', 200);
    perform railwatch.check_note(reason, 'reason', 1000);
    perform railwatch.parse_amount(to_jsonb(amount::text), 'refund');
    existing := railwatch.lock_invoice(invoice);
    what := railwatch.refunded_asset(invoice, rail, asset);
    select * into earlier from railwatch.refunds r
    where r.invoice_id = invoice and r.rail = what.rail and r.asset = what.asset
      and (r.tx_id = record_refund.tx_id
           -- A hash is the same transaction however its digits are written.
           or (lower(r.tx_id) = lower(record_refund.tx_id) and record_refund.tx_id ~* '^(0x)?[0-9a-f]{64}$'));
    if found then
        if earlier.amount <> record_refund.amount then
            perform railwatch.raise_error('RW014', 'refund ' || record_refund.tx_id || ' is recorded already, with the amount ' || earlier.amount,
                'Nothing recorded is overwritten. Another refund has another transaction.');
        end if;
        return earlier.id;
    end if;
    select coalesce(sum(x.amount), 0) into arrived from railwatch.detections x
    where x.invoice_id = invoice and x.rail = what.rail and x.asset = what.asset and x.block_height is not null;
    select coalesce(sum(r.amount), 0) into returned from railwatch.refunds r
    where r.invoice_id = invoice and r.rail = what.rail and r.asset = what.asset;
    if record_refund.amount > arrived - returned then
        perform railwatch.raise_error('RW013', 'a refund of ' || record_refund.amount || ' is more than is left: ' || arrived
            || ' had arrived, and ' || returned || ' is refunded already', 'Amounts are base units of ' || what.asset || '.');
    end if;
    insert into railwatch.refunds (invoice_id, rail, asset, amount, tx_id, reason, actor, surplus, waived)
    select invoice, what.rail, what.asset, record_refund.amount, record_refund.tx_id, record_refund.reason,
           record_refund.actor, part.surplus, part.waived
    from railwatch.given_back(existing, what.rail, what.asset, record_refund.amount) part
    returning id into inserted;
    -- Also where it moves nothing: more may have been given back by it than is still there (docs/exceptions.md, reversed).
    update railwatch.invoices set exceptions_checked_version = 0 where id = invoice;
    perform railwatch.append_manual_transition('refund', inserted, invoice, null, 'recorded', 'refunded', cause, what.rail,
        record_refund.tx_id, told || jsonb_build_object('asset', what.asset));
    now_whole := railwatch.is_refunded(invoice);
    if not now_whole.whole or existing.state = 'refunded' then
        return inserted;
    end if;
    if exists (select from railwatch.allowed_transitions where from_state = existing.state and to_state = 'refunded') then
        perform railwatch.note_absent(invoice, 'refunded');
        perform railwatch.move_invoice(existing, 'refunded', 'refunded', cause,
            jsonb_strip_nulls(told || jsonb_build_object('refund', inserted, 'held', existing.held)));
    elsif now_whole.of_payments then
        perform railwatch.raise_error('RW010', 'invoice ' || invoice || ' is ' || existing.state || ' and cannot become refunded',
            'Its payment does not count yet, or no longer. Wait, or hold the invoice first: then a refund closes it for good.');
    end if;
    return inserted;
end $$;
comment on function railwatch.record_refund is 'Record what was given back. When nothing of the customer''s is left the invoice is refunded. The same transaction again is harmless.';

create function railwatch.record_settlement(
    invoice uuid, reference text, actor text, note text default null, cause text default 'service'
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    inserted uuid;
begin
    perform railwatch.check_actor(actor, cause);
    perform railwatch.check_text(reference, 'reference', 200);
    perform railwatch.check_note(note, 'note', 4000);
    perform railwatch.lock_invoice(invoice);
    select s.id into inserted from railwatch.settlements s
    where s.invoice_id = invoice and s.reference = record_settlement.reference;
    if found then
        return inserted;
    end if;
    insert into railwatch.settlements (invoice_id, reference, note, actor)
    values (invoice, record_settlement.reference, record_settlement.note, record_settlement.actor)
    returning id into inserted;
    perform railwatch.append_manual_transition('settlement', inserted, invoice, null, 'recorded', 'settled', cause, null, null,
        jsonb_build_object('actor', actor, 'reference', reference, 'note', note));
    return inserted;
end $$;
comment on function railwatch.record_settlement is 'Write down where finance booked an invoice. The same reference again is harmless; another one stands beside it.';

create function railwatch.lock_exception(exception_id uuid) returns railwatch.exceptions
language plpgsql as $$
declare
    existing railwatch.exceptions;
begin
    -- The invoice first, as the daemon does: it must not have read a row that changes under it.
    perform railwatch.lock_invoice(e.invoice_id) from railwatch.exceptions e where e.id = exception_id;
    select * into existing from railwatch.exceptions where id = exception_id for update;
    if not found then
        perform railwatch.raise_error('RW012', 'there is no exception ' || coalesce(exception_id::text, '(null)'));
    end if;
    return existing;
end $$;
comment on function railwatch.lock_exception is 'Part of acts on an exception: hold it and its invoice to the commit.';

create function railwatch.resolve_exception(
    exception_id uuid, actor text, resolution text, note text default null, cause text default 'service',
    verdict text default null
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    existing railwatch.exceptions;
    through railwatch.detections;
begin
    perform railwatch.check_actor(actor, cause);
    perform railwatch.check_text(resolution, 'resolution', 1000);
    perform railwatch.check_note(note, 'note', 4000);
    if resolution = 'made good' then
        perform railwatch.raise_error('RW001', 'the resolution "made good" is the chain''s own', 'Say what was decided.');
    end if;
    existing := railwatch.lock_exception(exception_id);
    if existing.resolved_at is not null then
        return coalesce(existing.resolution, 'resolved');
    end if;
    if (existing.kind = 'content_mismatch') <> (verdict is not null) or verdict not in ('accepted', 'rejected') then
        perform railwatch.raise_error('RW001', case when existing.kind = 'content_mismatch'
            then 'a content_mismatch is resolved with a verdict, accepted or rejected'
            else 'a verdict is given on a content_mismatch, and not on ' || existing.kind end,
            'accepted: the payment stands as it was first told, and becomes final. rejected: it is dropped.');
    end if;
    -- The daemon follows it with the rail's next block.
    update railwatch.detections x set second_look = verdict, due_basis = 'depth', due_height = 0
    where verdict is not null and x.id = existing.detection_id and x.second_look = 'mismatch' and x.looked_at_block = x.block_hash
      and x.state in ('included', 'confirmed');
    update railwatch.exceptions e
    set resolved_at = now(), resolution = resolve_exception.resolution, owner = coalesce(e.owner, actor),
        notes = railwatch.add_note(e.notes, actor, note)
    where e.id = exception_id;
    select * into through from railwatch.detections x where x.id = existing.detection_id;
    perform railwatch.append_manual_transition('exception', exception_id, existing.invoice_id, 'open', 'resolved', existing.kind, cause,
        through.rail, through.tx_id, jsonb_build_object('actor', actor, 'resolution', resolution, 'note', note, 'verdict', verdict,
            'transfers', case when existing.destination_id is not null then existing.transfers end,
            'sum', case when existing.destination_id is not null then existing.amount::text end));
    return resolution;
end $$;
comment on function railwatch.resolve_exception is 'Close an exception by a person''s word. It stays closed while the facts stand. Resolving twice is harmless: the first word counts. A content_mismatch takes a verdict: accepted (the payment becomes final) or rejected (it is dropped).';

create function railwatch.annotate_exception(
    exception_id uuid, actor text, note text default null, owner text default null
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform railwatch.check_actor(actor, 'service');
    if note is null and owner is null then
        perform railwatch.raise_error('RW001', 'give a note, an owner or both');
    end if;
    perform railwatch.check_note(note, 'note', 4000);
    if owner is not null then
        perform railwatch.check_text(owner, 'owner', 200);
    end if;
    perform railwatch.lock_exception(exception_id);
    update railwatch.exceptions e
    set owner = coalesce(annotate_exception.owner, e.owner),
        notes = railwatch.add_note(
            railwatch.add_note(e.notes, actor, 'owner: ' || coalesce(e.owner, 'nobody') || ' -> ' || annotate_exception.owner), actor, note)
    where e.id = exception_id;
end $$;
comment on function railwatch.annotate_exception is 'Say who looks at an exception, or what was found out. Notes are added, never replaced.';

create function railwatch.add_note(notes text, actor text, note text) returns text
language plpgsql stable as $$
declare
    longer text := concat_ws(E'\n', notes, to_char(now() at time zone 'UTC', 'YYYY-MM-DD HH24:MI') || ' ' || actor || ': ' || note);
begin
    if coalesce(note, '') = '' then
        return notes;
    end if;
    if length(longer) > 100000 then
        perform railwatch.raise_error('RW001', 'the exception''s notes would have ' || length(longer) || ' characters; at most 100000 are kept',
            'Keep what is long elsewhere, and note where it is.');
    end if;
    return longer;
end $$;
comment on function railwatch.add_note is 'Notes with one more line: when, who, what.';

create function railwatch.set_aside(on_rail text, invoice uuid, why text, retry_in float8) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    nth int;
    inserted uuid;
begin
    if not exists (select from railwatch.rails r where r.name = on_rail) then
        perform railwatch.raise_error('RW002', 'unknown rail "' || coalesce(on_rail, '') || '"');
    end if;
    -- It is not locked: this step may hold the feed already, for which whoever holds the invoice may wait.
    if not exists (select from railwatch.invoices i where i.id = set_aside.invoice) then
        perform railwatch.raise_error('RW009', 'there is no invoice ' || coalesce(invoice::text, '(null)'));
    end if;
    why := left(coalesce(why, ''), 4000);
    -- NaN and null are no pause either: it is tried again within a day.
    insert into railwatch.quarantine (rail, invoice_id, reason, retry_at)
    values (on_rail, invoice, why, now() + make_interval(secs => greatest(0, least(retry_in, 86400))))
    on conflict (invoice_id, rail) do update set reason = excluded.reason, retry_at = excluded.retry_at;
    -- One exception, on however many rails the invoice cannot be processed.
    if exists (select from railwatch.exceptions e
               where e.kind = 'processing_failed' and e.invoice_id = set_aside.invoice and e.ended_at is null) then
        return;
    end if;
    select coalesce(max(e.round), 0) + 1 into nth from railwatch.exceptions e
    where e.invoice_id = set_aside.invoice and e.kind = 'processing_failed';
    inserted := md5('railwatch/processing_failed/' || invoice || '/' || nth)::uuid;
    insert into railwatch.exceptions (id, invoice_id, kind, severity, round)
    values (inserted, invoice, 'processing_failed', 'critical', nth);
    perform railwatch.append_manual_transition('exception', inserted, invoice, null, 'open', 'processing_failed', 'chain', on_rail, null,
        jsonb_build_object('why', why));
end $$;
comment on function railwatch.set_aside is 'Put an invoice into quarantine on a rail, and open processing_failed. Only the daemon calls it, within the step that could not process it.';

create function railwatch.take_back(on_rail text, invoice uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    state_before_hold railwatch.exceptions;
begin
    delete from railwatch.deferred_transfers t where t.invoice_id = take_back.invoice and t.rail = on_rail;
    delete from railwatch.quarantine q where q.invoice_id = take_back.invoice and q.rail = on_rail;
    if exists (select from railwatch.quarantine q where q.invoice_id = take_back.invoice) then
        return;
    end if;
    for state_before_hold in
        update railwatch.exceptions e
        set ended_at = now(), resolved_at = coalesce(e.resolved_at, now()), resolution = coalesce(e.resolution, 'made good')
        where e.kind = 'processing_failed' and e.invoice_id = take_back.invoice and e.ended_at is null
        returning e.*
    loop
        -- What a person has resolved was told then.
        if state_before_hold.resolution = 'made good' then
            perform railwatch.append_manual_transition('exception', state_before_hold.id, invoice, 'open', 'resolved', 'processing_failed', 'chain',
                on_rail, null, '{}');
        end if;
    end loop;
end $$;
comment on function railwatch.take_back is 'End an invoice''s quarantine on a rail, and processing_failed with its last one. Only the daemon calls it, within the step that caught up.';

create function railwatch.cancel_invoice(
    invoice uuid, actor text default 'service', note text default null, cause text default 'service'
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    existing railwatch.invoices;
    state_before_hold text;
begin
    perform railwatch.check_actor(actor, cause);
    perform railwatch.check_note(note, 'note', 4000);
    existing := railwatch.lock_invoice(invoice);
    if existing.state = 'cancelled' then
        return existing.state;
    end if;
    -- A hold is no way around the rule: what counts is where the invoice would stand without it.
    state_before_hold := case when existing.state = 'flagged' then railwatch.assess(existing) else existing.state end;
    if state_before_hold <> 'cancelled'
       and not exists (select from railwatch.allowed_transitions where from_state = state_before_hold and to_state = 'cancelled') then
        perform railwatch.raise_error('RW010', 'invoice ' || invoice || ' is ' || state_before_hold
            || case when state_before_hold <> existing.state then ' (and held)' else '' end || ' and cannot be cancelled',
            'Money is on its way or has arrived; a refund is recorded, not cancelled.');
    end if;
    perform railwatch.note_absent(invoice, 'cancelled');
    return railwatch.move_invoice(existing, 'cancelled', 'cancelled', cause,
        jsonb_strip_nulls(jsonb_build_object('actor', actor, 'note', note)));
end $$;
comment on function railwatch.cancel_invoice is 'Withdraw an invoice that is not paid and has nothing on its way; its address stays watched. Cancelling twice is harmless.';

create function railwatch.lock_consumer(consumer text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    existing railwatch.consumers;
begin
    if consumer is null or length(consumer) not between 1 and 200 or consumer like 'webhook:%' then
        perform railwatch.raise_error('RW001', 'a consumer''s name is a text of 1 to 200 characters that does not begin with "webhook:"');
    end if;
    perform railwatch.check_text(consumer, 'the consumer''s name', 200);
    select * into existing from railwatch.consumers c where c.name = consumer for update;
    if not found then
        if (select count(*) from railwatch.consumers) >= 200 then
            perform railwatch.raise_error('RW022', 'there are 200 consumers already, and no ' || consumer || ' among them',
                'Is the name made anew at each start? An operator deletes rows of railwatch.consumers that nobody uses.');
        end if;
        if (select count(*) from railwatch.consumers where owner = session_user) >= 50 then
            perform railwatch.raise_error('RW022', 'login ' || session_user || ' has 50 consumers already, and no ' || consumer || ' among them',
                'Is the name made anew at each start? An operator deletes rows of railwatch.consumers that nobody uses.');
        end if;
        insert into railwatch.consumers (name, position, generation, owner)
        values (consumer, 0, railwatch.feed_generation(), session_user) on conflict do nothing;
        select * into existing from railwatch.consumers c where c.name = consumer for update;
    end if;
    if existing.owner is null then
        update railwatch.consumers set owner = session_user where name = consumer;
    elsif existing.owner <> session_user
          and not pg_has_role(session_user, (select nspowner from pg_namespace where nspname = 'railwatch'), 'usage') then
        perform railwatch.raise_error('RW021', 'consumer ' || consumer || ' belongs to the login ' || existing.owner || ', not to ' || session_user,
            'Use a name of your own.');
    end if;
    return existing.position;
end $$;
comment on function railwatch.lock_consumer is 'Hold a consumer to the commit, so that two copies of a reader take turns. Returns its position; a new one begins at 0.';

create function railwatch.ack(consumer text, seq bigint, generation uuid default null) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    newest bigint := railwatch.feed_end();
    present uuid := railwatch.feed_generation();
    reached bigint;
begin
    if ack.generation is distinct from present and ack.generation is not null and ack.seq >= 0 then
        perform railwatch.raise_error('RW020', 'ack(' || coalesce(consumer, 'null') || ', ' || ack.seq
            || '): the position is from another generation of the feed, which has gone back since',
            'Go on from seq ' || railwatch.feed_check(ack.generation, ack.seq, null) || ': docs/contract.md, "The feed''s generation".');
    end if;
    if ack.seq is null or ack.seq < 0 or ack.seq > newest then
        perform railwatch.raise_error('RW001', 'ack(' || coalesce(consumer, 'null') || ', ' || coalesce(ack.seq::text, 'null')
            || '): give a name, and a seq that the feed has reached (' || newest || ')');
    end if;
    perform railwatch.lock_consumer(consumer);
    update railwatch.consumers c
    set position = greatest(c.position, ack.seq), generation = present, updated_at = now()
    where c.name = consumer returning c.position into reached;
    return reached;
end $$;
comment on function railwatch.ack is 'Remember how far a consumer has come; never goes back. Returns the position.';

create function railwatch.request_rescan(on_rail text, from_height bigint, to_height bigint default null) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    inserted uuid;
begin
    -- As the foreign key locks it: a rail that is being renamed just now is waited for, and then unknown.
    perform from railwatch.rails where name = on_rail for key share;
    if not found then
        perform railwatch.raise_error('RW002', 'unknown rail "' || coalesce(on_rail, '') || '"');
    end if;
    if from_height is null or from_height < 0 or to_height < from_height or greatest(from_height, to_height) > 1000000000000 then
        perform railwatch.raise_error('RW001', 'rescan takes from_height of at least 0 and to_height of at least from_height, at most 10^12');
    end if;
    insert into railwatch.rescans as known (rail, from_height, to_height, next_height)
    values (on_rail, request_rescan.from_height, request_rescan.to_height, request_rescan.from_height)
    on conflict (rail) where finished_at is null do update
    set from_height = least(known.from_height, excluded.from_height),
        to_height = case when known.to_height is not null and excluded.to_height is not null
                         then greatest(known.to_height, excluded.to_height) end,
        next_height = least(known.next_height, excluded.from_height),
        tries = 0, retry_at = now()
    returning id into inserted;
    perform railwatch.notify('railwatch_work', 'rescan');
    return inserted;
end $$;
comment on function railwatch.request_rescan is 'Ask the daemon to look through blocks again, both ends inclusive. What is known stays as it is. A rail has one open request: a second one widens it, and returns the same id.';

create function railwatch.cancel_rescan(rescan uuid, actor text, reason text default null) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    existing railwatch.rescans;
begin
    perform railwatch.check_text(actor, 'actor', 200);
    if reason is not null then
        perform railwatch.check_text(reason, 'reason', 1000);
    end if;
    select * into existing from railwatch.rescans where id = rescan for update;
    if not found then
        perform railwatch.raise_error('RW030', 'there is no rescan ' || coalesce(rescan::text, '(null)'),
            'List them with: railwatch rescan list');
    end if;
    if existing.finished_at is not null then
        return existing.outcome;
    end if;
    update railwatch.rescans
    set finished_at = now(), outcome = 'cancelled', ended_by = actor, error = coalesce(reason, error)
    where id = rescan;
    return 'cancelled';
end $$;
comment on function railwatch.cancel_rescan is 'End an open rescan. What it found stays. Returns the outcome; a rescan that has ended keeps the one that it has.';

create function railwatch.resume_rail(on_rail text, actor text, reason text default null) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    existing railwatch.rails;
begin
    perform railwatch.check_text(actor, 'actor', 200);
    if reason is not null then
        perform railwatch.check_text(reason, 'reason', 1000);
    end if;
    select * into existing from railwatch.rails where name = on_rail for no key update;
    if not found then
        perform railwatch.raise_error('RW002', 'unknown rail "' || coalesce(on_rail, '') || '"');
    end if;
    if existing.state <> 'halted' then
        perform railwatch.raise_error('RW031', 'rail ' || on_rail || ' is ' || existing.state || ', not halted');
    end if;
    update railwatch.rails
    set state = 'starting', updated_at = now(),
        reason = 'resumed by ' || actor || coalesce(': ' || resume_rail.reason, '') || '; it had halted because: ' || coalesce(existing.reason, '')
    where name = on_rail;
    perform railwatch.notify('railwatch_work', 'resume');
    return 'starting';
end $$;
comment on function railwatch.resume_rail is 'Let a halted rail go on from its last committed block, once its cause is gone. It accepts no other chain: after a DeepReorg the rail goes on only where the node has our chain again.';

create function railwatch.accept_chain(
    on_rail text, height bigint, hash text, common boolean, actor text, reason text
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    existing railwatch.rails;
    inserted uuid;
begin
    perform railwatch.check_text(actor, 'actor', 200);
    perform railwatch.check_text(reason, 'reason', 1000);
    perform railwatch.check_text(hash, 'hash', 200);
    if common is null then
        perform railwatch.raise_error('RW001', 'common is missing: true where the fork is a block that we had followed too');
    end if;
    select * into existing from railwatch.rails where name = on_rail for no key update;
    if not found then
        perform railwatch.raise_error('RW002', 'unknown rail "' || coalesce(on_rail, '') || '"');
    end if;
    if existing.state <> 'halted' or coalesce(existing.reason, '') !~ '^DeepReorg' then
        perform railwatch.raise_error('RW031', 'rail ' || on_rail || ' is not halted by a DeepReorg: there is no other chain to accept');
    end if;
    if height is null or height < 0 or height >= existing.cursor_height then
        perform railwatch.raise_error('RW001', 'the fork is a height from 0 to below the cursor (' || existing.cursor_height || ')');
    end if;
    delete from railwatch.chain_acceptances a where a.rail = on_rail and a.applied_at is null;
    insert into railwatch.chain_acceptances (rail, fork_height, fork_hash, is_common, left_height, left_hash, actor, reason)
    values (on_rail, height, hash, common, existing.cursor_height, existing.cursor_hash, actor, reason) returning id into inserted;
    -- What was final, and what time was covered, was so on the other chain.
    update railwatch.rails
    set state = 'starting', updated_at = now(), finalized_height = null, finalized_hash = null, covered_until = null,
        reason = 'another chain was accepted by ' || actor || ': ' || accept_chain.reason
    where name = on_rail;
    update railwatch.balances b set settled_height = null, settled_balance = null, settled_spent = null
    where b.rail = on_rail and b.settled_height > height;
    perform railwatch.notify('railwatch_work', 'resume');
    return inserted;
end $$;
comment on function railwatch.accept_chain is 'Let a rail that a DeepReorg has halted follow the other chain: the daemon takes back everything above the fork, once, also what was final, and tells it. A decision of a person, which is written down.';

create function railwatch.rename_rail(old_name text, new_name text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    holder text;
    place record;
begin
    -- Nobody takes the lease, and no step begins, until this is done.
    perform from railwatch.rails where name = old_name for update;
    if not found then
        perform railwatch.raise_error('RW002', 'unknown rail "' || coalesce(old_name, '') || '"');
    end if;
    if new_name is null or new_name !~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'
       or exists (select from railwatch.rails where new_name in (name, origin) and name <> old_name) or new_name = old_name then
        perform railwatch.raise_error('RW001', 'a rail cannot be renamed to "' || coalesce(new_name, '')
            || '": that is no name, or one that a rail has or had', 'Letters, digits, dots, hyphens and underscores.');
    end if;
    select l.holder into holder from railwatch.leases l where l.rail = old_name and l.expires_at > now();
    if found then
        perform railwatch.raise_error('RW023', 'rail ' || old_name || ' is followed by ' || holder || ', and cannot be renamed now',
            'Stop that daemon first.');
    end if;
    delete from railwatch.leases where rail = old_name;
    insert into railwatch.rails
    select (jsonb_populate_record(r, jsonb_build_object('name', new_name, 'origin', coalesce(r.origin, r.name)))).*
    from railwatch.rails r where r.name = old_name;
    insert into railwatch.assets
    select (jsonb_populate_record(a, jsonb_build_object('rail', new_name))).* from railwatch.assets a where a.rail = old_name;
    -- Every table that names a rail, but the feed: its lines keep the name that the rail had then.
    for place in
        select c.oid::regclass as of_table, exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgname = 'append_only') as fixed
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'rail' and not a.attisdropped
        where c.relnamespace = 'railwatch'::regnamespace and c.relkind = 'r' and c.relname not in ('assets', 'transitions')
        order by c.relname
    loop
        if place.fixed then
            execute format('alter table %s disable trigger append_only', place.of_table);
        end if;
        execute format('update %s set rail = $1 where rail = $2', place.of_table) using new_name, old_name;
        if place.fixed then
            execute format('alter table %s enable always trigger append_only', place.of_table);
        end if;
    end loop;
    -- A destination's sums name rails too, also of what came on another rail than its own.
    update railwatch.destinations d
    set tallies = (select jsonb_agg(case when t ->> 0 = old_name then jsonb_set(t, '{0}', to_jsonb(new_name)) else t end)
                   from jsonb_array_elements(d.tallies) t)
    where exists (select from jsonb_array_elements(d.tallies) t where t ->> 0 = old_name);
    delete from railwatch.assets where rail = old_name;
    delete from railwatch.rails where name = old_name;
end $$;
comment on function railwatch.rename_rail is 'Give a rail another name, with all that belongs to it. Ids of transfers stay as they are. Refused while a daemon follows it.';

create function railwatch.display(amount numeric, decimals int) returns numeric
language sql immutable
return case when decimals between 0 and 255 and amount not in ('NaN', 'Infinity', '-Infinity')
            then trim_scale((trunc(amount)::text || 'e-' || decimals)::numeric) end;
comment on function railwatch.display is 'Base units in display units, exactly; null where the decimals are not known.';

create function railwatch.customer_state(state text, settled_at timestamptz) returns text
language sql immutable
return case
    when state = 'created' then case when settled_at is null then 'waiting' else 'issue' end
    when state = 'detected' then 'received'
    when state = 'confirming' then 'confirming'
    when state in ('paid', 'overpaid') then 'complete'
    else 'issue' end;
comment on function railwatch.customer_state is 'What a customer is told of a state: waiting, received, confirming, complete or issue.';

create function railwatch.state_now(on_rail railwatch.rails) returns text
language sql stable
-- What the row says is true while somebody follows the rail. A halted one is halted until a person acts.
return case when on_rail.state = 'halted' then 'halted'
            when exists (select from railwatch.leases l where l.rail = on_rail.name and l.expires_at > now())
            then on_rail.state else 'not followed' end;
comment on function railwatch.state_now is 'How a rail is: its state, or "not followed" while no daemon holds its lease.';

create view railwatch.orders as
select i.merchant_id, i.order_id, i.id as invoice_id, i.state, railwatch.customer_state(i.state, i.settled_at) as customer_state,
       i.state_since, i.created_at, i.expires_at, i.settled_at, i.held,
       exists (select from railwatch.destinations d
               join railwatch.rails r on r.name = d.rail and r.enabled
               join railwatch.leases l on l.rail = r.name and l.expires_at > now()
               where d.invoice_id = i.id and d.watch_state = 'watching') as payable,
       not exists (select from railwatch.destinations d join railwatch.rails r on r.name = d.rail
                   where d.invoice_id = i.id and d.watch_state <> 'rejected' and railwatch.state_now(r) <> 'live') as rails_live,
       (select count(*) from railwatch.exceptions e where e.invoice_id = i.id and e.resolved_at is null) as exceptions,
       (select (array['critical', 'warning', 'info'])[min(array_position(array['critical', 'warning', 'info'], e.severity))]
        from railwatch.exceptions e where e.invoice_id = i.id and e.resolved_at is null) as severity,
       i.fiat_amount, i.fiat_currency, i.metadata
from railwatch.invoices i;
comment on view railwatch.orders is 'One row an invoice: the operator''s state and the customer''s, and what stands beside it.';
comment on column railwatch.orders.merchant_id is 'The merchant.';
comment on column railwatch.orders.order_id is 'The order.';
comment on column railwatch.orders.invoice_id is 'The invoice.';
comment on column railwatch.orders.state is 'The operator''s state.';
comment on column railwatch.orders.customer_state is 'waiting, received, confirming, complete or issue.';
comment on column railwatch.orders.state_since is 'Since when.';
comment on column railwatch.orders.created_at is 'When it was registered.';
comment on column railwatch.orders.expires_at is 'End of the payment window, inclusive.';
comment on column railwatch.orders.settled_at is 'When it was first paid.';
comment on column railwatch.orders.held is 'Why it is held; null: not held.';
comment on column railwatch.orders.payable is 'Whether an address of it may be shown: it is watched, on a rail that somebody follows now.';
comment on column railwatch.orders.rails_live is 'Whether silence means that nothing came: every rail of it is live, and followed now.';
comment on column railwatch.orders.exceptions is 'How many exceptions are open.';
comment on column railwatch.orders.severity is 'The worst of them.';
comment on column railwatch.orders.fiat_amount is 'The order''s total.';
comment on column railwatch.orders.fiat_currency is 'Its currency.';
comment on column railwatch.orders.metadata is 'The registering service''s own.';

create view railwatch.order_destinations as
select i.merchant_id, i.order_id, i.id as invoice_id, d.id as destination_id, d.position, d.rail, a.symbol, d.address, d.reference,
       d.watch_state, d.watch_error, railwatch.display(d.expected_amount, a.decimals) as expected,
       railwatch.display(d.seen_amount, a.decimals) as seen, railwatch.display(d.confirmed_amount, a.decimals) as confirmed,
       railwatch.display(d.late_amount, a.decimals) as late, d.policy, d.policy_origin, railwatch.state_now(r) as rail_state
from railwatch.destinations d
join railwatch.invoices i on i.id = d.invoice_id
join railwatch.assets a on a.rail = d.rail and a.id = d.asset
join railwatch.rails r on r.name = d.rail;
comment on view railwatch.order_destinations is 'Where an order can be paid, and what arrived there, in display units.';
comment on column railwatch.order_destinations.merchant_id is 'The merchant.';
comment on column railwatch.order_destinations.order_id is 'The order.';
comment on column railwatch.order_destinations.invoice_id is 'The invoice.';
comment on column railwatch.order_destinations.destination_id is 'The destination.';
comment on column railwatch.order_destinations.position is 'Its place in the invoice''s list, from 1.';
comment on column railwatch.order_destinations.rail is 'The rail.';
comment on column railwatch.order_destinations.symbol is 'The asset''s symbol.';
comment on column railwatch.order_destinations.address is 'The address.';
comment on column railwatch.order_destinations.reference is 'Memo, tag or reference key.';
comment on column railwatch.order_destinations.watch_state is 'Show payment instructions only when watching.';
comment on column railwatch.order_destinations.watch_error is 'Why it was rejected.';
comment on column railwatch.order_destinations.expected is 'Asked for, in display units.';
comment on column railwatch.order_destinations.seen is 'Live and in time, in display units.';
comment on column railwatch.order_destinations.confirmed is 'Of that confirmed, in display units.';
comment on column railwatch.order_destinations.late is 'Live and late, in display units.';
comment on column railwatch.order_destinations.policy is 'When a payment counts here.';
comment on column railwatch.order_destinations.policy_origin is 'invoice, configuration or default.';
comment on column railwatch.order_destinations.rail_state is 'How the rail is: its state, or "not followed".';

create view railwatch.order_transfers as
select x.tx_id, x.tx_index, i.merchant_id, i.order_id, i.id as invoice_id, i.state as invoice_state, x.id as detection_id, x.rail,
       coalesce(a.symbol, x.asset) as symbol, railwatch.display(x.amount, a.decimals) as amount, x.amount as base_amount,
       x.kind, x.state, x.in_time, x.replaced_by, d.address, d.policy, d.policy_origin, x.evidence ->> 'node' as node,
       x.first_seen_at, x.block_height, x.block_hash, x.block_time, x.confirmed_at,
       case when x.state in ('included', 'confirmed', 'final')
            then greatest(r.cursor_height - x.block_height + 1, 0) end as confirmations
from railwatch.detections x
join railwatch.invoices i on i.id = x.invoice_id
join railwatch.destinations d on d.id = x.destination_id
join railwatch.rails r on r.name = x.rail
left join railwatch.assets a on a.rail = x.rail and a.id = x.asset;
comment on view railwatch.order_transfers is 'Every transfer with the order that it is for, in display units.';
comment on column railwatch.order_transfers.tx_id is 'The transaction.';
comment on column railwatch.order_transfers.tx_index is 'Which credit of it.';
comment on column railwatch.order_transfers.merchant_id is 'The merchant.';
comment on column railwatch.order_transfers.order_id is 'The order.';
comment on column railwatch.order_transfers.invoice_id is 'The invoice.';
comment on column railwatch.order_transfers.invoice_state is 'Where the invoice stands.';
comment on column railwatch.order_transfers.detection_id is 'The detection.';
comment on column railwatch.order_transfers.rail is 'The rail that it was seen on.';
comment on column railwatch.order_transfers.symbol is 'The asset''s symbol; its CAIP-19 id where it is not configured.';
comment on column railwatch.order_transfers.amount is 'In display units; null where the decimals are not known.';
comment on column railwatch.order_transfers.base_amount is 'In base units.';
comment on column railwatch.order_transfers.kind is 'payment, or what else it is.';
comment on column railwatch.order_transfers.state is 'Where the transfer stands on its chain.';
comment on column railwatch.order_transfers.in_time is 'Whether it counts as within the window.';
comment on column railwatch.order_transfers.replaced_by is 'The transaction that displaced it.';
comment on column railwatch.order_transfers.address is 'The address that it was for.';
comment on column railwatch.order_transfers.policy is 'The policy that it has to meet.';
comment on column railwatch.order_transfers.policy_origin is 'invoice, configuration or default.';
comment on column railwatch.order_transfers.node is 'The node that told of it.';
comment on column railwatch.order_transfers.first_seen_at is 'When it was first seen.';
comment on column railwatch.order_transfers.block_height is 'Its newest block.';
comment on column railwatch.order_transfers.block_hash is 'Hash of that block.';
comment on column railwatch.order_transfers.block_time is 'Chain time of that block.';
comment on column railwatch.order_transfers.confirmed_at is 'Chain time at which the policy was met.';
comment on column railwatch.order_transfers.confirmations is 'Its depth now, inclusive; null: in no block.';

create view railwatch.order_money as
select i.merchant_id, i.order_id, i.id as invoice_id, i.state, i.settled_at, i.fiat_amount, i.fiat_currency, i.rate_locked_at,
       way.rail, way.asset, a.symbol, asked.expected_amount, came.received_amount, gone.refunded_amount,
       railwatch.display(asked.expected_amount, a.decimals) as expected,
       railwatch.display(came.received_amount, a.decimals) as received,
       railwatch.display(gone.refunded_amount, a.decimals) as refunded,
       asked.policy, asked.policy_origin,
       (select array_agg(s.reference order by s.recorded_at, s.reference) from railwatch.settlements s
        where s.invoice_id = i.id) as settlement_references
from railwatch.invoices i
cross join lateral (
    select d.rail, d.asset from railwatch.destinations d where d.invoice_id = i.id
    union
    select x.rail, x.asset from railwatch.detections x where x.invoice_id = i.id and x.kind <> 'unsupported_asset'
    union
    select r.rail, r.asset from railwatch.refunds r where r.invoice_id = i.id
) way
left join lateral (
    select d.expected_amount, d.policy, d.policy_origin from railwatch.destinations d
    where d.invoice_id = i.id and d.rail = way.rail and d.asset = way.asset order by d.position limit 1
) asked on true
cross join lateral (
    select coalesce(sum(x.amount), 0) as received_amount from railwatch.detections x
    where x.invoice_id = i.id and x.rail = way.rail and x.asset = way.asset and x.state in ('confirmed', 'final')
) came
cross join lateral (
    select coalesce(sum(r.amount), 0) as refunded_amount from railwatch.refunds r
    where r.invoice_id = i.id and r.rail = way.rail and r.asset = way.asset
) gone
left join railwatch.assets a on a.rail = way.rail and a.id = way.asset;
comment on view railwatch.order_money is 'For finance: one row an invoice and asset, with what was asked, what came and what was given back.';
comment on column railwatch.order_money.merchant_id is 'The merchant.';
comment on column railwatch.order_money.order_id is 'The order.';
comment on column railwatch.order_money.invoice_id is 'The invoice.';
comment on column railwatch.order_money.state is 'Where the invoice stands.';
comment on column railwatch.order_money.settled_at is 'When it was first paid.';
comment on column railwatch.order_money.fiat_amount is 'The order''s total at price lock.';
comment on column railwatch.order_money.fiat_currency is 'Its currency.';
comment on column railwatch.order_money.rate_locked_at is 'When the price was locked.';
comment on column railwatch.order_money.rail is 'The rail.';
comment on column railwatch.order_money.asset is 'CAIP-19 id.';
comment on column railwatch.order_money.symbol is 'The asset''s symbol.';
comment on column railwatch.order_money.expected_amount is 'Asked for, in base units; null: this asset was not asked for.';
comment on column railwatch.order_money.received_amount is 'Confirmed, in base units: in time, late or sent by mistake.';
comment on column railwatch.order_money.refunded_amount is 'Given back, in base units.';
comment on column railwatch.order_money.expected is 'Asked for, in display units.';
comment on column railwatch.order_money.received is 'Confirmed, in display units.';
comment on column railwatch.order_money.refunded is 'Given back, in display units.';
comment on column railwatch.order_money.policy is 'The policy by which it counts.';
comment on column railwatch.order_money.policy_origin is 'invoice, configuration or default.';
comment on column railwatch.order_money.settlement_references is 'Where finance booked the invoice, oldest first; null: nowhere yet.';

create function railwatch.find_orders(what text)
returns table (found_by text, invoice_id uuid, merchant_id text, order_id text, state text, customer_state text)
language sql stable set search_path = pg_catalog, pg_temp as $$
    select hit.found_by, o.invoice_id, o.merchant_id, o.order_id, o.state, o.customer_state
    from (
        select 'invoice' as found_by, i.id from railwatch.invoices i
        where i.id = case when what ~* '^[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}$' then what::uuid end
        union
        select 'order', i.id from railwatch.invoices i where i.order_id = what
        union
        select 'order', i.id
        -- A merchant and an order have at most 200 characters each. What is longer is no name, and is not cut up.
        from generate_series(1, case when length(what) <= 401 then length(what) end) cut
        join railwatch.invoices i on i.merchant_id = left(what, cut - 1) and i.order_id = substr(what, cut + 1)
        where substr(what, cut, 1) = '/'
        union
        select 'transaction', x.invoice_id from railwatch.detections x where x.tx_id in (what, lower(what))
        union
        select 'refund', f.invoice_id from railwatch.refunds f where f.tx_id in (what, lower(what))
        union
        select 'address', d.invoice_id
        from railwatch.destinations d join railwatch.rails r on r.name = d.rail
        where d.address_folded in (what, lower(what)) and (d.address_folded = what or r.fold_case)
    ) hit
    join railwatch.orders o on o.invoice_id = hit.id
    order by o.created_at desc, hit.found_by
$$;
comment on function railwatch.find_orders is 'The orders that a text may mean: an id, an order, merchant/order, a transaction or an address. The newest first.';

create function railwatch.forbid_modification() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform railwatch.raise_error('RW015', tg_table_name || ' is append-only: nothing in it is changed or deleted',
        'What turned out wrong is followed by what is right.');
    return null;
end $$;
comment on function railwatch.forbid_modification is 'Keeps a table append-only, also for its owner.';

create trigger append_only before update or delete or truncate on railwatch.transitions
    for each statement execute function railwatch.forbid_modification();
create trigger append_only before update or delete or truncate on railwatch.refunds
    for each statement execute function railwatch.forbid_modification();
create trigger append_only before update or delete or truncate on railwatch.settlements
    for each statement execute function railwatch.forbid_modification();
create trigger append_only before update or delete or truncate on railwatch.observations
    for each statement execute function railwatch.forbid_modification();
alter table railwatch.transitions enable always trigger append_only;
alter table railwatch.refunds enable always trigger append_only;
alter table railwatch.settlements enable always trigger append_only;
alter table railwatch.observations enable always trigger append_only;

create function railwatch.require_transition() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    told text;
begin
    -- The owner may have to repair what is broken. Nobody else comes past the feed.
    if pg_has_role(current_user, (select nspowner from pg_namespace where nspname = 'railwatch'), 'usage') then
        return null;
    end if;
    select t.to_state into told from railwatch.transitions t
    where t.invoice_id = new.id and t.subject = 'invoice' order by t.seq desc limit 1;
    if told is distinct from (select state from railwatch.invoices where id = new.id) then
        perform railwatch.raise_error('RW016', 'invoice ' || new.id || ' cannot become ' || new.state || ' without a line in the feed',
            'States are moved by the daemon and by the functions of the contract.');
    end if;
    return null;
end $$;
comment on function railwatch.require_transition is 'No state by hand: at the commit an invoice''s state must be the one that the feed told last.';

create constraint trigger state_change_requires_transition after update of state on railwatch.invoices
    deferrable initially deferred for each row when (old.state is distinct from new.state)
    execute function railwatch.require_transition();

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

create view railwatch.consumer_lag as
select c.name, c.position, f.last_seq - c.position as lag,
       (select t.recorded_at from railwatch.transitions t where t.seq = c.position + 1) as waiting_since, c.updated_at
from (
    select name, position, updated_at from railwatch.consumers
    union all
    select 'webhook:' || name, position, moved_at from railwatch.webhook_endpoints
) c, railwatch.feed_end() as f (last_seq);
comment on view railwatch.consumer_lag is 'How far each reader of the feed has come, and how far that is behind; the deliverer''s endpoints as webhook:NAME.';
comment on column railwatch.consumer_lag.name is 'The reader''s own name.';
comment on column railwatch.consumer_lag.position is 'The last seq that it has dealt with.';
comment on column railwatch.consumer_lag.lag is 'How many lines it has not dealt with.';
comment on column railwatch.consumer_lag.waiting_since is 'When the first of them was recorded; null: none waits.';
comment on column railwatch.consumer_lag.updated_at is 'When it last acknowledged.';

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
comment on table railwatch.webhook_deliveries is 'What an endpoint is still owed. A row is deleted when the endpoint accepts the event.';
comment on column railwatch.webhook_deliveries.endpoint is 'The endpoint.';
comment on column railwatch.webhook_deliveries.seq is 'The event: its transition.';
comment on column railwatch.webhook_deliveries.event_id is 'That transition''s event_id, sent as webhook-id with every attempt.';
comment on column railwatch.webhook_deliveries.lane is 'The invoice, or the subject of an event that belongs to none. A lane''s events go out one after another.';
comment on column railwatch.webhook_deliveries.state is 'pending, or dead: given up after the last attempt, until somebody replays it.';
comment on column railwatch.webhook_deliveries.attempts is 'How many have failed.';
comment on column railwatch.webhook_deliveries.due_at is 'Not before this moment; the pauses grow with the attempts.';
comment on column railwatch.webhook_deliveries.queued_at is 'When it was read from the feed, or replayed.';
comment on column railwatch.webhook_deliveries.tried_at is 'When the last attempt ended.';
comment on column railwatch.webhook_deliveries.failure is 'Why the last attempt failed.';

create function railwatch.event_type(subject text, to_state text, reason text) returns text
language sql immutable
-- A reversal has a type of its own: an invoice that fell back to created must not pass for a new one. If only a surplus
-- was taken back, the invoice is settled as before, and nothing has to be stopped.
return case when subject = 'invoice' and reason = 'reversed' and to_state not in ('paid', 'overpaid', 'late_paid')
            then 'invoice.reversed'
            when subject = 'exception' then concat_ws('.', subject, to_state, reason)
            else concat_ws('.', subject, to_state) end;
comment on function railwatch.event_type is 'What a webhook calls a transition: invoice.paid, invoice.reversed, detection.final, exception.open.underpaid ...';

insert into railwatch.rights (role, object, privileges)
select role, object, privileges
from (values
    (array['railwatch_daemon', 'railwatch_service', 'railwatch_reader'], 'usage', array['schema railwatch']),
    (array['railwatch_daemon', 'railwatch_service', 'railwatch_reader'], 'select', array[
        'railwatch.rails', 'railwatch.leases', 'railwatch.checkpoints', 'railwatch.assets', 'railwatch.policies',
        'railwatch.settings', 'railwatch.invoices', 'railwatch.destinations', 'railwatch.detections',
        'railwatch.transitions', 'railwatch.feed_position', 'railwatch.exceptions', 'railwatch.consumers',
        'railwatch.rescans', 'railwatch.allowed_transitions', 'railwatch.refunds', 'railwatch.settlements', 'railwatch.rights',
        'railwatch.orders', 'railwatch.order_destinations', 'railwatch.order_transfers', 'railwatch.order_money',
        'railwatch.consumer_lag', 'railwatch.migrations']),
    (array['railwatch_daemon', 'railwatch_service', 'railwatch_reader'], 'execute', array[
        'function railwatch.display', 'function railwatch.customer_state', 'function railwatch.find_orders']),
    (array['railwatch_daemon', 'railwatch_service'], 'execute', array[
        'function railwatch.create_invoice', 'function railwatch.cancel_invoice', 'function railwatch.hold_invoice',
        'function railwatch.release_invoice', 'function railwatch.record_refund', 'function railwatch.record_settlement',
        'function railwatch.resolve_exception', 'function railwatch.annotate_exception',
        'function railwatch.request_rescan', 'function railwatch.ack']),
    (array['railwatch_daemon'], 'execute', array[
        'function railwatch.affected_rows', 'function railwatch.next_seq', 'function railwatch.raise_error']),
    (array['railwatch_daemon'], 'insert, update', array[
        'railwatch.rails', 'railwatch.assets', 'railwatch.settings', 'railwatch.detections', 'railwatch.exceptions']),
    (array['railwatch_daemon'], 'insert, update, delete', array['railwatch.leases', 'railwatch.checkpoints']),
    (array['railwatch_daemon'], 'insert, delete', array['railwatch.policies']),
    (array['railwatch_daemon'], 'insert', array['railwatch.transitions']),
    (array['railwatch_daemon'], 'update', array['railwatch.rescans']),
    (array['railwatch_daemon'], 'update (state, state_since, version, settled_at, closed_at)',
        array['railwatch.invoices']),
    (array['railwatch_daemon'], 'update (address, address_key, accepted_at, watch_state, watch_error, covered_from, seen_amount, '
        'confirmed_amount, late_amount)', array['railwatch.destinations'])
) as given (roles, privileges, objects), unnest(roles) as role, unnest(objects) as object;

insert into railwatch.rights (role, object, privileges)
select role, object, 'select'
from unnest(array['railwatch_daemon', 'railwatch_service', 'railwatch_reader']) as role,
     unnest(array['railwatch.observations', 'railwatch.open_exceptions']) as object;
insert into railwatch.rights (role, object, privileges)
values ('railwatch_daemon', 'railwatch.observations', 'insert'),
       ('railwatch_daemon', 'railwatch.invoices', 'update (exceptions_checked_version)'),
       ('railwatch_daemon', 'railwatch.destinations', 'update (left_out)'),
       ('railwatch_daemon', 'railwatch.destinations', 'update (tallies, small_count, small_amount)');

insert into railwatch.rights (role, object, privileges)
values ('railwatch_daemon', 'railwatch.webhook_endpoints', 'select, insert, update, delete'),
       ('railwatch_daemon', 'railwatch.webhook_deliveries', 'select, insert, update, delete'),
       ('railwatch_daemon', 'railwatch.consumers', 'delete'),
       ('railwatch_daemon', 'function railwatch.event_type', 'execute'),
       ('railwatch_service', 'railwatch.webhook_endpoints', 'select'),
       ('railwatch_service', 'railwatch.webhook_deliveries', 'select'),
       ('railwatch_service', 'function railwatch.event_type', 'execute'),
       ('railwatch_reader', 'railwatch.webhook_endpoints', 'select'),
       ('railwatch_reader', 'railwatch.webhook_deliveries', 'select'),
       ('railwatch_reader', 'function railwatch.event_type', 'execute');

insert into railwatch.rights (role, object, privileges)
select role, 'railwatch.balances', 'select'
from unnest(array['railwatch_daemon', 'railwatch_service', 'railwatch_reader']) as role;
insert into railwatch.rights (role, object, privileges)
values ('railwatch_daemon', 'railwatch.balances', 'insert, update');

insert into railwatch.rights (role, object, privileges)
select role, object, 'select'
from unnest(array['railwatch_daemon', 'railwatch_service', 'railwatch_reader']) as role,
     unnest(array['railwatch.locks', 'railwatch.deliverer_lease', 'railwatch.watch_position']) as object;
insert into railwatch.rights (role, object, privileges)
values ('railwatch_daemon', 'railwatch.locks', 'update'),
       ('railwatch_daemon', 'railwatch.deliverer_lease', 'update'),
       ('railwatch_daemon', 'railwatch.watch_position', 'insert, update'),
       ('railwatch_daemon', 'railwatch.destinations', 'update (keyed_seq)'),
       ('railwatch_daemon', 'function railwatch.is_backend_alive', 'execute'),
       ('railwatch_daemon', 'function railwatch.cancel_rescan', 'execute'),
       ('railwatch_service', 'function railwatch.cancel_rescan', 'execute'),
       ('railwatch_daemon', 'function railwatch.resume_rail', 'execute');

insert into railwatch.rights (role, object, privileges)
select role, object, privileges
from (values
    (array['railwatch_daemon', 'railwatch_service', 'railwatch_reader'], 'select', array['railwatch.feed_generations']),
    (array['railwatch_daemon', 'railwatch_service', 'railwatch_reader'], 'execute', array[
        'function railwatch.feed_generation', 'function railwatch.feed_check', 'function railwatch.state_now']),
    (array['railwatch_daemon', 'railwatch_service'], 'execute', array[
        'function railwatch.lock_consumer', 'function railwatch.create_invoices']),
    (array['railwatch_daemon'], 'execute', array['function railwatch.note_generation', 'function railwatch.renew_feed',
        'function railwatch.rename_rail'])
) as given (roles, privileges, objects), unnest(roles) as role, unnest(objects) as object;

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

insert into railwatch.rights (role, object, privileges)
select role, 'railwatch.chain_acceptances', 'select'
from unnest(array['railwatch_daemon', 'railwatch_service', 'railwatch_reader']) as role;
insert into railwatch.rights (role, object, privileges)
values ('railwatch_daemon', 'railwatch.chain_acceptances', 'update (applied_at)'),
       ('railwatch_daemon', 'railwatch.invoices', 'update (closes_at)'),
       ('railwatch_daemon', 'function railwatch.accept_chain', 'execute'),
       ('railwatch_daemon', 'function railwatch.margin', 'execute'),
       ('railwatch_daemon', 'function railwatch.covers', 'execute'),
       ('railwatch_daemon', 'function railwatch.notify', 'execute'),
       ('railwatch_deliverer', 'function railwatch.notify', 'execute'),
       ('railwatch_deliverer', 'function railwatch.raise_error', 'execute');

-- What a deliverer reads to make an event, and what it writes: nothing that the feed tells.
insert into railwatch.rights (role, object, privileges)
select 'railwatch_deliverer', object, privileges
from (values
    ('usage', array['schema railwatch']),
    ('select', array['railwatch.migrations', 'railwatch.rails', 'railwatch.settings', 'railwatch.transitions', 'railwatch.feed_position',
        'railwatch.feed_generations', 'railwatch.invoices', 'railwatch.destinations', 'railwatch.detections', 'railwatch.assets',
        'railwatch.refunds', 'railwatch.settlements', 'railwatch.exceptions', 'railwatch.exception_transfers',
        'railwatch.deliverer_lease']),
    ('select, insert, update, delete', array['railwatch.webhook_endpoints', 'railwatch.webhook_deliveries']),
    ('update', array['railwatch.deliverer_lease']),
    ('execute', array['function railwatch.event_type', 'function railwatch.feed_generation', 'function railwatch.note_generation',
        'function railwatch.feed_check', 'function railwatch.customer_state', 'function railwatch.is_backend_alive'])
) as given (privileges, objects), unnest(objects) as object;
insert into railwatch.rights (role, object, privileges)
select role, 'function railwatch.feed_end', 'execute'
from unnest(array['railwatch_daemon', 'railwatch_deliverer', 'railwatch_service', 'railwatch_reader']) as role;
-- An operator is a service whose acts may stand in the feed as a person's, and who lets a halted rail go on.
insert into railwatch.rights (role, object, privileges)
values ('railwatch_operator', 'schema railwatch', 'usage'),
       ('railwatch_operator', 'function railwatch.resume_rail', 'execute'),
       ('railwatch_operator', 'function railwatch.accept_chain', 'execute'),
       ('railwatch_operator', 'railwatch.consumers', 'delete');

create function railwatch.grant_rights() returns text[]
language plpgsql as $$
declare
    of_role text;
    given railwatch.rights;
    missing text[] := '{}';
begin
    revoke execute on all functions in schema railwatch from public;
    for of_role in select distinct role from railwatch.rights order by role loop
        begin
            if not exists (select from pg_roles where rolname = of_role) then
                execute format('create role %I nologin', of_role);
            end if;
        exception
            when duplicate_object or unique_violation then
                null;  -- Roles belong to the whole cluster: another database's migration was quicker.
            when insufficient_privilege then
                missing := missing || of_role;
                raise warning '% may not create the role %, which nobody has now', current_user, of_role
                    using hint = 'As a superuser: create role ' || of_role || ' nologin; then, as the owner of the schema: select railwatch.grant_rights();';
                continue;
        end;
        for given in select * from railwatch.rights where role = of_role order by object, privileges loop
            execute format('grant %s on %s to %I', given.privileges, given.object, of_role);
        end loop;
    end loop;
    begin
        if not missing && array['railwatch_operator', 'railwatch_service'] and not pg_has_role('railwatch_operator', 'railwatch_service', 'member') then
            grant railwatch_service to railwatch_operator;
        end if;
    exception when insufficient_privilege then
        raise warning '% may not make railwatch_operator a member of railwatch_service', current_user
            using hint = 'As a superuser: grant railwatch_service to railwatch_operator;';
    end;
    return missing;
end $$;
comment on function railwatch.grant_rights is 'Make the roles, where that may be done, and give them what the table rights says. Returns the roles that are missing. Doing it again is harmless.';

select railwatch.grant_rights();

-- The table of migrations was made in `public`, before there was a schema of ours.
insert into railwatch.migrations select version, name, checksum, applied_at from public.railwatch_migrations;
drop table public.railwatch_migrations;

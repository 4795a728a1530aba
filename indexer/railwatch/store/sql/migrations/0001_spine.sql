-- The whole schema as it stands: tables, functions, comments. Migrations lead here, and a test proves that they do.
-- Amounts are base units in NUMERIC(78,0), times are timestamptz, block hashes and tx ids the node's own text form.

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
    enabled boolean not null default true
);
comment on table railwatch.rails is 'One row a rail: where it follows, and whether it can be believed now.';
comment on column railwatch.rails.name is 'The rail''s name in the configuration.';
comment on column railwatch.rails.chain_id is 'CAIP-2 id of the chain, compared with the node''s own at each connect.';
comment on column railwatch.rails.state is 'starting, syncing, live, stalled or halted. Only while live is silence an answer.';
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

create table railwatch.leases (
    rail text primary key references railwatch.rails (name),
    holder text not null,
    expires_at timestamptz not null
);
comment on table railwatch.leases is 'Which daemon follows a rail. A lease outlives its holder by at most 15 seconds.';
comment on column railwatch.leases.rail is 'The rail.';
comment on column railwatch.leases.holder is 'Host, process and a random part: who holds it.';
comment on column railwatch.leases.expires_at is 'When others may take it, unless it is renewed.';

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

create table railwatch.assets (
    id text not null,
    rail text not null references railwatch.rails (name),
    symbol text not null,
    contract text,
    decimals int not null,
    enabled boolean not null default true,
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
    unique (merchant_id, order_id)
);
create index invoices_open_window on railwatch.invoices (expires_at) where state = 'created';
create index invoices_to_close on railwatch.invoices (closes_at) where closed_at is null;
create index invoices_recent on railwatch.invoices (created_at);
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
    keyed_at timestamptz,
    position int not null,
    foreign key (rail, asset) references railwatch.assets (rail, id)
);
create index destinations_invoice on railwatch.destinations (invoice_id);
create index destinations_key on railwatch.destinations (family, address_key);
create index destinations_keyed on railwatch.destinations (keyed_at) where address_key is not null;
create index destinations_folded on railwatch.destinations (family, address_folded);
create index destinations_registered on railwatch.destinations (rail) where watch_state = 'registered';
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
comment on column railwatch.destinations.keyed_at is 'When it was parsed: other daemons of the family catch up by this.';
comment on column railwatch.destinations.position is 'Its place in the invoice''s list, from 1.';

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
    due_basis text check (due_basis in ('depth', 'finalized')),
    due_height bigint,
    unique (tx_id, rail, tx_index)
);
create index detections_invoice on railwatch.detections (invoice_id);
create index detections_due on railwatch.detections (rail, due_basis, due_height) where due_height is not null;
create index detections_undoable on railwatch.detections (rail, block_height) where state in ('included', 'confirmed');
create index detections_loose on railwatch.detections (rail) where state in ('pending', 'orphaned');
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
comment on column railwatch.detections.evidence is 'Decoded facts: sender, position, source, node.';
comment on column railwatch.detections.maturity is 'The least depth at which it may count, whatever the policy says.';
comment on column railwatch.detections.spends is 'What the transaction consumes: another that takes the same is a rival.';
comment on column railwatch.detections.invoice_ended is 'The invoice''s state at first sight, if that was an end state.';
comment on column railwatch.detections.version is 'How many transitions it has had.';
comment on column railwatch.detections.due_basis is 'What due_height counts in: depth of the cursor, or finality.';
comment on column railwatch.detections.due_height is 'The height at which it moves on; null: it waits for nothing.';

create table railwatch.transitions (
    seq bigint primary key,
    event_id uuid not null unique,
    subject text not null check (subject in ('invoice', 'detection', 'exception')),
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
comment on column railwatch.transitions.subject is 'invoice, detection or exception.';
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
    one boolean primary key default true check (one),
    last_seq bigint not null
);
insert into railwatch.feed_position (last_seq) values (0);
comment on table railwatch.feed_position is 'The feed''s last seq. Whoever appends holds this row to the commit, so that seq order is commit order.';
comment on column railwatch.feed_position.one is 'There is one row.';
comment on column railwatch.feed_position.last_seq is 'The last seq that was given out.';

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
    round int not null default 1
);
create index exceptions_invoice on railwatch.exceptions (invoice_id);
create index exceptions_open on railwatch.exceptions (opened_at) where resolved_at is null;
comment on table railwatch.exceptions is 'What a person or a policy has to look at, beside the state; several can be open at once.';
comment on column railwatch.exceptions.id is 'Derived from what it is about.';
comment on column railwatch.exceptions.invoice_id is 'The invoice.';
comment on column railwatch.exceptions.detection_id is 'The transfer that it is about, if it is about one.';
comment on column railwatch.exceptions.kind is 'underpaid, overpaid, late, wrong_asset, reversed ...';
comment on column railwatch.exceptions.severity is 'info, warning or critical.';
comment on column railwatch.exceptions.opened_at is 'When it opened.';
comment on column railwatch.exceptions.resolved_at is 'When it was resolved; null: open.';
comment on column railwatch.exceptions.resolution is 'How: "made good" by the chain, or a person''s words.';
comment on column railwatch.exceptions.owner is 'Who looks at it.';
comment on column railwatch.exceptions.notes is 'What was found out.';
comment on column railwatch.exceptions.round is 'How often the same thing has been opened.';

create table railwatch.consumers (
    name text primary key,
    position bigint not null,
    updated_at timestamptz not null default now()
);
comment on table railwatch.consumers is 'How far each reader of the feed has come.';
comment on column railwatch.consumers.name is 'The reader''s own name.';
comment on column railwatch.consumers.position is 'The last seq that it has dealt with.';
comment on column railwatch.consumers.updated_at is 'When it said so.';

create table railwatch.rescans (
    id bigint generated always as identity primary key,
    rail text not null references railwatch.rails (name),
    from_height bigint not null check (from_height >= 0),
    to_height bigint,
    next_height bigint not null,
    found int not null default 0,
    requested_at timestamptz not null default now(),
    finished_at timestamptz,
    error text
);
create index rescans_open on railwatch.rescans (rail) where finished_at is null;
comment on table railwatch.rescans is 'Ranges that somebody asked to be looked through again, and how far that is.';
comment on column railwatch.rescans.id is 'The request.';
comment on column railwatch.rescans.rail is 'The rail.';
comment on column railwatch.rescans.from_height is 'First block, inclusive.';
comment on column railwatch.rescans.to_height is 'Last block, inclusive; null: the cursor at the time.';
comment on column railwatch.rescans.next_height is 'The next block to look at.';
comment on column railwatch.rescans.found is 'Transfers that were not known before.';
comment on column railwatch.rescans.requested_at is 'When it was asked for.';
comment on column railwatch.rescans.finished_at is 'When it was done; null: not yet.';
comment on column railwatch.rescans.error is 'Why it could not be done.';

create table railwatch.invoice_moves (
    from_state text not null,
    to_state text not null,
    primary key (from_state, to_state)
);
comment on table railwatch.invoice_moves is 'Which state may follow which: a copy of the core''s table, for functions. A test keeps them equal.';
comment on column railwatch.invoice_moves.from_state is 'The state before.';
comment on column railwatch.invoice_moves.to_state is 'A state that may follow it.';
insert into railwatch.invoice_moves (from_state, to_state)
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

create function railwatch.touched(
    on_rail text, cursor_reached bigint, finalized_reached bigint, fork bigint, displaced text[], of_family text,
    keys bytea[], ids uuid[]
) returns table (
    what text, detection_id uuid, invoice_id uuid, tx_id text, destination_id uuid, address_key bytea, rail text,
    asset text, reference text, open boolean, at timestamptz
)
language sql volatile as $$  -- volatile, so that it sees what was committed while its caller waited for the rail's row
    select 'due', d.id, d.invoice_id, null, null::uuid, null::bytea, null, null, null, null::boolean, null::timestamptz
    from railwatch.detections d
    where d.rail = on_rail and d.due_basis = 'depth' and d.due_height <= cursor_reached
    union all
    select 'due', d.id, d.invoice_id, null, null, null, null, null, null, null, null
    from railwatch.detections d
    where d.rail = on_rail and d.due_basis = 'finalized' and d.due_height <= finalized_reached
    union all
    select 'orphaned', d.id, d.invoice_id, null, null, null, null, null, null, null, null
    from railwatch.detections d
    where d.rail = on_rail and d.block_height > fork and d.state in ('included', 'confirmed')
    union all
    select 'rival', d.id, d.invoice_id, d.tx_id, null, null, null, null, null, null, null
    from railwatch.detections d
    where d.rail = on_rail and d.tx_id = any (displaced)
    union all
    select 'known', d.id, d.invoice_id, null, d.destination_id, null, d.rail, d.asset, null, null, d.first_seen_at
    from railwatch.detections d
    where d.id = any (ids)
    union all
    select 'candidate', null, i.id, null, d.id, d.address_key, d.rail, d.asset, d.reference,
           i.state in ('created', 'detected', 'confirming', 'underpaid', 'flagged'), i.created_at
    from railwatch.destinations d join railwatch.invoices i on i.id = d.invoice_id
    where d.family = of_family and d.address_key = any (keys) and d.watch_state not in ('rejected', 'closed')
$$;
comment on function railwatch.touched is 'Whom a step concerns: due, orphaned, displaced and known transfers, and holders of addresses.';

create function railwatch.refuse(code text, message text, hint text default null) returns void
language plpgsql as $$
begin
    raise exception using errcode = code, message = message, hint = coalesce(hint, '');
end $$;
comment on function railwatch.refuse is 'Raise an error with a SQLSTATE of our own (class RW; listed in docs/contract.md).';

create function railwatch.next_seq(how_many int) returns bigint
language sql as $$
    update railwatch.feed_position set last_seq = last_seq + how_many returning last_seq - how_many + 1;
$$;
comment on function railwatch.next_seq is 'Take seqs for the feed: the first of them. Call it last, it holds up every other writer to the commit.';

create function railwatch.append_invoice_transition(
    invoice railwatch.invoices, from_state text, reason text, cause text, evidence jsonb
) returns void
language plpgsql as $$
declare
    taken bigint := railwatch.next_seq(1);
begin
    insert into railwatch.transitions
        (seq, event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause, seen_amount,
         confirmed_amount, evidence)
    select taken, md5('railwatch/' || invoice.id || '/' || invoice.version || '/' || invoice.state)::uuid, 'invoice',
           invoice.id, invoice.id, from_state, invoice.state, reason, cause, d.seen_amount, d.confirmed_amount, evidence
    from railwatch.destinations d
    where d.invoice_id = invoice.id
    order by d.confirmed_amount / d.expected_amount desc, (d.seen_amount + d.late_amount) / d.expected_amount desc, d.position
    limit 1;
    perform pg_notify('railwatch', taken::text);
end $$;
comment on function railwatch.append_invoice_transition is 'Put an act of a service or an operator into the feed.';

create function railwatch.parse_amount(value jsonb, place text) returns numeric
language plpgsql immutable as $$
declare
    digits text := value #>> '{}';
begin
    if value is null or jsonb_typeof(value) not in ('number', 'string') or digits !~ '^[0-9]{1,100}$' then
        perform railwatch.refuse('RW004', place || ': amount ' || coalesce(value::text, 'is missing')
            || ' is not a whole number of base units', 'Give an integer or a string of digits, such as "1500000".');
    end if;
    if digits::numeric = 0 or digits::numeric >= 2::numeric ^ 256 then
        perform railwatch.refuse('RW004', place || ': amount ' || digits || ' is not between 1 and 2^256 - 1');
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
            perform railwatch.refuse('RW008', 'rail ' || rail.name || ' tells no finality, so no policy can wait for it',
                'Use {"confirmations": n}.');
        end if;
        return jsonb_build_object('finalized', true, 'plus', plus::int);
    end if;
    if confirmations !~ '^[1-9][0-9]{0,5}$' or confirmations is null or value ? 'finalized' or value ? 'plus' then
        perform railwatch.refuse('RW008', 'policy ' || value::text || ' is not one that can be met',
            'Use {"confirmations": n} with n of at least 1, or {"finalized": true, "plus": n}.');
    end if;
    if confirmations::int > rail.max_confirmations then
        perform railwatch.refuse('RW008', 'rail ' || rail.name || ' knows at most ' || rail.max_confirmations
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
    taken uuid;
    unknown text;
begin
    if jsonb_typeof(wish) is distinct from 'object' then
        perform railwatch.refuse('RW001', label || ' is not an object');
    end if;
    select key into unknown from jsonb_object_keys(wish) key
    where key not in ('rail', 'asset', 'address', 'amount', 'reference', 'derivation') limit 1;
    if unknown is not null then
        perform railwatch.refuse('RW001', label || ': unknown field "' || unknown || '"');
    end if;
    select * into on_rail from railwatch.rails where name = wish ->> 'rail' and enabled;
    if not found then
        perform railwatch.refuse('RW002', label || ': unknown rail ' || coalesce('"' || (wish ->> 'rail') || '"', '(none given)'),
            'Enabled rails: ' || coalesce((select string_agg(name, ', ' order by name) from railwatch.rails where enabled),
            'none yet; has the daemon been started with this database?'));
    end if;
    select id into of_asset from railwatch.assets
    where rail = on_rail.name and enabled
      and (symbol = wish ->> 'asset' or id = wish ->> 'asset' or (on_rail.fold_case and lower(id) = lower(wish ->> 'asset')));
    if not found then
        perform railwatch.refuse('RW003', label || ': unknown asset ' || coalesce('"' || (wish ->> 'asset') || '"', '(none given)')
            || ' on rail ' || on_rail.name,
            'Configured there: ' || coalesce((select string_agg(symbol, ', ' order by symbol) from railwatch.assets
                                              where rail = on_rail.name and enabled), 'none'));
    end if;
    amount := railwatch.parse_amount(wish -> 'amount', label);
    if coalesce(wish ->> 'address', '') = '' or length(wish ->> 'address') > 200 then
        perform railwatch.refuse('RW001', label || ': address is missing or longer than 200 characters');
    end if;
    if wish ? 'reference' and not on_rail.has_references then
        perform railwatch.refuse('RW011', label || ': rail ' || on_rail.name || ' knows no references',
            'Leave it out, and derive a new address for each invoice.');
    end if;
    folded := case when on_rail.fold_case then lower(wish ->> 'address') else wish ->> 'address' end;
    -- Two registrations of one address wait for each other here; the later one then sees the earlier.
    perform pg_advisory_xact_lock(hashtextextended('railwatch/' || on_rail.family || '/' || folded, 0));
    select i.id into taken
    from railwatch.destinations d join railwatch.invoices i on i.id = d.invoice_id
    where d.family = on_rail.family and d.address_folded = folded and d.reference is not distinct from wish ->> 'reference'
      and i.id <> invoice.id and d.watch_state <> 'rejected'
      and i.state in ('created', 'detected', 'confirming', 'underpaid', 'flagged')
    limit 1;
    if found then
        perform railwatch.refuse('RW007', label || ': address ' || (wish ->> 'address') || ' belongs to open invoice ' || taken,
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
         address_folded, position)
    values (invoice.id, on_rail.name, of_asset, wish ->> 'address', wish ->> 'reference', wish ->> 'derivation',
            amount, chosen, chosen_origin, on_rail.family, folded, place);
end $$;
comment on function railwatch.create_destination is 'Part of create_invoice: one destination, checked and resolved.';

create function railwatch.parse_moment(value jsonb, field text) returns timestamptz
language plpgsql stable as $$
begin
    if jsonb_typeof(value) is distinct from 'string'
       or (value #>> '{}') !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)$' then
        perform railwatch.refuse('RW005', field || ' ' || coalesce(value::text, '') || ' is not a time',
            'Give ISO 8601 with an offset, such as "2030-01-31T12:00:00Z".');
    end if;
    return (value #>> '{}')::timestamptz;
exception when invalid_datetime_format or datetime_field_overflow then
    perform railwatch.refuse('RW005', field || ' ' || value::text || ' is not a time',
        'Give ISO 8601 with an offset, such as "2030-01-31T12:00:00Z".');
end $$;
comment on function railwatch.parse_moment is 'Read a time, or say which field is none.';

create function railwatch.parse_count(value jsonb, field text, lowest bigint, highest bigint, code text) returns bigint
language plpgsql immutable as $$
begin
    if value is null or jsonb_typeof(value) <> 'number' or value::text !~ '^-?[0-9]{1,18}$'
       or value::text::bigint not between lowest and highest then
        perform railwatch.refuse(code, field || ' ' || coalesce(value::text, 'is missing') || ' is not a whole number from '
            || lowest || ' to ' || highest);
    end if;
    return value::text::bigint;
end $$;
comment on function railwatch.parse_count is 'Read a whole number within bounds, or say which field is none.';

create function railwatch.parse_text(request jsonb, field text) returns text
language plpgsql immutable as $$
begin
    if jsonb_typeof(request -> field) is distinct from 'string' or length(request ->> field) not between 1 and 200 then
        perform railwatch.refuse('RW001', field || ' is missing, or not a text of 1 to 200 characters');
    end if;
    return request ->> field;
end $$;
comment on function railwatch.parse_text is 'Read a required text, or say which field is none.';

create function railwatch.parse_expiry(request jsonb) returns timestamptz
language plpgsql stable as $$
declare
    expiry timestamptz;
begin
    if (request ? 'expires_at') = (request ? 'expires_in') then
        perform railwatch.refuse('RW005', 'give either expires_at or expires_in (seconds)');
    end if;
    if request ? 'expires_in' then
        return now() + make_interval(secs =>
            railwatch.parse_count(request -> 'expires_in', 'expires_in', 1, 315360000, 'RW005'));
    end if;
    expiry := railwatch.parse_moment(request -> 'expires_at', 'expires_at');
    if expiry <= now() then
        perform railwatch.refuse('RW005', 'expires_at ' || (request ->> 'expires_at') || ' is in the past');
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
        perform railwatch.refuse('RW001', 'create_invoice takes a JSON object');
    end if;
    select key into unknown from jsonb_object_keys(request) key
    where key not in ('merchant_id', 'order_id', 'expires_at', 'expires_in', 'destinations', 'policy', 'time_basis',
                      'tolerance_bps', 'fiat_amount', 'fiat_currency', 'rate_locked_at', 'closes_in', 'metadata')
    limit 1;
    if unknown is not null then
        perform railwatch.refuse('RW001', 'unknown field "' || unknown || '"');
    end if;
    if coalesce(request ->> 'time_basis', 'first_seen') not in ('first_seen', 'block_time', 'confirmed') then
        perform railwatch.refuse('RW001', 'time_basis "' || (request ->> 'time_basis')
            || '" is not first_seen, block_time or confirmed');
    end if;
    if jsonb_typeof(request -> 'destinations') is distinct from 'array'
       or jsonb_array_length(request -> 'destinations') not between 1 and 20 then
        perform railwatch.refuse('RW001', 'destinations is not a list of 1 to 20 destinations');
    end if;
    if request ? 'policy' and jsonb_typeof(request -> 'policy') <> 'object' then
        perform railwatch.refuse('RW008', 'policy is not an object');
    end if;
    if request ? 'metadata' and jsonb_typeof(request -> 'metadata') <> 'object' then
        perform railwatch.refuse('RW001', 'metadata is not an object');
    end if;
    if request ? 'fiat_currency' and coalesce(request ->> 'fiat_currency', '') !~ '^[A-Z]{3,10}$' then
        perform railwatch.refuse('RW001', 'fiat_currency ' || (request -> 'fiat_currency')::text || ' is not a code such as "EUR"');
    end if;
    if request ? 'fiat_amount' and (request ->> 'fiat_amount') !~ '^[0-9]{1,30}([.][0-9]{1,8})?$' then
        perform railwatch.refuse('RW001', 'fiat_amount ' || (request -> 'fiat_amount')::text
            || ' is not a decimal of at most 8 places', 'Give a string such as "49.90".');
    end if;
end $$;
comment on function railwatch.check_fields is 'Part of create_invoice: what can be refused before anything is written.';

create function railwatch.terms_of(request jsonb) returns jsonb
language sql immutable as $$
    -- What makes a repeat the same order: all but the metadata, and amounts as digits, however they were written.
    select (request - 'metadata')
        || case when request ? 'fiat_amount' then jsonb_build_object('fiat_amount', request ->> 'fiat_amount') else '{}' end
        || jsonb_build_object('destinations', (
            select jsonb_agg(case when jsonb_typeof(wish) = 'object' and wish ? 'amount'
                                  then wish || jsonb_build_object('amount', wish ->> 'amount') else wish end order by place)
            from jsonb_array_elements(request -> 'destinations') with ordinality as wishes (wish, place)));
$$;
comment on function railwatch.terms_of is 'The part of a request that a repeat of the order must share.';

create function railwatch.create_invoice(request jsonb) returns uuid
language plpgsql as $$
declare
    merchant text;
    order_no text;
    known railwatch.invoices;
    made railwatch.invoices;
    expiry timestamptz;
    closes_in bigint;
begin
    perform railwatch.check_fields(request);
    merchant := railwatch.parse_text(request, 'merchant_id');
    order_no := railwatch.parse_text(request, 'order_id');
    perform pg_advisory_xact_lock(hashtextextended('railwatch/order/' || merchant || '/' || order_no, 0));
    select * into known from railwatch.invoices where merchant_id = merchant and order_id = order_no;
    if found then
        if known.terms is distinct from railwatch.terms_of(request) then
            perform railwatch.refuse('RW006', 'order ' || order_no || ' of merchant ' || merchant
                || ' is registered with other terms, as invoice ' || known.id,
                'Registering the very same terms again returns that id; other terms need another order_id.');
        end if;
        return known.id;
    end if;
    expiry := railwatch.parse_expiry(request);
    closes_in := case when request ? 'closes_in'
        then railwatch.parse_count(request -> 'closes_in', 'closes_in', 0, 315360000, 'RW005')
        else coalesce((select (value #>> '{}')::bigint from railwatch.settings where name = 'closes_in'), 2592000) end;
    insert into railwatch.invoices
        (merchant_id, order_id, state, expires_at, closes_at, fiat_amount, fiat_currency, rate_locked_at, policy,
         time_basis, metadata, tolerance_bps, terms)
    values (merchant, order_no, 'created', expiry, expiry + make_interval(secs => closes_in),
            (request ->> 'fiat_amount')::numeric, request ->> 'fiat_currency',
            case when request ? 'rate_locked_at' then railwatch.parse_moment(request -> 'rate_locked_at', 'rate_locked_at') end,
            '{}', coalesce(request ->> 'time_basis', 'first_seen'), coalesce(request -> 'metadata', '{}'),
            case when request ? 'tolerance_bps'
                then railwatch.parse_count(request -> 'tolerance_bps', 'tolerance_bps', 0, 10000, 'RW001') else 0 end,
            railwatch.terms_of(request))
    returning * into made;
    perform railwatch.create_destination(made, wish, place::int)
    from jsonb_array_elements(request -> 'destinations') with ordinality as wishes (wish, place);
    update railwatch.invoices
    set policy = (select policy from railwatch.destinations where invoice_id = made.id order by position limit 1)
    where id = made.id;
    perform railwatch.append_invoice_transition(made, null, 'created', 'service', '{}');
    perform pg_notify('railwatch_work', 'registered');
    return made.id;
end $$;
comment on function railwatch.create_invoice is 'Register an invoice and return its id. The same order with the same terms returns the same id. Errors: docs/contract.md.';

create function railwatch.cancel_invoice(invoice uuid, actor text default 'service', note text default null) returns text
language plpgsql as $$
declare
    known railwatch.invoices;
    before text;
begin
    select * into known from railwatch.invoices where id = invoice for update;
    if not found then
        perform railwatch.refuse('RW009', 'there is no invoice ' || coalesce(invoice::text, '(null)'));
    end if;
    before := known.state;
    if before = 'cancelled' then
        return before;
    end if;
    if not exists (select from railwatch.invoice_moves where from_state = before and to_state = 'cancelled') then
        perform railwatch.refuse('RW010', 'invoice ' || invoice || ' is ' || before || ' and cannot be cancelled',
            'Money is on its way or has arrived; a refund is recorded, not cancelled.');
    end if;
    update railwatch.invoices set state = 'cancelled', state_since = now(), version = version + 1
    where id = invoice returning * into known;
    perform railwatch.append_invoice_transition(known, before, 'cancelled', 'service',
        jsonb_strip_nulls(jsonb_build_object('actor', actor, 'note', note)));
    return known.state;
end $$;
comment on function railwatch.cancel_invoice is 'Withdraw an invoice that is not paid and has nothing on its way; its address stays watched. Cancelling twice is harmless.';

create function railwatch.ack(consumer text, seq bigint) returns bigint
language plpgsql as $$
declare
    newest bigint := (select last_seq from railwatch.feed_position);
    reached bigint;
begin
    if coalesce(consumer, '') = '' or seq is null or seq < 0 or seq > newest then
        perform railwatch.refuse('RW001', 'ack(' || coalesce(consumer, 'null') || ', ' || coalesce(seq::text, 'null')
            || '): give a name, and a seq that the feed has reached (' || newest || ')');
    end if;
    insert into railwatch.consumers as known (name, position) values (consumer, seq)
    on conflict (name) do update set position = greatest(known.position, excluded.position), updated_at = now()
    returning position into reached;
    return reached;
end $$;
comment on function railwatch.ack is 'Remember how far a consumer has come; never goes back. Returns the position.';

create function railwatch.request_rescan(on_rail text, from_height bigint, to_height bigint default null) returns bigint
language plpgsql as $$
declare
    made bigint;
begin
    if not exists (select from railwatch.rails where name = on_rail) then
        perform railwatch.refuse('RW002', 'unknown rail "' || coalesce(on_rail, '') || '"');
    end if;
    if from_height is null or from_height < 0 or to_height < from_height then
        perform railwatch.refuse('RW001', 'rescan takes from_height of at least 0 and to_height of at least from_height');
    end if;
    insert into railwatch.rescans (rail, from_height, to_height, next_height)
    values (on_rail, from_height, to_height, from_height) returning id into made;
    perform pg_notify('railwatch_work', 'rescan');
    return made;
end $$;
comment on function railwatch.request_rescan is 'Ask the daemon to look through blocks again, both ends inclusive. What is known stays as it is.';

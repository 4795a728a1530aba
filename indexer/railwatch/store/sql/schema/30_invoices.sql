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
    where railwatch.is_open(state);
create index invoices_waiting on railwatch.invoices (state_since, id) where state in ('detected', 'confirming');
create index invoices_unchecked on railwatch.invoices (id) where exceptions_checked_version <> version;
comment on table railwatch.invoices is 'The merchants'' invoices, and their states.';
comment on column railwatch.invoices.id is 'Returned by create_invoice.';
comment on column railwatch.invoices.merchant_id is 'The merchant, in the registering service''s words.';
comment on column railwatch.invoices.order_id is 'The order; unique for its merchant, so that registering again is harmless.';
comment on column railwatch.invoices.state is 'created, detected, confirming, paid, overpaid, underpaid, late_paid, expired, cancelled, flagged or refunded.';
comment on column railwatch.invoices.state_since is 'When it reached that state.';
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
comment on column railwatch.invoices.terms is 'The request of create_invoice, to distinguish a repeat from another order.';
comment on column railwatch.invoices.exceptions_checked_version is 'The version at which the daemon last compared its exceptions with the facts.';
comment on column railwatch.invoices.accept_before is 'Seconds. Money that came longer than this before created_at is unexpected.';
comment on column railwatch.invoices.held_from is 'The state before the hold; null: it is not flagged.';

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

create function railwatch.is_covered(
    destination railwatch.destinations, on_rail railwatch.rails, moment timestamptz, time_basis text
) returns boolean
language sql stable
-- One expression without a subquery, so that the planner inlines it. A rejected destination can receive nothing.
return destination.watch_state = 'rejected'
    or (destination.watch_state <> 'registered' and railwatch.covers(on_rail, moment, time_basis));
comment on function railwatch.is_covered is 'Return whether no payment to a destination that counts as before the moment can still be unseen on its rail. Expiry and the end of watching wait for it.';

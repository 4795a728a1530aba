-- The rows that a step reads and writes, as the daemon exchanges them with Postgres: one composite type for each.
-- `store/step_rows.py` and `store/affected_rows.py` name the same fields in the same order. A test compares them.

-- What `save_step` writes.

create type railwatch.detection_row as (
    id uuid, invoice_id uuid, destination_id uuid, rail text, asset text, tx_id text, tx_index text, amount numeric, kind text,
    state text, first_seen_at timestamptz, block_height bigint, block_hash text, block_time timestamptz,
    confirmed_at timestamptz, in_time boolean, replaced_by text, maturity int, spends text[], invoice_ended text, version int,
    evidence jsonb, due_basis text, due_height bigint, seen_waiting boolean
);
comment on type railwatch.detection_row is 'A detection that a step inserts or changes.';

create type railwatch.observation_row as (
    detection_id uuid, version int, state text, block_height bigint, block_hash text, block_time timestamptz, node text,
    facts jsonb, raw jsonb
);
comment on type railwatch.observation_row is 'An observation that a step inserts.';

create type railwatch.invoice_row as (id uuid, state text, state_since timestamptz, version int, settled_at timestamptz);
comment on type railwatch.invoice_row is 'An invoice that a step loaded, with its new state.';

create type railwatch.destination_row as (
    id uuid, seen_amount numeric, confirmed_amount numeric, late_amount numeric, left_out bigint, tallies jsonb,
    small_count bigint, small_amount numeric
);
comment on type railwatch.destination_row is 'A destination with its new sums, and with what the step adds to its counts.';

create type railwatch.exception_row as (
    id uuid, invoice_id uuid, detection_id uuid, kind text, severity text, round int, resolution text, balance_id uuid,
    destination_id uuid, rail text, asset text, transfers int, amount numeric, told_transfers int, told_amount numeric
);
comment on type railwatch.exception_row is 'An exception that a step opens.';

create type railwatch.exception_change as (
    id uuid, resolution text, ended boolean, transfers int, amount numeric, told_transfers int, told_amount numeric
);
comment on type railwatch.exception_change is 'An open exception that a step ends or counts anew.';

create type railwatch.exception_transfer_row as (exception_id uuid, detection_id uuid, amount numeric, has_left boolean);
comment on type railwatch.exception_transfer_row is 'A transfer that joins or leaves the group of an exception.';

create type railwatch.transition_row as (
    event_id uuid, subject text, subject_id uuid, invoice_id uuid, from_state text, to_state text, reason text, cause text,
    rail text, tx_id text, block_height bigint, block_hash text, confirmations bigint, seen_amount numeric,
    confirmed_amount numeric, chain_time timestamptz, evidence jsonb
);
comment on type railwatch.transition_row is 'A line of the feed before it has its position.';

create type railwatch.checkpoint_row as (height bigint, hash text, parent text, "time" timestamptz);
comment on type railwatch.checkpoint_row is 'A checkpoint that a step stores.';

-- What `affected_rows` returns.

create type railwatch.affected_detection as (invoice_id uuid, detection_id uuid);
comment on type railwatch.affected_detection is 'A detection that is due, or that a reorg orphans.';

create type railwatch.displaced_detection as (tx_id text, invoice_id uuid, detection_id uuid);
comment on type railwatch.displaced_detection is 'A detection whose transaction a rival displaces.';

create type railwatch.known_transfer as (
    detection_id uuid, destination_id uuid, invoice_id uuid, tx_id text, tx_index text, address_key bytea, asset text,
    block_hash text, is_final boolean, rail text, accepts_from timestamptz, tip_at_creation bigint, amount numeric
);
comment on type railwatch.known_transfer is 'A transfer of the step''s transactions that was recorded before.';

create type railwatch.candidate as (
    address_key bytea, destination_id uuid, invoice_id uuid, rail text, asset text, reference text, is_open boolean,
    created_at timestamptz, accepts_from timestamptz, tip_at_creation bigint
);
comment on type railwatch.candidate is 'A destination at an address that the step pays.';

create type railwatch.rail_coverage as (rail text, covered_until timestamptz);
comment on type railwatch.rail_coverage is 'The time up to which a rail has certainly seen everything.';

create type railwatch.unallocated_row as (
    id uuid, asset text, amount numeric, address text, address_key bytea, tx_id text, tx_index text, "references" text[],
    state text, block_height bigint, block_hash text, block_time timestamptz, first_seen_at timestamptz, replaced_by text,
    maturity int, spends text[], evidence jsonb, due_basis text, due_height bigint, detection_id uuid, destination_id uuid,
    assigned_by text, detected boolean, exception_id uuid, exception_round int, version int
);
comment on type railwatch.unallocated_row is 'An unallocated transfer that a step inserts or changes.';

-- Generated from core/states.py by `make generated`. A test compares the two.

create table railwatch.allowed_transitions (
    from_state text not null,
    to_state text not null,
    primary key (from_state, to_state)
);
comment on table railwatch.allowed_transitions is 'Which state may follow which: the core''s table, for functions.';
comment on column railwatch.allowed_transitions.from_state is 'The state before.';
comment on column railwatch.allowed_transitions.to_state is 'A state that may follow it.';
insert into railwatch.allowed_transitions (from_state, to_state)
select from_state, unnest(to_states)
from (values
    ('created', array['detected', 'confirming', 'expired', 'cancelled', 'flagged']),
    ('detected', array['created', 'confirming', 'flagged']),
    ('confirming', array['created', 'detected', 'paid', 'overpaid', 'underpaid', 'late_paid', 'flagged']),
    ('paid', array['created', 'detected', 'confirming', 'overpaid', 'underpaid', 'late_paid', 'flagged', 'refunded']),
    ('overpaid', array['created', 'detected', 'confirming', 'paid', 'underpaid', 'late_paid', 'flagged', 'refunded']),
    ('underpaid', array['created', 'detected', 'confirming', 'cancelled', 'flagged', 'refunded']),
    ('late_paid', array['created', 'detected', 'confirming', 'paid', 'overpaid', 'underpaid', 'flagged', 'refunded']),
    ('expired', array['detected', 'confirming', 'cancelled', 'flagged', 'refunded']),
    ('cancelled', array['flagged', 'refunded']),
    ('flagged', array['created', 'detected', 'confirming', 'paid', 'overpaid', 'underpaid', 'late_paid', 'expired',
        'cancelled', 'refunded']),
    ('refunded', array['flagged'])
) as moves (from_state, to_states);

create function railwatch.is_open(state text) returns boolean
language sql immutable
-- An index has this in its predicate: a migration that changes the list also reindexes invoices_open.
return state in ('created', 'detected', 'confirming', 'underpaid', 'flagged');
comment on function railwatch.is_open is 'Return whether an invoice in this state still expects money: OPEN_STATES.';

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

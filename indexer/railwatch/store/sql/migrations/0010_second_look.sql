-- What a rail knows of time, and what a second look at a payment's block said before it is told final.

alter table railwatch.rails
    add column stall_after interval,
    add column time_margin interval not null default '0',
    add column sight_margin interval not null default '0';
comment on column railwatch.rails.stall_after is 'How old the newest block may be; coverage never runs ahead of it by more. Null: no bound.';
comment on column railwatch.rails.time_margin is 'By how much a block''s time may lie before its arrival. A window that blocks decide is open for that long.';
comment on column railwatch.rails.sight_margin is 'The same for first sight; nothing where a mempool shows a payment before its block.';

alter table railwatch.detections
    add column second_look text check (second_look in ('verified', 'unverified', 'mismatch')),
    add column looked_at_block text;
comment on column railwatch.detections.second_look is 'What reading its block once more said: verified; unverified, as no node could tell; mismatch. Null: not asked yet.';
comment on column railwatch.detections.looked_at_block is 'Hash of the block that was read for that. In another block it is asked again.';

-- What is confirmed by now is read a second time before it is told final, as what comes from now on is.
alter table railwatch.detections drop constraint detections_due_basis_check;
alter table railwatch.detections add constraint detections_due_basis_check
    check (due_basis in ('depth', 'finalized', 'look_depth', 'look_finalized'));
update railwatch.detections set due_basis = 'look_' || due_basis where state = 'confirmed' and due_basis is not null;

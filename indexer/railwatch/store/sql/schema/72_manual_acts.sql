create function railwatch.may_act_as_operator() returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select pg_has_role(session_user, (select nspowner from pg_namespace where nspname = 'railwatch'), 'usage')
           or exists (select from pg_roles where rolname in ('railwatch_operator', 'railwatch_daemon') and pg_has_role(session_user, oid, 'usage'))
$$;
comment on function railwatch.may_act_as_operator is 'Return whether the login may act as an operator.';

create function railwatch.check_actor(actor text, cause text) returns void
language plpgsql stable as $$
begin
    if actor is null then
        perform railwatch.raise_error('RW001', 'actor is missing, or not a text of 1 to 200 characters',
            'Pass actor => the name of a person or a service.');
    end if;
    perform railwatch.check_text(actor, 'actor', 200);
    if cause is null or cause not in ('service', 'operator') then
        perform railwatch.raise_error('RW001', 'cause ' || coalesce('"' || cause || '"', '(null)') || ' is not service or operator');
    end if;
    if cause = 'operator' and not railwatch.may_act_as_operator() then
        perform railwatch.raise_error('RW044', 'login ' || session_user || ' acts as a service, and not as an operator',
            'Omit cause, or make the login a member of railwatch_operator.');
    end if;
end $$;
comment on function railwatch.check_actor is 'Part of every manual act: check its actor and its cause.';

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
comment on function railwatch.move_invoice is 'Move an invoice by a manual act: by the table of transitions, and with its line in the feed.';

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
comment on function railwatch.hold_invoice is 'Hold an invoice: it stays flagged until its release, whatever the chain says. Holding twice is harmless.';

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
comment on function railwatch.release_invoice is 'End a hold: move the invoice to the state that the facts require now, and return it. Releasing twice is harmless.';

create function railwatch.note_absent(invoice uuid, ended text) returns void
language sql as $$
    update railwatch.detections x set invoice_ended = ended
    where x.invoice_id = invoice and x.state = 'orphaned' and x.invoice_ended is null
      -- The vanished transfer may be the refunded one: then its return is expected.
      and coalesce((select sum(r.amount) from railwatch.refunds r
                    where r.invoice_id = x.invoice_id and r.rail = x.rail and r.asset = x.asset), 0)
       <= coalesce((select sum(there.amount) from railwatch.detections there
                    where there.invoice_id = x.invoice_id and there.rail = x.rail and there.asset = x.asset
                      and there.state in ('included', 'confirmed', 'final')), 0);
$$;
comment on function railwatch.note_absent is 'Part of acts that close an invoice: its orphaned transfers are no longer expected, and become unexpected payments if they return.';

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
    -- A hold does not bypass the rule: the state without the hold counts.
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

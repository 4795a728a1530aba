create function railwatch.lock_exception(exception_id uuid) returns railwatch.exceptions
language plpgsql as $$
declare
    existing railwatch.exceptions;
begin
    -- Its subject first, as the daemon does: it must not have read a row that changes under it.
    perform from railwatch.unallocated_transfers u
    where u.id = (select e.transfer_id from railwatch.exceptions e where e.id = lock_exception.exception_id) for no key update;
    perform railwatch.lock_invoice(e.invoice_id) from railwatch.exceptions e where e.id = exception_id and e.invoice_id is not null;
    select * into existing from railwatch.exceptions where id = exception_id for update;
    if not found then
        perform railwatch.raise_error('RW012', 'there is no exception ' || coalesce(exception_id::text, '(null)'));
    end if;
    return existing;
end $$;
comment on function railwatch.lock_exception is 'Part of acts on an exception: hold it and its subject to the commit.';

create function railwatch.resolve_exception(
    exception_id uuid, actor text, resolution text, note text default null, cause text default 'service',
    verdict text default null
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    existing railwatch.exceptions;
    through record;
begin
    perform railwatch.check_actor(actor, cause);
    perform railwatch.check_text(resolution, 'resolution', 1000);
    perform railwatch.check_note(note, 'note', 4000);
    if resolution = 'made good' then
        perform railwatch.raise_error('RW001', 'the resolution "made good" is the chain''s own', 'Describe the decision in resolution.');
    end if;
    existing := railwatch.lock_exception(exception_id);
    if existing.resolved_at is not null then
        return coalesce(existing.resolution, 'resolved');
    end if;
    if (existing.kind = 'content_mismatch') <> (verdict is not null) or verdict not in ('accepted', 'rejected') then
        perform railwatch.raise_error('RW001', case when existing.kind = 'content_mismatch'
            then 'a content_mismatch is resolved with a verdict, accepted or rejected'
            else 'a verdict is given on a content_mismatch, and not on ' || existing.kind end,
            'Pass verdict => accepted (the payment counts as first read, and becomes final) or rejected (it is dropped).');
    end if;
    -- The daemon follows it with the rail's next block.
    update railwatch.detections x set second_look = verdict, due_basis = 'depth', due_height = 0
    where verdict is not null and x.id = existing.detection_id and x.second_look = 'mismatch' and x.looked_at_block = x.block_hash
      and x.state in ('included', 'confirmed');
    update railwatch.exceptions e
    set resolved_at = now(), resolution = resolve_exception.resolution, owner = coalesce(e.owner, actor),
        notes = railwatch.add_note(e.notes, actor, note)
    where e.id = exception_id;
    select rail, tx_id into through from (
        select x.rail, x.tx_id from railwatch.detections x where x.id = existing.detection_id
        union all
        select u.rail, u.tx_id from railwatch.unallocated_transfers u where u.id = existing.transfer_id) t;
    perform railwatch.append_manual_transition('exception', exception_id, existing.invoice_id, 'open', 'resolved', existing.kind, cause,
        through.rail, through.tx_id, jsonb_build_object('actor', actor, 'resolution', resolution, 'note', note, 'verdict', verdict,
            'transfers', case when existing.destination_id is not null then existing.transfers end,
            'sum', case when existing.destination_id is not null then existing.amount::text end));
    return resolution;
end $$;
comment on function railwatch.resolve_exception is 'Resolve an exception manually. It stays resolved as long as its cause persists. Resolving twice is harmless: the first resolution counts. A content_mismatch needs a verdict: accepted (the payment becomes final) or rejected (it is dropped).';

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
comment on function railwatch.annotate_exception is 'Set an exception''s owner, add a note, or both. Notes are added, never replaced.';

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
            'Store long texts elsewhere, and note where they are.');
    end if;
    return longer;
end $$;
comment on function railwatch.add_note is 'Notes with one more line: when, who, what.';

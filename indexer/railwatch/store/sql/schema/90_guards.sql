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

create function railwatch.forbid_modification() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform railwatch.raise_error('RW015', tg_table_name || ' is append-only: nothing in it is changed or deleted',
        'Add a row that corrects the wrong one.');
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
    emitted text;
begin
    -- The owner may have to repair the data. No other role can bypass the feed.
    if pg_has_role(current_user, (select nspowner from pg_namespace where nspname = 'railwatch'), 'usage') then
        return null;
    end if;
    select t.to_state into emitted from railwatch.transitions t
    where t.invoice_id = new.id and t.subject = 'invoice' order by t.seq desc limit 1;
    if emitted is distinct from (select state from railwatch.invoices where id = new.id) then
        perform railwatch.raise_error('RW016', 'invoice ' || new.id || ' cannot become ' || new.state || ' without a line in the feed',
            'Use the functions of docs/contract/functions.md: only they and the daemon move states.');
    end if;
    return null;
end $$;
comment on function railwatch.require_transition is 'Check at the commit that an invoice''s state is the last one that the feed emitted.';

create constraint trigger state_change_requires_transition after update of state on railwatch.invoices
    deferrable initially deferred for each row when (old.state is distinct from new.state)
    execute function railwatch.require_transition();

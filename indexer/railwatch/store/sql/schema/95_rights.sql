create table railwatch.rights (
    role text not null,
    object text not null,
    privileges text not null,
    primary key (role, object, privileges)
);
comment on table railwatch.rights is 'What each role may do, as grant_rights gives it.';
comment on column railwatch.rights.role is 'railwatch_daemon, railwatch_deliverer, railwatch_operator, railwatch_service or railwatch_reader.';
comment on column railwatch.rights.object is 'What it is given on, as GRANT names it.';
comment on column railwatch.rights.privileges is 'What is given, as GRANT names it.';

insert into railwatch.rights (role, object, privileges)
select role, object, privileges
from (values
    (array['railwatch_daemon', 'railwatch_service', 'railwatch_reader'], 'usage', array['schema railwatch']),
    (array['railwatch_daemon', 'railwatch_service', 'railwatch_reader'], 'select', array[
        'railwatch.rails', 'railwatch.leases', 'railwatch.checkpoints', 'railwatch.assets', 'railwatch.policies',
        'railwatch.settings', 'railwatch.invoices', 'railwatch.destinations', 'railwatch.detections',
        'railwatch.transitions', 'railwatch.feed_position', 'railwatch.exceptions', 'railwatch.consumers',
        'railwatch.rescans', 'railwatch.allowed_transitions', 'railwatch.refunds', 'railwatch.settlements', 'railwatch.rights',
        'railwatch.orders', 'railwatch.order_destinations', 'railwatch.order_transfers', 'railwatch.order_money',
        'railwatch.consumer_lag', 'railwatch.migrations']),
    (array['railwatch_daemon', 'railwatch_service', 'railwatch_reader'], 'execute', array[
        'function railwatch.display', 'function railwatch.customer_state', 'function railwatch.find_orders']),
    (array['railwatch_daemon', 'railwatch_service'], 'execute', array[
        'function railwatch.create_invoice', 'function railwatch.cancel_invoice', 'function railwatch.hold_invoice',
        'function railwatch.release_invoice', 'function railwatch.record_refund', 'function railwatch.record_settlement',
        'function railwatch.resolve_exception', 'function railwatch.annotate_exception',
        'function railwatch.request_rescan', 'function railwatch.ack']),
    (array['railwatch_daemon'], 'execute', array[
        'function railwatch.affected_rows', 'function railwatch.is_due', 'function railwatch.next_seq',
        'function railwatch.raise_error']),
    (array['railwatch_daemon'], 'insert, update', array[
        'railwatch.rails', 'railwatch.assets', 'railwatch.settings', 'railwatch.detections', 'railwatch.exceptions']),
    (array['railwatch_daemon'], 'insert, update, delete', array['railwatch.leases', 'railwatch.checkpoints']),
    (array['railwatch_daemon'], 'insert, delete', array['railwatch.policies']),
    (array['railwatch_daemon'], 'insert', array['railwatch.transitions']),
    (array['railwatch_daemon'], 'update', array['railwatch.rescans']),
    (array['railwatch_daemon'], 'update (state, state_since, version, settled_at, closed_at)',
        array['railwatch.invoices']),
    (array['railwatch_daemon'], 'update (address, address_key, accepted_at, watch_state, watch_error, covered_from, seen_amount, '
        'confirmed_amount, late_amount)', array['railwatch.destinations'])
) as given (roles, privileges, objects), unnest(roles) as role, unnest(objects) as object;

insert into railwatch.rights (role, object, privileges)
select role, object, 'select'
from unnest(array['railwatch_daemon', 'railwatch_service', 'railwatch_reader']) as role,
     unnest(array['railwatch.observations', 'railwatch.open_exceptions']) as object;
insert into railwatch.rights (role, object, privileges)
values ('railwatch_daemon', 'railwatch.observations', 'insert'),
       ('railwatch_daemon', 'railwatch.invoices', 'update (exceptions_checked_version)'),
       ('railwatch_daemon', 'railwatch.destinations', 'update (left_out)'),
       ('railwatch_daemon', 'railwatch.destinations', 'update (tallies, small_count, small_amount)');

insert into railwatch.rights (role, object, privileges)
values ('railwatch_daemon', 'railwatch.webhook_endpoints', 'select, insert, update, delete'),
       ('railwatch_daemon', 'railwatch.webhook_deliveries', 'select, insert, update, delete'),
       ('railwatch_daemon', 'railwatch.consumers', 'delete'),
       ('railwatch_daemon', 'function railwatch.event_type', 'execute'),
       ('railwatch_service', 'railwatch.webhook_endpoints', 'select'),
       ('railwatch_service', 'railwatch.webhook_deliveries', 'select'),
       ('railwatch_service', 'function railwatch.event_type', 'execute'),
       ('railwatch_reader', 'railwatch.webhook_endpoints', 'select'),
       ('railwatch_reader', 'railwatch.webhook_deliveries', 'select'),
       ('railwatch_reader', 'function railwatch.event_type', 'execute');

insert into railwatch.rights (role, object, privileges)
select role, 'railwatch.balances', 'select'
from unnest(array['railwatch_daemon', 'railwatch_service', 'railwatch_reader']) as role;
insert into railwatch.rights (role, object, privileges)
values ('railwatch_daemon', 'railwatch.balances', 'insert, update');

insert into railwatch.rights (role, object, privileges)
select role, object, 'select'
from unnest(array['railwatch_daemon', 'railwatch_service', 'railwatch_reader']) as role,
     unnest(array['railwatch.locks', 'railwatch.deliverer_lease', 'railwatch.watch_position']) as object;
insert into railwatch.rights (role, object, privileges)
values ('railwatch_daemon', 'railwatch.locks', 'update'),
       ('railwatch_daemon', 'railwatch.deliverer_lease', 'update'),
       ('railwatch_daemon', 'railwatch.watch_position', 'insert, update'),
       ('railwatch_daemon', 'railwatch.destinations', 'update (keyed_seq)'),
       ('railwatch_daemon', 'function railwatch.is_backend_alive', 'execute'),
       ('railwatch_daemon', 'function railwatch.cancel_rescan', 'execute'),
       ('railwatch_service', 'function railwatch.cancel_rescan', 'execute'),
       ('railwatch_daemon', 'function railwatch.resume_rail', 'execute');

insert into railwatch.rights (role, object, privileges)
select role, object, privileges
from (values
    (array['railwatch_daemon', 'railwatch_service', 'railwatch_reader'], 'select', array['railwatch.feed_generations']),
    (array['railwatch_daemon', 'railwatch_service', 'railwatch_reader'], 'execute', array[
        'function railwatch.feed_generation', 'function railwatch.feed_check', 'function railwatch.state_now']),
    (array['railwatch_daemon', 'railwatch_service'], 'execute', array[
        'function railwatch.lock_consumer', 'function railwatch.create_invoices']),
    (array['railwatch_daemon'], 'execute', array['function railwatch.note_generation', 'function railwatch.renew_feed',
        'function railwatch.rename_rail'])
) as given (roles, privileges, objects), unnest(roles) as role, unnest(objects) as object;

insert into railwatch.rights (role, object, privileges)
select role, object, 'select'
from unnest(array['railwatch_daemon', 'railwatch_service', 'railwatch_reader']) as role,
     unnest(array['railwatch.quarantine', 'railwatch.deferred_transfers', 'railwatch.exception_transfers']) as object;
insert into railwatch.rights (role, object, privileges)
values ('railwatch_daemon', 'railwatch.quarantine', 'update'),
       ('railwatch_daemon', 'railwatch.deferred_transfers', 'insert, update'),
       ('railwatch_daemon', 'railwatch.exception_transfers', 'insert, update'),
       ('railwatch_daemon', 'function railwatch.set_aside', 'execute'),
       ('railwatch_daemon', 'function railwatch.take_back', 'execute');

insert into railwatch.rights (role, object, privileges)
select role, 'railwatch.chain_acceptances', 'select'
from unnest(array['railwatch_daemon', 'railwatch_service', 'railwatch_reader']) as role;
insert into railwatch.rights (role, object, privileges)
values ('railwatch_daemon', 'railwatch.chain_acceptances', 'update (applied_at)'),
       ('railwatch_daemon', 'railwatch.invoices', 'update (closes_at)'),
       ('railwatch_daemon', 'function railwatch.accept_chain', 'execute'),
       ('railwatch_daemon', 'function railwatch.margin', 'execute'),
       ('railwatch_daemon', 'function railwatch.covers', 'execute'),
       ('railwatch_daemon', 'function railwatch.is_covered', 'execute'),
       ('railwatch_daemon', 'function railwatch.is_open', 'execute'),
       ('railwatch_daemon', 'function railwatch.notify', 'execute'),
       ('railwatch_deliverer', 'function railwatch.notify', 'execute'),
       ('railwatch_deliverer', 'function railwatch.raise_error', 'execute');

-- What a deliverer reads to build an event, and what it writes: no part of the feed.
insert into railwatch.rights (role, object, privileges)
select 'railwatch_deliverer', object, privileges
from (values
    ('usage', array['schema railwatch']),
    ('select', array['railwatch.migrations', 'railwatch.rails', 'railwatch.settings', 'railwatch.transitions', 'railwatch.feed_position',
        'railwatch.feed_generations', 'railwatch.invoices', 'railwatch.destinations', 'railwatch.detections', 'railwatch.assets',
        'railwatch.refunds', 'railwatch.settlements', 'railwatch.exceptions', 'railwatch.exception_transfers',
        'railwatch.deliverer_lease']),
    ('select, insert, update, delete', array['railwatch.webhook_endpoints', 'railwatch.webhook_deliveries']),
    ('update', array['railwatch.deliverer_lease']),
    ('execute', array['function railwatch.event_type', 'function railwatch.feed_generation', 'function railwatch.note_generation',
        'function railwatch.feed_check', 'function railwatch.customer_state', 'function railwatch.is_backend_alive'])
) as given (privileges, objects), unnest(objects) as object;
insert into railwatch.rights (role, object, privileges)
select role, 'function railwatch.feed_end', 'execute'
from unnest(array['railwatch_daemon', 'railwatch_deliverer', 'railwatch_service', 'railwatch_reader']) as role;
-- An operator is a service that may act with the cause operator, and resume a halted rail.
insert into railwatch.rights (role, object, privileges)
values ('railwatch_operator', 'schema railwatch', 'usage'),
       ('railwatch_operator', 'function railwatch.resume_rail', 'execute'),
       ('railwatch_operator', 'function railwatch.accept_chain', 'execute'),
       ('railwatch_operator', 'railwatch.consumers', 'delete');

insert into railwatch.rights (role, object, privileges)
select role, 'railwatch.unallocated_transfers', 'select'
from unnest(array['railwatch_daemon', 'railwatch_deliverer', 'railwatch_service', 'railwatch_reader']) as role;
insert into railwatch.rights (role, object, privileges)
values ('railwatch_daemon', 'railwatch.unallocated_transfers', 'insert, update'),
       ('railwatch_daemon', 'function railwatch.assign_transfer', 'execute'),
       ('railwatch_service', 'function railwatch.assign_transfer', 'execute'),
       ('railwatch_daemon', 'function railwatch.transfer_suggestions', 'execute'),
       ('railwatch_service', 'function railwatch.transfer_suggestions', 'execute'),
       ('railwatch_reader', 'function railwatch.transfer_suggestions', 'execute');

create function railwatch.grant_rights() returns text[]
language plpgsql as $$
declare
    of_role text;
    given railwatch.rights;
    missing text[] := '{}';
begin
    revoke execute on all functions in schema railwatch from public;
    for of_role in select distinct role from railwatch.rights order by role loop
        begin
            if not exists (select from pg_roles where rolname = of_role) then
                execute format('create role %I nologin', of_role);
            end if;
        exception
            when duplicate_object or unique_violation then
                null;  -- Roles belong to the whole cluster: another database's migration was quicker.
            when insufficient_privilege then
                missing := missing || of_role;
                raise warning '% may not create the role %, so no login can have it', current_user, of_role
                    using hint = 'As a superuser: create role ' || of_role || ' nologin; then, as the owner of the schema: select railwatch.grant_rights();';
                continue;
        end;
        for given in select * from railwatch.rights where role = of_role order by object, privileges loop
            execute format('grant %s on %s to %I', given.privileges, given.object, of_role);
        end loop;
    end loop;
    begin
        if not missing && array['railwatch_operator', 'railwatch_service'] and not pg_has_role('railwatch_operator', 'railwatch_service', 'member') then
            grant railwatch_service to railwatch_operator;
        end if;
    exception when insufficient_privilege then
        raise warning '% may not make railwatch_operator a member of railwatch_service', current_user
            using hint = 'As a superuser: grant railwatch_service to railwatch_operator;';
    end;
    return missing;
end $$;
comment on function railwatch.grant_rights is 'Make the roles, where that may be done, and give them what the table rights says. Returns the roles that are missing. Doing it again is harmless.';

select railwatch.grant_rights();

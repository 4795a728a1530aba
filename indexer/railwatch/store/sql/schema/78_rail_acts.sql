create function railwatch.resume_rail(on_rail text, actor text, reason text default null) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    existing railwatch.rails;
begin
    perform railwatch.check_text(actor, 'actor', 200);
    if reason is not null then
        perform railwatch.check_text(reason, 'reason', 1000);
    end if;
    select * into existing from railwatch.rails where name = on_rail for no key update;
    if not found then
        perform railwatch.raise_error('RW002', 'unknown rail "' || coalesce(on_rail, '') || '"');
    end if;
    if existing.state <> 'halted' then
        perform railwatch.raise_error('RW046', 'rail ' || on_rail || ' is ' || existing.state || ', not halted');
    end if;
    update railwatch.rails
    set state = 'starting', updated_at = now(),
        reason = 'resumed by ' || actor || coalesce(': ' || resume_rail.reason, '') || '; it had halted because: ' || coalesce(existing.reason, '')
    where name = on_rail;
    perform railwatch.notify('railwatch_work', 'resume');
    return 'starting';
end $$;
comment on function railwatch.resume_rail is 'Let a halted rail continue from its last committed block, once its cause is gone. It accepts no other chain: after a DeepReorg the rail goes on only where the node has our chain again.';

create function railwatch.accept_chain(
    on_rail text, height bigint, hash text, common boolean, actor text, reason text
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    existing railwatch.rails;
    inserted uuid;
begin
    perform railwatch.check_text(actor, 'actor', 200);
    perform railwatch.check_text(reason, 'reason', 1000);
    perform railwatch.check_text(hash, 'hash', 200);
    if common is null then
        perform railwatch.raise_error('RW001', 'common is missing: true where the fork is a block that we had followed too');
    end if;
    select * into existing from railwatch.rails where name = on_rail for no key update;
    if not found then
        perform railwatch.raise_error('RW002', 'unknown rail "' || coalesce(on_rail, '') || '"');
    end if;
    if existing.state <> 'halted' or coalesce(existing.reason, '') !~ '^DeepReorg' then
        perform railwatch.raise_error('RW046', 'rail ' || on_rail || ' is not halted by a DeepReorg: there is no other chain to accept');
    end if;
    if height is null or height < 0 or height >= existing.cursor_height then
        perform railwatch.raise_error('RW001', 'the fork is a height from 0 to below the cursor (' || existing.cursor_height || ')');
    end if;
    delete from railwatch.chain_acceptances a where a.rail = on_rail and a.applied_at is null;
    insert into railwatch.chain_acceptances (rail, fork_height, fork_hash, is_common, left_height, left_hash, actor, reason)
    values (on_rail, height, hash, common, existing.cursor_height, existing.cursor_hash, actor, reason) returning id into inserted;
    -- What was final, and what time was covered, was so on the other chain.
    update railwatch.rails
    set state = 'starting', updated_at = now(), finalized_height = null, finalized_hash = null, covered_until = null,
        reason = 'another chain was accepted by ' || actor || ': ' || accept_chain.reason
    where name = on_rail;
    update railwatch.balances b set settled_height = null, settled_balance = null, settled_spent = null
    where b.rail = on_rail and b.settled_height > height;
    perform railwatch.notify('railwatch_work', 'resume');
    return inserted;
end $$;
comment on function railwatch.accept_chain is 'Let a rail that a DeepReorg has halted follow the other chain: the daemon reverses everything above the fork, once, also final payments, and emits the reversals. The table chain_acceptances records the decision.';

create function railwatch.rename_rail(old_name text, new_name text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    holder text;
    place record;
begin
    -- No daemon acquires the lease, and no step begins, until the commit.
    perform from railwatch.rails where name = old_name for update;
    if not found then
        perform railwatch.raise_error('RW002', 'unknown rail "' || coalesce(old_name, '') || '"');
    end if;
    if new_name is null or new_name !~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'
       or exists (select from railwatch.rails where new_name in (name, origin) and name <> old_name) or new_name = old_name then
        perform railwatch.raise_error('RW001', 'a rail cannot be renamed to "' || coalesce(new_name, '')
            || '": that is no name, or one that a rail has or had', 'Letters, digits, dots, hyphens and underscores.');
    end if;
    select l.holder into holder from railwatch.leases l where l.rail = old_name and l.expires_at > now();
    if found then
        perform railwatch.raise_error('RW043', 'rail ' || old_name || ' is followed by ' || holder || ', and cannot be renamed now',
            'Stop that daemon first.');
    end if;
    delete from railwatch.leases where rail = old_name;
    insert into railwatch.rails
    select (jsonb_populate_record(r, jsonb_build_object('name', new_name, 'origin', coalesce(r.origin, r.name)))).*
    from railwatch.rails r where r.name = old_name;
    insert into railwatch.assets
    select (jsonb_populate_record(a, jsonb_build_object('rail', new_name))).* from railwatch.assets a where a.rail = old_name;
    -- Every table that names a rail, but the feed: its lines keep the name that the rail had then.
    for place in
        select c.oid::regclass as of_table, exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgname = 'append_only') as fixed
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'rail' and not a.attisdropped
        where c.relnamespace = 'railwatch'::regnamespace and c.relkind = 'r' and c.relname not in ('assets', 'transitions')
        order by c.relname
    loop
        if place.fixed then
            execute format('alter table %s disable trigger append_only', place.of_table);
        end if;
        execute format('update %s set rail = $1 where rail = $2', place.of_table) using new_name, old_name;
        if place.fixed then
            execute format('alter table %s enable always trigger append_only', place.of_table);
        end if;
    end loop;
    -- A destination's sums name rails too, also of what came on another rail than its own.
    update railwatch.destinations d
    set tallies = (select jsonb_agg(case when t ->> 0 = old_name then jsonb_set(t, '{0}', to_jsonb(new_name)) else t end)
                   from jsonb_array_elements(d.tallies) t)
    where exists (select from jsonb_array_elements(d.tallies) t where t ->> 0 = old_name);
    delete from railwatch.assets where rail = old_name;
    delete from railwatch.rails where name = old_name;
end $$;
comment on function railwatch.rename_rail is 'Give a rail another name, with all that belongs to it. Ids of transfers stay as they are. Refused while a daemon follows it.';

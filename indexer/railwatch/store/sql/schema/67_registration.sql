create function railwatch.create_destination(invoice railwatch.invoices, wish jsonb, place int) returns void
language plpgsql as $$
declare
    label text := 'destinations[' || place || ']';
    on_rail railwatch.rails;
    of_asset text;
    chosen jsonb;
    chosen_origin text;
    folded text;
    amount numeric;
    holder uuid;
    unknown text;
begin
    if jsonb_typeof(wish) is distinct from 'object' then
        perform railwatch.raise_error('RW001', label || ' is not an object');
    end if;
    select key into unknown from jsonb_object_keys(wish) key
    where key not in ('rail', 'asset', 'address', 'amount', 'reference', 'derivation') limit 1;
    if unknown is not null then
        perform railwatch.raise_error('RW001', label || ': unknown field "' || unknown || '"');
    end if;
    select * into on_rail from railwatch.rails where name = wish ->> 'rail' and enabled;
    if not found then
        perform railwatch.raise_error('RW002', label || ': unknown rail ' || coalesce('"' || (wish ->> 'rail') || '"', '(none given)'),
            'Enabled rails: ' || coalesce((select string_agg(name, ', ' order by name) from railwatch.rails where enabled),
            'none yet; has the daemon been started with this database?'));
    end if;
    select id into of_asset from railwatch.assets
    where rail = on_rail.name and enabled
      and (symbol = wish ->> 'asset' or id = wish ->> 'asset' or (on_rail.fold_case and lower(id) = lower(wish ->> 'asset')))
    for share;  -- The configuration's update waits for this order, so that the daemon still scans for its asset.
    if not found then
        perform railwatch.raise_error('RW003', label || ': unknown asset ' || coalesce('"' || (wish ->> 'asset') || '"', '(none given)')
            || ' on rail ' || on_rail.name,
            'Configured there: ' || coalesce((select string_agg(symbol, ', ' order by symbol) from railwatch.assets
                                              where rail = on_rail.name and enabled), 'none'));
    end if;
    amount := railwatch.parse_amount(wish -> 'amount', label);
    perform railwatch.parse_text(wish, 'address', label || ': ');
    if wish ? 'derivation' then
        perform railwatch.parse_text(wish, 'derivation', label || ': ');
    end if;
    if wish ? 'reference' and not on_rail.has_references then
        perform railwatch.raise_error('RW011', label || ': rail ' || on_rail.name || ' has no references',
            'Remove reference, and derive a new address for each invoice.');
    end if;
    if wish ? 'reference' then
        perform railwatch.parse_text(wish, 'reference', label || ': ');
    end if;
    folded := case when on_rail.fold_case then lower(wish ->> 'address') else wish ->> 'address' end;
    if exists (select from railwatch.destinations d
               where d.invoice_id = invoice.id and d.rail = on_rail.name and d.asset = of_asset and d.address_folded = folded
                 and d.reference is not distinct from wish ->> 'reference') then
        perform railwatch.raise_error('RW001', label || ': the same rail, asset, address and reference are there twice',
            'Remove one of the two, or give it another address.');
    end if;
    -- Late money belongs for ever to the merchant whose customers got the address. A reference distinguishes several
    -- merchants at one address; without one, everything that arrives there without a mark is that merchant's.
    if exists (select from railwatch.destinations d join railwatch.invoices i on i.id = d.invoice_id
               where d.family = on_rail.family and d.address_folded = folded and i.merchant_id <> invoice.merchant_id
                 and d.watch_state <> 'rejected'
                 and (d.reference is null or d.reference = coalesce(wish ->> 'reference', d.reference))) then
        perform railwatch.raise_error('RW007', label || ': address ' || (wish ->> 'address') || ' belongs to another merchant',
            'Derive a new address for each invoice. Once given to a merchant''s customers, an address stays that merchant''s.');
    end if;
    select i.id into holder
    from railwatch.destinations d join railwatch.invoices i on i.id = d.invoice_id
    where d.family = on_rail.family and d.address_folded = folded and d.reference is not distinct from wish ->> 'reference'
      and i.id <> invoice.id and d.watch_state not in ('rejected', 'closed')
      and railwatch.is_open(i.state)
    limit 1;
    if found then
        perform railwatch.raise_error('RW007', label || ': address ' || (wish ->> 'address') || ' belongs to open invoice ' || holder,
            'Derive a new address for each invoice.');
    end if;
    if invoice.terms ? 'policy' then
        chosen := railwatch.parse_policy(invoice.terms -> 'policy', on_rail);
        chosen_origin := 'invoice';
    else
        select policy, origin into chosen, chosen_origin
        from railwatch.resolve_policy(on_rail.name, of_asset, invoice.fiat_amount);
    end if;
    insert into railwatch.destinations
        (invoice_id, rail, asset, address, reference, derivation, expected_amount, policy, policy_origin, family,
         address_folded, position, accepts_from, tip_at_creation)
    values (invoice.id, on_rail.name, of_asset, wish ->> 'address', wish ->> 'reference', wish ->> 'derivation',
            amount, chosen, chosen_origin, on_rail.family, folded, place,
            -- Money that came to an address of an earlier invoice before this one was made is that invoice's.
            case when exists (select from railwatch.destinations d
                              where d.family = on_rail.family and d.address_folded = folded and d.invoice_id <> invoice.id
                                and d.reference is not distinct from wish ->> 'reference' and d.watch_state <> 'rejected')
                 then invoice.created_at else invoice.created_at - make_interval(secs => invoice.accept_before) end,
            case when on_rail.state = 'live' and exists (
                select from railwatch.leases l where l.rail = on_rail.name and l.expires_at > now())
                 then on_rail.tip_height end);
end $$;
comment on function railwatch.create_destination is 'Part of create_invoice: one destination, checked and resolved.';

create function railwatch.canonical_terms(request jsonb) returns jsonb
language sql immutable as $$
    -- What makes a repeat the same order: all but the metadata, and amounts as digits, however they were written.
    select (request - 'metadata')
        || case when request ? 'fiat_amount' then jsonb_build_object('fiat_amount', request ->> 'fiat_amount') else '{}' end
        || jsonb_build_object('destinations', (
            select jsonb_agg(case when jsonb_typeof(wish) = 'object' and wish ? 'amount'
                                  then wish || jsonb_build_object('amount', wish ->> 'amount') else wish end order by place)
            from jsonb_array_elements(request -> 'destinations') with ordinality as wishes (wish, place)));
$$;
comment on function railwatch.canonical_terms is 'The part of a request that a repeat of the order must share.';

create function railwatch.same_order(known railwatch.invoices, request jsonb) returns uuid
language plpgsql immutable as $$
begin
    if known.terms is distinct from railwatch.canonical_terms(request) then
        perform railwatch.raise_error('RW006', 'order ' || known.order_id || ' of merchant ' || known.merchant_id
            || ' is registered with other terms, as invoice ' || known.id,
            'Send the same terms to get that id, or use another order_id for other terms.');
    end if;
    return known.id;
end $$;
comment on function railwatch.same_order is 'Part of create_invoice: the id of an order that is registered already, if the terms are the same.';

create function railwatch.lock_addresses(requests jsonb[]) returns void
language plpgsql as $$
declare
    only_one jsonb := requests[1] -> 'destinations';
begin
    -- Registrations of one address wait for each other here, in one order of addresses. The later one then sees the earlier one.
    if cardinality(requests) = 1 and jsonb_typeof(only_one) = 'array' and only_one -> 1 is null then
        -- Most orders have one destination. The sort below would cost them a quarter of all that create_invoice does.
        insert into railwatch.address_locks as held (family, address_folded)
        select r.family, case when r.fold_case then lower(only_one -> 0 ->> 'address') else only_one -> 0 ->> 'address' end
        from railwatch.rails r
        where r.name = only_one -> 0 ->> 'rail' and length(only_one -> 0 ->> 'address') between 1 and 200
        on conflict (family, address_folded) do update set family = held.family;
        return;
    end if;
    insert into railwatch.address_locks as held (family, address_folded)
    select distinct r.family, case when r.fold_case then lower(wish ->> 'address') else wish ->> 'address' end as folded
    from unnest(requests) each
    cross join lateral jsonb_array_elements(
        case when jsonb_typeof(each -> 'destinations') = 'array' then each -> 'destinations' else '[]' end) wish
    join railwatch.rails r on r.name = wish ->> 'rail'
    where length(wish ->> 'address') between 1 and 200
    order by 1, 2
    on conflict (family, address_folded) do update set family = held.family;
end $$;
comment on function railwatch.lock_addresses is 'Part of create_invoice and create_invoices: hold the addresses of requests to the commit.';

create function railwatch.register_invoice(request jsonb) returns uuid
language plpgsql as $$
declare
    merchant text;
    order_no text;
    existing railwatch.invoices;
    inserted railwatch.invoices;
    expiry timestamptz;
    closes_in bigint;
begin
    merchant := railwatch.parse_text(request, 'merchant_id');
    order_no := railwatch.parse_text(request, 'order_id');
    select * into existing from railwatch.invoices where merchant_id = merchant and order_id = order_no;
    if found then
        return railwatch.same_order(existing, request);
    end if;
    expiry := railwatch.parse_expiry(request);
    closes_in := case when request ? 'closes_in'
        then railwatch.parse_count(request -> 'closes_in', 'closes_in', 0, 315360000, 'RW005')
        else coalesce((select (value #>> '{}')::bigint from railwatch.settings where name = 'closes_in'), 2592000) end;
    insert into railwatch.invoices
        (merchant_id, order_id, state, expires_at, closes_at, fiat_amount, fiat_currency, rate_locked_at, policy,
         time_basis, metadata, tolerance_bps, accept_before, terms)
    values (merchant, order_no, 'created', expiry, expiry + make_interval(secs => closes_in),
            (request ->> 'fiat_amount')::numeric, request ->> 'fiat_currency',
            case when request ? 'rate_locked_at' then railwatch.parse_timestamp(request -> 'rate_locked_at', 'rate_locked_at') end,
            '{}', coalesce(request ->> 'time_basis', 'first_seen'), coalesce(request -> 'metadata', '{}'),
            case when request ? 'tolerance_bps'
                then railwatch.parse_count(request -> 'tolerance_bps', 'tolerance_bps', 0, 10000, 'RW001') else 0 end,
            -- A look-back reaches at least an hour: it would not find anything older.
            case when request ? 'accept_before'
                then railwatch.parse_count(request -> 'accept_before', 'accept_before', 0, 3600, 'RW005') else 600 end,
            railwatch.canonical_terms(request))
    -- Wait here for a concurrent registration of the same order.
    on conflict (merchant_id, order_id) do nothing
    returning * into inserted;
    if not found then
        select * into existing from railwatch.invoices where merchant_id = merchant and order_id = order_no;
        return railwatch.same_order(existing, request);
    end if;
    perform railwatch.create_destination(inserted, wish, place::int)
    from jsonb_array_elements(request -> 'destinations') with ordinality as wishes (wish, place);
    update railwatch.invoices
    set policy = (select policy from railwatch.destinations where invoice_id = inserted.id order by position limit 1)
    where id = inserted.id;
    perform railwatch.append_invoice_transition(inserted, null, 'created', 'service', '{}');
    perform railwatch.notify('railwatch_work', 'registered');
    return inserted.id;
end $$;
comment on function railwatch.register_invoice is 'Part of create_invoice and create_invoices, which hold the addresses before.';

create function railwatch.create_invoice(request jsonb) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform railwatch.check_fields(request);
    perform railwatch.lock_addresses(array[request]);
    return railwatch.register_invoice(request);
end $$;
comment on function railwatch.create_invoice is 'Register an invoice and return its id. The same order with the same terms returns the same id. Errors: docs/contract.md.';

create function railwatch.create_invoices(requests jsonb[]) returns setof uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    wish record;
    inserted uuid[];
begin
    if coalesce(cardinality(requests), 0) not between 1 and 1000 then
        perform railwatch.raise_error('RW001', 'create_invoices takes 1 to 1000 requests');
    end if;
    perform railwatch.check_fields(each) from unnest(requests) each;
    -- Lock addresses and then orders in one order, whatever the order of the requests: so no deadlock arises.
    perform railwatch.lock_addresses(requests);
    for wish in
        select given.request, given.place::int from unnest(requests) with ordinality as given (request, place)
        order by given.request ->> 'merchant_id', given.request ->> 'order_id', given.place
    loop
        inserted[wish.place] := railwatch.register_invoice(wish.request);
    end loop;
    return query select unnest(inserted);
end $$;
comment on function railwatch.create_invoices is 'Register many invoices in one commit, all or none, and return their ids in order. One wait for the feed instead of many.';

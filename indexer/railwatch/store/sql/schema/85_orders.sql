create function railwatch.display(amount numeric, decimals int) returns numeric
language sql immutable
return case when decimals between 0 and 255 and amount not in ('NaN', 'Infinity', '-Infinity')
            then trim_scale((trunc(amount)::text || 'e-' || decimals)::numeric) end;
comment on function railwatch.display is 'Base units in display units, exactly; null where the decimals are not known.';

create function railwatch.customer_state(state text, settled_at timestamptz) returns text
language sql immutable
return case
    when state = 'created' then case when settled_at is null then 'waiting' else 'issue' end
    when state = 'detected' then 'received'
    when state = 'confirming' then 'confirming'
    when state in ('paid', 'overpaid') then 'complete'
    else 'issue' end;
comment on function railwatch.customer_state is 'Return the state that a customer may see: waiting, received, confirming, complete or issue.';

create view railwatch.orders as
select i.merchant_id, i.order_id, i.id as invoice_id, i.state, railwatch.customer_state(i.state, i.settled_at) as customer_state,
       i.state_since, i.created_at, i.expires_at, i.settled_at, i.held,
       exists (select from railwatch.destinations d
               join railwatch.rails r on r.name = d.rail and r.enabled
               join railwatch.leases l on l.rail = r.name and l.expires_at > now()
               where d.invoice_id = i.id and d.watch_state = 'watching') as payable,
       not exists (select from railwatch.destinations d join railwatch.rails r on r.name = d.rail
                   where d.invoice_id = i.id and d.watch_state <> 'rejected' and railwatch.state_now(r) <> 'live') as rails_live,
       (select count(*) from railwatch.exceptions e where e.invoice_id = i.id and e.resolved_at is null) as exceptions,
       (select (array['critical', 'warning', 'info'])[min(array_position(array['critical', 'warning', 'info'], e.severity))]
        from railwatch.exceptions e where e.invoice_id = i.id and e.resolved_at is null) as severity,
       i.fiat_amount, i.fiat_currency, i.metadata
from railwatch.invoices i;
comment on view railwatch.orders is 'One row for each invoice: the operator''s state, the customer''s, and the open exceptions.';
comment on column railwatch.orders.merchant_id is 'The merchant.';
comment on column railwatch.orders.order_id is 'The order.';
comment on column railwatch.orders.invoice_id is 'The invoice.';
comment on column railwatch.orders.state is 'The operator''s state.';
comment on column railwatch.orders.customer_state is 'waiting, received, confirming, complete or issue.';
comment on column railwatch.orders.state_since is 'Since when.';
comment on column railwatch.orders.created_at is 'When it was registered.';
comment on column railwatch.orders.expires_at is 'End of the payment window, inclusive.';
comment on column railwatch.orders.settled_at is 'When it was first paid.';
comment on column railwatch.orders.held is 'Why it is held; null: not held.';
comment on column railwatch.orders.payable is 'Whether an address of it may be shown: it is watched, on a rail that a daemon follows now.';
comment on column railwatch.orders.rails_live is 'Whether silence means that nothing came: every rail of it is live, and followed now.';
comment on column railwatch.orders.exceptions is 'How many exceptions are open.';
comment on column railwatch.orders.severity is 'The worst of them.';
comment on column railwatch.orders.fiat_amount is 'The order''s total.';
comment on column railwatch.orders.fiat_currency is 'Its currency.';
comment on column railwatch.orders.metadata is 'The registering service''s own.';

create view railwatch.order_destinations as
select i.merchant_id, i.order_id, i.id as invoice_id, d.id as destination_id, d.position, d.rail, a.symbol, d.address, d.reference,
       d.watch_state, d.watch_error, railwatch.display(d.expected_amount, a.decimals) as expected,
       railwatch.display(d.seen_amount, a.decimals) as seen, railwatch.display(d.confirmed_amount, a.decimals) as confirmed,
       railwatch.display(d.late_amount, a.decimals) as late, d.policy, d.policy_origin, railwatch.state_now(r) as rail_state
from railwatch.destinations d
join railwatch.invoices i on i.id = d.invoice_id
join railwatch.assets a on a.rail = d.rail and a.id = d.asset
join railwatch.rails r on r.name = d.rail;
comment on view railwatch.order_destinations is 'Where an order can be paid, and what arrived there, in display units.';
comment on column railwatch.order_destinations.merchant_id is 'The merchant.';
comment on column railwatch.order_destinations.order_id is 'The order.';
comment on column railwatch.order_destinations.invoice_id is 'The invoice.';
comment on column railwatch.order_destinations.destination_id is 'The destination.';
comment on column railwatch.order_destinations.position is 'Its place in the invoice''s list, from 1.';
comment on column railwatch.order_destinations.rail is 'The rail.';
comment on column railwatch.order_destinations.symbol is 'The asset''s symbol.';
comment on column railwatch.order_destinations.address is 'The address.';
comment on column railwatch.order_destinations.reference is 'Memo, tag or reference key.';
comment on column railwatch.order_destinations.watch_state is 'Show payment instructions only when watching.';
comment on column railwatch.order_destinations.watch_error is 'Why it was rejected.';
comment on column railwatch.order_destinations.expected is 'Asked for, in display units.';
comment on column railwatch.order_destinations.seen is 'Live and in time, in display units.';
comment on column railwatch.order_destinations.confirmed is 'Of that confirmed, in display units.';
comment on column railwatch.order_destinations.late is 'Live and late, in display units.';
comment on column railwatch.order_destinations.policy is 'When a payment counts here.';
comment on column railwatch.order_destinations.policy_origin is 'invoice, configuration or default.';
comment on column railwatch.order_destinations.rail_state is 'How the rail is: its state, or "not followed".';

create view railwatch.order_transfers as
select x.tx_id, x.tx_index, i.merchant_id, i.order_id, i.id as invoice_id, i.state as invoice_state, x.id as detection_id, x.rail,
       coalesce(a.symbol, x.asset) as symbol, railwatch.display(x.amount, a.decimals) as amount, x.amount as base_amount,
       x.kind, x.state, x.in_time, x.replaced_by, d.address, d.policy, d.policy_origin, x.evidence ->> 'node' as node,
       x.first_seen_at, x.block_height, x.block_hash, x.block_time, x.confirmed_at,
       case when x.state in ('included', 'confirmed', 'final')
            then greatest(r.cursor_height - x.block_height + 1, 0) end as confirmations
from railwatch.detections x
join railwatch.invoices i on i.id = x.invoice_id
join railwatch.destinations d on d.id = x.destination_id
join railwatch.rails r on r.name = x.rail
left join railwatch.assets a on a.rail = x.rail and a.id = x.asset;
comment on view railwatch.order_transfers is 'Every transfer with the order that it is for, in display units.';
comment on column railwatch.order_transfers.tx_id is 'The transaction.';
comment on column railwatch.order_transfers.tx_index is 'Which credit of it.';
comment on column railwatch.order_transfers.merchant_id is 'The merchant.';
comment on column railwatch.order_transfers.order_id is 'The order.';
comment on column railwatch.order_transfers.invoice_id is 'The invoice.';
comment on column railwatch.order_transfers.invoice_state is 'The invoice''s state.';
comment on column railwatch.order_transfers.detection_id is 'The detection.';
comment on column railwatch.order_transfers.rail is 'The rail that it was seen on.';
comment on column railwatch.order_transfers.symbol is 'The asset''s symbol; its CAIP-19 id where it is not configured.';
comment on column railwatch.order_transfers.amount is 'In display units; null where the decimals are not known.';
comment on column railwatch.order_transfers.base_amount is 'In base units.';
comment on column railwatch.order_transfers.kind is 'payment, or what else it is.';
comment on column railwatch.order_transfers.state is 'The transfer''s state on its chain.';
comment on column railwatch.order_transfers.in_time is 'Whether it counts as within the window.';
comment on column railwatch.order_transfers.replaced_by is 'The transaction that displaced it.';
comment on column railwatch.order_transfers.address is 'The address that it was for.';
comment on column railwatch.order_transfers.policy is 'The policy that it has to meet.';
comment on column railwatch.order_transfers.policy_origin is 'invoice, configuration or default.';
comment on column railwatch.order_transfers.node is 'The node that reported it.';
comment on column railwatch.order_transfers.first_seen_at is 'When it was first seen.';
comment on column railwatch.order_transfers.block_height is 'Its newest block.';
comment on column railwatch.order_transfers.block_hash is 'Hash of that block.';
comment on column railwatch.order_transfers.block_time is 'Chain time of that block.';
comment on column railwatch.order_transfers.confirmed_at is 'Chain time at which the policy was met.';
comment on column railwatch.order_transfers.confirmations is 'Its depth now, inclusive; null: in no block.';

create view railwatch.order_money as
select i.merchant_id, i.order_id, i.id as invoice_id, i.state, i.settled_at, i.fiat_amount, i.fiat_currency, i.rate_locked_at,
       way.rail, way.asset, a.symbol, asked.expected_amount, came.received_amount, gone.refunded_amount,
       railwatch.display(asked.expected_amount, a.decimals) as expected,
       railwatch.display(came.received_amount, a.decimals) as received,
       railwatch.display(gone.refunded_amount, a.decimals) as refunded,
       asked.policy, asked.policy_origin,
       (select array_agg(s.reference order by s.recorded_at, s.reference) from railwatch.settlements s
        where s.invoice_id = i.id) as settlement_references
from railwatch.invoices i
cross join lateral (
    select d.rail, d.asset from railwatch.destinations d where d.invoice_id = i.id
    union
    select x.rail, x.asset from railwatch.detections x where x.invoice_id = i.id and x.kind <> 'unsupported_asset'
    union
    select r.rail, r.asset from railwatch.refunds r where r.invoice_id = i.id
) way
left join lateral (
    select d.expected_amount, d.policy, d.policy_origin from railwatch.destinations d
    where d.invoice_id = i.id and d.rail = way.rail and d.asset = way.asset order by d.position limit 1
) asked on true
cross join lateral (
    select coalesce(sum(x.amount), 0) as received_amount from railwatch.detections x
    where x.invoice_id = i.id and x.rail = way.rail and x.asset = way.asset and x.state in ('confirmed', 'final')
) came
cross join lateral (
    select coalesce(sum(r.amount), 0) as refunded_amount from railwatch.refunds r
    where r.invoice_id = i.id and r.rail = way.rail and r.asset = way.asset
) gone
left join railwatch.assets a on a.rail = way.rail and a.id = way.asset;
comment on view railwatch.order_money is 'For finance: one row an invoice and asset, with what was asked, what came and what was given back.';
comment on column railwatch.order_money.merchant_id is 'The merchant.';
comment on column railwatch.order_money.order_id is 'The order.';
comment on column railwatch.order_money.invoice_id is 'The invoice.';
comment on column railwatch.order_money.state is 'The invoice''s state.';
comment on column railwatch.order_money.settled_at is 'When it was first paid.';
comment on column railwatch.order_money.fiat_amount is 'The order''s total at price lock.';
comment on column railwatch.order_money.fiat_currency is 'Its currency.';
comment on column railwatch.order_money.rate_locked_at is 'When the price was locked.';
comment on column railwatch.order_money.rail is 'The rail.';
comment on column railwatch.order_money.asset is 'CAIP-19 id.';
comment on column railwatch.order_money.symbol is 'The asset''s symbol.';
comment on column railwatch.order_money.expected_amount is 'Asked for, in base units; null: this asset was not asked for.';
comment on column railwatch.order_money.received_amount is 'Confirmed, in base units: in time, late or sent by mistake.';
comment on column railwatch.order_money.refunded_amount is 'Given back, in base units.';
comment on column railwatch.order_money.expected is 'Asked for, in display units.';
comment on column railwatch.order_money.received is 'Confirmed, in display units.';
comment on column railwatch.order_money.refunded is 'Given back, in display units.';
comment on column railwatch.order_money.policy is 'The policy by which it counts.';
comment on column railwatch.order_money.policy_origin is 'invoice, configuration or default.';
comment on column railwatch.order_money.settlement_references is 'Where finance booked the invoice, oldest first; null: nowhere yet.';

create function railwatch.find_orders(what text)
returns table (found_by text, invoice_id uuid, merchant_id text, order_id text, state text, customer_state text)
language sql stable set search_path = pg_catalog, pg_temp as $$
    select hit.found_by, o.invoice_id, o.merchant_id, o.order_id, o.state, o.customer_state
    from (
        select 'invoice' as found_by, i.id from railwatch.invoices i
        where i.id = case when what ~* '^[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}$' then what::uuid end
        union
        select 'order', i.id from railwatch.invoices i where i.order_id = what
        union
        select 'order', i.id
        -- A merchant and an order have at most 200 characters each. What is longer is no name, and is not cut up.
        from generate_series(1, case when length(what) <= 401 then length(what) end) cut
        join railwatch.invoices i on i.merchant_id = left(what, cut - 1) and i.order_id = substr(what, cut + 1)
        where substr(what, cut, 1) = '/'
        union
        select 'transaction', x.invoice_id from railwatch.detections x where x.tx_id in (what, lower(what))
        union
        select 'refund', f.invoice_id from railwatch.refunds f where f.tx_id in (what, lower(what))
        union
        select 'address', d.invoice_id
        from railwatch.destinations d join railwatch.rails r on r.name = d.rail
        where d.address_folded in (what, lower(what)) and (d.address_folded = what or r.fold_case)
    ) hit
    join railwatch.orders o on o.invoice_id = hit.id
    order by o.created_at desc, hit.found_by
$$;
comment on function railwatch.find_orders is 'The orders that a text may mean: an id, an order, merchant/order, a transaction or an address. The newest first.';

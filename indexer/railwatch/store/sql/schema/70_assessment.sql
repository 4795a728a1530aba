create function railwatch.assess(known railwatch.invoices) returns text
language plpgsql stable as $$
declare
    state_before_hold text := coalesce(known.held_from, known.state);  -- what was decided before a hold still holds
    result text;
begin
    if state_before_hold in ('cancelled', 'refunded') then
        return state_before_hold;
    end if;
    with payments as (
        select x.destination_id, x.amount, x.state in ('confirmed', 'final') as counted, x.state <> 'pending' as in_block,
               case when x.state = 'final' and x.in_time is not null then x.in_time
                    else known.expires_at >= case known.time_basis
                        when 'first_seen' then x.first_seen_at
                        when 'block_time' then coalesce(x.block_time, now())
                        else coalesce(x.confirmed_at, now()) end
               end as timely
        from railwatch.detections x
        where x.invoice_id = known.id and x.kind = 'payment' and x.state in ('pending', 'included', 'confirmed', 'final')
    ), counted as (
        select x.rail, x.asset, sum(x.amount) as amount from railwatch.detections x
        where x.invoice_id = known.id and x.state in ('confirmed', 'final') group by x.rail, x.asset
    ), returned as (
        select r.rail, r.asset, sum(r.amount) as amount, sum(r.surplus) as surplus, sum(r.waived) as waived
        from railwatch.refunds r where r.invoice_id = known.id group by r.rail, r.asset
    ), sums as (
        select d.rail, d.asset,
               greatest(1, d.expected_amount - div(d.expected_amount * known.tolerance_bps, 10000)) as least,
               d.expected_amount + div(d.expected_amount * known.tolerance_bps, 10000) as most,
               coalesce(sum(p.amount) filter (where p.timely), 0) as seen,
               coalesce(sum(p.amount) filter (where p.timely and p.counted), 0) as confirmed,
               coalesce(sum(p.amount) filter (where not p.timely), 0) as late,
               coalesce(sum(p.amount) filter (where not p.timely and p.counted), 0) as late_confirmed,
               coalesce(bool_or(p.in_block), false) as in_block
        from railwatch.destinations d left join payments p on p.destination_id = d.id
        where d.invoice_id = known.id and d.watch_state <> 'rejected'
        group by d.id
    ), judged as (
        -- What was given back is not there. Of a settled order the merchant may give back by choice (waived).
        select sums.*, r.amount is null or coalesce(c.amount, 0) - r.amount >= sums.least - r.waived as held,
               sums.most + coalesce(r.amount - r.surplus - r.waived, 0) as at_most
        from sums left join counted c using (rail, asset) left join returned r using (rail, asset)
    )
    select case
        when max(confirmed - at_most) filter (where confirmed >= least and held) > 0 then 'overpaid'
        when bool_or(confirmed >= least and held) then 'paid'
        when bool_or(confirmed + late_confirmed >= least and held) then 'late_paid'
        when bool_or(seen > confirmed or (late > late_confirmed and seen + late >= least))
            then case when bool_or(in_block) then 'confirming' else 'detected' end
        when bool_or(confirmed > 0) then 'underpaid'
    end into result from judged;
    return coalesce(result, case
        when state_before_hold = 'expired' then 'expired'
        when known.expires_at <= now() and not exists (
            select from railwatch.destinations d join railwatch.rails r on r.name = d.rail
            where d.invoice_id = known.id and not railwatch.is_covered(d, r, known.expires_at, known.time_basis))
             and not exists (select from railwatch.quarantine q where q.invoice_id = known.id)
            then 'expired'
        else 'created' end);
end $$;
comment on function railwatch.assess is 'The state that the facts demand, were the invoice not held: the core''s rule, for manual acts. A test keeps them equal.';

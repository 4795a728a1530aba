-- One page of the feed, fulfilled: run it again and again, by psql or any other client.
-- It needs the tables of shop.sql, in Railwatch's database: position and effects then go back together in a failover.
begin;

-- Two copies wait for each other here; the later one then begins where the earlier has ended.
select railwatch.lock_consumer('fulfilment');

-- Keep the page, so that every statement below sees the same transitions. `stops` is true if a transition stops a
-- fulfilled order, false if it continues one, else null. A reversed payment shows in the invoice's own transition, in its
-- exception `reversed`, or in both; while the invoice is held, in the exception alone. Only a paid order continues: a
-- refund or a person can resolve the exception too, so its end continues only an invoice that is paid.
create temporary table page on commit drop as
select seq, event_id, invoice_id, order_id, subject, to_state,
       case when subject = 'invoice' and to_state in ('paid', 'overpaid') then false
            when subject = 'invoice' and reason = 'reversed' and to_state <> 'late_paid' then true
            when subject = 'exception' and reason = 'reversed' and to_state = 'open' then true
            when subject = 'exception' and reason = 'reversed' and invoice_state in ('paid', 'overpaid') then false
       end as stops
from (
    select t.*, i.order_id,
           case when t.subject = 'exception' then (
               select s.to_state from railwatch.transitions s
               where s.invoice_id = t.invoice_id and s.subject = 'invoice' and s.seq < t.seq order by s.seq desc limit 1
           ) end as invoice_state
    from railwatch.transitions t
    left join railwatch.invoices i on i.id = t.invoice_id
    where t.seq > (select position from railwatch.consumers where name = 'fulfilment')
    order by t.seq
    limit 500
) line;

-- Paid: fulfil, once for each invoice. A row here is the order to ship; the shipping program selects unshipped rows.
insert into shop.fulfilments (invoice_id, order_id, event_id, seq)
select distinct on (invoice_id) invoice_id, order_id, event_id, seq
from page
where subject = 'invoice' and to_state in ('paid', 'overpaid')
order by invoice_id, seq
on conflict (invoice_id) do nothing;

-- Reversed: stop what can be stopped, and call a person. An order that was never fulfilled needs nothing, nor does an
-- invoice that lost a surplus only and is settled as before. A stopped order is not stopped again.
insert into shop.reversals (event_id, invoice_id, seq)
select p.event_id, p.invoice_id, p.seq
from (
    select *, lag(stops) over (partition by invoice_id order by seq) as is_stopped from page where stops is not null
) p
join shop.fulfilments f on f.invoice_id = p.invoice_id and f.seq < p.seq
where p.stops and not coalesce(p.is_stopped, exists (
    select from shop.reversals r
    where r.invoice_id = p.invoice_id and r.seq < p.seq and coalesce(r.settled_again_seq > p.seq, true)
))
on conflict (event_id) do nothing;

-- Paid again after a reversal, or released as paid: the same fulfilment is valid again. Nothing is shipped twice.
update shop.reversals r
set settled_again_seq = again.seq
from (
    select r.event_id, min(p.seq) as seq
    from shop.reversals r
    join page p on p.invoice_id = r.invoice_id and p.seq > r.seq
    where not p.stops
    group by r.event_id
) again
where again.event_id = r.event_id and r.settled_again_seq is null;

-- The highest transition of the page, whether it mattered or not; nothing, if the page was empty.
select railwatch.ack('fulfilment', seq, railwatch.feed_generation()) from (select max(seq) as seq from page) page_end where seq is not null;

commit;

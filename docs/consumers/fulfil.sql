-- One page of the feed, fulfilled: run it again and again, by psql or any other client.
-- It needs the tables of shop.sql, in Railwatch's database: position and effects then go back together in a failover.
begin;

-- Two copies take turns here; the later one then begins where the earlier has ended.
select railwatch.lock_consumer('fulfilment');

-- The page is put aside, so that every statement below is about the same lines. `stops`: whether a line stops a fulfilled
-- order (true), lets it go on (false), or neither. A payment that is taken back is told by the invoice's own line, by its
-- exception `reversed`, or by both; while the invoice is held by the exception alone. What goes on is what is paid: an
-- exception can also be resolved by a refund, or by a person, and then says so only of an invoice that stands paid.
create temporary table page on commit drop as
select seq, event_id, invoice_id, order_id, subject, to_state,
       case when subject = 'invoice' and to_state in ('paid', 'overpaid') then false
            when subject = 'invoice' and reason = 'reversed' and to_state <> 'late_paid' then true
            when subject = 'exception' and reason = 'reversed' and to_state = 'open' then true
            when subject = 'exception' and reason = 'reversed' and stands in ('paid', 'overpaid') then false
       end as stops
from (
    select t.*, i.order_id,
           case when t.subject = 'exception' then (
               select s.to_state from railwatch.transitions s
               where s.invoice_id = t.invoice_id and s.subject = 'invoice' and s.seq < t.seq order by s.seq desc limit 1
           ) end as stands
    from railwatch.transitions t
    left join railwatch.invoices i on i.id = t.invoice_id
    where t.seq > (select position from railwatch.consumers where name = 'fulfilment')
    order by t.seq
    limit 500
) line;

-- Paid: fulfil, once for each invoice. A row here is the order to ship; whoever ships takes what it has not shipped yet.
insert into shop.fulfilments (invoice_id, order_id, event_id, seq)
select distinct on (invoice_id) invoice_id, order_id, event_id, seq
from page
where subject = 'invoice' and to_state in ('paid', 'overpaid')
order by invoice_id, seq
on conflict (invoice_id) do nothing;

-- Reversed: stop what can be stopped, and call a person. What was never fulfilled needs nothing, nor does an invoice that
-- has lost a surplus only, and is settled as before. What is stopped already is not stopped again, by whichever line.
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

-- Paid again after a reversal, or released as paid: the same fulfilment stands again. Nothing is shipped a second time.
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

-- The highest line that was looked at, whether it mattered or not; nothing, if the page was empty.
select railwatch.ack('fulfilment', seq, railwatch.feed_generation()) from (select max(seq) as seq from page) looked_at where seq is not null;

commit;

-- One page of the feed, fulfilled: run it again and again, by psql or any other client.
-- It needs the tables of shop.sql, in Railwatch's database, and once: select railwatch.ack('fulfilment', 0);
begin;

-- Two copies take turns here; the later one then begins where the earlier has ended.
select position from railwatch.consumers where name = 'fulfilment' for update;

-- The page is put aside, so that every statement below is about the same lines.
create temporary table page on commit drop as
select t.seq, t.event_id, t.invoice_id, i.order_id, t.subject, t.to_state, t.reason
from railwatch.transitions t
left join railwatch.invoices i on i.id = t.invoice_id
where t.seq > (select position from railwatch.consumers where name = 'fulfilment')
order by t.seq
limit 500;

-- Paid: fulfil, once for each invoice. A row here is the order to ship; whoever ships takes what it has not shipped yet.
insert into shop.fulfilments (invoice_id, order_id, event_id, seq)
select distinct on (invoice_id) invoice_id, order_id, event_id, seq
from page
where subject = 'invoice' and to_state in ('paid', 'overpaid')
order by invoice_id, seq
on conflict (invoice_id) do nothing;

-- Reversed: stop what can be stopped, and call a person. What was never fulfilled needs nothing, nor does an invoice that
-- has lost a surplus only, and is settled as before.
insert into shop.reversals (event_id, invoice_id, seq)
select p.event_id, p.invoice_id, p.seq
from page p
join shop.fulfilments f on f.invoice_id = p.invoice_id and f.seq < p.seq
where p.subject = 'invoice' and p.reason = 'reversed' and p.to_state not in ('paid', 'overpaid', 'late_paid')
on conflict (event_id) do nothing;

-- Paid again after a reversal: the same fulfilment stands again. Nothing is shipped a second time.
update shop.reversals r
set settled_again_seq = again.seq
from (
    select r.event_id, min(p.seq) as seq
    from shop.reversals r
    join page p on p.invoice_id = r.invoice_id and p.seq > r.seq
    where p.subject = 'invoice' and p.to_state in ('paid', 'overpaid')
    group by r.event_id
) again
where again.event_id = r.event_id and r.settled_again_seq is null;

-- The highest line that was looked at, whether it mattered or not; nothing, if the page was empty.
select railwatch.ack('fulfilment', seq) from (select max(seq) as seq from page) looked_at where seq is not null;

commit;

-- name: rail_visibility
-- Which rails have been blind for longer than they may be, and the last registration that this delays.
select name, coalesce(covered_until, '-infinity') <= now() - blind_after as blind, now() - blind_after as upto
from railwatch.rails

-- name: every_coverage
-- Up to when each rail has been watched, and the database's clock.
select name, covered_until, now() as now from railwatch.rails

-- name: unchecked_invoices
-- Invoices that a service or an operator has moved since their exceptions were last compared with the facts.
select id from railwatch.invoices where exceptions_checked_version <> version order by id limit $1

-- name: stuck_invoices
-- Of $3 invoices that wait, after ($1, $2): which have waited for too long (`due`), and `told` ones are through. The core's
-- `stuck_deadline` says the same.
select i.id, i.state_since, told.already is null and i.state_since <= now() - waits.longest as due
from (
    select id, state_since from railwatch.invoices
    where state in ('detected', 'confirming') and (state_since, id) > ($1, $2)
      and state_since <= now() - (select min(stuck_after) from railwatch.rails)
    order by state_since, id limit $3
) i
left join lateral (
    select true as already from railwatch.exceptions e
    where e.kind = 'stuck_confirming' and e.invoice_id = i.id and e.ended_at is null limit 1
) told on true
left join lateral (
    select max((select r.stuck_after from railwatch.rails r where r.name = x.rail)) as longest
    from railwatch.detections x
    where told.already is null and x.invoice_id = i.id and x.kind = 'payment' and x.state in ('pending', 'included')
) waits on true
order by i.state_since, i.id

-- name: delayed_invoices
-- Open invoices of a blind rail that were registered after ($2, $3) and up to $4, in that order; `told` ones are through.
-- The core's `delay_deadline` says the same.
select i.id, i.created_at,
       coalesce((select true from railwatch.exceptions e
                 where e.kind = 'detection_delayed' and e.invoice_id = i.id and e.ended_at is null limit 1), false) as told
from railwatch.invoices i
where railwatch.is_open(i.state)
  and (i.created_at, i.id) > ($2, $3) and i.created_at <= $4
  and exists (select from railwatch.destinations d
              where d.invoice_id = i.id and d.rail = $1 and d.watch_state in ('registered', 'watching'))
order by i.created_at, i.id limit $5

-- name: recovered_invoices
-- Invoices whose delay is over, at a rail that sees again, unless another of their rails is still blind.
select e.invoice_id as id
from railwatch.exceptions e
where e.kind = 'detection_delayed' and e.ended_at is null
  and exists (select from railwatch.destinations d where d.invoice_id = e.invoice_id and d.rail = $1)
  and not exists (
      select from railwatch.invoices i
      join railwatch.destinations d on d.invoice_id = i.id and d.watch_state in ('registered', 'watching')
      join railwatch.rails r on r.name = d.rail
      where i.id = e.invoice_id and railwatch.is_open(i.state)
        and greatest(r.covered_until, i.created_at) <= now() - r.blind_after)
order by e.invoice_id limit $2

-- name: order_of_invoice
-- The merchant's name for an invoice.
select merchant_id || '/' || order_id from railwatch.invoices where id = $1

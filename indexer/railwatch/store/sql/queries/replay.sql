-- name: recordable_orders
-- What is watched on a rail now, the newest invoices first, for a recording to watch as well.
select i.id, i.time_basis, i.tolerance_bps, i.accept_before, i.policy,
       extract(epoch from now() - i.created_at)::float8 as age,
       extract(epoch from i.expires_at - now())::float8 as expires_in,
       d.asset, d.address, d.reference, d.expected_amount, d.policy as destination_policy
from (select * from railwatch.invoices x
      where x.closed_at is null and exists (
          select from railwatch.destinations o
          where o.invoice_id = x.id and o.rail = $1 and o.watch_state in ('registered', 'watching'))
      order by x.created_at desc, x.id limit $2) i
join railwatch.destinations d on d.invoice_id = i.id and d.rail = $1 and d.watch_state in ('registered', 'watching')
order by i.created_at desc, i.id, d.position

-- name: ledger_rail
-- A rail's cursor and state.
select name, chain_id, state, reason, cursor_height, cursor_hash, tip_height, finalized_height, finalized_hash
from railwatch.rails where name = $1

-- name: ledger_invoices
-- Every invoice and its end, without what differs from one run to the next.
select id, merchant_id, order_id, state, version, held from railwatch.invoices order by merchant_id, order_id

-- name: ledger_destinations
-- Where invoices can be paid, and what has arrived there.
select invoice_id, rail, asset, address, reference, watch_state, watch_error, covered_from, expected_amount, seen_amount,
       confirmed_amount, late_amount
from railwatch.destinations order by invoice_id, position

-- name: ledger_detections
-- Every transfer that reached a watched address.
select invoice_id, tx_id, tx_index, asset, amount, kind, state, block_height, block_hash, in_time, replaced_by, second_look
from railwatch.detections order by invoice_id, tx_id, tx_index

-- name: ledger_transitions
-- The whole feed; times are seconds since $1.
select invoice_id, extract(epoch from recorded_at - $1)::float8 as at, subject, from_state, to_state, reason, cause,
       tx_id, block_height, block_hash, confirmations, seen_amount, confirmed_amount
from railwatch.transitions order by seq

-- name: ledger_exceptions
-- Exceptions; times are seconds since $1.
select e.invoice_id, e.kind, e.severity, extract(epoch from e.opened_at - $1)::float8 as opened_at,
       extract(epoch from e.resolved_at - $1)::float8 as resolved_at, e.resolution, d.tx_id
from railwatch.exceptions e left join railwatch.detections d on d.id = e.detection_id
order by e.invoice_id, e.opened_at, e.kind, e.round

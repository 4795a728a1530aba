-- name: set_aside
-- Put an invoice into quarantine on a rail, with the reason, for at least $4 seconds.
select railwatch.set_aside($1, $2, $3, $4)

-- name: take_back
-- An invoice has caught up with its rail.
select railwatch.take_back($1, $2)

-- name: postpone
-- An invoice in quarantine failed again: try later each time, from $4 to $5 seconds.
update railwatch.quarantine
set reason = $3, tries = tries + 1, retry_at = now() + make_interval(secs => least($5, $4 * 2::float8 ^ least(tries + 1, 20)))
where rail = $1 and invoice_id = $2

-- name: retry_all
-- A daemon has just started, and may be a better one: try all that are in quarantine on its rail.
update railwatch.quarantine set retry_at = now() where rail = $1 and retry_at > now()

-- name: retriable
-- Invoices in quarantine on a rail whose turn it is to be tried again.
select invoice_id from railwatch.quarantine where rail = $1 and retry_at <= now() order by retry_at limit $2

-- name: defer_transfers
-- Keep what the chain shows for invoices in quarantine. The first sight of each stays; its block is the newest one.
insert into railwatch.deferred_transfers as known (rail, invoice_id, detection_id, tx_id, block_height, transfer)
select $1, t.* from unnest($2::uuid[], $3::uuid[], $4::text[], $5::bigint[], $6::bytea[]) as t
on conflict (invoice_id, rail, detection_id) do update
set block_height = excluded.block_height, transfer = excluded.transfer, orphaned = false
where excluded.block_height is not null or known.orphaned

-- name: defer_reorg
-- A reorg removed everything above $2, also the transfers of invoices in quarantine on its rail.
with orphaned as (
    update railwatch.deferred_transfers t set orphaned = true
    from railwatch.quarantine q
    where q.rail = $1 and t.invoice_id = q.invoice_id and t.rail = $1 and t.block_height > $2
)
update railwatch.quarantine set fork_height = least(fork_height, $2) where rail = $1

-- name: deferred_of
-- What is kept for an invoice in quarantine, in the order of the chain.
select transfer, seen_at from railwatch.deferred_transfers
where rail = $1 and invoice_id = $2 and not orphaned order by block_height nulls last, seen_at, detection_id

-- name: undone_of
-- Inclusions of an invoice in quarantine that reorgs have reversed since its quarantine began.
select x.id from railwatch.quarantine q
cross join lateral (select * from railwatch.detections where invoice_id = q.invoice_id offset 0) x
where q.rail = $1 and q.invoice_id = $2 and x.rail = $1 and x.block_height > q.fork_height
  and x.state in ('included', 'confirmed', 'final')  -- final only where a person accepted another chain

-- name: quarantined
-- Invoices in quarantine, the oldest first.
select q.rail, q.invoice_id, i.merchant_id, i.order_id, q.reason, q.since, q.tries, q.retry_at,
       (select count(*) from railwatch.deferred_transfers t
        where t.invoice_id = q.invoice_id and t.rail = q.rail and not t.orphaned) as deferred
from railwatch.quarantine q join railwatch.invoices i on i.id = q.invoice_id
where $1::uuid is null or q.invoice_id = $1
order by q.since, q.invoice_id limit $2

-- name: quarantine_counts
-- How many invoices are in quarantine, by rail.
select rail, count(*) as count from railwatch.quarantine group by rail order by rail

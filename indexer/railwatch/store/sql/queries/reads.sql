-- name: rails_status
-- How every rail is. Without a daemon that holds its lease, what a row says is history.
select r.name, r.chain_id, r.state, r.reason, r.cursor_height, r.cursor_hash, r.cursor_time, r.tip_height,
       greatest(r.tip_height - r.cursor_height, 0) as behind, r.finalized_height, r.finalized_hash, r.covered_until, r.updated_at,
       extract(epoch from now() - r.updated_at)::float8 as age, r.enabled,
       case when l.expires_at > now() then l.holder end as holder
from railwatch.rails r left join railwatch.leases l on l.rail = r.name
order by r.enabled desc, r.name

-- name: open_invoices
-- How many invoices are still watched, by state.
select state, count(*) as count from railwatch.invoices where closed_at is null group by state order by state

-- name: feed_end
-- The feed's last seq.
select railwatch.feed_end()

-- name: consumers_status
-- How far each reader of the feed has come.
select name, position, lag, waiting_since, updated_at from railwatch.consumer_lag order by name

-- name: open_exceptions
-- How many exceptions are open, by kind; the worst first.
select kind, severity, count(*) as count from railwatch.exceptions where resolved_at is null
group by kind, severity
order by array_position(array['critical', 'warning', 'info'], severity), kind

-- name: open_rescans
-- Rescans that are under way, how far they are, and why one does not get on.
select id, rail, from_height, to_height, next_height, found, requested_at, error, tries, retry_at
from railwatch.rescans where finished_at is null order by number

-- name: list_rescans
-- The newest rescans, ended ones too.
select id, rail, from_height, to_height, next_height, found, requested_at, coalesce(outcome, 'open') as outcome,
       finished_at, ended_by, error, tries, retry_at
from railwatch.rescans order by (finished_at is null) desc, number desc limit $1

-- name: list_invoices
-- The newest invoices, also of one state or one merchant, with what has arrived so far.
select i.id, i.merchant_id, i.order_id, i.state, i.state_since, i.created_at, i.expires_at, i.fiat_amount,
       i.fiat_currency, i.held,
       (select count(*) from railwatch.exceptions e where e.invoice_id = i.id and e.resolved_at is null)::int as exceptions
from railwatch.invoices i
where ($1::text is null or i.state = $1) and ($2::text is null or i.merchant_id = $2)
order by i.created_at desc, i.id limit $3

-- name: read_time
-- The database's clock, as a dossier is read.
select now()

-- name: show_invoice
-- One invoice and its terms.
select id, merchant_id, order_id, state, state_since, version, created_at, expires_at, closes_at, closed_at, settled_at,
       fiat_amount, fiat_currency, rate_locked_at, time_basis, tolerance_bps, held, metadata
from railwatch.invoices where id = $1

-- name: show_destinations
-- Where an invoice can be paid, what has arrived there, and how its rail is.
select d.id, d.position, d.rail, d.asset, a.symbol, a.decimals, d.address, d.reference, d.derivation,
       d.expected_amount, d.seen_amount, d.confirmed_amount, d.late_amount, d.watch_state, d.watch_error,
       d.covered_from, d.left_out, d.policy, d.policy_origin, r.state as rail_state, r.reason as rail_reason, r.cursor_height,
       r.covered_until
from railwatch.destinations d
join railwatch.rails r on r.name = d.rail
left join railwatch.assets a on a.rail = d.rail and a.id = d.asset
where d.invoice_id = $1 order by d.position

-- name: show_detections
-- Every transfer that was ever detected for an invoice, in its state now.
select d.id, d.destination_id, d.rail, d.asset, a.symbol, a.decimals, d.tx_id, d.tx_index, d.amount, d.state, d.kind,
       d.block_height, d.block_hash, d.block_time, d.first_seen_at, d.confirmed_at, d.in_time, d.replaced_by,
       d.maturity, d.due_basis, d.due_height, d.evidence,
       case when d.state in ('included', 'confirmed', 'final')
            then greatest(r.cursor_height - d.block_height + 1, 0) end as confirmations
from railwatch.detections d
join railwatch.rails r on r.name = d.rail
left join railwatch.assets a on a.rail = d.rail and a.id = d.asset
where d.invoice_id = $1 order by d.first_seen_at, d.rail, d.tx_id, d.tx_index

-- name: show_observations
-- Each observation of an invoice's transfers as a node reported it, in the order in which they were recorded.
select o.detection_id, o.version as observation, d.rail, d.tx_id, d.tx_index, o.state, o.block_height, o.block_hash,
       o.block_time, o.node, o.recorded_at, o.facts, o.raw
from railwatch.detections d
cross join lateral (select * from railwatch.observations where detection_id = d.id offset 0) o
where d.invoice_id = $1 order by o.recorded_at, o.detection_id, o.version

-- name: show_transitions
-- Everything that an invoice, its transfers and its exceptions went through, in the feed's order.
select seq, event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause, rail, tx_id, block_height,
       block_hash, confirmations, seen_amount, confirmed_amount, chain_time, recorded_at, evidence
from railwatch.transitions where invoice_id = $1 order by seq

-- name: show_exceptions
-- All exceptions of an invoice, oldest first.
select e.id, e.invoice_id, e.detection_id, e.kind, e.severity, e.opened_at, e.resolved_at, e.resolution, e.owner, e.notes,
       e.round, e.ended_at, e.destination_id, e.rail, e.asset, a.symbol, a.decimals, e.transfers, e.amount,
       extract(epoch from coalesce(e.resolved_at, now()) - e.opened_at)::float8 as age
from railwatch.exceptions e left join railwatch.assets a on a.rail = e.rail and a.id = e.asset
where e.invoice_id = $1 order by e.opened_at, e.kind, e.id

-- name: show_exception_transfers
-- Which transfers the exceptions of an invoice hold, and held.
select t.exception_id, t.detection_id, x.tx_id, x.tx_index, t.amount, t.joined_at, t.left_at
from railwatch.exceptions e
cross join lateral (select * from railwatch.exception_transfers where exception_id = e.id offset 0) t
join railwatch.detections x on x.id = t.detection_id
where e.invoice_id = $1 order by t.joined_at, x.tx_id, x.tx_index

-- name: show_refunds
-- What was given back of an invoice, oldest first.
select f.id, f.rail, f.asset, a.symbol, a.decimals, f.amount, f.tx_id, f.reason, f.actor, f.recorded_at
from railwatch.refunds f left join railwatch.assets a on a.rail = f.rail and a.id = f.asset
where f.invoice_id = $1 order by f.recorded_at, f.id

-- name: show_settlements
-- Where finance booked an invoice, oldest first.
select id, reference, note, actor, recorded_at
from railwatch.settlements where invoice_id = $1 order by recorded_at, id

-- name: find_orders
-- What a text may mean: an id, an order, a transaction or an address.
select found_by, invoice_id from railwatch.find_orders($1) limit 10

-- name: find_exceptions
-- The exceptions whose ids begin so.
select id from railwatch.exceptions where id::text like $1 || '%' order by resolved_at is not null, opened_at limit 10

-- name: list_exceptions
-- Exceptions, the worst and oldest first; resolved ones too if they are asked for.
select e.id, e.invoice_id, i.merchant_id, i.order_id, i.state as invoice_state, e.detection_id, e.kind, e.severity,
       e.opened_at, e.resolved_at, e.resolution, e.owner, e.notes, coalesce(e.rail, u.rail) as rail,
       coalesce(e.asset, u.asset) as asset, a.symbol, a.decimals, case when u.id is null then e.transfers else 1 end as transfers,
       coalesce(u.amount, e.amount) as amount, e.subject, e.subject_id
from railwatch.exceptions e left join railwatch.invoices i on i.id = e.invoice_id
left join railwatch.unallocated_transfers u on u.id = e.transfer_id
left join railwatch.assets a on a.rail = coalesce(e.rail, u.rail) and a.id = coalesce(e.asset, u.asset)
where ($1 or e.resolved_at is null) and ($2::text is null or e.kind = $2)
order by e.resolved_at is not null, array_position(array['critical', 'warning', 'info'], e.severity), e.opened_at, e.id
limit $3

-- name: feed_page
-- The feed after a seq, in order; nothing can be lost by asking for what comes after the last.
select seq, event_id, subject, subject_id, invoice_id, from_state, to_state, reason, cause, rail, tx_id, block_height,
       block_hash, confirmations, seen_amount, confirmed_amount, chain_time, recorded_at, evidence
from railwatch.transitions where seq > $1 order by seq limit $2

-- name: server_version
-- The server's version, as a number such as 180006.
select current_setting('server_version_num')::int

-- name: notification_queue
-- The share of the server's queue of notifications that is in use, from 0 to 1.
select pg_notification_queue_usage()

-- name: missing_roles
-- Roles that the migration was not allowed to make.
select distinct role from railwatch.rights
where not exists (select from pg_roles where rolname = role) order by role

-- name: audited_rail
-- Where a rail is, and the lowest block whose payments can still be undone.
select r.name, r.family, r.fold_case, r.cursor_height,
       (select min(block_height) from railwatch.detections
        where rail = r.name and state in ('included', 'confirmed')) as oldest
from railwatch.rails r where r.name = $1

-- name: audited_assets
-- What a rail's assets are, and below which amount a transfer moves nothing. `matched`: the daemon scans for it, because
-- the configuration has it or open orders ask for it.
select a.id, a.contract, a.min_amount,
       a.enabled or exists (
           select from railwatch.destinations d
           where d.rail = a.rail and d.asset = a.id and d.watch_state in ('registered', 'watching')) as matched
from railwatch.assets a where a.rail = $1

-- name: audited_claims
-- Transfers that are said to be in a block of a range.
select x.id, x.invoice_id, i.merchant_id, i.order_id, x.tx_id, x.tx_index, x.asset, x.amount, x.state, x.block_height,
       x.block_hash, d.address_key
from railwatch.detections x
join railwatch.destinations d on d.id = x.destination_id
join railwatch.invoices i on i.id = x.invoice_id
where x.rail = $1 and x.block_height between $2 and $3 and x.state in ('included', 'confirmed', 'final')
order by x.block_height, x.tx_id, x.tx_index

-- name: audited_sightings
-- What is known of some transactions, whatever became of them.
select tx_id, tx_index, state, block_height from railwatch.detections where tx_id = any ($2::text[]) and rail = $1

-- name: audited_owners
-- Who waits for money at some addresses.
select d.id, d.invoice_id, i.merchant_id, i.order_id, d.rail, d.asset, d.reference, d.address_key, d.covered_from,
       d.left_out, d.accepts_from, d.tip_at_creation, i.created_at, i.closed_at is null as open
from unnest($2::bytea[]) as t (key)
cross join lateral (select * from railwatch.destinations where family = $1 and address_key = t.key offset 0) d
join railwatch.invoices i on i.id = d.invoice_id
where d.watch_state = 'watching'

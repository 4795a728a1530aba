-- name: call_create_invoice
-- Register an invoice.
select railwatch.create_invoice($1)

-- name: call_cancel_invoice
-- Withdraw an invoice.
select railwatch.cancel_invoice($1, $2, $3)

-- name: call_request_rescan
-- Ask for blocks to be looked through again.
select railwatch.request_rescan($1, $2, $3)

-- name: asset_decimals
-- Decimals of an enabled asset, by its symbol or CAIP-19 id, as create_invoice understands it.
select a.decimals from railwatch.assets a join railwatch.rails r on r.name = a.rail
where a.rail = $1 and a.enabled
  and (a.symbol = $2 or a.id = $2 or (r.fold_case and lower(a.id) = lower($2)))

-- name: watch_states
-- Whether an invoice's destinations are watched yet.
select rail, address, watch_state, watch_error from railwatch.destinations where invoice_id = $1 order by position

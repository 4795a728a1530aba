-- name: call_create_invoice
-- Register an invoice.
select railwatch.create_invoice($1)

-- name: call_cancel_invoice
-- Withdraw an invoice.
select railwatch.cancel_invoice($1, actor => $2, note => $3, cause => $4)

-- name: call_hold_invoice
-- Hold an invoice.
select railwatch.hold_invoice($1, actor => $2, reason => $3, cause => $4)

-- name: call_release_invoice
-- End a hold.
select railwatch.release_invoice($1, actor => $2, reason => $3, cause => $4)

-- name: call_record_refund
-- Record what was given back.
select railwatch.record_refund($1, $2, $3, actor => $4, reason => $5, rail => $6, asset => $7, cause => $8)

-- name: call_record_settlement
-- Record where finance booked an invoice.
select railwatch.record_settlement($1, $2, actor => $3, note => $4, cause => $5)

-- name: call_resolve_exception
-- Close an exception by a person's word.
select railwatch.resolve_exception($1, actor => $2, resolution => $3, note => $4, cause => $5, verdict => $6)

-- name: call_annotate_exception
-- Set an exception's owner, or add a note.
select railwatch.annotate_exception($1, actor => $2, note => $3, owner => $4)

-- name: call_request_rescan
-- Request a rescan of blocks.
select railwatch.request_rescan($1, $2, $3)

-- name: call_cancel_rescan
-- End a rescan that is under way.
select railwatch.cancel_rescan($1, $2, $3)

-- name: call_accept_chain
-- Let a halted rail follow the other chain.
select railwatch.accept_chain($1, $2, $3, $4, $5, $6)

-- name: call_resume_rail
-- Let a halted rail go on.
select railwatch.resume_rail($1, $2, $3)

-- name: asset_decimals
-- Decimals of an enabled asset, by its symbol or CAIP-19 id, as create_invoice understands it.
select a.decimals from railwatch.assets a join railwatch.rails r on r.name = a.rail
where a.rail = $1 and a.enabled
  and (a.symbol = $2 or a.id = $2 or (r.fold_case and lower(a.id) = lower($2)))

-- name: watch_states
-- Whether an invoice's destinations are watched yet.
select rail, address, watch_state, watch_error from railwatch.destinations where invoice_id = $1 order by position

-- name: call_rename_rail
-- Give a rail another name, with all that belongs to it.
select railwatch.rename_rail($1, $2)

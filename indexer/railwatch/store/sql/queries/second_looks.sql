-- name: due_second_looks
-- Transfers that are read a second time before they are told final, and when that is due.
select id, replace(due_basis, 'look_', '') as basis, due_height from railwatch.detections
where rail = $1 and due_basis in ('look_depth', 'look_finalized', 'finalized')

-- name: second_look_claims
-- What is known of transfers that are to be read a second time, and the node that told of them in the block that holds them
-- now: evidence has the one that told first, in whichever block.
select x.id, x.tx_id, x.tx_index, x.asset, x.amount, x.block_height, x.block_hash, d.address_key,
       coalesce(told.node, x.evidence ->> 'node') as node
from railwatch.detections x
join railwatch.destinations d on d.id = x.destination_id
left join lateral (
    select o.node from railwatch.observations o
    where o.detection_id = x.id and o.block_hash = x.block_hash order by o.version desc limit 1) told on true
where x.id = any ($1) and x.state not in ('pending', 'final', 'orphaned', 'replaced', 'dropped') and x.looked_at_block is distinct from x.block_hash

-- name: save_second_looks
-- What the second look said, if the transfer is still in the block that was read. What passed is due like anything else.
update railwatch.detections x
set second_look = t.said, looked_at_block = t.block_hash, evidence = x.evidence || t.evidence,
    due_basis = case when t.said <> 'mismatch' then replace(x.due_basis, 'look_', '') end,
    due_height = case when t.said <> 'mismatch' then x.due_height end
from unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[]) as t (id, said, block_hash, evidence)
where x.id = any ($1) and x.id = t.id and x.state not in ('pending', 'final', 'orphaned', 'replaced', 'dropped')
  and x.block_hash = t.block_hash
returning x.invoice_id

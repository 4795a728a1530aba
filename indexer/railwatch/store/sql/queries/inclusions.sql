-- name: inclusion_blocks
-- Blocks with inclusions that are not final: above $2, which no reorg may pass, and below it where they count for nothing yet.
select block_height as height, block_hash as hash from railwatch.detections
where rail = $1 and state in ('included', 'confirmed') and (block_height > $2 or state = 'included')
union
select block_height, block_hash from railwatch.unallocated_transfers
where rail = $1 and state in ('included', 'confirmed')
order by height

-- name: inclusions_in
-- Inclusions in those blocks that can be taken back.
select x.id, x.invoice_id from unnest($2::bigint[], $3::text[]) as t (height, hash)
cross join lateral (
    select * from railwatch.detections
    where rail = $1 and block_height = t.height and state in ('included', 'confirmed') offset 0) x
where x.block_hash = t.hash

"""Which transfers the tables must have at the end of a story: what the chain pays, and nothing else."""

from collections import defaultdict
from collections.abc import Mapping
from itertools import chain
from typing import Any
from uuid import UUID

from railwatch.store.database import Row
from railwatch_fake import address
from tests.model.acts import Dispute, Order
from tests.model.tables import IN_BLOCK, LIVE, SLACK, Tables
from tests.model.truth import LEAST, Credit
from tests.model.world import World


def _is_no_payment(credit: Credit, dispute: Any) -> bool:
    return credit.out.amount < LEAST or (dispute is not None and dispute.verdict == "rejected")


def _discard_unsupported(live: dict[tuple[str, str], list[Row]], credit: Credit) -> None:
    """Accept dust of an asset that was not configured when its block was read: it had no least amount."""
    if {row["kind"] for row in live.get(credit.key, ())} == {"unsupported_asset"}:
        live.pop(credit.key)


def inclusion_differences(world: World, tables: Tables, rescanned: bool) -> list[str]:
    """Each credit to a registered address is one live detection, with the chain's content; and nothing else is live."""
    wrong = []
    registered = {address.parse(order.address).key: order for order in world.acts.orders}
    keys = {row["id"]: row["address_key"] for rows in tables.destinations.values() for row in rows}
    live: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
    for rows in tables.detections.values():
        for row in rows:
            if row["state"] in LIVE:
                live[row["tx_id"], row["tx_index"].split("@")[0]].append(row)
    for side in world.sides:
        for credit in side.truth.credits():
            if (key := credit.out.to) not in registered:
                continue
            dispute = dispute_about(world, credit)
            if _is_no_payment(credit, dispute):
                _discard_unsupported(live, credit)
                continue  # Any other detection of it is left over below.
            found = live.pop(credit.key, [])
            if not found and _may_be_missed(world, tables, key, credit):
                continue
            if not found and not rescanned and not _is_promised(world, tables, key, credit):
                continue
            if [_content(row, keys) for row in found] != [_content_of(world, credit)]:
                said = [_content(row, keys) for row in found]
                wrong.append(f"credit {credit.key[0][:8]} {credit.key[1]}: {_content_of(world, credit)}; told: {said}")
    for (tx, index), rows in live.items():
        wrong.append(f"credit {tx[:8]} {index} is not on the chain; told: {[_content(row, keys) for row in rows]}")
    return wrong


def dispute_about(world: World, credit: Credit) -> Dispute | None:
    """What a second look found of the credit in its block; None: nothing."""
    return world.acts.disputed.get((*credit.key, credit.block.hash)) if credit.block else None


def _content(row: Row, keys: Mapping[UUID, bytes]) -> tuple[Any, ...]:
    in_block = row["state"] in IN_BLOCK
    place = (row["block_height"], row["block_hash"][:8]) if in_block else ("waits",)
    return *place, int(row["amount"]), row["asset"], (keys[row["destination_id"]] or b"").hex()[:8]


def _content_of(world: World, credit: Credit) -> tuple[Any, ...]:
    place = (credit.block.height, credit.block.hash[:8]) if credit.block else ("waits",)
    asset = world.side_of(credit.rail).asset(credit.out.token)
    return *place, credit.out.amount, asset, credit.out.to.hex()[:8]


def _may_be_missed(world: World, tables: Tables, key: bytes, credit: Credit) -> bool:
    """Nobody looks any more once every invoice of the address is closed, except for what was on its way then."""
    if any(_was_on_its_way(tables, row) for row in chain(*tables.detections.values()) if row["tx_id"] == credit.tx.id):
        return False
    ends = [
        tables.invoices[order.id]["closes_at"]
        for order in world.acts.orders
        if address.parse(order.address).key == key and tables.invoices[order.id]["closed_at"] is not None
    ]
    open_ones = [
        order
        for order in world.acts.orders
        if address.parse(order.address).key == key
        and tables.invoices[order.id]["closed_at"] is None
        and (
            credit.block is None
            or credit.rail not in order.policies
            or any(start <= credit.block.height for start in _starts(world, tables, order, credit.rail))
        )
    ]
    when = credit.block.time if credit.block else world.clock.now()
    return not open_ones and all(when > end - SLACK for end in ends)


def _was_on_its_way(tables: Tables, row: Row) -> bool:
    """Whether the transfer was known, and could come about or be undone, when its invoice was closed."""
    closed = tables.invoices[row["invoice_id"]]["closed_at"]
    states = [
        line["to_state"]
        for line in tables.told[row["invoice_id"]]
        if line["subject_id"] == row["id"] and closed is not None and line["recorded_at"] < closed
    ]
    return states[-1:] in (["pending"], ["included"], ["confirmed"])


def _is_promised(world: World, tables: Tables, key: bytes, credit: Credit) -> bool:
    """Whether the credit is of what a watch began with, or later, so that nobody has to ask for a rescan."""
    acts = world.acts
    orders = [order for order in acts.orders if address.parse(order.address).key == key]
    gold = world.sides[0].gold
    if credit.out.token and acts.was_without_gold and not any(gold in order.asks for order in orders):
        return False
    # On another rail of the family an address is looked for in that rail's own time.
    since = [start for order in orders for start in _starts(world, tables, order, credit.rail)]
    return credit.block is None or credit.block.height >= min(since, default=credit.block.height + 1)


def _starts(world: World, tables: Tables, order: Order, rail: str) -> list[int]:
    """The heights from which a rail looks at the order's address for this order: what a watch says, and is known."""
    starts = [
        row["covered_from"]
        for row in tables.destinations[order.id]
        if row["rail"] == rail and row["watch_state"] == "watching" and row["covered_from"] is not None
    ]
    # What was watched by a moment was looked back for from the cursor of an earlier one.
    if (watched_at := world.acts.watched_at.get((order.id, rail))) is not None:
        starts.append(watched_at - world.side_of(rail).chain.rules.lookback + 1)
    return starts


def lost_differences(world: World, tables: Tables) -> list[str]:
    """What lost its coins to another transaction is replaced by that one, and not only dropped."""
    takers = {
        coin: tx.id for side in world.sides for block in side.chain.line for tx in block.txs for coin in tx.spends
    }
    wrong = []
    for rows in tables.detections.values():
        for row in rows:
            lost = world.side_of(row["rail"]).chain.txs.get(row["tx_id"])
            if lost is None:
                continue  # A node made it up: `inclusion_differences` says so if somebody believed it.
            rivals = {takers.get(coin) for coin in lost.spends} - {None, lost.id}
            told = row["replaced_by"] if row["state"] == "replaced" else None
            # It stays replaced by the first that took its coins, though another one took them from that one.
            by = world.side_of(row["rail"]).chain.txs.get(told) if told else None
            if rivals and (by is None or set(by.spends).isdisjoint(lost.spends)):
                wrong.append(f"{row['tx_id'][:8]} lost its coins to {rivals}, and is {row['state']} by {told}")
    return wrong

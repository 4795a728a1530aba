"""What the feed told while it happened: no gap, no torn history, and nothing that was not true at that moment."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import timedelta
from itertools import pairwise
from uuid import UUID

from railwatch.store.database import Row
from tests.model.setting import LATE_BLOCKS, RAIL
from tests.model.side import STALL_AFTER
from tests.model.tables import DEEP, IN_BLOCK, SETTLED, SLACK, Tables
from tests.model.truth import Truth
from tests.model.world import World

AT_ONCE = timedelta(seconds=1)
"""What the clocks of the chain and of the database may differ by: far less than two blocks are apart."""


def feed_differences(world: World, tables: Tables) -> list[str]:
    """A gapless feed, connected histories, unique events, and nothing told too early."""
    wrong = [f"lease: more than one daemon has moved the cursor under epoch {epoch}" for epoch in tables.shared]
    seqs = [line["seq"] for line in tables.lines]
    wrong += _misread(world, tables)
    if seqs != list(range(1, len(seqs) + 1)):
        wrong.append(f"feed: seqs are {seqs[:3]} ... {seqs[-3:]}, {len(seqs)} of them")
    subjects: defaultdict[tuple[str, UUID], list[Row]] = defaultdict(list)
    for line in tables.lines:
        if line["subject"] in ("invoice", "detection", "exception"):
            subjects[line["subject"], line["subject_id"]].append(line)
    for name, lines in subjects.items():
        for before, after in pairwise(lines):
            if before["to_state"] != after["from_state"]:
                wrong.append(f"feed: {name} is torn at seq {after['seq']}")
    for line in tables.lines:
        said = tuple(line[each] for each in ("subject", "subject_id", "from_state", "to_state", "reason", "block_hash"))
        if world.told.setdefault(line["event_id"], said) != said:
            wrong.append(f"feed: event {line['event_id']} once said {world.told[line['event_id']]}, and now {said}")
        wrong += early_differences(world, tables, line)
    wrong += _unlike_its_rows(tables, subjects)
    for invoice, row in tables.invoices.items():
        last = [line["to_state"] for line in tables.told.get(invoice, ()) if line["subject"] == "invoice"]
        if last[-1:] != [row["state"]]:
            wrong.append(f"feed: invoice {invoice} is {row['state']}, and the feed said {last}")
    return wrong


def _unlike_its_rows(tables: Tables, subjects: Mapping[tuple[str, UUID], list[Row]]) -> Iterable[str]:
    """What the feed told last of a transfer and of an exception is what its row says."""
    told = {key: lines[-1]["to_state"] for key, lines in subjects.items()}
    rows = {("detection", row["id"]): row["state"] for some in tables.detections.values() for row in some}
    standing = [row for some in tables.standing.values() for row in some]
    rows |= {("exception", row["id"]): "resolved" if row["resolved"] else "open" for row in standing}
    for key, state in rows.items():
        if told.get(key) != state:
            yield f"feed: {key[0]} {key[1]} is {state}, and the feed said {told.get(key)}"
    for key, state in told.items():
        if key[0] == "exception" and state == "open" and key not in rows:
            yield f"feed: exception {key[1]} is over, and the feed never said so"


def _misread(world: World, tables: Tables) -> Iterable[str]:
    """What consumers elsewhere keep is the feed's beginning."""
    lines = [(line["seq"], line["event_id"]) for line in tables.lines]
    for reader in world.readers:
        if reader.lines != lines[: len(reader.lines)]:
            yield f"feed: a consumer has read {len(reader.lines)} lines, of which some are not those of the feed"


def early_differences(world: World, tables: Tables, line: Row) -> Iterable[str]:
    """What must never be told, even for a moment: more than the true chain ever showed, or anything while blind."""
    state, block = line["to_state"], line["block_hash"]
    side = world.side_of(line["rail"] or RAIL)
    if line["subject"] == "detection" and state in DEEP:
        deep = side.truth.depth(block, line["recorded_at"] + AT_ONCE)
        needed = side.final_depth if state == "final" else _needed_depth(world, tables, line)
        if deep < needed:
            yield f"early: seq {line['seq']} told {state} of block {block[:8]}, no more than {deep} deep by then"
    if line["subject"] == "detection" and state == "dropped" and not (world.lagged or world.lied):
        gone = side.truth.absent_at.get(line["tx_id"])
        if gone is None or gone > line["recorded_at"] + SLACK:
            yield f"early: seq {line['seq']} told that {line['tx_id'][:8]} is dropped, which has always been there"
    if line["subject"] == "invoice" and state == "expired":
        yield from _hasty_expiry(world, tables, line)
    age = _age_of_tip(world, line)
    noticed = not any(since <= line["recorded_at"] <= until for since, until in world.unnoticed)
    if _is_promotion(line) and noticed and age > STALL_AFTER + SLACK.total_seconds():
        yield f"blind: seq {line['seq']} told {line['subject']} {state} when the newest block was {age:.0f} s old"


def _age_of_tip(world: World, line: Row) -> float:
    """How old the newest block was where the line comes from; a window that is over was read to its end by any rail."""
    asked = {rail for order in world.acts.orders if order.id == line["invoice_id"] for rail in order.policies}
    rails = {line["rail"]} if line["rail"] else asked or {RAIL}
    return min(world.side_of(rail).truth.age_of_tip(line["recorded_at"]) for rail in rails)


def _hasty_expiry(world: World, tables: Tables, line: Row) -> Iterable[str]:
    """A window that is told to be over has no payment in a block of its time that was there to be read."""
    invoice = line["invoice_id"]
    covered = {row["id"]: row["covered_from"] or 0 for row in tables.destinations[invoice]}
    first: dict[UUID, int] = {}
    for each in tables.told[invoice]:
        first.setdefault(each["subject_id"], each["seq"])
    for row in tables.detections.get(invoice, ()):
        truth = world.side_of(row["rail"]).truth
        block = truth.contents.get(row["block_hash"] or "")
        if (
            row["kind"] == "payment" and row["in_time"] and row["state"] in IN_BLOCK and block is not None
            and block.height >= covered.get(row["destination_id"], 0)
            and block.time <= tables.invoices[invoice]["expires_at"] - AT_ONCE
            and _was_awaited(truth, tables, line, block.hash)
            and first.get(row["id"], 0) > line["seq"]
        ):  # fmt: skip
            yield f"early: seq {line['seq']} told expired, and {row['tx_id'][:8]} was in block {block.height} in time"


def _was_awaited(truth: Truth, tables: Tables, line: Row, block: str) -> bool:
    """Return True if the window was over, by the feed, after the block could be read or before the margin for it was.

    A daemon that reads another branch for a moment is right to end the window by what that branch holds.
    """
    invoice, recorded = tables.invoices[line["invoice_id"]], line["recorded_at"]
    # What counts by its first sight waits for no late block where it can be seen before.
    margin = LATE_BLOCKS if invoice["time_basis"] != "first_seen" or not truth.chain.rules.mempool else timedelta()
    was_readable = truth.depth(block, recorded - AT_ONCE) > 0 and not truth.was_absent(
        block, recorded - AT_ONCE, recorded
    )
    return was_readable or recorded < invoice["expires_at"] + margin - AT_ONCE


def _is_promotion(line: Row) -> bool:
    """Whether the line says more than before; a state may also come back when something else was lost."""
    if line["cause"] not in ("chain", "clock") or line["reason"] in ("reversed", "orphaned", "replaced", "dropped"):
        return False
    if line["subject"] == "detection":
        return line["to_state"] in DEEP
    return line["subject"] == "invoice" and line["to_state"] in SETTLED | {"expired"}


def kind_then(tables: Tables, line: Row) -> str | None:
    """Return the kind that a transfer had when ``line`` was recorded; a later block may have made it another."""
    later = (each for each in tables.told[line["invoice_id"]] if each["seq"] > line["seq"])
    was = (each["evidence"].get("kind_was") for each in later if each["subject_id"] == line["subject_id"])
    now = {row["id"]: row["kind"] for row in tables.detections.get(line["invoice_id"], ())}
    return next((kind for kind in was if kind), now.get(line["subject_id"]))


def _needed_depth(world: World, tables: Tables, line: Row) -> int:
    """How deep a block has to be for what it pays to be confirmed."""
    side = world.side_of(line["rail"])
    block = side.truth.contents.get(line["block_hash"])
    ripe = max((tx.maturity for tx in (block.txs if block else ()) if tx.id == line["tx_id"]), default=1)
    if kind_then(tables, line) != "payment":
        return ripe
    policy = next(row["policy"] for row in tables.destinations[line["invoice_id"]] if row["rail"] == line["rail"])
    if isinstance(policy, list):
        return ripe  # Somebody has spoilt it.
    return max(ripe, side.final_depth if policy.get("finalized") else int(policy["confirmations"]))

"""What must come out of a tale: its end, the sums by an oracle, and a connected feed."""

from collections.abc import Collection
from datetime import datetime
from itertools import pairwise
from uuid import UUID

from railwatch.core.assessment import accepted_range
from railwatch.core.model import Invoice, Refunded
from railwatch.core.policy import Policy
from railwatch.core.states import CONFIRMED_STATES, MANUAL_END, SETTLED_STATES, DetectionState, InvoiceState
from railwatch.rail.types import BlockRef, Transfer
from tests.core.builders import minute
from tests.core.story import Story
from tests.core.tales import Terms
from tests.core.tellings import Telling, detections, name_of


def outcome(story: Story) -> dict[str, object]:
    """The ledger's end: states, sums, and where each live transfer is."""
    ends: dict[str, object] = {}
    for each in story.invoices.values():
        ends[f"invoice {each.id}"] = each.state.value
        for way in each.destinations:
            ends[f"destination {way.id}"] = (way.seen, way.confirmed, way.late)
    for each in detections(story):
        if each.live:
            ends[f"transfer {each.id}"] = (each.state.value, each.kind.value, each.block_height, each.amount)
    return ends


def oracle(
    story: Telling, terms: Terms, unexpected: Collection[tuple[str, str]] = ()
) -> dict[UUID, tuple[int, int, int]]:
    """Seen, confirmed and late, by destination, from the canonical chain and the mempool alone.

    ``unexpected``: transfers that came when nothing was expected any more.
    """
    cursor = story.blocks[-1].height
    sums = {way.id: [0, 0, 0] for each in story.invoices.values() for way in each.destinations}
    policies = {way.id: way.policy for each in story.invoices.values() for way in each.destinations}
    asset_of = {way.id: way.asset for each in story.invoices.values() for way in each.destinations}
    first_seen = {name_of(each): each.first_seen_at for each in detections(story)}

    def add(transfer: Transfer, block: BlockRef | None) -> None:
        way = UUID(bytes=transfer.to)
        if transfer.asset != asset_of[way] or name_of(transfer) in unexpected:
            return
        confirmed_at = None if block is None else met_at(story, policies[way], block, transfer)
        moment = {
            "first_seen": first_seen[name_of(transfer)],
            "block_time": block.time if block else story.now,
            "confirmed": confirmed_at or story.now,
        }[terms.basis]
        in_time = moment <= minute(terms.expires)
        sums[way][0 if in_time else 2] += transfer.amount
        sums[way][1] += transfer.amount if in_time and confirmed_at else 0

    for block in story.blocks:
        for transfer in story.content[block.hash]:
            add(transfer, block)
    for each in detections(story):
        if each.state is DetectionState.PENDING:
            to = each.destination_id.bytes
            add(Transfer(each.tx_id, each.tx_index, to, each.asset, each.amount, None), None)
    assert all(each.block_height <= cursor for each in detections(story) if each.state in CONFIRMED_STATES)
    return {way: (seen, confirmed, late) for way, (seen, confirmed, late) in sums.items()}


def met_at(story: Telling, policy: Policy, block: BlockRef, transfer: Transfer) -> datetime | None:
    """When a transfer in ``block`` had met its policy; None where it has not. Finality has no time of its own."""
    if policy.confirmations is not None:
        return story.deep_at.get((*name_of(transfer), block.hash))
    if story.finalized < block.height + max(policy.plus, transfer.maturity - 1):
        return None
    return next(each.confirmed_at for each in detections(story) if name_of(each) == name_of(transfer))


def check_feed(story: Story) -> None:
    """Connected, unique, and never `paid` for less than was asked."""
    told: dict[UUID, list[tuple[str | None, str]]] = {}
    for line in story.feed:
        told.setdefault(line.subject_id, []).append((line.from_state, line.to_state))
    for lines in told.values():
        assert all(before[1] == after[0] for before, after in pairwise(lines)), lines
    assert len({line.event_id for line in story.feed}) == len(story.feed)
    for each in detections(story):
        assert told[each.id][0][0] is None
        assert told[each.id][-1][1] == each.state
    for each in story.invoices.values():
        lines = told.get(each.id, [("", InvoiceState.CREATED)])
        assert lines[-1][1] == each.state
        for line in story.lines(each):
            least = min(accepted_range(way.expected, each.tolerance_bps)[0] for way in each.destinations)
            if line.to_state in (InvoiceState.PAID, InvoiceState.OVERPAID):
                assert line.confirmed_amount is not None
                assert line.confirmed_amount >= least
        check_paid(each)
        standing = [
            (record.kind, record.group or record.detection_id)
            for record in story.cases[each.id]
            if record.resolution is None
        ]
        assert len(set(standing)) == len(standing)


def check_paid(each: Invoice) -> None:
    bounds = [(way, accepted_range(way.expected, each.tolerance_bps)[0]) for way in each.destinations]
    if each.state in (InvoiceState.PAID, InvoiceState.OVERPAID):
        assert any(way.confirmed >= least for way, least in bounds)
    elif each.state not in SETTLED_STATES | MANUAL_END:
        for way, least in bounds:
            # What was given back is not there, unless it was given back by choice out of a settled order.
            back = each.refunded.get((way.rail, way.asset), Refunded(0))
            assert way.confirmed < least or way.confirmed - back.amount < least - back.waived

"""What people and services do to an invoice of a story, as the functions of the contract do it: no more, no less."""

from dataclasses import replace

from railwatch.core.assessment import accepted_range, assess
from railwatch.core.ids import derived_id
from railwatch.core.model import Destination, Invoice, Refunded, Transition
from railwatch.core.states import INVOICE_MOVES, SETTLED_STATES, InvoiceState, Kind, check_invoice_move
from railwatch.rail.types import AssetId
from tests.core.builders import COIN
from tests.core.story import Story

CUSTOMERS = (Kind.PAYMENT, Kind.UNEXPECTED)
"""What was sent for the order, as against by mistake."""


def hold(story: Story, about: Invoice) -> None:
    """Hold it; twice is harmless."""
    if about.state is not InvoiceState.FLAGGED:
        _move(story, about, InvoiceState.FLAGGED, "held")


def release(story: Story, about: Invoice) -> None:
    """End the hold: the state is what the facts demand by now."""
    if about.state is InvoiceState.FLAGGED:
        _move(story, about, _without_hold(story, about), "released")


def cancel(story: Story, about: Invoice) -> bool:
    """Withdraw it; False where that is refused. A hold is no way around the rule."""
    stands = _without_hold(story, about) if about.state is InvoiceState.FLAGGED else about.state
    may = stands is InvoiceState.CANCELLED or InvoiceState.CANCELLED in INVOICE_MOVES[stands]
    if may and about.state is not InvoiceState.CANCELLED:
        _move(story, about, InvoiceState.CANCELLED, "cancelled")
    return may


def refund(story: Story, about: Invoice, asset: AssetId = COIN, amount: int | None = None) -> bool:
    """Give back of an asset that had come and is not refunded yet, by default all; False where that is refused."""
    came = (each for each in story.detections[about.id].values() if each.block_height is not None)
    before = about.refunded.get((story.rail, asset), Refunded(0))
    left = sum(each.amount for each in came if each.asset == asset) - before.amount
    amount = left if amount is None else amount
    if not 0 < amount <= left:
        return False
    surplus, waived = given_back(story, about, asset, amount)
    total = Refunded(before.amount + amount, before.surplus + surplus, before.waived + waived)
    refunded = {**about.refunded, (story.rail, asset): total}
    whole, of_payments = _is_refunded(story, about, refunded)
    moves = whole and InvoiceState.REFUNDED in INVOICE_MOVES[about.state]
    if whole and of_payments and not moves and about.state is not InvoiceState.REFUNDED:
        return False
    about.refunded = refunded
    if moves:
        _move(story, about, InvoiceState.REFUNDED, "refunded")
    story.looks_at_cases()
    return True


def given_back(story: Story, about: Invoice, asset: AssetId, amount: int) -> tuple[int, int]:
    """Of a settled order: how much of it was more than was asked for, and how much is given back by choice."""
    stands = _without_hold(story, about) if about.state is InvoiceState.FLAGGED else about.state
    ways = [(way, _excess(story, about, way)) for way in about.destinations]
    met = [((way.rail, way.asset) == (story.rail, asset), excess) for way, excess in ways if excess is not None]
    # A way that was paid in time comes before one that was paid late, as it does where the state is judged.
    _, excess = max((each for is_here, each in met if is_here), default=(False, -1))
    if stands not in SETTLED_STATES or excess < 0:
        return 0, 0
    surplus = min(amount, excess)
    is_met_elsewhere = any(each >= 0 for is_here, (_, each) in met if not is_here)
    return surplus, 0 if is_met_elsewhere else amount - surplus


def _excess(story: Story, about: Invoice, way: Destination) -> tuple[bool, int] | None:
    """How much more is there than that way to pay asks for, but for what was waived; None where it was not paid.

    Before it: whether that way was paid in time, and has what it asks for.
    """
    least, _ = accepted_range(way.expected, about.tolerance_bps)
    known = [
        each
        for each in story.detections[about.id].values()
        if (each.rail, each.asset) == (way.rail, way.asset) and each.counted
    ]
    arrived = [each for each in known if each.destination_id == way.id and each.kind is Kind.PAYMENT]
    before = about.refunded.get((way.rail, way.asset), Refunded(0))
    excess = sum(each.amount for each in known) - before.amount + before.waived - least
    in_time = sum(each.amount for each in arrived if each.in_time) >= least and excess >= 0
    return (in_time, excess) if sum(each.amount for each in arrived) >= least else None


def _is_refunded(story: Story, about: Invoice, refunded: dict[tuple[str, AssetId], Refunded]) -> tuple[bool, bool]:
    """Whether nothing of the customer's is left, and whether that is about payments."""
    known = [each for each in story.detections[about.id].values() if each.kind is not Kind.UNSUPPORTED_ASSET]
    of_payments = any(each.kind in CUSTOMERS for each in known)
    due: dict[tuple[str, AssetId], int] = {}
    for each in known:
        if (each.kind in CUSTOMERS) is of_payments:
            asset = (each.rail, each.asset)
            due[asset] = due.get(asset, 0) + (each.amount if each.live else 0)
    left = any(amount > refunded.get(asset, Refunded(0)).amount for asset, amount in due.items())
    return bool(set(due) & set(refunded)) and not left, of_payments


def _without_hold(story: Story, about: Invoice) -> InvoiceState:
    facts = story.detections[about.id].values()
    return assess(replace(about, held=None), facts, story.coverage(), story.now)


def _move(story: Story, about: Invoice, target: InvoiceState, reason: str) -> None:
    """Move it by the table of moves, with its line in the feed; then the daemon compares the exceptions."""
    check_invoice_move(about.state, target)
    about.version += 1
    identity = derived_id(f"act/{about.id}/{about.version}")
    confirmed = max(way.confirmed for way in about.destinations)
    line = Transition(identity, "invoice", about.id, about.id, about.state, target, reason, "operator")
    story.feed.append(replace(line, confirmed_amount=confirmed))
    is_held = target is InvoiceState.FLAGGED
    about.held, about.held_from = (reason, about.state) if is_held else (None, None)
    about.state, about.state_since = target, story.now
    if target in SETTLED_STATES and about.settled_at is None:
        about.settled_at = story.now
    story.looks_at_cases()

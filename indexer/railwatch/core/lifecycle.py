"""One invoice's book: what changed for it in a step, and every line that the feed must carry because of that.

A step goes through at most three chapters: what a reorg took away, what was sighted, what became due. Each changes
detections first and then settles the invoice, so that a payment is always told as `confirming` before it is `paid`,
and a reorg as a loss before what the new branch brings, however many blocks one step took.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from railwatch.core.aggregate import Book, Moment
from railwatch.core.assessment import Received, is_in_time, judge, standing
from railwatch.core.evidence import Content, of_depth, of_loss, of_sighting
from railwatch.core.exception_rules import MOST_UNSUPPORTED
from railwatch.core.model import Coverage, Detection, Observation
from railwatch.core.payment_exceptions import settle_cases
from railwatch.core.policy import Policy, final_at
from railwatch.core.states import (
    ENDED,
    GIVEN_UP,
    IN_BLOCK,
    INVOICE_MOVES,
    SETTLED,
    STICKY,
    DetectionState,
    IllegalMove,
    InvoiceState,
    Kind,
)
from railwatch.core.thresholds import met_at
from railwatch.core.transitions import Cause, move_detection, move_invoice


def orphan(book: Book, orphaned: Iterable[UUID], moment: Moment) -> None:
    """Take back inclusions whose blocks are no longer on the chain (HAZARDS B3, B4)."""
    gone = [book.detections[each] for each in orphaned]
    for detection in gone:
        if detection.state is DetectionState.FINAL and not moment.accepts_chain:
            raise IllegalMove("a detection cannot go from final to orphaned: nobody has accepted another chain")
        move_detection(book, detection, DetectionState.ORPHANED, "orphaned", of_loss(detection, moment), moment)
        detection.confirmed_at = None
    _settle(book, moment, "chain", gone=gone)


def sight(book: Book, sightings: Sequence[Detection], moment: Moment) -> None:
    """Take in transfers as they were seen now: new ones, ones that are back, ones that reached a block."""
    moved = [each.id for each in sightings if _is_elsewhere(book.detections.get(each.id), each)]
    if moved:
        orphan(book, moved, moment)
    stands = standing(book.invoice, book.received)
    seen = [news for news in (_take_in(book, sighting, stands) for sighting in sightings) if news is not None]
    policies = book.policies
    for detection, was in seen:
        if not _found_final(detection, policies, moment):
            reason = "seen" if detection.block_hash is None else "included"
            grounds = of_sighting(detection, was)
            move_detection(book, detection, detection.state, reason, grounds, moment)
    _settle(book, moment, "chain", through=seen[-1][0] if seen else None)


def _is_elsewhere(known: Detection | None, sighting: Detection) -> bool:
    """Whether an inclusion that could still be undone is in another block of the chain now."""
    return (
        known is not None
        and known.state in (DetectionState.INCLUDED, DetectionState.CONFIRMED)
        and sighting.block_hash not in (None, known.block_hash)
    )


def _take_in(book: Book, sighting: Detection, stands: InvoiceState) -> tuple[Detection, Content] | None:
    """Merge a sighting into what is known of the same transfer, and return that with what it had been before.

    None where the sighting says nothing new. What a transaction pays may depend on the block that it is in, so that the
    content is taken anew with each inclusion (HAZARDS E25), and so is what it means for the invoice.

    ``stands``: what the invoice is without its hold. A hold must not make expected what nobody waits for.
    """
    known = book.detections.get(sighting.id)
    was = Content(known.amount, known.kind) if known else None
    if known is None:
        if sighting.kind is Kind.UNSUPPORTED_ASSET and _is_spammed(book, sighting.destination_id):
            _leave_out(book, sighting)
            return None
        sighting.invoice_ended = stands if stands in ENDED else None
        if sighting.kind is Kind.PAYMENT and stands in STICKY:
            sighting.kind = Kind.UNEXPECTED
        book.detections[sighting.id] = known = sighting
        book.fresh.add(known.id)
    elif _is_news(known, sighting):
        known.kind = _kind_by(known, sighting, stands)
        if sighting.block_hash is not None and not known.seen_waiting:
            known.first_seen_at = min(known.first_seen_at, sighting.first_seen_at)
        known.state, known.replaced_by = sighting.state, None
        known.block_height, known.block_hash = sighting.block_height, sighting.block_hash
        known.block_time, known.confirmed_at = sighting.block_time, None
        known.amount, known.maturity, known.spends = sighting.amount, sighting.maturity, sighting.spends
        known.evidence, known.raw = sighting.evidence, sighting.raw
    else:
        return None
    book.changed.add(known.id)
    book.observations.append(_observation(known))
    return known, was or Content(known.amount, known.kind)


def _kind_by(known: Detection, sighting: Detection, stands: InvoiceState) -> Kind:
    """Return what a known transfer is where it is seen now.

    The block that holds it decides whether it is older than its invoice (HAZARDS I13), each block anew. What was seen
    waiting first is not older, for its invoice was there then. Who closed the invoice expects no money that comes, or
    is back after it was given up; what had come by then stays what it is.
    """
    if known.kind not in (Kind.PAYMENT, Kind.UNEXPECTED):
        return known.kind
    if stands in STICKY and known.state in GIVEN_UP:
        return Kind.UNEXPECTED
    if sighting.block_hash is None or known.seen_waiting or (stands in STICKY and sighting.kind is Kind.PAYMENT):
        return known.kind
    return sighting.kind


def _observation(seen: Detection) -> Observation:
    return Observation(
        seen.id,
        seen.version + 1,
        seen.state,
        seen.block_height,
        seen.block_hash,
        seen.block_time,
        seen.evidence,
        seen.raw,
    )


def _leave_out(book: Book, sighting: Detection) -> None:
    """Count it where people look. Waiting ones are not counted: a mempool shows them again and again."""
    if sighting.block_hash is not None:
        book.destination(sighting.destination_id).left_out += 1


def count_small(book: Book, small: Iterable[tuple[UUID, int]]) -> None:
    """Count transfers below their asset's least amount. They pay for nothing, so they move nothing (HAZARDS I16)."""
    for identity, amount in small:
        destination = book.destination(identity)
        destination.small_count += 1
        destination.small_amount += amount


def _is_spammed(book: Book, destination: UUID) -> bool:
    """Anybody can mint a token and send it anywhere: beyond the first few, more of that says nothing new."""
    unsupported = (
        each.count
        for key, each in book.totals()
        if key.kind is Kind.UNSUPPORTED_ASSET and key.destination_id == destination
    )
    return sum(unsupported) >= MOST_UNSUPPORTED


def _is_news(known: Detection, sighting: Detection) -> bool:
    if known.is_rejected_in(sighting.block_hash):
        return False
    if sighting.state is DetectionState.PENDING:
        return known.state not in IN_BLOCK and known.state is not DetectionState.PENDING
    return known.state not in IN_BLOCK


def lose(book: Book, lost: Mapping[UUID, str | None], moment: Moment) -> None:
    """Unconfirmed transfers that are no more: replaced by the rival that is named, or dropped without one (B1, B2)."""
    gone = []
    for identity, rival in lost.items():
        detection = book.detections[identity]
        to_state = DetectionState.REPLACED if rival else DetectionState.DROPPED
        if detection.state in IN_BLOCK or detection.state is to_state:
            continue
        detection.replaced_by = rival
        move_detection(book, detection, to_state, to_state.value, of_loss(detection, moment), moment)
        gone.append(detection)
    # Whether a rival took the money elsewhere shows only once the sightings are in.
    _settle(book, moment, "chain", gone=gone, alarm=False)


def reject(book: Book, moment: Moment) -> None:
    """Drop transfers that a person has rejected: their blocks do not hold what was read there first."""
    gone = [
        detection
        for detection in book.detections.values()
        if detection.state in (DetectionState.INCLUDED, DetectionState.CONFIRMED)
        and detection.is_rejected_in(detection.block_hash)
        and detection.rail == moment.rail
    ]
    for detection in gone:
        grounds = of_loss(detection, moment)
        move_detection(book, detection, DetectionState.DROPPED, "rejected", grounds, moment, "operator")
        detection.confirmed_at = None
    if gone:
        _settle(book, moment, "operator", gone=gone)


def promote(book: Book, moment: Moment) -> None:
    """Confirm and finalize what has become deep enough, then settle. The last chapter: only here may time run out."""
    policies = book.policies
    promoted = None
    for detection in () if moment.blind else book.detections.values():
        if detection.state is DetectionState.INCLUDED and _confirm(book, detection, policies, moment):
            promoted = detection
        if detection.state is DetectionState.CONFIRMED:
            _finalize(book, detection, policies, moment)
    _settle(book, moment, "chain", through=promoted, last=True)


def tick(book: Book, moment: Moment) -> None:
    """Let time pass: only expiry and what depends on it can change."""
    _settle(book, moment, "clock", last=True)


def look(book: Book, coverage: Coverage, now: datetime) -> None:
    """Compare the exceptions with the facts, and nothing else: time, blindness or an act from outside changed them."""
    settle_cases(book, _bring_sums(book), coverage, now, "clock")


def _found_final(detection: Detection, policies: Mapping[UUID, Policy], moment: Moment) -> bool:
    """Whether a transfer that nobody has been told of is final already: then one line tells all of it."""
    if moment.blind or not moment.history or detection.told is not None or detection.block_height is None:
        return False
    met = met_at(detection, policies)
    final = final_at(met, detection.block_height, moment.horizon, moment.has_finality)
    return moment.progress.has_reached(met) and moment.progress.has_reached(final)


def _confirm(book: Book, detection: Detection, policies: Mapping[UUID, Policy], moment: Moment) -> bool:
    due = met_at(detection, policies)
    if detection.rail != moment.rail or not moment.progress.has_reached(due) or detection.is_contradicted:
        return False
    detection.confirmed_at = (_time_of(due.height, moment) if due.basis == "depth" else None) or moment.cursor_time
    detection.in_time = None  # the moment that its time basis names may have come only now
    if detection.told is None:
        detection.state = DetectionState.CONFIRMED  # found final: the next line tells it
    else:
        move_detection(book, detection, DetectionState.CONFIRMED, "confirmed", of_depth(detection, due, moment), moment)
    return True


def _time_of(height: int, moment: Moment) -> datetime | None:
    """When this step reached ``height``: the time of its block, or of the next where the rail skipped it."""
    at = moment.block_times.get(height)
    return at or min((time for place, time in moment.block_times.items() if place > height), default=None)


def _finalize(book: Book, detection: Detection, policies: Mapping[UUID, Policy], moment: Moment) -> None:
    due = final_at(met_at(detection, policies), detection.block_height or 0, moment.horizon, moment.has_finality)
    # What was read by hash in this step, below a finality that a majority had told, waits for no second look.
    read = detection.is_looked_at or (moment.history and detection.block_height in moment.block_times)
    if detection.rail == moment.rail and moment.progress.has_reached(due) and read:
        move_detection(book, detection, DetectionState.FINAL, "final", of_depth(detection, due, moment), moment)


def _settle(
    book: Book,
    moment: Moment,
    cause: Cause,
    *,
    gone: Sequence[Detection] = (),
    through: Detection | None = None,
    last: bool = False,
    alarm: bool = True,
) -> None:
    """Bring sums, state and exceptions in line with the detections."""
    invoice = book.invoice
    _judge_times(book, moment.now)
    received = _bring_sums(book)
    target = judge(invoice, received, moment.coverage, moment.now)
    through = gone[-1] if gone else through
    if target is InvoiceState.EXPIRED and not last:
        target = invoice.state if invoice.state is target else InvoiceState.CREATED
    if target is not invoice.state:
        between = _on_the_way(invoice.state, target)
        if between is not None:
            move_invoice(book, between, _reason(invoice.state, between, gone), cause, through, moment)
            gone = ()
        if target is InvoiceState.EXPIRED:
            through, cause = None, "clock"
        move_invoice(book, target, _reason(invoice.state, target, gone), cause, through, moment)
    if alarm:
        settle_cases(book, received, moment.coverage, moment.now, cause)


def _bring_sums(book: Book) -> Received:
    received = book.received()
    for destination in book.invoice.destinations:
        each = received.payments[destination.id]
        destination.seen, destination.confirmed, destination.late = each.seen, each.confirmed, each.late
    return received


def _on_the_way(old: InvoiceState, new: InvoiceState) -> InvoiceState | None:
    """What is told between two states that do not follow one another.

    A window closes on `created`. Money is `confirming` before it counts, also where it seemed to be late until it was
    confirmed: then nothing was told of it yet.
    """
    if new in INVOICE_MOVES[old]:
        return None
    if new is InvoiceState.EXPIRED:
        return InvoiceState.CREATED
    return InvoiceState.CONFIRMING if new in SETTLED or new is InvoiceState.UNDERPAID else None


def _judge_times(book: Book, now: datetime) -> None:
    """`final` is final in this too: what its time basis asks for is known by then."""
    for detection in book.detections.values():
        if detection.state is DetectionState.FINAL and detection.in_time is not None:
            continue
        in_time = is_in_time(detection, book.invoice, now)
        if detection.in_time is not in_time:
            detection.in_time = in_time
            book.changed.add(detection.id)


FORWARD = {
    InvoiceState.CREATED: "late",
    InvoiceState.DETECTED: "seen",
    InvoiceState.CONFIRMING: "included",
    InvoiceState.PAID: "confirmed",
    InvoiceState.OVERPAID: "confirmed",
    InvoiceState.UNDERPAID: "confirmed",
    InvoiceState.LATE_PAID: "confirmed",
    InvoiceState.EXPIRED: "expired",
    InvoiceState.FLAGGED: "held",
}
"""Why an invoice moved on. Back to `created` without a loss: what was provisionally in time turned out late."""


def _reason(old: InvoiceState, new: InvoiceState, gone: Sequence[Detection]) -> str:
    """A loss names itself, and is `reversed` where the invoice had been settled."""
    if not gone:
        return FORWARD[new]
    return "reversed" if old in SETTLED else gone[-1].state.value

"""The life of one invoice in a step: what changes for it, and every transition that the feed gets because of that.

A step has up to three phases: what a reorg removed, what was observed, what became due. Each changes
detections first and then evaluates the invoice. So a payment always becomes `confirming` before the invoice is `paid`,
and a reorg emits losses before what the new branch brings, however many blocks one step reads.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from railwatch.core.aggregate import InvoiceAggregate, StepContext
from railwatch.core.assessment import Received, assess_totals, is_in_time, state_without_hold
from railwatch.core.evidence import Content, depth_evidence, observation_evidence, removal_evidence
from railwatch.core.exception_rules import UNSUPPORTED_MAX
from railwatch.core.model import Coverage, Detection, Observation
from railwatch.core.payment_exceptions import sync_exceptions
from railwatch.core.policy import Policy, finality_threshold
from railwatch.core.states import (
    END_STATES,
    IN_BLOCK_STATES,
    INVOICE_MOVES,
    MANUAL_END,
    REMOVED,
    SETTLED_STATES,
    DetectionState,
    IllegalMove,
    InvoiceState,
    Kind,
)
from railwatch.core.thresholds import confirmation_threshold
from railwatch.core.transitions import Cause, transition_detection, transition_invoice


def apply_reorg(aggregate: InvoiceAggregate, orphaned: Iterable[UUID], ctx: StepContext) -> None:
    """Orphan inclusions whose blocks are no longer on the chain (HAZARDS B3, B4)."""
    lost = [aggregate.detections[each] for each in orphaned]
    for detection in lost:
        if detection.state is DetectionState.FINAL and not ctx.accepts_chain:
            raise IllegalMove("a detection cannot go from final to orphaned: no operator has accepted another chain")
        transition_detection(
            aggregate, detection, DetectionState.ORPHANED, "orphaned", removal_evidence(detection, ctx), ctx
        )
        detection.confirmed_at = None
    _reevaluate(aggregate, ctx, "chain", lost=lost)


def apply_observations(aggregate: InvoiceAggregate, observations: Sequence[Detection], ctx: StepContext) -> None:
    """Merge transfers as they were seen now: new ones, ones that are back, ones that reached a block."""
    moved = [each.id for each in observations if _is_elsewhere(aggregate.detections.get(each.id), each)]
    if moved:
        apply_reorg(aggregate, moved, ctx)
    state = state_without_hold(aggregate.invoice, aggregate.received)
    seen = [
        news
        for news in (_merge_observation(aggregate, observation, state) for observation in observations)
        if news is not None
    ]
    policies = aggregate.policies
    for detection, was in seen:
        if not _already_final(detection, policies, ctx):
            reason = "seen" if detection.block_hash is None else "included"
            grounds = observation_evidence(detection, was)
            transition_detection(aggregate, detection, detection.state, reason, grounds, ctx)
    _reevaluate(aggregate, ctx, "chain", via=seen[-1][0] if seen else None)


def _is_elsewhere(known: Detection | None, observation: Detection) -> bool:
    """Whether an inclusion that could still be undone is in another block of the chain now."""
    return (
        known is not None
        and known.state in (DetectionState.INCLUDED, DetectionState.CONFIRMED)
        and observation.block_hash not in (None, known.block_hash)
    )


def _merge_observation(
    aggregate: InvoiceAggregate, observation: Detection, state_without_hold: InvoiceState
) -> tuple[Detection, Content] | None:
    """Merge a sighting into what is known of the same transfer, and return that with what it had been before.

    None where the sighting says nothing new. What a transaction pays may depend on the block that it is in, so that the
    content is read anew with each inclusion (HAZARDS E25), and so is what it means for the invoice.

    ``state_without_hold``: the invoice's state without its hold. A hold must not make an unexpected payment expected.
    """
    known = aggregate.detections.get(observation.id)
    was = Content(known.amount, known.kind) if known else None
    if known is None:
        if observation.kind is Kind.UNSUPPORTED_ASSET and _spam_limit_reached(aggregate, observation.destination_id):
            _count_suppressed(aggregate, observation)
            return None
        observation.invoice_end_state = state_without_hold if state_without_hold in END_STATES else None
        if observation.kind is Kind.PAYMENT and state_without_hold in MANUAL_END:
            observation.kind = Kind.UNEXPECTED
        aggregate.detections[observation.id] = known = observation
        aggregate.new_detections.add(known.id)
    elif _changes_detection(known, observation):
        known.kind = _kind_by(known, observation, state_without_hold)
        if observation.block_hash is not None and not known.seen_waiting:
            known.first_seen_at = min(known.first_seen_at, observation.first_seen_at)
        known.state, known.replaced_by = observation.state, None
        known.block_height, known.block_hash = observation.block_height, observation.block_hash
        known.block_time, known.confirmed_at = observation.block_time, None
        known.amount, known.maturity, known.spends = observation.amount, observation.maturity, observation.spends
        known.evidence, known.raw = observation.evidence, observation.raw
    else:
        return None
    aggregate.changed_detections.add(known.id)
    aggregate.observations.append(_observation(known))
    return known, was or Content(known.amount, known.kind)


def _kind_by(known: Detection, sighting: Detection, state_without_hold: InvoiceState) -> Kind:
    """Return what a known transfer is where it is seen now.

    The block that holds it decides whether it is older than its invoice (HAZARDS I13), each block anew. What was seen
    waiting first is not older, for its invoice was there then. Who closed the invoice expects no money that comes, or
    is back after it was given up; what had come by then stays what it is.
    """
    if known.kind not in (Kind.PAYMENT, Kind.UNEXPECTED):
        return known.kind
    if state_without_hold in MANUAL_END and known.state in REMOVED:
        return Kind.UNEXPECTED
    if (
        sighting.block_hash is None
        or known.seen_waiting
        or (state_without_hold in MANUAL_END and sighting.kind is Kind.PAYMENT)
    ):
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


def _count_suppressed(aggregate: InvoiceAggregate, observation: Detection) -> None:
    """Count it on the destination. Waiting ones are not counted: a mempool shows them again and again."""
    if observation.block_hash is not None:
        aggregate.destination(observation.destination_id).suppressed_count += 1


def count_small(aggregate: InvoiceAggregate, small: Iterable[tuple[UUID, int]]) -> None:
    """Count transfers below their asset's least amount. They pay for nothing, so they move nothing (HAZARDS I16)."""
    for identity, amount in small:
        destination = aggregate.destination(identity)
        destination.small_count += 1
        destination.small_amount += amount


def _spam_limit_reached(aggregate: InvoiceAggregate, destination: UUID) -> bool:
    """Return True for a destination with many unsupported transfers: more of them say nothing new, and cost nothing."""
    unsupported = (
        each.count
        for key, each in aggregate.totals()
        if key.kind is Kind.UNSUPPORTED_ASSET and key.destination_id == destination
    )
    return sum(unsupported) >= UNSUPPORTED_MAX


def _changes_detection(known: Detection, observation: Detection) -> bool:
    if known.is_rejected_in(observation.block_hash):
        return False
    if observation.state is DetectionState.PENDING:
        return known.state not in IN_BLOCK_STATES and known.state is not DetectionState.PENDING
    return known.state not in IN_BLOCK_STATES


def apply_removals(aggregate: InvoiceAggregate, lost: Mapping[UUID, str | None], ctx: StepContext) -> None:
    """Unconfirmed transfers that are no more: replaced by the rival that is named, or dropped without one (B1, B2)."""
    gone = []
    for identity, rival in lost.items():
        detection = aggregate.detections[identity]
        to_state = DetectionState.REPLACED if rival else DetectionState.DROPPED
        if detection.state in IN_BLOCK_STATES or detection.state is to_state:
            continue
        detection.replaced_by = rival
        transition_detection(aggregate, detection, to_state, to_state.value, removal_evidence(detection, ctx), ctx)
        gone.append(detection)
    # Only the observations show whether a rival moved the money elsewhere.
    _reevaluate(aggregate, ctx, "chain", lost=gone, with_exceptions=False)


def apply_rejections(aggregate: InvoiceAggregate, ctx: StepContext) -> None:
    """Drop transfers that a person has rejected: their blocks do not hold what was read there first."""
    rejected = [
        detection
        for detection in aggregate.detections.values()
        if detection.state in (DetectionState.INCLUDED, DetectionState.CONFIRMED)
        and detection.is_rejected_in(detection.block_hash)
        and detection.rail == ctx.rail
    ]
    for detection in rejected:
        grounds = removal_evidence(detection, ctx)
        transition_detection(aggregate, detection, DetectionState.DROPPED, "rejected", grounds, ctx, "operator")
        detection.confirmed_at = None
    if rejected:
        _reevaluate(aggregate, ctx, "operator", lost=rejected)


def apply_confirmations(aggregate: InvoiceAggregate, ctx: StepContext) -> None:
    """Confirm and finalize what has become deep enough, then settle. The last chapter: only here may time run out."""
    policies = aggregate.policies
    promoted = None
    for detection in () if ctx.blind else aggregate.detections.values():
        if detection.state is DetectionState.INCLUDED and _confirm(aggregate, detection, policies, ctx):
            promoted = detection
        if detection.state is DetectionState.CONFIRMED:
            _finalize(aggregate, detection, policies, ctx)
    _reevaluate(aggregate, ctx, "chain", via=promoted, may_expire=True)


def apply_expiry(aggregate: InvoiceAggregate, ctx: StepContext) -> None:
    """Let time pass: only expiry and what depends on it can change."""
    _reevaluate(aggregate, ctx, "clock", may_expire=True)


def recheck(aggregate: InvoiceAggregate, coverage: Coverage, now: datetime) -> None:
    """Compare the exceptions with the facts, and nothing else: time, blindness or an act from outside changed them."""
    sync_exceptions(aggregate, _update_totals(aggregate), coverage, now, "clock")


def _already_final(detection: Detection, policies: Mapping[UUID, Policy], ctx: StepContext) -> bool:
    """Return True if a transfer that the feed has not had yet is final already: then one transition says all."""
    if ctx.blind or not ctx.backfill or detection.reported_state is not None or detection.block_height is None:
        return False
    met = confirmation_threshold(detection, policies)
    final = finality_threshold(met, detection.block_height, ctx.horizon, ctx.has_finality)
    return ctx.progress.has_reached(met) and ctx.progress.has_reached(final)


def _confirm(
    aggregate: InvoiceAggregate, detection: Detection, policies: Mapping[UUID, Policy], ctx: StepContext
) -> bool:
    due = confirmation_threshold(detection, policies)
    if detection.rail != ctx.rail or not ctx.progress.has_reached(due) or detection.is_contradicted:
        return False
    detection.confirmed_at = (_time_of(due.height, ctx) if due.basis == "depth" else None) or ctx.cursor_time
    detection.in_time = None  # the moment that its time basis names may have come only now
    if detection.reported_state is None:
        detection.state = DetectionState.CONFIRMED  # found final: the next transition says so
    else:
        transition_detection(
            aggregate, detection, DetectionState.CONFIRMED, "confirmed", depth_evidence(detection, due, ctx), ctx
        )
    return True


def _time_of(height: int, ctx: StepContext) -> datetime | None:
    """When this step reached ``height``: the time of its block, or of the next where the rail skipped it."""
    at = ctx.block_times.get(height)
    return at or min((time for place, time in ctx.block_times.items() if place > height), default=None)


def _finalize(
    aggregate: InvoiceAggregate, detection: Detection, policies: Mapping[UUID, Policy], ctx: StepContext
) -> None:
    due = finality_threshold(
        confirmation_threshold(detection, policies), detection.block_height or 0, ctx.horizon, ctx.has_finality
    )
    # A transfer that this step read by hash, below a majority's finality, needs no second look.
    read = detection.passed_second_look or (ctx.backfill and detection.block_height in ctx.block_times)
    if detection.rail == ctx.rail and ctx.progress.has_reached(due) and read:
        transition_detection(
            aggregate, detection, DetectionState.FINAL, "final", depth_evidence(detection, due, ctx), ctx
        )


def _reevaluate(
    aggregate: InvoiceAggregate,
    ctx: StepContext,
    cause: Cause,
    *,
    lost: Sequence[Detection] = (),
    via: Detection | None = None,
    may_expire: bool = False,
    with_exceptions: bool = True,
) -> None:
    """Bring sums, state and exceptions in line with the detections."""
    invoice = aggregate.invoice
    _update_timeliness(aggregate, ctx.now)
    received = _update_totals(aggregate)
    target = assess_totals(invoice, received, ctx.coverage, ctx.now)
    via = lost[-1] if lost else via
    if target is InvoiceState.EXPIRED and not may_expire:
        target = invoice.state if invoice.state is target else InvoiceState.CREATED
    if target is not invoice.state:
        between = _intermediate_state(invoice.state, target)
        if between is not None:
            transition_invoice(aggregate, between, _reason(invoice.state, between, lost), cause, via, ctx)
            lost = ()
        if target is InvoiceState.EXPIRED:
            via, cause = None, "clock"
        transition_invoice(aggregate, target, _reason(invoice.state, target, lost), cause, via, ctx)
    if with_exceptions:
        sync_exceptions(aggregate, received, ctx.coverage, ctx.now, cause)


def _update_totals(aggregate: InvoiceAggregate) -> Received:
    received = aggregate.received()
    for destination in aggregate.invoice.destinations:
        each = received.payments[destination.id]
        destination.seen, destination.confirmed, destination.late = each.seen, each.confirmed, each.late
    return received


def _intermediate_state(old: InvoiceState, new: InvoiceState) -> InvoiceState | None:
    """Return the state to emit between two states that do not follow one another.

    A window closes on `created`. Money is `confirming` before it counts, also where it seemed to be late until it was
    confirmed: then the feed had nothing of it yet.
    """
    if new in INVOICE_MOVES[old]:
        return None
    if new is InvoiceState.EXPIRED:
        return InvoiceState.CREATED
    return InvoiceState.CONFIRMING if new in SETTLED_STATES or new is InvoiceState.UNDERPAID else None


def _update_timeliness(aggregate: InvoiceAggregate, now: datetime) -> None:
    """Decide which payments came in time. A final payment keeps the decision: its time basis is known by then."""
    for detection in aggregate.detections.values():
        if detection.state is DetectionState.FINAL and detection.in_time is not None:
            continue
        in_time = is_in_time(detection, aggregate.invoice, now)
        if detection.in_time is not in_time:
            detection.in_time = in_time
            aggregate.changed_detections.add(detection.id)


FORWARD_REASONS = {
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


def _reason(old: InvoiceState, new: InvoiceState, lost: Sequence[Detection]) -> str:
    """Return the reason: a loss names itself, and is `reversed` where the invoice had been settled."""
    if not lost:
        return FORWARD_REASONS[new]
    return "reversed" if old in SETTLED_STATES else lost[-1].state.value

"""Evidence: the rule behind each transition, and the numbers that it was applied to, for later readers.

JSON values only; amounts are strings of digits, times ISO 8601 in UTC. docs/evidence.md explains every key.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from railwatch.core.aggregate import InvoiceAggregate, StepContext
from railwatch.core.assessment import accepted_range
from railwatch.core.exception_rules import UNSUPPORTED_MAX
from railwatch.core.model import Coverage, Destination, Detection, ExceptionRecord, UnattributedBalance
from railwatch.core.policy import Threshold
from railwatch.core.states import InvoiceState, Kind

RULES: Mapping[InvoiceState, str] = {
    InvoiceState.CREATED: "nothing in time is seen",
    InvoiceState.DETECTED: "seen > confirmed, nothing in a block",
    InvoiceState.CONFIRMING: "seen > confirmed, something in a block",
    InvoiceState.PAID: "least <= confirmed <= most",
    InvoiceState.OVERPAID: "confirmed > most",
    InvoiceState.UNDERPAID: "0 < confirmed < least, and nothing waits",
    InvoiceState.LATE_PAID: "confirmed < least <= confirmed + late",
    InvoiceState.EXPIRED: "now >= expires_at, covered until then, nothing is seen",
    InvoiceState.FLAGGED: "held",
}
"""What holds at one destination at least when an invoice comes to the state."""


def invoice_evidence(
    aggregate: InvoiceAggregate, target: InvoiceState, via: Detection | None, ctx: StepContext
) -> dict[str, Any]:
    """Return the inputs of `assess_totals`: the terms, the sums of each destination, and the rail's position."""
    invoice, until = aggregate.invoice, ctx.coverage.until
    grounds: dict[str, Any] = {
        "rule": RULES[target],
        "cursor": ctx.progress.cursor,
        "finalized": ctx.progress.finalized,
        "tip": ctx.tip_height,
        "time_basis": invoice.time_basis,
        "expires_at": invoice.expires_at.isoformat(),
        "tolerance_bps": invoice.tolerance_bps,
        "destinations": [_sums(each, invoice.tolerance_bps) for each in invoice.destinations],
    }
    if invoice.held is not None:
        grounds["held"] = invoice.held
    if via is None:
        grounds["covered_until"] = {rail: until[rail].isoformat() for rail in sorted(until)}
        return grounds
    for destination in invoice.destinations:
        if destination.id == via.destination_id:
            grounds |= {"policy": destination.policy.to_json(), "expected": str(destination.expected)}
    return grounds


def _sums(destination: Destination, tolerance_bps: int) -> dict[str, Any]:
    least, most = accepted_range(destination.expected, tolerance_bps)
    amounts = {
        "expected": destination.expected,
        "least": least,
        "most": most,
        "seen": destination.seen,
        "confirmed": destination.confirmed,
        "late": destination.late,
    }
    place = {"rail": destination.rail, "asset": destination.asset, "policy": destination.policy.to_json()}
    return {**place, **{name: str(amount) for name, amount in amounts.items()}}


class Content(NamedTuple):
    """What a transfer was before it was seen again, as far as another block may make it something else."""

    amount: int
    kind: Kind


def observation_evidence(detection: Detection, was: Content) -> dict[str, Any]:
    """Which observation a line comes from, and what the transfer is, where that is not what it was before."""
    grounds: dict[str, Any] = {"observation": detection.version + 1}
    if was.amount != detection.amount:
        grounds |= {"amount": str(detection.amount), "amount_was": str(was.amount)}
    if was.kind is not detection.kind:
        grounds |= {"kind": detection.kind, "kind_was": was.kind}
    return grounds


def removal_evidence(detection: Detection, ctx: StepContext) -> dict[str, Any]:
    """Return what displaced the transfer, if that is known, and the rail's position."""
    rival = {"replaced_by": detection.replaced_by} if detection.replaced_by else {}
    return {"cursor": ctx.progress.cursor, **rival}


def depth_evidence(detection: Detection, due: Threshold, ctx: StepContext) -> dict[str, Any]:
    """Return the threshold that the transfer waited for, and the heights that met it."""
    reached = ctx.progress.cursor if due.basis == "depth" else ctx.progress.finalized
    return {"basis": due.basis, "due": due.height, "reached": reached, "maturity": detection.maturity}


def exception_evidence(
    aggregate: InvoiceAggregate, kind: str, about: UUID | None, coverage: Coverage
) -> dict[str, Any]:
    """Return the facts that opened an exception. ``about``: its transfer or its balance, if it is about one."""
    if about is not None:
        unattributed = aggregate.unattributed.get(about)
        return (
            _balance_evidence(aggregate, unattributed)
            if unattributed
            else transfer_evidence(aggregate, kind, aggregate.detections[about])
        )
    invoice = aggregate.invoice
    if kind == "detection_delayed":
        rails = sorted({each.rail for each in invoice.destinations if not each.closed})
        covered = {rail: coverage.until[rail].isoformat() if rail in coverage.until else None for rail in rails}
        patience = {each.rail: each.delay_limits.blind_after.total_seconds() for each in invoice.destinations}
        return {"covered_until": covered, "blind_after": {rail: patience[rail] for rail in rails}}
    if kind == "stuck_confirming":
        patience = {each.rail: each.delay_limits.stuck_after.total_seconds() for each in invoice.destinations}
        return {"state": invoice.state, "state_since": invoice.state_since.isoformat(), "stuck_after": patience}
    grounds: dict[str, Any] = {"state": invoice.state}
    if kind == "reversed" and invoice.settled_at is not None:
        grounds["settled_at"] = invoice.settled_at.isoformat()
    if kind == "reversed" and invoice.refunded:
        grounds["refunded"] = [
            {"rail": rail, "asset": asset, "amount": str(refunded.amount)}
            for (rail, asset), refunded in sorted(invoice.refunded.items())
        ]
    return {**grounds, "destinations": [_sums(each, invoice.tolerance_bps) for each in invoice.destinations]}


def _balance_evidence(aggregate: InvoiceAggregate, unattributed: UnattributedBalance) -> dict[str, Any]:
    place = {"rail": unattributed.rail, "asset": unattributed.asset, "destination": str(unattributed.destination_id)}
    amounts = {
        "balance": unattributed.balance,
        "expected": unattributed.balance - unattributed.amount,
        "unattributed": unattributed.amount,
    }
    block = {
        "block_height": unattributed.block_height,
        "block_hash": unattributed.block_hash,
        "node": unattributed.node,
    }
    block |= {"second_look": unattributed.second_look, "second_node": unattributed.second_node}
    return {"state": aggregate.invoice.state, **place, **{name: str(each) for name, each in amounts.items()}, **block}


def group_evidence(record: ExceptionRecord) -> dict[str, Any]:
    """How many transfers an exception holds, and their sum."""
    return {"transfers": record.transfers, "sum": str(record.amount)}


def transfer_evidence(aggregate: InvoiceAggregate, kind: str, detection: Detection) -> dict[str, Any]:
    """Return the facts for which a transfer is in an exception."""
    invoice = aggregate.invoice
    grounds: dict[str, Any] = {"amount": str(detection.amount), "asset": detection.asset, "state": invoice.state}
    if kind == "double_spend":
        return {**grounds, "replaced_by": detection.replaced_by}
    if kind == "unexpected_payment":
        return {**grounds, "invoice_was": detection.invoice_end_state or invoice.state_before_hold}
    if kind == "late":
        return {**grounds, "time_basis": invoice.time_basis, "expires_at": invoice.expires_at.isoformat()}
    if kind == "unsupported_asset":
        return {**grounds, "kept_at_most": UNSUPPORTED_MAX}
    asked = [{"rail": each.rail, "asset": each.asset, "expected": str(each.expected)} for each in invoice.destinations]
    return {**grounds, "rail": detection.rail, "asked": asked}

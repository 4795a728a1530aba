"""Logs the transitions of invoices that a step committed."""

import structlog

from railwatch.core.model import Transition
from railwatch.core.step import StepResult

log = structlog.get_logger()

LOGGED_TRANSITIONS_MAX = 50
"""Transitions of invoices that one step logs one by one; the feed holds all of them."""


def log_transitions(rail: str, result: StepResult) -> None:
    """Log each invoice's transition, and of many the number."""
    moved = [transition for transition in result.transitions if transition.subject == "invoice"]
    for transition in moved[:LOGGED_TRANSITIONS_MAX]:
        _log_transition(rail, transition)
    if len(moved) > LOGGED_TRANSITIONS_MAX:
        log.info("invoice.transitions", rail=rail, count=len(moved), omitted=len(moved) - LOGGED_TRANSITIONS_MAX)


def _log_transition(rail: str, transition: Transition) -> None:
    via = transition.via_detection
    log.info(
        "invoice.transition",
        rail=rail,
        invoice=str(transition.invoice_id),
        from_state=transition.from_state,
        to_state=transition.to_state,
        reason=transition.reason,
        tx=via.tx_id if via else None,
        height=transition.block_height,
    )

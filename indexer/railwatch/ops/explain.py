"""`railwatch explain` for people: the whole evidence of one invoice."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from railwatch.ops.amounts import display_units
from railwatch.ops.evidence import render_facts, render_grounds, render_observations
from railwatch.ops.formatting import STYLES, format_age, format_amount, format_time, policy_words, printable_text
from railwatch.ops.status import quarantine_lines
from railwatch.store.read_models import Dossier, Record

NEXT = {
    "created": "show instructions",
    "detected": "wait",
    "confirming": "wait",
    "paid": "fulfil",
    "overpaid": "fulfil, refund the difference",
    "underpaid": "ask for a top-up; after the window, review",
    "late_paid": "decide",
    "expired": "close; it is still watched",
    "cancelled": "nothing; it is still watched",
    "flagged": "review",
    "refunded": "close",
}
"""The next safe action by state, in the words of docs/contract.md."""


def render_dossier(dossier: Dossier) -> RenderableType:
    """Return terms, state, each transfer, all transitions in order, and exceptions."""
    return Group(
        *_heading(dossier),
        *_section("Where it can be paid", [line for each in dossier.destinations for line in _destination(each)]),
        *_section("Transfers", [line for each in dossier.detections for line in _detection(each, dossier)]),
        *_section("What happened (UTC)", [line for each in dossier.transitions for line in _transition(each, dossier)]),
        *_quarantine(dossier),
        *_section("Exceptions", [line for each in dossier.exceptions for line in _exception(each, dossier)]),
        *_books(dossier),
    )


def render_invoice(dossier: Dossier) -> RenderableType:
    """Return terms, state and destinations, without the evidence."""
    return Group(
        *_heading(dossier),
        *_section("Where it can be paid", [line for each in dossier.destinations for line in _destination(each)]),
    )


def _section(title: str, lines: list[Text]) -> Iterator[Text]:
    yield Text(f"\n{title}", "bold")
    yield from lines or [Text("  none", "dim")]


def _next(dossier: Dossier) -> str:
    """Return the next safe action. A reversed payment comes first: goods may have shipped in any state."""
    if any(each["kind"] == "reversed" and each["resolved_at"] is None for each in dossier.exceptions):
        return "it was settled, and the payment was reversed: stop the shipment, then decide"
    if dossier.quarantine:
        return "the daemon cannot process it, so its state is outdated: see `Not processed` below"
    return NEXT[dossier.invoice["state"]]


def _heading(dossier: Dossier) -> Iterator[Text]:
    invoice = dossier.invoice
    state = invoice["state"]
    name = printable_text(f"{invoice['merchant_id']}/{invoice['order_id']}")
    yield Text.assemble((name, "bold"), "  ", (state, f"bold {STYLES.get(state, '')}".strip()), f"  ({_next(dossier)})")
    yield Text(f"  invoice     {invoice['id']}")
    yield Text(f"  registered  {format_time(invoice['created_at'])} UTC")
    yield Text(f"  window to   {format_time(invoice['expires_at'])}, by {invoice['time_basis'].replace('_', ' ')}")
    yield Text(f"  watched to  {format_time(invoice['closed_at'] or invoice['closes_at'])}")
    yield Text(f"  {state} since {format_time(invoice['state_since'])}")
    if invoice["fiat_amount"] is not None:
        yield Text(
            f"  total       {invoice['fiat_amount'].normalize():f} {printable_text(invoice['fiat_currency'] or '')}"
        )
    if invoice["tolerance_bps"]:
        yield Text(f"  tolerance   {display_units(invoice['tolerance_bps'], 2)}% either way")
    if invoice["held"]:
        yield Text(f"  held        {printable_text(invoice['held'])}", "red")


def _destination(row: Record) -> Iterator[Text]:
    watch = row["watch_state"]
    since = "" if row["covered_from"] is None else f" from block {row['covered_from']}"
    yield Text.assemble(
        f"  {row['position']}. {format_amount(row, 'expected_amount')} on {printable_text(row['rail'])}, ",
        (f"{watch}{since}", STYLES.get(watch, "")),
    )
    yield Text(
        f"     {printable_text(row['address'])}"
        + (f" with {printable_text(row['reference'])}" if row["reference"] else "")
    )
    yield Text(f"     counts at {policy_words(row['policy'])} (policy of the {row['policy_origin']})")
    sums = {"seen": "seen_amount", "confirmed": "confirmed_amount", "late": "late_amount"}
    yield Text("     " + ", ".join(f"{word} {format_amount(row, column)}" for word, column in sums.items()))
    if row["left_out"]:
        yield Text(
            f"     {row['left_out']} transfers of unknown tokens are counted only, beyond the first ten", "yellow"
        )
    if row["watch_error"]:
        yield Text(f"     {printable_text(row['watch_error'])}", "red")
    if row["rail_state"] != "live":
        yield Text(
            f"     the rail is {row['rail_state']}: {printable_text(row['rail_reason'] or 'no reason given')}", "yellow"
        )


def _detection(row: Record, dossier: Dossier) -> Iterator[Text]:
    state, kind = row["state"], row["kind"].replace("_", " ")
    timely = {True: ", in time", False: ", late", None: ""}[row["in_time"]]
    yield Text.assemble(
        f"  {format_amount(row, 'amount')} on {printable_text(row['rail'])}: ",
        (state, STYLES.get(state, "")),
        f", {kind}{timely}",
    )
    yield Text(f"    tx    {printable_text(row['tx_id'])} {printable_text(row['tx_index'])}")
    yield Text(f"    seen  {format_time(row['first_seen_at'])}")
    if row["block_height"] is not None:
        depth = "" if row["confirmations"] is None else f", now {row['confirmations']} deep"
        yield Text(f"    block {row['block_height']} at {format_time(row['block_time'])}{depth}")
        yield Text(f"          {printable_text(row['block_hash'])}")
    if row["replaced_by"]:
        yield Text(f"    replaced by {printable_text(row['replaced_by'])}", "red")
    if row["due_height"] is not None:
        basis = "finality" if row["due_basis"] == "finalized" else "the cursor"
        yield Text(f"    changes state when {basis} reaches block {row['due_height']}")
    if any(each["detection_id"] == row["id"] for each in dossier.observations):
        yield from render_observations(row, dossier)
    else:
        yield from render_facts(row["evidence"])  # a detection of a version without observations


def _transition(row: Record, dossier: Dossier) -> Iterator[Text]:
    subject = "" if row["subject"] == "invoice" else f"{row['subject']} "
    move = f"{row['from_state'] or '-'} → {row['to_state']}"
    yield Text.assemble(
        (f"  {row['seq']:>6}  {format_time(row['recorded_at'])}  ", "dim"),
        f"{subject}",
        (move, STYLES.get(row["to_state"], "") if row["subject"] == "invoice" else "dim"),
    )
    why = f"          {printable_text(row['reason'])}, by the {row['cause']}"
    if row["block_height"] is not None:
        why += f", block {row['block_height']}"
    if row["confirmations"] is not None:
        why += f", {row['confirmations']} deep"
    yield Text(why)
    has_sums = "destinations" in row["evidence"]
    if (
        row["subject"] == "invoice"
        and len(dossier.destinations) == 1
        and row["seen_amount"] is not None
        and not has_sums
    ):
        # Sums over several destinations may mix assets, and such a sum has no display unit.
        only = dossier.destinations[0]
        sums = {**row, "symbol": only["symbol"], "decimals": only["decimals"], "asset": only["asset"]}
        yield Text(
            f"          seen {format_amount(sums, 'seen_amount')}, confirmed {format_amount(sums, 'confirmed_amount')}"
        )
    yield from render_grounds(row, dossier)


TRANSFERS_SHOWN = 10
"""Transfers of one exception that the page names; ``--json`` has all of them."""


def _exception(row: Record, dossier: Dossier) -> Iterator[Text]:
    closed = "open" if row["resolved_at"] is None else f"resolved {format_time(row['resolved_at'])}"
    yield Text.assemble(f"  {row['kind']} (", (row["severity"], STYLES.get(row["severity"], "")), f"), {closed}")
    verb = "open" if row["resolved_at"] is None else "was open"
    yield Text(f"    opened {format_time(row['opened_at'])}, {verb} for {format_age(row['age'])}")
    if row["destination_id"] is not None:
        yield from _group(row, dossier)
    if row["resolved_at"] is not None and row["ended_at"] is None:
        yield Text("    its cause persists", "yellow")
    for name in ("resolution", "owner", "notes"):
        if row[name]:
            yield Text(f"    {name}: {printable_text(row[name])}")


def _group(row: Record, dossier: Dossier) -> Iterator[Text]:
    """Return the number of an exception's transfers, their sum, and the first of them."""
    held = [each for each in dossier.exception_transfers if each["exception_id"] == row["id"] and not each["left_at"]]
    yield Text(f"    {row['transfers']} transfers, {format_amount(row, 'amount')} in all")
    for each in held[:TRANSFERS_SHOWN]:
        yield Text(f"      {printable_text(each['tx_id'])} {printable_text(each['tx_index'])}")
    if len(held) > TRANSFERS_SHOWN:
        yield Text(f"      and {len(held) - TRANSFERS_SHOWN} more")


def _quarantine(dossier: Dossier) -> Iterator[Text]:
    """Return the invoice's quarantine; no section without one."""
    if dossier.quarantine:
        lines = [line for each in dossier.quarantine for line in quarantine_lines(each, "it")]
        yield from _section("Not processed", lines)


def _books(dossier: Dossier) -> Iterator[Text]:
    """Return refunds and settlements; no section without them."""
    if dossier.refunds:
        yield from _section("Refunds", [line for each in dossier.refunds for line in _refund(each)])
    if dossier.settlements:
        booked = [
            f"  {printable_text(each['reference'])}, by {printable_text(each['actor'])}" for each in dossier.settlements
        ]
        yield from _section("Settlement", [Text(line) for line in booked])


def _refund(row: Record) -> Iterator[Text]:
    why = f": {printable_text(row['reason'])}" if row["reason"] else ""
    yield Text(
        f"  {format_amount(row, 'amount')} on {printable_text(row['rail'])}, by {printable_text(row['actor'])}{why}"
    )
    yield Text(f"    tx    {printable_text(row['tx_id'])}")
    yield Text(f"    at    {format_time(row['recorded_at'])}")

"""Lists for people: invoices, exceptions, unallocated transfers and rescans. `explain` accepts the name in each row."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from railwatch.ops.formatting import STYLES, format_amount, format_time, printable_text
from railwatch.store.read_models import Record


def render_invoices(invoices: list[Record]) -> RenderableType:
    """Return a table of merchant and order, state and times; an exclamation mark for open exceptions."""
    if not invoices:
        return Text("no invoices")
    table = _table("merchant/order", "state", "", "registered", "window to")
    for each in invoices:
        table.add_row(
            printable_text(f"{each['merchant_id']}/{each['order_id']}"),
            Text(each["state"], STYLES.get(each["state"], "")),
            Text("!" * bool(each["exceptions"]), "red"),
            format_time(each["created_at"]),
            format_time(each["expires_at"]),
        )
    return table


def render_exceptions(exceptions: list[Record]) -> RenderableType:
    """Return a table of the first digits of the id, kind, severity, invoice and time."""
    if not exceptions:
        return Text("no exceptions")
    table = _table("id", "exception", "severity", "merchant/order", "invoice is", "opened", "holds")
    for each in exceptions:
        table.add_row(
            str(each["id"])[:8],
            each["kind"] + ("" if each["resolved_at"] is None else " (resolved)"),
            Text(each["severity"], STYLES.get(each["severity"], "")),
            printable_text(_order(each) if each["invoice_id"] else "no order"),
            Text(each["invoice_state"] or "", STYLES.get(each["invoice_state"] or "", "")),
            format_time(each["opened_at"]),
            "" if each["asset"] is None else f"{each['transfers']}: {format_amount(each, 'amount')}",
        )
    return table


def render_unallocated(transfers: list[Record]) -> RenderableType:
    """Return a table of transfers: the first digits of the id, what arrived where, and whose it is by now."""
    if not transfers:
        return Text("no unallocated transfers")
    table = _table("id", "rail", "amount", "address", "is", "seen", "assigned by")
    for each in transfers:
        table.add_row(
            str(each["id"])[:8],
            printable_text(each["rail"]),
            format_amount(each, "amount"),
            printable_text(each["address"]),
            each["state"],
            format_time(each["first_seen_at"]),
            printable_text(each["assigned_by"] or ""),
        )
    return table


def render_unallocated_transfer(transfer: Record) -> RenderableType:
    """Return one transfer: its facts, its history, and the invoices that miss exactly its amount."""
    facts = _table("", "")
    facts.show_header = False
    facts.add_row("transfer", str(transfer["id"]))
    facts.add_row("amount", Text(f"{format_amount(transfer, 'amount')} on ") + printable_text(transfer["rail"]))
    facts.add_row("address", printable_text(transfer["address"]))
    facts.add_row("transaction", printable_text(transfer["tx_id"]))
    facts.add_row("references", printable_text(", ".join(transfer["references"]) or "none"))
    facts.add_row("is", f"{transfer['state']}, block {transfer['block_height'] or 'none'}")
    if transfer["assigned_by"]:
        facts.add_row(
            "assigned", Text(f"to invoice {transfer['invoice_id']} by ") + printable_text(transfer["assigned_by"])
        )
    history = _table("time", "became", "reason")
    for line in transfer["transitions"]:
        history.add_row(str(line["recorded_at"])[:19], line["to_state"], line["reason"])
    parts: list[RenderableType] = [facts, Text(""), history]
    if transfer["suggestions"]:
        parts += [
            Text(""),
            Text("Open invoices there that miss exactly this amount. That proves nothing: ask the payer."),
        ]
        for each in transfer["suggestions"]:
            parts.append(printable_text(f"  {_order(each)}  {each['state']}  {each['invoice_id']}"))
    return Group(*parts)


def render_rescans(rescans: list[Record]) -> RenderableType:
    """Return a table of rescans, open ones first: range, progress, outcome and error."""
    if not rescans:
        return Text("no rescans")
    table = _table("id", "rail", "from", "to", "next", "found", "is", "why")
    for rescan in rescans:
        table.add_row(
            str(rescan["id"]),
            printable_text(rescan["rail"]),
            str(rescan["from_height"]),
            "head" if rescan["to_height"] is None else str(rescan["to_height"]),
            str(rescan["next_height"]),
            str(rescan["found"]),
            rescan["outcome"],
            printable_text(rescan["error"] or ""),
        )
    return table


def _order(record: Record) -> str:
    return f"{record['merchant_id']}/{record['order_id']}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table
